package ossdl

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// childEnv names the endpoint for a process of this test binary that does the job its arguments name, and nothing else.
const childEnv = "OSSDL_TEST_CHILD_ENDPOINT"

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(childEnv); endpoint != "" {
		if err := child(endpoint, os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if n := liesTold.Load(); n > 0 {
		tried.add("lies told", n)
	}
	if name := os.Getenv(countsEnv); name != "" {
		if err := tried.appendTo(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(code)
}

// child does a job:
//
//	download PATH KEY
//	hammer PATH N KEY...    downloads to one path until N times it was not refused, and prints how often it was; see inuse_test.go
//	enter ENTRANCE PATH KEY brings the object to the path through any entrance; see limits_test.go
//	limit NAME N JOB...     does the job with a resource limit; see limits_unix_test.go
func child(endpoint, job string, args []string) error {
	if job == "limit" {
		if err := setLimit(args[0], args[1]); err != nil {
			return err
		}
		return child(endpoint, args[2], args[3:])
	}
	client, err := oss.New(endpoint, osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(HTTPClient()))
	if err != nil {
		return err
	}
	d, err := New(client, WithRetry(RetryPolicy{MinDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond}))
	if err != nil {
		return err
	}
	switch job {
	case "download":
		_, err = d.Download(context.Background(), "bkt", args[1], args[0])
		return err
	case "enter":
		return enterChild(d, client, args[0], args[1], args[2])
	case "hammer":
		refused, err := hammer(d, args[0], args[1], args[2:])
		fmt.Print(refused)
		return err
	}
	return fmt.Errorf("no such job: %s", job)
}

// newChild is a process that does a job, not yet started.
func newChild(t *testing.T, s *osstest.Server, job ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, job...)
	// Under the race detector a process would wait a second before it ends.
	cmd.Env = append(os.Environ(), childEnv+"="+s.Endpoint(), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

func startChild(t *testing.T, s *osstest.Server, job ...string) *exec.Cmd {
	t.Helper()
	cmd := newChild(t, s, job...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestKilledAHundredTimes kills one download at a hundred random moments, every other one of them soon after the process
// has saved its checkpoint: how often it gets so far by itself depends on the machine. Nothing of it may be at the path
// before the end, no claim may be ahead of the disk, nothing that is claimed is asked for again, and the file is byte-exact
// in the end.
func TestKilledAHundredTimes(t *testing.T) {
	kills := 100
	switch {
	case long():
		kills = 1000
	case testing.Short():
		kills = 15
	}
	s := newServer(t, osstest.WithTotalRate(400<<20))
	content := osstest.Random(3, 160<<20)
	s.Put("bkt", "k", content)
	path := filepath.Join(t.TempDir(), "file")
	rng := rand.New(rand.NewPCG(1, uint64(kills)))
	killed, resumed, spared := 0, 0, int64(0)
	var claims []checkpoints.Span // that the last run has left
	for killed < kills {
		s.ResetLog()
		cmd := startChild(t, s, "download", path, "k")
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		from, at := int64(0), rng.Int64N(12<<20)
		if killed%2 == 1 {
			from = -1 // counted from a save on
		}
		before := modTime(path + CheckpointSuffix)
		ctx, cancel := context.WithCancel(t.Context())
		moment := make(chan error, 1)
		go func() {
			moment <- s.WaitFor(ctx, func() bool {
				sent := s.Stats().Sent
				if from < 0 && modTime(path+CheckpointSuffix).After(before) {
					from = sent
				}
				return from >= 0 && sent >= from+at
			})
		}()
		select {
		case <-moment:
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-ended
			killed++
			tried.add("processes killed", 1)
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			checkFile(t, path, content)
			if err := os.Remove(path); err != nil { // once more from the start
				t.Fatal(err)
			}
		}
		cancel()
		spared += notAskedFor(t, s, claims)
		if exists(path) && exists(path+PartSuffix) {
			t.Fatalf("kill %d: a file at the path and a partial one", killed)
		}
		if claims = checkClaims(t, path); len(claims) > 0 {
			resumed++
		}
	}
	s.ResetLog()
	cmd := startChild(t, s, "download", path, "k")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path, content)
	spared += notAskedFor(t, s, claims)
	t.Logf("%d kills, %d of them left a checkpoint; %d bytes were not asked for again", killed, resumed, spared)
	if resumed < kills/4 || spared < int64(kills)<<20 {
		t.Error("too few kills left a checkpoint: little was tested")
	}
}

// notAskedFor fails the test where a run has asked for bytes that it found claimed, and there. It returns how many there
// were. Where nothing is missing a run asks for the first byte, to know whether the object is the same.
func notAskedFor(t *testing.T, s *osstest.Server, claims []checkpoints.Span) int64 {
	t.Helper()
	for _, r := range s.Requests() {
		for _, c := range claims {
			if r.Start < c.End && c.Off < r.End && (r.Start > 0 || r.End > 1) {
				t.Errorf("%s was asked for, and [%d,%d) was there", r.Range, c.Off, c.End)
			}
		}
	}
	return checkpoints.Total(claims)
}

// modTime is when a file was written, or zero where there is none.
func modTime(name string) time.Time {
	fi, err := os.Stat(name)
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

// checkClaims holds the checkpoint that a kill left against the disk, and returns what it claims.
func checkClaims(t *testing.T, path string) (claims []checkpoints.Span) {
	t.Helper()
	if !exists(path + CheckpointSuffix) {
		return nil
	}
	c := checkpoints.Read(t, path+CheckpointSuffix)
	name := path + PartSuffix
	if !exists(name) {
		name = path // killed between the rename and the removal of the checkpoint
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range c.Parts {
		b := make([]byte, p.Done)
		if _, err := f.ReadAt(b, p.Offset); err != nil {
			t.Fatalf("claim %+v: %v", p, err)
		}
		if crc := crc64.Update(0, b); crc != p.CRC64 {
			t.Fatalf("claim %+v: the disk has CRC-64 %d", p, crc)
		}
		claims = append(claims, p.Span())
	}
	return claims
}
