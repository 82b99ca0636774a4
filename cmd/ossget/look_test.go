package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestLs checks the lines of a listing, for people and as JSON.
func TestLs(t *testing.T) {
	s := newServer(t)
	o := s.Put("bucket", "p/a.gz", osstest.Random(1, 1000))
	s.Put("bucket", "p/b\x1b[2J", osstest.Random(2, 500), osstest.StorageClass("ColdArchive"))
	s.Put("bucket", "q", osstest.Random(3, 3))
	r := runHere(t.Context(), envOf(s), "ls", "oss://bucket/p/")
	modified := o.LastModified.UTC().Format("2006-01-02T15:04:05Z")
	want := modified + "           1000  Standard                  p/a.gz\n" + modified + "            500  ColdArchive frozen        p/b?[2J\n"
	if r.exit != exitDone || strings.ReplaceAll(r.stdout, s.Stat("bucket", "p/b\x1b[2J").LastModified.UTC().Format("2006-01-02T15:04:05Z"), modified) != want ||
		r.stderr != "ossget: oss://bucket/p/: 2 objects, 1.5 KiB\n" {
		t.Errorf("%+v, want %s", r, want)
	}
	if r := runHere(t.Context(), envOf(s), "-quiet", "ls", "-include", "*.gz", "oss://bucket"); r.exit != exitDone || strings.Count(r.stdout, "\n") != 1 || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	r = runHere(t.Context(), envOf(s), "ls", "-json", "-start-after", "p/a.gz", "oss://bucket/")
	lines := strings.SplitAfter(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.exit != exitDone || len(lines) != 3 {
		t.Fatalf("%+v", r)
	}
	var first object
	var last listing
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || first.Bucket != "bucket" || first.Key != "p/b\x1b[2J" || first.Size != 500 ||
		first.StorageClass != "ColdArchive" || first.ArchiveState != "frozen" || strings.Contains(lines[0], "crc64") {
		t.Errorf("%s: %v", lines[0], err)
	}
	if err := json.Unmarshal([]byte(lines[2]), &last); err != nil || last.Objects != 2 || last.Bytes != 503 || last.Bucket != "bucket" || last.Failure != nil {
		t.Errorf("%s: %v", lines[2], err)
	}

	r = runHere(t.Context(), envOf(s), "ls", "-json", "oss://absent/p/")
	if err := json.Unmarshal([]byte(r.stdout), &last); err != nil || r.exit != exitHopeless || last.Failure == nil || last.Code != codeNotFound || last.RequestID == "" {
		t.Errorf("no bucket: %+v, %v", r, err)
	}
	for _, args := range [][]string{{"ls"}, {"ls", "oss://bucket/", "dir"}, {"ls", "bucket"}, {"ls", "https://h/"}, {"ls", "-range", "1:2", "oss://bucket/"}} {
		if r := runHere(t.Context(), envOf(s), args...); r.exit != exitUsage || r.stdout != "" {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if exit := run(t.Context(), []string{"ls", "oss://bucket/"}, envOf(s).get, broken{}, new(strings.Builder)); exit != exitFailed {
		t.Errorf("standard output is closed: exit code %d", exit)
	}
}

// TestLsAsOf checks that a listing of a time has the versions of that time, with what was deleted since.
func TestLsAsOf(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bucket", osstest.Versioning(osstest.Enabled))
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ids []string
	for i, key := range []string{"p/changed", "p/deleted"} {
		ids = append(ids, s.Put("bucket", key, osstest.Random(1, int64(i+1)), osstest.LastModified(when)).VersionID)
	}
	s.Put("bucket", "p/changed", osstest.Random(2, 1000))
	s.Put("bucket", "p/new", osstest.Random(2, 1000))
	s.Delete("bucket", "p/deleted")
	r := runHere(t.Context(), envOf(s), "ls", "-json", "-as-of", "2026-01-02T03:04:05Z", "oss://bucket/p/")
	lines := strings.Split(r.stdout, "\n")
	if r.exit != exitDone || len(lines) != 4 {
		t.Fatalf("%+v", r)
	}
	for i, id := range ids {
		var o object
		if err := json.Unmarshal([]byte(lines[i]), &o); err != nil || o.VersionID != id || o.Size != int64(i+1) || !o.LastModified.Equal(when) {
			t.Errorf("%s, want version %s: %v", lines[i], id, err)
		}
	}
	s.ResetLog()
	if r := runHere(t.Context(), envOf(s), "ls", "-as-of", "today", "oss://bucket/p/"); r.exit != exitUsage || !strings.Contains(r.stderr, `invalid value "today" for --as-of: it must be a time as in RFC 3339`) || len(s.Requests()) > 0 {
		t.Errorf("%+v", r)
	}
}

// TestStat checks what is said about an object and a file, from the first download to the last.
func TestStat(t *testing.T) {
	h := newHalf(t)
	s := h.server
	o := s.Stat("bucket", "disk.img")
	s.Put("bucket", "cold", osstest.Random(1, 100), osstest.Archived(""))
	stat := func(args ...string) (d described) {
		t.Helper()
		r := runHere(t.Context(), envOf(s), append([]string{"stat", "-json"}, args...)...)
		if err := json.Unmarshal([]byte(r.stdout), &d); err != nil || r.exit != exitDone || r.stderr != "" {
			t.Fatalf("%+v, %v", r, err)
		}
		return d
	}
	if d := stat("oss://bucket/disk.img", h.path); d.Would != wouldDownload || d.Local.Exists || d.Size != halfSize || d.CRC64 != fmt.Sprint(o.CRC64()) {
		t.Errorf("%+v", d)
	}
	if d := stat("oss://bucket/cold", h.path); d.Would != wouldRestore {
		t.Errorf("%+v", d)
	}
	raw, query := signed(t, s, "disk.img", 600)
	cmd := process(t, envOf(s), h.args()...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "a checkpoint", func() bool {
		_, claimed := readClaims(filepath.Join(h.path+".cp", "checkpoint.json"))
		return claimed >= halfSent/2
	})
	if d := stat("oss://bucket/disk.img", filepath.Dir(h.path)); d.Would != wouldWait || !strings.Contains(d.Local.Holder, fmt.Sprintf("process %d on ", cmd.Process.Pid)) {
		t.Errorf("%+v", d)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	_, claimed := readClaims(filepath.Join(h.path+".cp", "checkpoint.json"))
	if d := stat("oss://bucket/disk.img", h.path); d.Would != wouldResume || d.Local.KeptBytes != claimed {
		t.Errorf("%+v, claimed %d", d, claimed)
	}
	if d := stat(raw, h.path); d.Would != wouldDownload {
		t.Errorf("another source: %+v", d)
	}
	h.finish(t)
	if d := stat("oss://bucket/disk.img", h.path); d.Would != wouldSkip || !d.Local.Same {
		t.Errorf("%+v", d)
	}
	r := runHere(t.Context(), env{}, "stat", raw, h.path)
	silent(t, r, query)
	for _, want := range []string{"size           67108864 (64.0 MiB)\n", "etag           " + o.ETag, fmt.Sprintf("crc64          %d\n", o.CRC64()), h.path + ": the same\n", "would          skip\n"} {
		if r.exit != exitDone || !strings.Contains(r.stdout, want) {
			t.Errorf("%+v, want %q", r, want)
		}
	}
	for _, q := range s.Requests()[len(s.Requests())-2:] {
		if !slices.Contains([]string{"HEAD", "GET"}, q.Method) || q.Sent > 1 {
			t.Errorf("%s has sent %d bytes", q.Method, q.Sent)
		}
	}
	r = runHere(t.Context(), envOf(s), "stat", "-json", "oss://bucket/absent")
	if got := outcomeOf(t, r); r.exit != exitHopeless || got.Failure == nil || got.Code != codeNotFound {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"stat"}, {"stat", "oss://bucket/k", "-"}, {"stat", "oss://bucket/p/"}, {"stat", "-recursive", "oss://bucket/p/"}, {"stat", "-header", "A: b", "oss://bucket/k"}} {
		if r := runHere(t.Context(), envOf(s), args...); r.exit != exitUsage || r.stdout != "" {
			t.Errorf("%q: %+v", args, r)
		}
	}
}
