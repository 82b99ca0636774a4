package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestWrong checks that a wrong result names what is wrong, and that a folder which another program has removed counts as no result.
func TestWrong(t *testing.T) {
	const size = 3<<20 + 5
	object := osstest.Random(1, size)
	content := make([]byte, size)
	if _, err := object.ReadAt(content, 0); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(content)
	changed[2<<20+7] ^= 1
	for what, c := range map[string]struct {
		file func(path string) error
		want []string // none: right
	}{
		"right":   {write(string(content)), nil},
		"missing": {func(path string) error { return os.WriteFile(path+".temp", nil, 0o600) }, []string{"object is missing", "object.temp"}},
		"empty":   {write(""), []string{"0 bytes", "at byte 0"}},
		"short":   {write(string(content[:1<<20])), []string{"1048576 bytes", "at byte 1048576"}},
		"long":    {write(string(content) + "x"), []string{"3145734 bytes", "not 3145733", "at byte 3145733"}},
		"changed": {write(string(changed)), []string{"3145733 bytes", "at byte 2097159"}},
	} {
		path := filepath.Join(t.TempDir(), "object")
		if err := c.file(path); err != nil {
			t.Fatal(err)
		}
		got, err := wrong([]string{path}, size, []uint64{object.CRC64()}, func(int) osstest.Content { return object })
		if err != nil || (got == "") != (c.want == nil) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		for _, part := range c.want {
			if !strings.Contains(got, part) {
				t.Errorf("%s: no %q in %q", what, part, got)
			}
		}
	}
	gone := filepath.Join(t.TempDir(), "run-1", "object")
	if got, err := wrong([]string{gone}, size, []uint64{0}, nil); err == nil || got != "" || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a folder that was removed: %q, %v", got, err)
	}
}

// write returns what makes a file with this text.
func write(text string) func(path string) error {
	return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
}

// TestRunSaysWhatIsWrong checks that the outcome of a run says it, too.
func TestRunSaysWhatIsWrong(t *testing.T) {
	var log strings.Builder
	b := &bench{log: &log}
	b.note(&result{Scenario: "line", Client: ossdlClient, Wrong: "object-000 is missing"})
	if !strings.Contains(log.String(), "WRONG RESULT: object-000 is missing") {
		t.Errorf("%s", &log)
	}
}
