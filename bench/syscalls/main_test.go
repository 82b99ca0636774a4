package main

import (
	"strings"
	"testing"
)

const few = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           6       100           futex
 40.00    0.000400          20        20         3 newfstatat
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           8       120         3 total
`

// TestReport checks that the table is of what one object more costs, with and without errors in strace's own.
func TestReport(t *testing.T) {
	before, err := parse(strings.NewReader(few))
	if err != nil {
		t.Fatal(err)
	}
	after, err := parse(strings.NewReader(strings.NewReplacer(" 100 ", " 150 ", " 20 ", " 60 ").Replace(few)))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	report(&out, &settings{objects: 20, size: 1}, before, after)
	got := strings.Join(strings.Fields(out.String()), " ")
	if !strings.HasSuffix(got, "futex 2.50 newfstatat 2.00 others 0.00 total 4.50 of it Go runtime 2.50 without waiting 2.00") {
		t.Error(out.String())
	}
	if _, err := parse(strings.NewReader("")); err == nil {
		t.Error("an empty table is no error")
	}
}
