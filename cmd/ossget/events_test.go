package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// event is a line of --json=events.
type event map[string]any

// readEvents reads the lines. Each must have what begins each line.
func readEvents(t *testing.T, lines string) (all []event) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		at, err := time.Parse(time.RFC3339, fmt.Sprint(e["time"]))
		if err != nil || time.Since(at).Abs() > time.Hour || e["schemaVersion"] != float64(schemaVersion) {
			t.Errorf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// names returns the events, without those of progress, whose number depends on time.
func names(all []event) (names []string) {
	for _, e := range all {
		if e["event"] != eventProgress {
			names = append(names, fmt.Sprint(e["event"]))
		}
	}
	return names
}

// last returns the last event with a name.
func last(t *testing.T, all []event, name string) event {
	t.Helper()
	for _, e := range slices.Backward(all) {
		if e["event"] == name {
			return e
		}
	}
	t.Fatalf("no %s in %v", name, all)
	return nil
}

// TestEventsOfOneObject checks the events of a download that meets a failure, and that the last one is the line of --json.
func TestEventsOfOneObject(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 1000)
	o, content := s.Put("bucket", "folder/key", c), all(t, c)
	s.Nth(0, osstest.Inject().Error(503, "ServiceUnavailable"))
	path := filepath.Join(t.TempDir(), "file")
	r := runHere(t.Context(), envOf(s), "--json=events", "oss://bucket/folder/key", path)
	all := readEvents(t, r.stdout)
	if got := names(all); r.exit != exitDone || !slices.Equal(got, []string{eventStart, eventRetry, eventFile, eventDone}) {
		t.Fatalf("%v: %+v", got, r)
	}
	if e := last(t, all, eventStart); e["task"] != "object" || e["bucket"] != "bucket" || e["key"] != "folder/key" || e["path"] != path || e["version"] != ossdl.Version {
		t.Errorf("%v", e)
	}
	if e := last(t, all, eventRetry); e["bucket"] != "bucket" || e["key"] != "folder/key" || e["code"] != "HTTP503" || e["retryable"] != true ||
		e["requestId"] != s.Requests()[0].RequestID || e["offset"] != float64(0) {
		t.Errorf("%v", e)
	}
	file, done := last(t, all, eventFile), last(t, all, eventDone)
	for name, want := range map[string]any{
		"path": path, "bucket": "bucket", "key": "folder/key", "versionId": "", "etag": o.ETag, "size": float64(1000), "crc64": fmt.Sprint(o.CRC64()), "verified": true,
		"skipped": false, "resumedBytes": float64(0), "downloadedBytes": float64(1000), "requests": float64(2), "retries": float64(1),
		"lastModified": o.LastModified.UTC().Truncate(time.Second).Format(time.RFC3339), "error": nil,
	} {
		if file[name] != want || done[name] != want {
			t.Errorf("%s: %v and %v, want %v", name, file[name], done[name], want)
		}
	}
	for name := range outcomeNames() {
		if _, ok := done[name]; !ok {
			t.Errorf("the last line does not have %s", name)
		}
	}

	r = runHere(t.Context(), envOf(s), "--json=events", "--update", "oss://bucket/folder/key", path)
	all = readEvents(t, r.stdout)
	if got := names(all); r.exit != exitDone || !slices.Equal(got, []string{eventStart, eventSkipped, eventDone}) || last(t, all, eventSkipped)["skipped"] != true {
		t.Errorf("it was there already: %v: %+v", got, r)
	}

	r = runHere(t.Context(), envOf(s), "--json=events", "oss://bucket/absent", path)
	all = readEvents(t, r.stdout)
	if got := names(all); r.exit != exitHopeless || !slices.Equal(got, []string{eventStart, eventFailed, eventDone}) {
		t.Fatalf("%v: %+v", got, r)
	}
	for _, e := range []event{last(t, all, eventFailed), last(t, all, eventDone)} {
		if e["code"] != codeNotFound || e["exitCode"] != float64(exitHopeless) || e["retryable"] != false || e["requestId"] == "" || e["error"] == "" {
			t.Errorf("%v", e)
		}
	}

	r = runHere(t.Context(), envOf(s), "oss://bucket/key", "--nonsense", "-json=events")
	if all := readEvents(t, r.stdout); r.exit != exitUsage || !slices.Equal(names(all), []string{eventDone}) || all[0]["code"] != codeUsage || all[0]["retryable"] != false {
		t.Errorf("wrong usage: %+v", r)
	}

	// To standard output the events go to standard error, where the last line is the result.
	r = runHere(t.Context(), envOf(s), "-quiet", "-json=events", "oss://bucket/folder/key", "-")
	if got := names(readEvents(t, r.stderr)); r.exit != exitDone || r.stdout != string(content) || !slices.Equal(got, []string{eventStart, eventFile, eventDone}) {
		t.Errorf("to standard output: %v, exit code %d", got, r.exit)
	}
}

// outcomeNames are the names of the line of --json, without those of a failure.
func outcomeNames() map[string]bool {
	names := map[string]bool{}
	for _, name := range jsonNames(report{}) {
		names[name] = true
	}
	return names
}

// TestEventsOfMany checks the events of a prefix, of a list, of a dry run and of a comparison.
func TestEventsOfMany(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "p/a", osstest.Random(1, 1000))
	s.Put("bucket", "p/frozen", osstest.Random(2, 500), osstest.Archived(""))
	s.Put("bucket", "p/sub/", osstest.Bytes(nil))
	dir := t.TempDir()
	see := func(exit int, args []string, want ...string) []event {
		t.Helper()
		r := runHere(t.Context(), envOf(s), append([]string{"-json=events"}, args...)...)
		all := readEvents(t, r.stdout)
		got := names(all)
		if len(got) > 2 {
			slices.Sort(got[1 : len(got)-1]) // objects are settled in any order
		}
		if r.exit != exit || !slices.Equal(got, append(append([]string{eventStart}, want...), eventDone)) {
			t.Errorf("%q: exit code %d, %v, want %v: %s", args, r.exit, got, want, r.stderr)
		}
		return all
	}
	prefix := []string{"-recursive", "oss://bucket/p/", dir}
	see(exitDone, append([]string{"-dry-run"}, prefix...), eventWouldDownload, eventWouldDownload, eventWouldDownload)
	all := see(exitHopeless, prefix, eventFailed, eventFile, eventFolder)
	if e := last(t, all, eventFailed); e["bucket"] != "bucket" || e["key"] != "p/frozen" || e["code"] != codeArchived || e["exitCode"] != float64(exitHopeless) || e["retryable"] != false {
		t.Errorf("%v", e)
	}
	file := last(t, all, eventFile)
	for name := range outcomeNames() {
		if _, ok := file[name]; !ok {
			t.Errorf("an object does not have %s", name)
		}
	}
	if file["path"] != filepath.Join(dir, "a") || file["bucket"] != "bucket" || file["key"] != "p/a" || file["verified"] != true || file["skipped"] != false {
		t.Errorf("%v", file)
	}
	if e := last(t, all, eventDone); e["done"] != float64(2) || e["failed"] != float64(1) || e["code"] != codeSomeFailed || len(e["failures"].([]any)) != 1 {
		t.Errorf("%v", e)
	}
	all = see(exitHopeless, prefix, eventFailed, eventSkipped, eventSkipped)
	if e := last(t, all, eventSkipped); e["skipped"] != true {
		t.Errorf("%v", e)
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("p/a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	see(exitDone, []string{"-files-from", list, "oss://bucket/", t.TempDir()}, eventFile)
	see(exitHopeless, []string{"-verify", "oss://bucket/p/", dir}, eventDifference)
	s.Delete("bucket", "p/a")
	s.Delete("bucket", "p/frozen")
	see(exitDone, append([]string{"-delete", "1", "-dry-run"}, prefix...), eventSkipped, eventWouldDelete)
	see(exitDone, append([]string{"-delete", "1"}, prefix...), eventDeleted, eventSkipped)
}

// TestProgressEvents checks that progress is reported once a second.
func TestProgressEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		e := newEvents(command{}, &out, func(error) {})
		for i := range int64(31) {
			e.update(ossdl.Progress{Done: i, Total: 100, Remaining: time.Duration(10-i) * time.Second})
			time.Sleep(100 * time.Millisecond) // of the bubble's clock
		}
		all := []event{}
		for line := range strings.Lines(out.String()) {
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		if len(all) != 4 || all[0]["doneBytes"] != 0.0 || all[3]["doneBytes"] != 30.0 || all[0]["remainingSeconds"] != 10.0 {
			t.Errorf("%v", all)
		}
		if _, known := all[3]["remainingSeconds"]; known {
			t.Errorf("the time left is not known: %v", all[3])
		}
	})
}

// TestEventsOfTheLog checks which log lines of the library become events.
func TestEventsOfTheLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(noticer{events: newEvents(command{source: source{bucket: "bucket"}}, &out, func(error) {})})
	log.Info("resuming", "key", "k")
	log.Error(failedMessage, "key", "k", "error", errors.New("e"))
	log.With("bucket", "b", "key", "k").Info(retryMessage, "offset", int64(5), "error", ossdl.ErrNotFound)
	log.WithGroup("g").Warn("ignoring checkpoint; starting over", "reason", errors.New("torn"))
	log.Info(restoreMessage, "key", "cold", "days", 1)
	all := readEvents(t, out.String())
	if got := names(all); !slices.Equal(got, []string{eventRetry, eventWarning, eventRestoring}) {
		t.Fatalf("%v", got)
	}
	if e := all[0]; e["bucket"] != "b" || e["key"] != "k" || e["offset"] != 5.0 || e["code"] != codeNotFound || e["retryable"] != true {
		t.Errorf("%v", e)
	}
	if e := all[1]; e["bucket"] != "bucket" || e["error"] != "torn" || e["message"] != "ignoring checkpoint; starting over" {
		t.Errorf("%v", e)
	}
	if e := all[2]; e["key"] != "cold" || e["error"] != nil {
		t.Errorf("%v", e)
	}
}

// TestNobodyReadsTheEvents checks that the download ends if standard output is closed.
func TestNobodyReadsTheEvents(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	for _, args := range [][]string{{"oss://bucket/key"}, {"-recursive", "oss://bucket/"}, {"-verify", "oss://bucket/"}} {
		dir := t.TempDir()
		var stderr bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		exit := run(ctx, append([]string{"-json=events", "-quiet"}, append(args, dir)...), envOf(s).get, failingOutput{onWrite: syscall.EPIPE}, &stderr)
		cancel()
		if exit != exitBrokenPipe || stderr.Len() > 0 {
			t.Errorf("%q: exit code %d, %s", args, exit, stderr.String())
		}
		onlyFile(t, dir, "")
	}
}

// TestMetrics checks the file of --metrics as Prometheus reads it, after a success, failures and a comparison.
func TestMetrics(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "p/a", osstest.Random(1, 1000))
	s.Put("bucket", "p/frozen", osstest.Random(2, 500), osstest.Archived(""))
	raw, query := signed(t, s, "p/a", 600)
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "x.prom")
	for _, c := range []struct {
		args []string
		exit int
		want map[string]float64
	}{
		{[]string{"oss://bucket/p/a", dir}, exitDone, map[string]float64{"ossget_success": 1, "ossget_exit_code": 0, "ossget_objects done": 1, "ossget_bytes": 1000, "ossget_downloaded_bytes": 1000, "ossget_requests": 1, "ossget_unverified_objects": 0}},
		{[]string{"-update", "oss://bucket/p/a", dir}, exitDone, map[string]float64{"ossget_success": 1, "ossget_objects skipped": 1, "ossget_downloaded_bytes": 0}},
		{[]string{raw, dir}, exitDone, map[string]float64{"ossget_success": 1}},
		{[]string{"oss://bucket/absent", dir}, exitHopeless, map[string]float64{"ossget_success": 0, "ossget_exit_code": 3, "ossget_objects failed": 1, "ossget_bytes": 0}},
		{[]string{"-recursive", "oss://bucket/p/", filepath.Join(dir, `new {x}`)}, exitHopeless, map[string]float64{"ossget_success": 0, "ossget_objects done": 1, "ossget_objects failed": 1, "ossget_objects skipped": 0, "ossget_bytes": 1000}},
		{[]string{"-verify", "oss://bucket/p/", dir}, exitHopeless, map[string]float64{"ossget_objects missing": 1, "ossget_objects same": 1}},
	} {
		r := runHere(t.Context(), envOf(s), append([]string{"-metrics", file}, c.args...)...)
		if r.exit != c.exit {
			t.Fatalf("%q: %+v", c.args, r)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		silent(t, ran{stdout: string(text)}, query)
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got := map[string]float64{}
		for name, f := range families {
			for _, m := range f.Metric {
				labels := map[string]string{}
				for _, l := range m.Label {
					labels[l.GetName()] = l.GetValue()
				}
				if labels["path"] == "" || !strings.Contains(c.args[0]+c.args[len(c.args)-2], labels["source"]) && labels["source"] != strings.Split(raw, "?")[0] {
					t.Errorf("%s has labels %v", name, labels)
				}
				got[strings.TrimSpace(name+" "+labels["status"])] = m.GetGauge().GetValue()
			}
		}
		for name, want := range c.want {
			if value, ok := got[name]; !ok || value != want {
				t.Errorf("%q: %s is %v, want %v", c.args, name, value, want)
			}
		}
		onlyFile(t, filepath.Dir(file), "x.prom")
	}
	before, _ := os.ReadFile(file)
	if r := runHere(t.Context(), envOf(s), "-metrics", file, "oss://bucket/"); r.exit != exitUsage {
		t.Errorf("%+v", r)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(after, before) {
		t.Error("wrong usage has replaced the file")
	}
	if r := runHere(t.Context(), envOf(s), "-metrics", filepath.Join(dir, "absent", "x"), "oss://bucket/p/a", dir); r.exit != exitUsage || !strings.Contains(r.stderr, "--metrics") {
		t.Errorf("no folder: %+v", r)
	}
	taken := filepath.Join(t.TempDir(), "x.prom")
	if err := os.MkdirAll(filepath.Join(taken, "full"), 0o777); err != nil {
		t.Fatal(err)
	}
	if r := runHere(t.Context(), envOf(s), "-metrics", taken, "oss://bucket/p/a", t.TempDir()); r.exit != exitFailed || !strings.Contains(r.stderr, "--metrics") {
		t.Errorf("a folder is there: %+v", r)
	}
	onlyFile(t, filepath.Dir(taken), "x.prom")
}
