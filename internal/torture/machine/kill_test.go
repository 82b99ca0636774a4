package machine_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestKilledAHundredTimes kills one download at a hundred random moments, every other one of them soon after the process
// has saved its checkpoint: how often it gets so far by itself depends on the machine. Nothing of it may be at the path
// before the end, no claim may be ahead of the disk, nothing that is claimed is asked for again, and the file is byte-exact
// in the end.
func TestKilledAHundredTimes(t *testing.T) {
	kills := 100
	switch {
	case harness.Long():
		kills = 1000
	case testing.Short():
		kills = 15
	}
	s := harness.NewServer(t, osstest.WithTotalRate(400<<20))
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
		before := modTime(path + harness.CheckpointSuffix)
		ctx, cancel := context.WithCancel(t.Context())
		moment := make(chan error, 1)
		go func() {
			moment <- s.WaitFor(ctx, func() bool {
				sent := s.Stats().Sent
				if from < 0 && modTime(path+harness.CheckpointSuffix).After(before) {
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
			harness.Tried.Add("processes killed", 1)
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, content)
			if err := os.Remove(path); err != nil { // once more from the start
				t.Fatal(err)
			}
		}
		cancel()
		spared += notAskedFor(t, s, claims)
		if harness.Exists(path) && harness.Exists(path+harness.PartSuffix) {
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
	harness.CheckFile(t, path, content)
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

// checkClaims holds the checkpoint that a kill left, with the recent saves, against the disk, and returns what it claims.
func checkClaims(t *testing.T, path string) (claims []checkpoints.Span) {
	t.Helper()
	c, _ := harness.CheckpointOf(t, path)
	if c == nil {
		return nil
	}
	name := path + harness.PartSuffix
	if !harness.Exists(name) {
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
