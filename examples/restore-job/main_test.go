package main

import (
	"bytes"
	"errors"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/osstest"
)

// TestMain also runs the pod, if the arguments are those of the program and not flags.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && !strings.HasPrefix(os.Args[1], "-") {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	err := run(t.Context(), []string{"-demo"}, os.Getenv, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"The others have ended", "shard 3/4: ", "shard 0/4: ", " 0 failed", "All 240 files are there"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestFourShardsRestoreEverythingOnce checks four shards as processes, at the same time and in the same folder. Each object
// is requested only by the process to whose share it belongs, a small one with one request. In the end the folder has the
// objects and nothing else.
func TestFourShardsRestoreEverythingOnce(t *testing.T) {
	server := backup(t)
	dir := t.TempDir()
	var pods [shards]*exec.Cmd
	var logs [shards]bytes.Buffer
	for i := range pods {
		var err error
		if pods[i], err = pod(t.Context(), server, i, dir, &logs[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range pods {
		if err := p.Wait(); err != nil {
			t.Fatalf("shard %d: %v: %s", i, err, &logs[i])
		}
	}
	if err := onePodEach(server); err != nil {
		t.Error(err)
	}
	asked := map[string]int{}
	for _, r := range server.Requests() {
		if r.Key == "" {
			continue // a listing
		}
		if want := name(owner(r.Key)); by(&r) != want {
			t.Errorf("%s was asked for by %s; it belongs to %s", r.Key, by(&r), want)
		}
		if asked[r.Key]++; asked[r.Key] > 1 && !strings.HasSuffix(r.Key, ".dump") {
			t.Errorf("%s was asked for %d times", r.Key, asked[r.Key])
		}
	}
	exact(t, server, dir)
}

// TestKilledShardGoesOn checks that a shard that was killed and started again requests only what it did not have yet.
func TestKilledShardGoesOn(t *testing.T) {
	server := backup(t, osstest.WithRate(rate))
	dir := t.TempDir()
	for i := 1; i < shards; i++ {
		restored(t, server, i, dir)
	}
	share := int64(0) // of shard 0
	for i := range objects {
		if owner(key(i)) == 0 {
			share += server.Stat(bucket, key(i)).Size()
		}
	}
	server.ResetLog()
	holdDumps(server)
	var log bytes.Buffer
	killed, err := pod(t.Context(), server, 0, dir, &log)
	if err != nil {
		t.Fatal(err)
	}
	kept := func() (n int64) { // bytes of the share in finished files
		for i := range objects {
			if info, err := os.Stat(filepath.Join(dir, strings.TrimPrefix(key(i), prefix))); err == nil && owner(key(i)) == 0 {
				n += info.Size()
			}
		}
		return n
	}
	half := server.WaitFor(t.Context(), func() bool { return sent(server) >= share/2 && kept() >= share/10 })
	if err := errors.Join(half, killed.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	if killed.Wait() == nil {
		t.Fatalf("it ended before it could be killed: %s", &log)
	}
	server.ClearFaults()
	first := sent(server)
	there := map[string]bool{}
	for i := range objects {
		if _, err := os.Stat(filepath.Join(dir, strings.TrimPrefix(key(i), prefix))); err == nil {
			there[key(i)] = true
		}
	}
	server.ResetLog()

	restored(t, server, 0, dir)
	for _, r := range server.Requests() {
		if there[r.Key] {
			t.Errorf("%s was there, and was asked for again", r.Key)
		}
	}
	second := sent(server)
	t.Logf("of %d bytes %d were sent before and %d after", share, first, second)
	if second >= share {
		t.Error("nothing was kept")
	}
	exact(t, server, dir)
}

func TestRefused(t *testing.T) {
	operands := []string{"bucket", "p/", t.TempDir()}
	pod := map[string]string{"OSS_ENDPOINT": "http://127.0.0.1:1", "JOB_COMPLETION_INDEX": "0", "SHARDS": "4"}
	for _, c := range []struct {
		want, name, value string // of the environment
		args              []string
	}{
		{want: "usage", args: operands[:2]},
		{want: `BUCKET "oss://bucket": expected 3 to 63`, args: []string{"oss://bucket", "p/", t.TempDir()}},
		{want: `BUCKET "": expected`, args: []string{"", "p/", t.TempDir()}},
		{want: "PREFIX", args: []string{"bucket", strings.Repeat("p", 1024), t.TempDir()}},
		{want: `PREFIX "\xff"`, args: []string{"bucket", "\xff", t.TempDir()}},
		{want: "DIR is empty", args: []string{"bucket", "p/", ""}},
		{want: "-shards", args: append([]string{"-shards=0/4"}, operands...)},
		{want: `-shard "1:4"`, args: append([]string{"-shard=1:4"}, operands...)},
		{want: `-shard "1/x"`, args: append([]string{"-shard=1/x"}, operands...)},
		{want: "the index 0 to count-1", args: append([]string{"-shard=4/4"}, operands...)},
		{`JOB_COMPLETION_INDEX ""`, "JOB_COMPLETION_INDEX", "", operands},
		{"the index 0 to count-1", "JOB_COMPLETION_INDEX", "4", operands},
		{`SHARDS "four"`, "SHARDS", "four", operands},
		{"the count must be 1 or more", "SHARDS", "0", operands},
	} {
		err := run(t.Context(), c.args, func(name string) string {
			if name == c.name {
				return c.value
			}
			return pod[name]
		}, io.Discard)
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q with %s=%s: %v, want a usage error with %q", c.args, c.name, c.value, err, c.want)
		}
	}
}

// TestManifest checks that the manifest agrees with itself and with the program.
func TestManifest(t *testing.T) {
	manifest, err := os.ReadFile("job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)completions: (\d+) .*args: \[-ranges, (/plan)/(ranges.json), (\S+), (\S+), (\S+)\].*SHARDS\s+value: "(\d+)".*mountPath: (\S+).*mountPath: (\S+)`).FindSubmatch(manifest)
	if m == nil {
		t.Fatal("not as it was")
	}
	if string(m[1]) != string(m[7]) {
		t.Errorf("%s completions and %s shards", m[1], m[7])
	}
	if string(m[6]) != string(m[8]) || string(m[2]) != string(m[9]) {
		t.Errorf("restored to %s by a plan in %s, and the volumes are at %s and %s", m[6], m[2], m[8], m[9])
	}
	args := []string{"-ranges", string(m[2]) + "/" + string(m[3]), string(m[4]), string(m[5]), string(m[6])}
	j, err := parse(args, func(name string) string {
		return map[string]string{"JOB_COMPLETION_INDEX": "3", "SHARDS": string(m[7])}[name]
	})
	if want := (job{3, 4, "/plan/ranges.json", "", "backups", "nightly/", "/restore"}); err != nil || j != want {
		t.Errorf("got %+v, %v; want %+v", j, err, want)
	}
}

// backup returns a server with the objects of fill.
func backup(t *testing.T, opts ...osstest.Option) *osstest.Server {
	t.Helper()
	server := osstest.NewServer(t, opts...)
	fill(server)
	return server
}

// restored runs one shard to its end.
func restored(t *testing.T, server *osstest.Server, index int, dir string) {
	t.Helper()
	var log bytes.Buffer
	p, err := pod(t.Context(), server, index, dir, &log)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		t.Fatalf("shard %d: %v: %s", index, err, &log)
	}
}

// owner returns the shard that the key belongs to, as documented at WithShard.
func owner(key string) int {
	h := fnv.New64a()
	io.WriteString(h, key)
	return int(h.Sum64() % shards)
}

// exact checks that dir has all objects, byte for byte, and nothing else, not even working files.
func exact(t *testing.T, server *osstest.Server, dir string) {
	t.Helper()
	for i := range objects {
		content := server.Stat(bucket, key(i)).Content
		want := make([]byte, content.Size())
		if _, err := content.ReadAt(want, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, strings.TrimPrefix(key(i), prefix)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not as it was stored: %d bytes of %d, %v", key(i), len(got), len(want), err)
		}
	}
	if files, err := check(server, dir); err != nil || files != objects {
		t.Errorf("%d files of %d, %v", files, objects, err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".ossdl")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("working files are left: %v", err)
	}
}
