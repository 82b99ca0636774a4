package torture_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// What a call logs, of what it is about.
const (
	logResuming  = `level=INFO msg=resuming`
	logFresh     = `level=WARN msg="ignoring checkpoint; starting over"`
	logReplaced  = `level=INFO msg="replacing partial file of an earlier run"`
	logDisproved = `level=WARN msg="range on disk does not match its checksum; downloading it again"`
	logRetry     = `level=INFO msg="retrying after failed request"`
	logPin       = `level=WARN msg="version pin dropped: no permission oss:GetObjectVersion"`
	logIfMatch   = `level=WARN msg="server refuses If-Match with Range; comparing answers instead"`
	logStream    = `level=INFO msg="server does not serve ranges; using one connection"`
	logNoRanges  = `level=WARN msg="server ignores ranges; using one connection, from the start"`
	logChecksum  = `level=WARN msg="checksum mismatch"`
	logSymlink   = `level=WARN msg="CRC-64 of the answer for a symbolic link does not match its content; not verified"`
	logRenew     = `level=INFO msg="URL expired; asking for a new one"`
	logNoLocks   = `level=WARN msg="the file system has no locks: other processes are not kept away"`
	logNotSaved  = `level=WARN msg="checkpoint not saved"`
)

var logged = []string{logResuming, logFresh, logReplaced, logDisproved, logRetry, logPin, logIfMatch, logStream,
	logNoRanges, logChecksum, logSymlink, logRenew, logNoLocks, logNotSaved}

// checkLog checks that each of these lines is in the log as often, and no other that is known. All name the object.
func checkLog(t *testing.T, r *harness.Records, want map[string]int, object string) {
	t.Helper()
	text := r.String()
	for _, line := range logged {
		if got := strings.Count(text, line+" "); got != want[line] {
			t.Errorf("%d times, want %d: %s", got, want[line], line)
		}
	}
	for line := range strings.Lines(text) {
		if !strings.Contains(line, object) {
			t.Errorf("it does not say of what it is: %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestLog checks that what the interface calls logged is, once, and nothing else is.
func TestLog(t *testing.T) {
	versioned := []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}
	damage := func(st *serverStage, how func(string) string) {
		data, err := os.ReadFile(st.path + harness.CheckpointSuffix)
		if err != nil {
			st.t.Fatal(err)
		}
		if how(string(data)) == string(data) {
			st.t.Fatalf("not damaged: %s", data)
		}
		harness.WriteFile(st.t, st.path+harness.CheckpointSuffix, how(string(data)))
	}
	replace := func(old, new string) func(*serverStage) {
		return func(st *serverStage) {
			damage(st, func(s string) string { return strings.Replace(s, old, new, 1) })
		}
	}
	// A checkpoint that is not believed leaves a partial file that nobody vouches for.
	notBelieved := map[string]int{logFresh: 1, logReplaced: 1}
	for name, c := range map[string]struct {
		config  stageConfig
		resumed bool
		then    func(*serverStage)
		opts    []ossdl.Option
		want    map[string]int
	}{
		"nothing happens": {},
		"resume":          {resumed: true, want: map[string]int{logResuming: 1}},

		"checkpoint cut":                 {resumed: true, then: func(st *serverStage) { damage(st, func(s string) string { return s[:len(s)/2] }) }, want: notBelieved},
		"checkpoint empty":               {resumed: true, then: func(st *serverStage) { damage(st, func(string) string { return "" }) }, want: notBelieved},
		"checkpoint torn":                {resumed: true, then: func(st *serverStage) { damage(st, func(s string) string { return s[:60] }) }, want: notBelieved},
		"checkpoint too large":           {resumed: true, then: func(st *serverStage) { damage(st, func(s string) string { return strings.Repeat(s, 10_000) }) }, want: notBelieved},
		"checkpoint of another format":   {resumed: true, then: replace(`"version":1`, `"version":2`), want: notBelieved},
		"checkpoint of another object":   {resumed: true, then: replace(`"key":"key"`, `"key":"other"`), want: notBelieved},
		"checkpoint of another path":     {resumed: true, then: replace(`"path":"../file"`, `"path":"../other"`), want: notBelieved},
		"checkpoint of the whole object": {resumed: true, opts: []ossdl.Option{ossdl.WithRange(0, lieSize)}, want: notBelieved},
		"checkpoint of another version": {resumed: true, config: stageConfig{bucket: versioned}, opts: []ossdl.Option{ossdl.WithVersionID("x")},
			want: map[string]int{logFresh: 1}}, // there is no such version

		"object changed": {resumed: true, then: func(st *serverStage) {
			st.content = osstest.Random(8, lieSize)
			st.s.Put("bkt", "key", st.content)
		}, want: map[string]int{logResuming: 1, logFresh: 1, logReplaced: 1}},
		"partial file without checkpoint": {resumed: true, then: func(st *serverStage) {
			if err := os.Remove(st.path + harness.CheckpointSuffix); err != nil {
				st.t.Fatal(err)
			}
		}, want: map[string]int{logReplaced: 1}},
		"partial file linked elsewhere": {resumed: true, then: func(st *serverStage) {
			if err := os.Link(st.path+harness.PartSuffix, filepath.Join(st.t.TempDir(), "link")); err != nil {
				st.t.Skip(err)
			}
		}, want: map[string]int{logFresh: 1, logReplaced: 1}},
		"checkpoint without partial file": {resumed: true, then: func(st *serverStage) {
			if err := os.Remove(st.path + harness.PartSuffix); err != nil {
				st.t.Fatal(err)
			}
		}, want: map[string]int{logFresh: 1}},
		"partial file damaged": {resumed: true, then: func(st *serverStage) {
			f, err := os.OpenFile(st.path+harness.PartSuffix, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("damage"), 100)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				st.t.Fatal(err)
			}
		}, want: map[string]int{logResuming: 1, logDisproved: 1}},

		"one retry": {then: func(st *serverStage) { st.s.Nth(3, osstest.Error(500, "InternalError")) }, want: map[string]int{logRetry: 1}},
		"two retries": {then: func(st *serverStage) {
			st.s.Nth(3, osstest.Inject().LoginPage())
			st.s.Nth(9, osstest.Inject().ResetAfter(9))
		}, want: map[string]int{logRetry: 2}},
		"no permission for versions": {config: stageConfig{bucket: versioned}, then: func(st *serverStage) {
			st.s.AddUser(osstest.AccessKeyID, osstest.AccessKeySecret, osstest.WithoutGetObjectVersion())
		}, want: map[string]int{logPin: 1}},
		"If-Match refused": {config: stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.IfMatchWithRangeUnsupported)}},
			want: map[string]int{logIfMatch: 1}},
		"no ranges": {config: stageConfig{size: 3 << 20, server: []osstest.Option{osstest.WithQuirks(osstest.NoRanges)}},
			want: map[string]int{logStream: 1}},
		"no ranges on resume": {resumed: true, then: func(st *serverStage) { st.s.SetQuirks(osstest.NoRanges) },
			want: map[string]int{logResuming: 1, logNoRanges: 1}},
		"a wrong byte": {then: func(st *serverStage) { st.s.Nth(3, osstest.Inject().FlipByte(5)) }, want: map[string]int{logChecksum: 1}},
		"CRC-64 of a link": {config: stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.LinkCRC)}}, then: func(st *serverStage) {
			st.s.Put("bkt", "target", st.content)
			st.s.Symlink("bkt", "key", "target")
		}, want: map[string]int{logSymlink: 1}},
		"URL expired": {config: stageConfig{through: viaURL}, then: func(st *serverStage) {
			st.opts = append(st.opts, ossdl.WithURLRefresh(func(context.Context) (string, error) {
				return harness.Sign(st.t, st.s, oss.AuthV1, 2*time.Hour, "key"), nil
			}), ossdl.WithConcurrency(1))
			st.s.Nth(3, osstest.Error(403, "AccessDenied", "Request has expired."))
		}, want: map[string]int{logRenew: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			st := newServerStage(t, c.config)
			if c.resumed {
				st.interrupt()
			}
			if c.then != nil {
				c.then(st)
			}
			var log harness.Records
			if name == "no ranges" { // the stream is not through before it is known to be alone
				open := make(chan struct{})
				st.s.Nth(0, osstest.Inject().Gate(1<<20, open))
				go func() {
					for !strings.Contains(log.String(), logStream) && t.Context().Err() == nil {
						runtime.Gosched()
					}
					close(open)
				}()
			}
			_, err := st.download(append(c.opts, ossdl.WithLogger(log.Logger()))...)
			if wrong := name == "checkpoint of another version"; (err != nil) != wrong {
				t.Fatal(err)
			}
			checkLog(t, &log, c.want, "key=")
		})
	}
}

// TestLogOfADisk checks that what the disk cannot do is said once, however often it is met.
func TestLogOfADisk(t *testing.T) {
	t.Run("no locks", func(t *testing.T) {
		s := harness.NewServer(t)
		s.Put("bkt", "k", osstest.Random(1, 1000))
		var log harness.Records
		d := harness.NewDownloader(t, s, harness.WithFS(memfs.New(memfs.Config{NoLocks: true})), ossdl.WithLogger(log.Logger()))
		if _, err := d.Download(t.Context(), "bkt", "k", "/file"); err != nil {
			t.Fatal(err)
		}
		checkLog(t, &log, map[string]int{logNoLocks: 1}, "key=k")
	})
	t.Run("checkpoint not saved", func(t *testing.T) {
		s := harness.NewServer(t, osstest.WithTotalRate(64<<20))
		s.Put("bkt", "k", osstest.Random(1, 32<<20))
		disk := faultfs.New(memfs.New(memfs.Config{}))
		var tries atomic.Int64
		broken := errors.New("broken")
		disk.OnOp(func(op faultfs.Op) error {
			if op.Kind == faultfs.Write && strings.Contains(op.Name, harness.CheckpointSuffix) {
				tries.Add(1)
				return broken
			}
			return nil
		})
		var log harness.Records
		d := harness.NewDownloader(t, s, harness.WithFS(disk), ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(2), ossdl.WithLogger(log.Logger()))
		s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if r.Start < 24<<20 {
				return nil
			}
			return osstest.Error(403, "AccessDenied") // after which it is tried once more
		})
		if _, err := d.Download(t.Context(), "bkt", "k", "/file"); err == nil || errors.Is(err, broken) {
			t.Fatal(err)
		}
		if tries.Load() < 2 {
			t.Errorf("saved %d times", tries.Load())
		}
		checkLog(t, &log, map[string]int{logNotSaved: 1}, "key=k")
	})
}
