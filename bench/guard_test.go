package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestGuard checks which figures the guard lets pass.
func TestGuard(t *testing.T) {
	count := func(v float64, err error) func(context.Context, *bench) (float64, error) {
		return func(context.Context, *bench) (float64, error) { return v, err }
	}
	failed := errors.New("no server")
	for _, tt := range []struct {
		pin    pin
		prints string
		err    string
	}{
		{pin{"as pinned", 10, count(10, nil)}, "        10  pinned         10  as pinned\n", ""},
		{pin{"a little more", 10, count(10.9, nil)}, "a little more\n", ""},
		{pin{"a tenth more", 10, count(11.1, nil)}, "GROWN", "a tenth more"},
		{pin{"some instead of none", 0, count(1, nil)}, "GROWN", "some instead of none"},
		{pin{"less", 10, count(8, nil)}, "pin it lower", ""},
		{pin{"tool", 10, count(0, fmt.Errorf("strace is %w", errAbsent))}, "SKIPPED: tool: strace is not installed", ""},
		{pin{"broken", 10, count(0, failed)}, "", "broken: no server"},
	} {
		var out strings.Builder
		err := new(bench).guard(t.Context(), []pin{tt.pin}, &out)
		if !strings.Contains(out.String(), tt.prints) {
			t.Errorf("%s: printed %q, want %q", tt.pin.what, out.String(), tt.prints)
		}
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: error %v, want %q", tt.pin.what, err, tt.err)
		}
	}
}
