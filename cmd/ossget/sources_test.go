package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ossdl/ossdl/internal/osstest"
)

// sumOf is the SHA-256 of a content, in hexadecimal digits.
func sumOf(t *testing.T, c osstest.Content) string {
	t.Helper()
	return fmt.Sprintf("%x", sha256.Sum256(all(t, c)))
}

// writeText writes a file.
func writeText(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSources checks that several sources, of two buckets and URLs, go to a folder, and that the line of --json has numbers.
func TestSources(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("open", osstest.PublicRead())
	a, b, c := osstest.Random(1, 1000), osstest.Random(2, 2000), osstest.Random(3, 3*mib)
	s.Put("bucket", "dir/a key", a)
	s.Put("open", "b", b)
	s.Put("open", "c", c)
	raw, query := signed(t, s, "dir/a key", 600)
	for name, test := range map[string]struct {
		dir  func(top string) string
		args []string
		env  env
	}{
		"existing folder": {func(top string) string { return top }, nil, envOf(s)},
		"made by a slash": {func(top string) string { return filepath.Join(top, "new") + "/" }, nil, envOf(s)},
		"made by --mkdir": {func(top string) string { return filepath.Join(top, "new", "deep") }, []string{"-mkdir"}, envOf(s)},
	} {
		t.Run(name, func(t *testing.T) {
			s.ResetLog()
			dir := test.dir(t.TempDir())
			r := runHere(t.Context(), test.env, append(test.args, "-json", "oss://bucket/dir/a key", s.URL("open", "b"), "oss://open/c", dir)...)
			got := prefixLine(t, r)
			if r.exit != exitDone || got.Path != dir || got.Done != 3 || got.Skipped != 0 || got.Failed != 0 || got.Bytes != 3000+3*mib || got.Requests != len(s.Requests()) {
				t.Errorf("%+v", r)
			}
			tree{"a key": a, "b": b, "c": c}.isIn(t, dir)
			var raw map[string]any
			if err := json.Unmarshal([]byte(r.stdout), &raw); err != nil || raw["done"] != 3.0 || raw["skipped"] != 0.0 || raw["failed"] != 0.0 {
				t.Errorf("%v, %s", err, r.stdout)
			}
			if !strings.Contains(r.stderr, "3 done, 0 skipped, 0 failed") {
				t.Errorf("standard error %q", r.stderr)
			}
		})
	}
	t.Run("URLs need no credentials", func(t *testing.T) {
		dir := t.TempDir()
		r := runHere(t.Context(), env{}, raw, s.URL("open", "b"), dir)
		if r.exit != exitDone {
			t.Errorf("%+v", r)
		}
		tree{"a key": a, "b": b}.isIn(t, dir)
		silent(t, r, query)
	})
}

// failKey answers each request for a key with 503.
func failKey(s *osstest.Server, key string) {
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key != key {
			return nil
		}
		return osstest.Inject().Error(503, "ServiceUnavailable")
	})
}

// TestSourcesOfAList checks a list of words and JSON with digests, one of them wrong, from a file and from standard input.
func TestSourcesOfAList(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("ver", osstest.Versioning(osstest.Enabled))
	a, b, old := osstest.Random(1, 1000), osstest.Random(2, 2000), osstest.Random(3, 3000)
	s.Put("bucket", "a", a)
	crc := s.Put("bucket", "b key", b).CRC64()
	version := s.Put("ver", "v", old).VersionID
	s.Put("ver", "v", osstest.Random(4, 10))
	list := "\ufeff# comment\r\n" +
		"oss://bucket/a sha256=" + sumOf(t, a) + " size=1000\r\n" +
		"oss://bucket/a sub/deep/a2\n" +
		"oss://bucket/a other/ sha256=" + sumOf(t, a) + "\n\n" +
		fmt.Sprintf(`{"source":"oss://bucket/b key","dest":"b b","crc64":"%d"}`, crc) + "\n" +
		"oss://ver/v version=" + version + "\n"
	files := tree{"a": a, "sub/deep/a2": a, "other/a": a, "b b": b, "v": old}
	dir := filepath.Join(t.TempDir(), "new")
	path := writeText(t, filepath.Join(t.TempDir(), "list"), list)
	r := runHere(t.Context(), envOf(s), "-json", "-i", path, dir)
	if got := prefixLine(t, r); r.exit != exitDone || got.Done != 5 {
		t.Fatalf("%+v", r)
	}
	files.isIn(t, dir)

	s.ResetLog()
	r = runHere(t.Context(), envOf(s), "-json", "-update", "-i", path, dir)
	if got := prefixLine(t, r); r.exit != exitDone || got.Skipped != 5 || got.DownloadedBytes != 0 {
		t.Errorf("%+v", r)
	}
	for _, q := range s.Requests() {
		if q.Method != "HEAD" || q.Key == "b key" {
			t.Errorf("%s %s: a digest is known, or a HEAD is enough", q.Method, q.Key)
		}
	}
	if n := len(s.Requests()); n != 2 { // of sub/deep/a2 and of the version
		t.Errorf("%d requests", n)
	}

	for name, test := range map[string]struct {
		line  string
		exit  int
		code  string
		fault bool
	}{
		"wrong digest": {"oss://bucket/a wrong sha256=" + sumOf(t, b), exitHopeless, codeChecksumMismatch, false},
		"wrong CRC-64": {"oss://bucket/a wrong crc64=1", exitHopeless, codeChecksumMismatch, false},
		"not empty":    {"oss://bucket/a wrong size=0", exitHopeless, codeChecksumMismatch, false},
		"none":         {"oss://bucket/none wrong", exitHopeless, codeNotFound, false},
		"may go away":  {"oss://bucket/unavailable wrong", exitFailed, "HTTP503", true},
	} {
		t.Run(name, func(t *testing.T) {
			if test.fault {
				s.Put("bucket", "unavailable", a)
				failKey(s, "unavailable")
				defer s.ClearFaults()
			}
			dir := t.TempDir()
			cmd := process(t, envOf(s), "-json", "-retries", "0", "-i", "-", dir)
			cmd.Stdin = strings.NewReader(test.line + "\noss://bucket/a\n")
			out, err := cmd.Output()
			got := prefixLine(t, ran{stdout: string(out)})
			if cmd.ProcessState.ExitCode() != test.exit || got.Done != 1 || got.Failed != 1 || got.Code != codeSomeFailed || len(got.Failures) != 1 ||
				got.Failures[0].Code != test.code || got.Failures[0].Key != strings.Fields(test.line)[0] || got.Retryable != (test.exit == exitFailed) {
				t.Errorf("%v, %s", err, out)
			}
			tree{"a": a}.isIn(t, dir)
		})
	}
}

// TestSourcesWithManyFailures checks the exit code if more sources fail than the result has.
func TestSourcesWithManyFailures(t *testing.T) {
	s := newServer(t)
	var list strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&list, "oss://bucket/k%d\n", i)
	}
	path := writeText(t, filepath.Join(t.TempDir(), "list"), list.String())
	if r := runHere(t.Context(), envOf(s), "-json", "-i", path, t.TempDir()); r.exit != exitHopeless || prefixLine(t, r).Failed != 1001 || !strings.Contains(r.stderr, "would fail again") {
		t.Errorf("all are missing: exit code %d, %.200s", r.exit, r.stdout)
	}
	list.WriteString("oss://bucket/unavailable\n")
	writeText(t, path, list.String())
	failKey(s, "unavailable")
	if r := runHere(t.Context(), envOf(s), "-json", "-retries", "0", "-i", path, t.TempDir()); r.exit != exitFailed || prefixLine(t, r).Failed != 1002 {
		t.Errorf("one may come: exit code %d, %.200s", r.exit, r.stdout)
	}
}

// TestSourcesRefused checks that nothing is requested or written if anything is malformed, and that the message says where.
func TestSourcesRefused(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "a", osstest.Random(1, 10))
	digits := strings.Repeat("a", 64)
	top := t.TempDir()
	folder := filepath.Join(top, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(top, "list")
	sums := filepath.Join(top, "SUMS")
	for name, test := range map[string]struct {
		list, sums string
		args       []string
		says       []string
	}{
		"malformed line":         {"oss://bucket/a\noss://bucket/a b c\n", "", []string{"-i", list, folder}, []string{list + ", line 2:", "expected SOURCE [DEST]"}},
		"no source":              {"bucket/a\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", objectForm}},
		"a prefix":               {"\noss://bucket/a/ x\n", "", []string{"-i", list, folder}, []string{list + ", line 2:", "--recursive"}},
		"a bucket":               {"oss://B/a\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "bucket name"}},
		"a URL":                  {"https://user:SECRET@h/k?SECRET\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", urlForm}},
		"version of a URL":       {"https://h/k version=1\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "oss://"}},
		"..":                     {"oss://bucket/a\noss://bucket/a ../b\n", "", []string{"-i", list, folder}, []string{list + ", line 2:", `".."`, "below the folder"}},
		".. of a key":            {"oss://bucket/x/..\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "no file name"}},
		". of a key":             {"oss://bucket/x/.\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "no file name"}},
		".. of a URL":            {"https://h/a%2f%2e%2e\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "no file name"}},
		"absolute":               {"oss://bucket/a /etc/passwd\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "absolute"}},
		"drive":                  {`oss://bucket/a C:\a` + "\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "a drive"}},
		"drive of a key":         {`oss://bucket/x/C:a` + "\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "no file name"}},
		"NUL":                    {"oss://bucket/a\noss://bucket/a b\x00\n", "", []string{"-i", list, folder}, []string{list + ", line 2:", "NUL"}},
		"NUL in JSON":            {`{"source":"oss://bucket/a","dest":"b\u0000"}` + "\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "NUL"}},
		"twins":                  {"oss://bucket/a\n\noss://bucket/b ./a\n", "", []string{"-i", list, folder}, []string{list + ", line 3:", "an earlier item", "of its own"}},
		"below":                  {"oss://bucket/a\noss://bucket/b a/b\n", "", []string{"-i", list, folder}, []string{list + ", line 2:", "would lie below"}},
		"upper-case name":        {`{"Source":"oss://bucket/a"}` + "\n", "", []string{"-i", list, folder}, []string{list + ", line 1:", "lower case"}},
		"checksum file":          {"oss://bucket/a\n", digits + "  b\nx\n", []string{"-i", list, "-checksum-file", sums, folder}, []string{sums + ", line 2:", "sha256sum writes"}},
		"no digest":              {"oss://bucket/a\noss://bucket/b\n", digits + "  a\n", []string{"-i", list, "-checksum-file", sums, folder}, []string{list + ", line 2:", sums, `"b"`}},
		"two digests":            {"oss://bucket/a sha256=" + strings.Repeat("b", 64) + "\n", digits + "  a\n", []string{"-i", list, "-checksum-file", sums, folder}, []string{list + ", line 1:", "sha256", sums}},
		"no digest of a file":    {"", digits + "  b\n", []string{"-checksum-file", sums, "oss://bucket/a", folder}, []string{sums, `"a"`}},
		"checksum file, one":     {"", digits + " b\n", []string{"-checksum-file", sums, "oss://bucket/a", folder}, []string{sums + ", line 1:"}},
		"missing list":           {"", "", []string{"-i", list + "2", folder}, []string{"--input-file", list + "2"}},
		"missing checksum file":  {"oss://bucket/a\n", "", []string{"-i", list, "-checksum-file", sums + "2", folder}, []string{"--checksum-file", sums + "2"}},
		"sources and a list":     {"oss://bucket/a\n", "", []string{"-i", list, "oss://bucket/a", folder}, []string{"expected DIR and nothing else"}},
		"no folder":              {"", "", []string{"oss://bucket/a", "oss://bucket/b", filepath.Join(top, "absent")}, []string{"is missing", "slash", "--mkdir"}},
		"a file":                 {"", "", []string{"oss://bucket/a", "oss://bucket/b", list}, []string{"is no folder"}},
		"only sources":           {"", "", []string{"oss://bucket/a", "oss://bucket/b", "oss://bucket/c"}, []string{"the last operand is a source"}},
		"standard output":        {"", "", []string{"oss://bucket/a", "oss://bucket/b", "-"}, []string{"DIR -"}},
		"twins of operands":      {"", "", []string{"oss://bucket/a", "oss://bucket/x/a", folder}, []string{`SOURCE "oss://bucket/x/a"`, "an earlier item"}},
		"a source of operands":   {"", "", []string{"oss://bucket/a", "https://h:x/k?SECRET", folder}, []string{"https://h:x/k", "expected"}},
		"an operand too many":    {"", "", []string{"oss://bucket/a", folder, folder}, []string{"one operand too many"}},
		"range":                  {"oss://bucket/a\n", "", []string{"-range", "0:1", "-i", list, folder}, []string{"--range does not apply to several sources"}},
		"restore":                {"oss://bucket/a\n", "", []string{"-restore", "1", "-i", list, folder}, []string{"--restore does not apply to several sources"}},
		"dry run":                {"oss://bucket/a\n", "", []string{"-dry-run", "-i", list, folder}, []string{"--dry-run requires"}},
		"recursive":              {"oss://bucket/a\n", "", []string{"-recursive", "-i", list, folder}, []string{"excludes --recursive"}},
		"checksums to a stream":  {"", digits + "  a\n", []string{"-checksum-file", sums, "oss://bucket/a", "-"}, []string{"--checksum-file does not apply to standard output"}},
		"checksums of a prefix":  {"", digits + "  a\n", []string{"-checksum-file", sums, "-recursive", "oss://bucket/", folder}, []string{"--checksum-file does not apply to a prefix"}},
		"two kinds of checksums": {"", digits + "  a\n", []string{"-checksum-file", sums, "-sha256", digits, "oss://bucket/a", folder}, []string{"exclude each other"}},
		"standard input twice":   {"", "", []string{"-checksum-file", "-", "-i", "-", folder}, []string{"--input-file - and --checksum-file -"}},
		"header of two hosts":    {"http://h/a\nhttp://h:81/b\n", "", []string{"-header", "Private-Token: SECRET", "-i", list, folder}, []string{"http://h http://h:81", "one host"}},
		"header without a URL":   {"oss://bucket/a\n", "", []string{"-header", "Private-Token: SECRET", "-i", list, folder}, []string{"--header is for a URL"}},
		"two buckets by cname":   {"oss://bucket/a\noss://other/b\n", "", []string{"-cname", "-i", list, folder}, []string{"--cname"}},
	} {
		t.Run(name, func(t *testing.T) {
			writeText(t, list, test.list)
			writeText(t, sums, test.sums)
			metrics := filepath.Join(t.TempDir(), "m")
			r := runHere(t.Context(), envOf(s), append([]string{"-json=events", "-metrics", metrics}, test.args...)...)
			events := readEvents(t, r.stdout)
			if r.exit != exitUsage || len(events) != 1 || events[0]["code"] != codeUsage || strings.Contains(r.stdout+r.stderr, "SECRET") {
				t.Errorf("%+v", r)
			}
			for _, says := range test.says {
				if !strings.Contains(r.stderr, says) {
					t.Errorf("standard error %q does not say %q", r.stderr, says)
				}
			}
			if _, err := os.Stat(metrics); err == nil {
				t.Error("metrics of wrong usage")
			}
		})
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
	tree{}.isIn(t, folder)
}

// TestChecksumFile checks that a single file must have the digest that the file has for its name.
func TestChecksumFile(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("open", osstest.PublicRead())
	a, b := osstest.Random(1, 1000), osstest.Random(2, 1000)
	s.Put("bucket", "rel/app.tar.gz", a)
	s.Put("open", "app.tar.gz", a)
	sums := writeText(t, filepath.Join(t.TempDir(), "SHA256SUMS"), sumOf(t, a)+" *app.tar.gz\n"+sumOf(t, b)+"  wrong\n")
	for _, source := range []string{"oss://bucket/rel/app.tar.gz", s.URL("open", "app.tar.gz")} {
		dir := t.TempDir()
		if r := runHere(t.Context(), envOf(s), "-checksum-file", sums, source, dir); r.exit != exitDone {
			t.Errorf("%+v", r)
		}
		tree{"app.tar.gz": a}.isIn(t, dir)
		s.ResetLog()
		if r := runHere(t.Context(), envOf(s), "-update", "-json", "-checksum-file", sums, source, dir); r.exit != exitDone || !outcomeOf(t, r).Skipped || len(s.Requests()) != 0 {
			t.Errorf("%+v, %d requests", r, len(s.Requests()))
		}
		wrong := filepath.Join(dir, "wrong")
		if r := runHere(t.Context(), envOf(s), "-json", "-checksum-file", sums, source, wrong); r.exit != exitHopeless || outcomeOf(t, r).Code != codeChecksumMismatch {
			t.Errorf("%+v", r)
		}
		tree{"app.tar.gz": a}.isIn(t, dir)
	}
}

// TestEventsOfSources checks the events and the metrics of a list.
func TestEventsOfSources(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("open", osstest.PublicRead())
	a, b := osstest.Random(1, 1000), osstest.Random(2, 2000)
	s.Put("bucket", "d/a", a)
	s.Put("open", "b", b)
	dir, other := t.TempDir(), t.TempDir()
	writeText(t, filepath.Join(dir, "b"), string(all(t, b)))
	list := writeText(t, filepath.Join(other, "list"), "oss://bucket/d/a\n"+s.URL("open", "b")+"?x=SECRET\noss://bucket/none\n")
	metrics := filepath.Join(other, "m.prom")
	r := runHere(t.Context(), envOf(s), "-update", "-json=events", "-metrics", metrics, "-i", list, dir)
	events := readEvents(t, r.stdout)
	got := names(events)
	slices.Sort(got[1 : len(got)-1])
	if want := []string{eventStart, eventFailed, eventFile, eventSkipped, eventDone}; r.exit != exitHopeless || !slices.Equal(got, want) {
		t.Fatalf("%v: %+v", got, r)
	}
	if e := last(t, events, eventStart); e["task"] != "sources" || e["path"] != dir || e["bucket"] != "" || e["key"] != "" {
		t.Errorf("%v", e)
	}
	if e := last(t, events, eventFile); e["path"] != filepath.Join(dir, "a") || e["bucket"] != "bucket" || e["key"] != "d/a" || e["size"] != 1000.0 || e["verified"] != true || e["downloadedBytes"] != 1000.0 {
		t.Errorf("%v", e)
	}
	if e := last(t, events, eventSkipped); e["path"] != filepath.Join(dir, "b") || e["bucket"] != s.Addr() || e["key"] != "/open/b" || e["skipped"] != true {
		t.Errorf("%v", e)
	}
	if e := last(t, events, eventFailed); e["path"] != filepath.Join(dir, "none") || e["bucket"] != "bucket" || e["code"] != codeNotFound || e["exitCode"] != float64(exitHopeless) || e["requestId"] == "" {
		t.Errorf("%v", e)
	}
	if e := last(t, events, eventDone); e["done"] != 1.0 || e["skipped"] != 1.0 || e["failed"] != 1.0 || e["code"] != codeSomeFailed {
		t.Errorf("%v", e)
	}
	text, err := os.ReadFile(metrics)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families["ossget_objects"].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if want := map[string]float64{"done": 1, "skipped": 1, "failed": 1, "deleted": 0}[labels["status"]]; m.GetGauge().GetValue() != want || labels["source"] != list || labels["path"] != dir {
			t.Errorf("%v", m)
		}
	}
	if len(families["ossget_objects"].GetMetric()) != 4 || strings.Contains(r.stdout+r.stderr+string(text), "SECRET") {
		t.Errorf("%s\n%+v", text, r)
	}
}

// TestSourcesOperandsInMetrics checks that the label of operands has no query.
func TestSourcesOperandsInMetrics(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("open", osstest.PublicRead())
	s.Put("open", "a", osstest.Random(1, 10))
	s.Put("open", "b", osstest.Random(2, 10))
	dir := t.TempDir()
	metrics := filepath.Join(t.TempDir(), "m.prom")
	if r := runHere(t.Context(), env{}, "-metrics", metrics, s.URL("open", "a")+"?x=SECRET", s.URL("open", "b"), dir); r.exit != exitDone {
		t.Fatalf("%+v", r)
	}
	text, err := os.ReadFile(metrics)
	if err != nil || strings.Contains(string(text), "SECRET") || !strings.Contains(string(text), `source="`+s.URL("open", "a")+" "+s.URL("open", "b")+`"`) {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestSourcesHeader checks that a header goes to the one host of the URLs.
func TestSourcesHeader(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("open", osstest.PublicRead())
	s.Put("open", "a", osstest.Random(1, 10))
	s.Put("bucket", "b", osstest.Random(2, 10))
	with := envOf(s)
	with["OSSGET_HEADER"] = "Private-Token: SECRET"
	for _, test := range []struct {
		env  env
		args []string
	}{{with, nil}, {envOf(s), []string{"-header", "Private-Token: SECRET"}}} {
		r := runHere(t.Context(), test.env, append(test.args, s.URL("open", "a"), "oss://bucket/b", t.TempDir())...)
		if r.exit != exitDone || strings.Contains(r.stdout+r.stderr, "SECRET") {
			t.Errorf("%+v", r)
		}
	}
	for _, q := range s.Requests() {
		if with := q.Header.Get("Private-Token") == "SECRET"; with != (q.Bucket == "open") {
			t.Errorf("%s: %v", q.Bucket, q.Header)
		}
	}
}

// TestSourcesInterrupted checks the exit code of a list that is interrupted, and that the same command continues.
func TestSourcesInterrupted(t *testing.T) {
	s := newServer(t)
	a, b := osstest.Random(1, 1000), osstest.Random(2, 3*mib)
	s.Put("bucket", "a", a)
	s.Put("bucket", "b", b)
	dir := t.TempDir()
	args := []string{"-json", "-update", "-part-size", "64KiB", "-concurrency", "1", "oss://bucket/a", "oss://bucket/b", dir}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	s.Nth(10, osstest.Inject().Before(func() { cancel(signalError{syscall.SIGTERM}) }).HoldHeaders(nil))
	r := runHere(ctx, envOf(s), args...)
	if got := prefixLine(t, r); r.exit != exitTerminated || got.Failure == nil || got.Code != codeInterrupted || got.Failed != 0 || !strings.Contains(r.stderr, "the same command continues") {
		t.Fatalf("%+v", r)
	}
	s.ClearFaults()
	r = runHere(t.Context(), envOf(s), args...)
	if got := prefixLine(t, r); r.exit != exitDone || got.Done+got.Skipped != 2 || got.ResumedBytes == 0 {
		t.Errorf("%+v", r)
	}
	tree{"a": a, "b": b}.isIn(t, dir)
}

// TestKilledListContinues checks that a list whose process was killed is continued: what was saved is not fetched again.
func TestKilledListContinues(t *testing.T) {
	s := newServer(t)
	small, big := osstest.Random(1, 1000), osstest.Random(2, 16*mib)
	s.Put("bucket", "small", small)
	s.Put("bucket", "big", big)
	dir := t.TempDir()
	list := writeText(t, filepath.Join(t.TempDir(), "list"), "oss://bucket/small sha256="+sumOf(t, small)+"\noss://bucket/big sha256="+sumOf(t, big)+"\n")
	args := []string{"-json", "-update", "-part-size", "1MiB", "-concurrency", "1", "-i", list, dir}
	s.Nth(10, osstest.Inject().HoldHeaders(nil).Maybe()) // it may be killed before
	cmd := process(t, envOf(s), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	checkpoint := filepath.Join(dir, "big.cp", "checkpoint.json")
	waitUntil(t, "a checkpoint, and the small file", func() bool {
		_, claimed := readClaims(checkpoint)
		_, err := os.Stat(filepath.Join(dir, "small"))
		return claimed >= 4*mib && err == nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	s.ClearFaults()
	kept, claimed := readClaims(checkpoint)
	s.ResetLog()
	r := runHere(t.Context(), envOf(s), args...)
	if got := prefixLine(t, r); r.exit != exitDone || got.Done != 1 || got.Skipped != 1 ||
		got.ResumedBytes < claimed || got.DownloadedBytes != 16*mib-got.ResumedBytes { // a recent save may claim more
		t.Errorf("claimed %d; %+v", claimed, r)
	}
	if n := kept.fetchedAgain(s.Requests()); n > 0 {
		t.Errorf("%d bytes that were kept were fetched again", n)
	}
	tree{"small": small, "big": big}.isIn(t, dir)
}

// TestCacheOfTwoJobs checks that two jobs fill one cache with five artifacts at the same time, one of them killed and started again.
// No body comes more often than the kill makes needful, and another run asks for nothing.
func TestCacheOfTwoJobs(t *testing.T) {
	s := newServer(t)
	cache, job := t.TempDir(), t.TempDir()
	files, sums, list := tree{}, "", ""
	var size int64
	for i := range 5 {
		name := fmt.Sprintf("artifact-%d.tar.gz", i)
		c := osstest.Random(uint64(i), int64(i+1)*300<<10)
		s.Put("bucket", "rel/"+name, c)
		files[name] = c
		size += c.Size()
		sums += sumOf(t, c) + "  " + name + "\n"
		list += "oss://bucket/rel/" + name + "\n"
	}
	args := []string{
		"--json=events", "--update", "--wait", "5m", "--part-size", "128KiB", "--concurrency", "2",
		"--checksum-file", writeText(t, filepath.Join(job, "SHA256SUMS"), sums), "-i", writeText(t, filepath.Join(job, "list"), list), cache,
	}
	asked := make(chan struct{})
	s.Nth(8, osstest.Inject().Before(func() { close(asked) }).HoldHeaders(nil))
	killed := process(t, envOf(s), args...)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	conns := 0 // those of the one that is killed: what the server still writes to them is lost
	for _, r := range s.Requests() {
		conns = max(conns, r.Conn+1)
	}
	sent := func() (n int64) {
		for _, r := range s.Requests() {
			if r.Conn >= conns {
				n += r.Sent
			}
		}
		return n
	}
	start := func() (cmd *exec.Cmd, events *bufio.Reader) {
		cmd = process(t, envOf(s), args...)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		events = bufio.NewReader(out)
		if line, err := events.ReadString('\n'); err != nil || readEvents(t, line)[0]["event"] != eventStart {
			t.Fatalf("%q, %v", line, err)
		}
		return cmd, events
	}
	other, events := start()
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // it was killed
	kept := int64(0)  // of what was sent by now
	for name, c := range files {
		if _, err := os.Stat(filepath.Join(cache, name)); err == nil {
			kept += c.Size()
		} else {
			_, claimed := readClaims(filepath.Join(cache, name+".cp", "checkpoint.json"))
			kept += claimed
		}
	}
	before := sent()
	again, moreEvents := start()
	for name, job := range map[string]struct {
		cmd    *exec.Cmd
		events *bufio.Reader
	}{"the other": {other, events}, "the one that was killed": {again, moreEvents}} {
		var text strings.Builder
		if _, err := job.events.WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		err := job.cmd.Wait()
		done := last(t, readEvents(t, text.String()), eventDone)
		if err != nil || done["failed"] != 0.0 || done["done"].(float64)+done["skipped"].(float64) != 5 {
			t.Errorf("%s: %v, %v", name, err, done)
		}
	}
	if sent := sent() - before; sent > size-kept {
		t.Errorf("%d bytes were sent after the kill, which has left %d of %d", sent, kept, size)
	}
	files.isIn(t, cache)
	s.ResetLog()
	if r := runHere(t.Context(), envOf(s), args...); r.exit != exitDone || len(s.Requests()) > 0 {
		t.Errorf("%d requests of a run that had nothing to do: %+v", len(s.Requests()), r)
	}
}

// TestNightlyMirror checks a mirror as cron makes it, without HOME and with nothing else in its environment: what it does, prints
// and exits with in the first night, when nothing is new, when a file is gone, and when one fails.
func TestNightlyMirror(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no cron")
	}
	s := newServer(t)
	a, b := osstest.Random(1, 1000), osstest.Random(2, 2000)
	s.Put("bucket", "site/a", a)
	s.Put("bucket", "site/sub/b", b)
	top := t.TempDir()
	dir, metrics := filepath.Join(top, "www"), filepath.Join(top, "site.prom")
	night := func(exit int) (line prefixReport, stderr string) {
		t.Helper()
		cmd := process(t, nil, "--quiet", "--json", "--metrics", metrics, "--retries", "0", "--recursive", "--delete", "10", "oss://bucket/site/", dir)
		cmd.Env, cmd.Dir = []string{"OSSGET_TEST_MAIN=1"}, "/"
		for name, value := range envOf(s) {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		var out, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &log
		_ = cmd.Run() // the exit code says it
		text, err := os.ReadFile(metrics)
		if code := cmd.ProcessState.ExitCode(); code != exit || err != nil || !strings.Contains(string(text), fmt.Sprintf("ossget_exit_code{source=\"oss://bucket/site/\",path=%q} %d\n", dir, exit)) {
			t.Fatalf("exit code %d, want %d; %v\n%s\n%s\n%s", code, exit, err, out.String(), log.String(), text)
		}
		return prefixLine(t, ran{stdout: out.String()}), log.String()
	}
	if line, stderr := night(exitDone); line.Done != 2 || stderr != "" {
		t.Errorf("%+v, %q", line, stderr)
	}
	if line, stderr := night(exitDone); line.Skipped != 2 || line.DownloadedBytes != 0 || stderr != "" {
		t.Errorf("%+v, %q", line, stderr)
	}
	s.Delete("bucket", "site/sub/b")
	s.Put("bucket", "site/c", b)
	failKey(s, "site/c")
	line, stderr := night(exitFailed)
	if line.Failed != 1 || line.Deleted != 0 || line.Code != codeSomeFailed || !line.Retryable || strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, `"site/c"`) || !strings.Contains(stderr, "tries again what failed") {
		t.Errorf("%+v, %q", line, stderr)
	}
	tree{"a": a, "sub/b": b}.isIn(t, dir)
	s.ClearFaults()
	if line, stderr := night(exitDone); line.Done != 1 || line.Deleted != 1 || stderr != "" {
		t.Errorf("%+v, %q", line, stderr)
	}
	tree{"a": a, "c": b}.isIn(t, dir)
}

// TestSignedURLBehindProxy checks a signed URL from a file, behind a proxy with an authority of its own: with it, without it, after the
// URL has expired, and what is printed each time.
func TestSignedURLBehindProxy(t *testing.T) {
	const host = "bucket.oss.test"
	s := newServer(t)
	c := osstest.Random(1, 3*mib)
	s.Put("bucket", "rel/app.tar.gz", c)
	config, ca := authority(t, host)
	// It reads what it forwards: to clients it is the host.
	proxy := tunnel(t, host, s.Addr(), func(here net.Conn) io.ReadWriter { return tls.Server(here, config) })
	dir, files := t.TempDir(), t.TempDir()
	download := func(urlFile string, args ...string) ran {
		t.Helper()
		e := env{"HTTPS_PROXY": proxy.URL, "https_proxy": proxy.URL, "NO_PROXY": "", "no_proxy": ""}
		cmd := process(t, e, append([]string{"--json=events", "--retries", "0", "--url-file", urlFile, dir}, args...)...)
		var out, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &log
		_ = cmd.Run() // the exit code says it
		return ran{cmd.ProcessState.ExitCode(), out.String(), log.String()}
	}
	sign := func(name string, expired bool) (file, query string) {
		raw, _ := signed(t, s, "rel/app.tar.gz", 600)
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		u.Scheme, u.Host, u.Path = "https", host, "/rel/app.tar.gz" // V1 does not sign these
		if q := u.Query(); expired {
			q.Set("Expires", fmt.Sprint(time.Now().Add(-time.Minute).Unix()))
			u.RawQuery = q.Encode()
		}
		return writeText(t, filepath.Join(files, name), u.String()+"\n"), u.RawQuery
	}
	file, query := sign("url", false)
	r := download(file)
	if done := last(t, readEvents(t, r.stdout), eventDone); r.exit != exitFailed || done["code"] != codeFailed || done["retryable"] != true || !strings.Contains(r.stderr, "--ca") {
		t.Errorf("without the authority: %+v", r)
	}
	silent(t, r, query)
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests through a proxy that is not trusted", n)
	}

	r = download(file, "--ca", ca)
	events := readEvents(t, r.stdout)
	if got := names(events); r.exit != exitDone || !slices.Equal(got, []string{eventStart, eventFile, eventDone}) {
		t.Fatalf("%v, %+v", got, r)
	}
	if e := last(t, events, eventStart); e["task"] != "url" || e["bucket"] != host || e["key"] != "/rel/app.tar.gz" {
		t.Errorf("%v", e)
	}
	if e := last(t, events, eventDone); e["path"] != filepath.Join(dir, "app.tar.gz") || e["size"] != float64(3*mib) || e["verified"] != true || e["bucket"] != host {
		t.Errorf("%v", e)
	}
	if strings.Count(r.stderr, "\n") == 0 || !strings.Contains(r.stderr, "verified") {
		t.Errorf("standard error %q", r.stderr)
	}
	silent(t, r, query)
	tree{"app.tar.gz": c}.isIn(t, dir)

	file, query = sign("expired", true)
	r = download(file, "--ca", ca)
	if done := last(t, readEvents(t, r.stdout), eventDone); r.exit != exitFailed || done["code"] != codeExpired || !strings.Contains(r.stderr, "a new URL") {
		t.Errorf("expired: %+v", r)
	}
	silent(t, r, query)
	tree{"app.tar.gz": c}.isIn(t, dir)
}
