package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// runPod runs a pod in this process.
func runPod(t *testing.T, server *osstest.Server, index, count int, args ...string) (string, error) {
	t.Helper()
	env := map[string]string{
		"JOB_COMPLETION_INDEX": strconv.Itoa(index), "SHARDS": strconv.Itoa(count), "OSS_ENDPOINT": server.Endpoint(),
		"OSS_REGION": osstest.Region, "OSS_ACCESS_KEY_ID": name(index), "OSS_ACCESS_KEY_SECRET": name(index) + "-secret",
	}
	var out bytes.Buffer
	err := run(t.Context(), args, func(name string) string { return env[name] }, &out)
	return out.String(), err
}

// planFile writes what ossget plan --json prints.
func planFile(t *testing.T, server *osstest.Server, n int) string {
	t.Helper()
	d, err := ossdl.New(server.Client())
	if err != nil {
		t.Fatal(err)
	}
	ranges, err := d.PlanRanges(t.Context(), bucket, prefix, n)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for i, r := range ranges {
		enc.Encode(map[string]any{"index": i, "after": r.After, "until": r.Until, "share": r.Share})
	}
	enc.Encode(map[string]any{"bucket": bucket, "prefix": prefix, "ranges": len(ranges), "seconds": 1})
	return file(t, lines.String())
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ranges.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRangesRestoreEverythingOnce checks pods with ranges: together they fetch all, each object by one pod, and none lists all.
func TestRangesRestoreEverythingOnce(t *testing.T) {
	server := backup(t)
	plan := planFile(t, server, shards)
	server.ResetLog()
	dir := t.TempDir()
	for i := range shards {
		out, err := runPod(t, server, i, shards, "-ranges", plan, bucket, prefix, dir)
		if err != nil || !strings.Contains(out, fmt.Sprintf("shard %d/4: 60 files restored", i)) {
			t.Errorf("pod %d: %v: %s", i, err, out)
		}
	}
	if err := onePodEach(server); err != nil {
		t.Error(err)
	}
	for _, r := range server.Requests() {
		if q, err := url.ParseQuery(r.Query); r.Key == "" && (err != nil || q.Get("start-after") == "" != (by(&r) == name(0))) {
			t.Errorf("%s lists %s", by(&r), r.Query)
		}
	}
	exact(t, server, dir)
	if out, err := runPod(t, server, shards, shards+1, "-ranges", plan, bucket, prefix, dir); err != nil || !strings.Contains(out, "0 files restored") {
		t.Errorf("a pod without a range: %v: %s", err, out)
	}
}

// TestInventoryRestoresEverythingOnce checks pods that share the files of an inventory, and list nothing.
func TestInventoryRestoresEverythingOnce(t *testing.T) {
	server := backup(t)
	dir, inventory := t.TempDir(), t.TempDir()
	for part := range 3 {
		var rows strings.Builder
		fmt.Fprintf(&rows, "%q,%q,\"1\"\n", bucket, "other/x")
		for i := part; i < objects; i += 3 {
			fmt.Fprintf(&rows, "%q,%q,\"1\"\n", bucket, url.QueryEscape(key(i)))
		}
		writeGzip(t, filepath.Join(inventory, fmt.Sprintf("f-%d.csv.gz", part)), rows.String())
	}
	for i, files := range []int{160, 80} {
		out, err := runPod(t, server, i, 2, "-inventory", inventory, bucket, prefix, dir)
		if err != nil || !strings.Contains(out, fmt.Sprintf("%d files restored, 0 were there already", files)) {
			t.Errorf("pod %d: %v: %s", i, err, out)
		}
	}
	if err := onePodEach(server); err != nil {
		t.Error(err)
	}
	for _, r := range server.Requests() {
		if r.Key == "" {
			t.Errorf("%s lists %s", by(&r), r.Query)
		}
	}
	exact(t, server, dir)
}

func writeGzip(t *testing.T, path, text string) {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestBadShares checks that a plan or an inventory that may lack keys, or is of something else, is an error.
func TestBadShares(t *testing.T) {
	server := backup(t)
	const (
		first  = `{"index":0,"after":"","until":"m","share":0.5}` + "\n"
		second = `{"index":1,"after":"m","until":"","share":0.5}` + "\n"
		last   = `{"bucket":"backups","prefix":"nightly/","ranges":2}` + "\n"
	)
	for want, plan := range map[string]string{
		"last line is missing":        first + second,
		"does not begin where":        first + `{"index":1,"after":"n"}` + last,
		"does not have all ranges":    first + strings.Replace(last, "2", "1", 1),
		"is the plan of oss://x/":     first + second + strings.Replace(last, "backups", "x", 1),
		"2 ranges for 1 pods":         first + second + last,
		"unexpected EOF":              first + second + last[:10],
		"range 1 does not begin":      first + strings.Replace(second, "1", "2", 1) + last,
		"it does not have all ranges": `{"bucket":"backups","prefix":"nightly/","ranges":0,"code":"NotFound"}`,
	} {
		count := 2
		if strings.Contains(want, "1 pods") {
			count = 1
		}
		var usage usageError
		if _, err := runPod(t, server, 0, count, "-ranges", file(t, plan), bucket, prefix, t.TempDir()); !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, rows := range map[string]string{
		"of the bucket": `"other","k"`, "no key": `"backups"`, "invalid URL escape": `"backups","nightly/%zz"`, "extraneous": `"backups"x,"k"`,
	} {
		inventory := t.TempDir()
		writeGzip(t, filepath.Join(inventory, "f.csv.gz"), rows)
		if _, err := runPod(t, server, 0, 1, "-inventory", inventory, bucket, prefix, t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, args := range [][]string{{"-ranges", "/none"}, {"-inventory", t.TempDir()}, {"-inventory", "a", "-ranges", "b"}} {
		var usage usageError
		if _, err := runPod(t, server, 0, 1, append(args, bucket, prefix, t.TempDir())...); !errors.As(err, &usage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
