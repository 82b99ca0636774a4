package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if code, ok := childMain(os.Args, os.Stdin, os.Stdout); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// TestQuick runs every row in its small form. It asserts that the files are right and the tables whole; how long
// anything took says nothing here.
func TestQuick(t *testing.T) {
	args := []string{"-quick", "-json", "-dir", t.TempDir()}
	if testing.Short() {
		args = append(args, "-run", "^(cpu-tls|crc|small|first-byte|kill|reset|there|filter|many)$")
	}
	var out bytes.Buffer
	if err := run(t.Context(), args, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, s := range scenarios() {
		var results []result
		for _, r := range doc.Results {
			if r.Scenario == s.name {
				results = append(results, r)
			}
		}
		if len(results) == 0 {
			continue
		}
		ran++
		tb := newTable(s, "warm", results)
		for _, r := range results {
			ours := strings.HasPrefix(r.Client, ossdlClient) || strings.HasPrefix(r.Client, bareClient)
			switch {
			case r.Wrong != "":
				t.Errorf("%s: %s: %s", s.name, r.Client, r.Wrong)
			case ours && (r.Err != "" || r.TimedOut):
				t.Errorf("%s: %s failed: %q, timed out %t", s.name, r.Client, r.Err, r.TimedOut)
			case ours && (r.Sent < r.Size || r.Requests < 1 || r.Conns < 1):
				t.Errorf("%s: %s: %d body bytes for %d in %d requests on %d connections", s.name, r.Client, r.Sent, r.Size, r.Requests, r.Conns)
			case ours && s.first && (r.First <= 0 || r.First > r.Seconds):
				t.Errorf("%s: %s: the first byte came after %v s of %v s", s.name, r.Client, r.First, r.Seconds)
			}
		}
		var text bytes.Buffer
		if err := tb.print(&text); err != nil {
			t.Fatal(err)
		}
		for _, want := range append([]string{s.name + ": "}, lineNames(s)...) {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: the table has no %q:\n%s", s.name, want, &text)
			}
		}
		if got := len(tb.verdicts()); got != len(s.goals) || got == 0 {
			t.Errorf("%s: %d verdicts for %d goals", s.name, got, len(s.goals))
		}
	}
	if want := len(scenarios()); ran != want && !testing.Short() {
		t.Errorf("%d scenarios ran, want %d", ran, want)
	}
}

// TestBusy checks that the processes which keep the processors busy begin and end.
func TestBusy(t *testing.T) {
	stop, err := startBusy(1)
	if err != nil {
		t.Fatal(err)
	}
	stop()
}

// TestRowsThatAreAskedFor checks that some rows run only if -run names rows.
func TestRowsThatAreAskedFor(t *testing.T) {
	for pattern, want := range map[string]bool{"": false, "^disk$": true, "busy": true} {
		c := config{pattern: pattern}
		chosen, err := c.choose()
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(chosen, func(s *scenario) bool { return s.asked }); got != want {
			t.Errorf("-run %q: a row that is to be asked for is chosen: %t", pattern, got)
		}
	}
}

// TestGoalsInMemory checks that a row may have another goal for files in memory than for those on a disk.
func TestGoalsInMemory(t *testing.T) {
	for dir, want := range map[string]float64{"/var/tmp/ossdl-bench-1": 8, "/dev/shm/ossdl-bench-1": 4} {
		c := config{pattern: "^kill$"}
		chosen, err := c.choose()
		if err != nil {
			t.Fatal(err)
		}
		if inMemory(dir) {
			chosen[0].inMemory()
		}
		if got := newTable(chosen[0], "warm", nil).verdicts()[0].Goal; got != want {
			t.Errorf("%s: goal %v, want %v", dir, got, want)
		}
	}
}

// TestCheckpointSize checks that checkpoints are found by the names that the clients give them, ours in a folder.
func TestCheckpointSize(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{
		"object-000.cp/checkpoint.json": 1000, "object-000.cp/data": 50_000, "object-000.cp/recent": 70_000, "object-000.cp/lock": 5,
		"scratch/sdk.cp": 200, "object-001.dcp": 30, "object-002.aria2": 4, "object-003": 60_000,
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := checkpointSize(dir); got != 1234 {
		t.Errorf("%d bytes, want 1234", got)
	}
}

// lineNames are the lines that the table of a scenario must have where aria2c may be missing.
func lineNames(s *scenario) []string {
	if s.special != nil {
		return []string{crcOurs, crcStd}
	}
	b := &bench{peers: []string{bareClient, sdkClient, sdkV2Client}}
	var names []string
	for _, e := range b.entries(s) {
		names = append(names, " "+e.String()+"  ")
	}
	return names
}

// TestText is the form that people read.
func TestText(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-run", "^crc$", "-n", "1", "-dir", t.TempDir()}, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"aliyun-oss-go-sdk: github.com/aliyun/aliyun-oss-go-sdk ", "\ncrc: ", "× hash/crc64", "\ngoals", "goal ≥ 25"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-n", "0"}, "at least 1"},
		{[]string{"-run", "nothing-like-it"}, "no scenario"},
		{[]string{"-run", "("}, "-run"},
		{[]string{"-write", "cold"}, "warm or fresh"},
		{[]string{"-size", "1PB"}, "KiB, MiB and GiB"},
		{[]string{"-size", "0"}, "not a size"},
		{[]string{"-peers", "wget"}, `"wget"`},
		{[]string{"stray"}, `"stray"`},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), tt.args, &out, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want an error with %q", tt.args, err, tt.want)
		}
	}
}

func TestMedianAndGoals(t *testing.T) {
	s := &scenario{
		name: "x", metric: wall(),
		goals: []goal{
			{what: "low", limit: 2, value: metricOf("a")},
			{what: "low", limit: 1, value: metricOf("a")},
			{what: "high", limit: 2, atLeast: true, value: metricOf("a")},
			{what: "high", limit: 3, atLeast: true, value: metricOf("a")},
			{what: "none", limit: 3, value: metricOf("absent")},
		},
	}
	results := []result{
		{Client: "a", Seconds: 1}, {Client: "a", Seconds: 9}, {Client: "a", Seconds: 2},
		{Client: "a", Seconds: 100, Err: "failed runs do not count"},
		{Client: "b", Seconds: 1}, {Client: "b", Seconds: 4},
	}
	tb := newTable(s, "warm", results)
	if got := tb.value("a"); got != 2 {
		t.Errorf("median of three: got %v, want 2", got)
	}
	if got := tb.value("b"); got != 2.5 {
		t.Errorf("median of two: got %v, want 2.5", got)
	}
	if got := tb.ratio("b", "a"); got != 1.25 {
		t.Errorf("ratio: got %v, want 1.25", got)
	}
	for i, want := range []bool{true, false, true, false, false} {
		if v := tb.verdicts()[i]; v.Met != want || v.Measured != (i < 4) {
			t.Errorf("goal %d: %v, measured %t", i, v, v.Measured)
		}
	}
}
