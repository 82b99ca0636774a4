package main

import (
	"context"
	"encoding/json"
	"errors"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// built is the real command, as go build builds it.
func built(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ossget")
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", name, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return name
}

// saved is what a checkpoint claims and the disk confirms: the parts whose bytes have the recorded CRC-64.
type saved struct {
	parts          []savedPart
	bytes, missing int64
}

type savedPart struct {
	Offset, Size, Done int64
	CRC64              string
}

// readSaved compares the checkpoint that a kill left with the disk. The command may claim bytes that the disk lacks, since
// it verifies each claim. But this disk lost no power, so there must be none.
func readSaved(t *testing.T, path string, size int64) saved {
	t.Helper()
	s := saved{missing: size}
	b, err := os.ReadFile(filepath.Join(path+".cp", "checkpoint.json"))
	if errors.Is(err, os.ErrNotExist) {
		return s
	}
	var c struct{ Parts []savedPart }
	if err := errors.Join(err, json.Unmarshal(b, &c)); err != nil {
		t.Fatalf("checkpoint: %v: %q", err, b)
	}
	f, err := os.Open(filepath.Join(path+".cp", "data"))
	if errors.Is(err, os.ErrNotExist) {
		f, err = os.Open(path) // killed between the rename and the removal of the checkpoint
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range c.Parts {
		h := crc64.New(crc64.MakeTable(crc64.ECMA))
		if n, err := io.Copy(h, io.NewSectionReader(f, p.Offset, p.Done)); n != p.Done || err != nil || strconv.FormatUint(h.Sum64(), 10) != p.CRC64 {
			t.Fatalf("claim %+v: the disk has %d bytes with CRC-64 %d, %v", p, n, h.Sum64(), err)
		}
		s.bytes += p.Done
	}
	s.parts, s.missing = c.Parts, size-s.bytes
	return s
}

// check fails the test if a run requested bytes that had been saved before it. If nothing was missing, one byte may be
// requested, to see that the object is still the same.
func (s saved) check(t *testing.T, requests []osstest.Request) {
	t.Helper()
	for _, r := range requests {
		if s.missing == 0 && r.Range == "bytes=0-0" {
			continue
		}
		for _, p := range s.parts {
			if r.Start < p.Offset+p.Done && r.End > p.Offset || r.Start < 0 || r.End < 0 {
				t.Fatalf("%s was asked for, although %+v was claimed and on disk", r.Range, p)
			}
		}
	}
}

// TestBuiltCommandIsKilledAgainAndAgain checks the real command, ended by SIGKILL at random moments, every other time soon
// after it has saved its checkpoint. After each kill there is nothing at the path or the whole object. The next run requests
// nothing that the checkpoint claims and the disk confirms. In the end the file is byte-exact, and no other file is left.
func TestBuiltCommandIsKilledAgainAndAgain(t *testing.T) {
	kills := 20
	if os.Getenv("OSSDL_LONG") != "" {
		kills = 200
	}
	command := built(t)
	s := newServer(t, osstest.WithTotalRate(400<<20))
	content := osstest.Random(3, 160*mib)
	s.Put("bucket", "disk.img", content)
	path := filepath.Join(t.TempDir(), "disk.img")
	start := func() *exec.Cmd {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), command, "-quiet", "oss://bucket/disk.img", path)
		cmd.Env, cmd.Stderr = os.Environ(), os.Stderr
		for name, value := range envOf(s) {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}

	rng := rand.New(rand.NewPCG(2, uint64(kills)))
	killed, withClaims, ends := 0, 0, 0
	var sent, wanted int64 // of all runs: the bytes that were sent, and those that had to be
	before := saved{missing: content.Size()}
	for killed < kills {
		s.ResetLog()
		cmd := start()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		ctx, cancel := context.WithCancel(t.Context())
		moment := make(chan error, 1)
		afterSave, n := killed%2 == 1, rng.Int64N(12*mib)
		go func() { moment <- momentToKill(ctx, s, path, afterSave, n) }()
		select {
		case <-moment:
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
			<-ended
			killed++
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			ends++
		}
		cancel()
		before.check(t, s.Requests())
		sent += s.Stats().Sent
		wanted += before.missing
		before = readSaved(t, path, content.Size())
		if _, err := os.Stat(path); err == nil {
			sameAs(t, path, content)
			if t.Failed() {
				t.Fatalf("after %d kills there is something else at the path", killed)
			}
			if before.bytes == 0 {
				if err := os.Remove(path); err != nil { // once more from the start
					t.Fatal(err)
				}
				continue
			}
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		wanted -= before.missing
		if before.bytes > 0 {
			withClaims++
		}
	}
	s.ResetLog()
	if err := start().Wait(); err != nil {
		t.Fatal(err)
	}
	before.check(t, s.Requests())
	sameAs(t, path, content)
	onlyFile(t, filepath.Dir(path), "disk.img")
	t.Logf("%d kills, %d of them left claims, %d runs ended by themselves; sent again per kill: %.1f MiB", killed, withClaims, ends,
		float64(sent-wanted)/mib/float64(killed))
	if withClaims < kills/4 {
		t.Error("too few kills left claims: little was tested")
	}
}

// momentToKill waits until the server has sent n bytes: from now on, or from when the command has saved its checkpoint.
func momentToKill(ctx context.Context, s *osstest.Server, path string, afterSave bool, n int64) error {
	modified := func() (at time.Time) {
		if fi, err := os.Stat(filepath.Join(path+".cp", "checkpoint.json")); err == nil {
			at = fi.ModTime()
		}
		return at
	}
	before, from := modified(), int64(0)
	if afterSave {
		from = -1
	}
	return s.WaitFor(ctx, func() bool {
		sent := s.Stats().Sent
		if from < 0 && modified().After(before) {
			from = sent
		}
		return from >= 0 && sent >= from+n
	})
}
