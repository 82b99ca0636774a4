package machine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
)

// The tests of this file end a download at each of its file operations, by a kill or by a power loss, and look at what the
// next one makes of it. The scenes are those of faults_test.go.

// clones is how many power losses are tried at each moment.
func clones() uint64 {
	if harness.Long() {
		return 16
	}
	return 1
}

// TestEveryInstantIsACrash stops a download dead at operation i, for every i, from every state that it can start from. What
// a kill leaves, and what a power loss leaves, gives the right file; what was recorded and survived is not fetched again.
func TestEveryInstantIsACrash(t *testing.T) {
	for _, sc := range scenes(t) {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			points := 0
			for i, missed := 0, 0; missed < harness.MissesInARow; i++ {
				disk := sc.before.Kill()
				f := faultfs.New(disk, faultfs.Plan{At: i, Kind: sc.only, Stop: true})
				out := sc.run(t, f)
				if !f.Fired() {
					missed++
					continue
				}
				missed = 0
				points++
				harness.Tried.Add("crash points", 1)
				if out.err != nil && !errors.Is(out.err, faultfs.ErrStopped) {
					t.Errorf("the error does not name the cause: %v", out.err)
				}
				left := map[string]*memfs.FS{"killed": disk.Kill()}
				for seed := range clones() {
					left[fmt.Sprintf("power lost, seed %d", seed)] = disk.Crash(rand.New(rand.NewPCG(seed, uint64(i))))
				}
				for how, disk := range left {
					harness.Tried.Add("disks left by crashes", 1)
					if sc.atPath(t, disk) == "" {
						t.Error("the old file is gone")
					}
					sc.mustHeal(t, disk)
					if t.Failed() {
						t.Fatalf("%s at %v", how, f)
					}
				}
			}
			if points == 0 {
				t.Error("nothing was stopped")
			}
		})
	}
}

// TestCrashUponCrash takes the power away at random moments, again and again, until a run comes to its end.
func TestCrashUponCrash(t *testing.T) {
	walks := uint64(20)
	if harness.Long() {
		walks = 500
	}
	sc := newCrashScene(t, "", smallSize, memfs.Config{})
	crashes := 0
	for walk := range walks {
		rng := rand.New(rand.NewPCG(walk, 7))
		for disk := sc.before.Kill(); ; crashes++ {
			f := faultfs.New(disk, faultfs.Plan{At: 10 + rng.IntN(80), Stop: true})
			intact := sc.intact(t, disk)
			out := sc.run(t, f)
			if out.err == nil && out.sent != smallSize-intact {
				t.Errorf("%d bytes fetched where %d were missing", out.sent, smallSize-intact)
			}
			if out.err == nil && !f.Fired() {
				sc.mustBeDone(t, disk)
				sc.mustLast(t, disk)
				break
			}
			if rng.IntN(3) == 0 {
				disk = disk.Kill()
			} else {
				disk = disk.Crash(rng)
			}
			if sc.atPath(t, disk) == "" {
				t.Error("the old file is gone")
			}
			if t.Failed() {
				t.Fatalf("walk %d: %v\nerror: %v\n%s", walk, f, out.err, out.log)
			}
		}
	}
	harness.Tried.Add("crash points", int64(crashes))
	if crashes < int(walks) {
		t.Errorf("%d crashes in %d walks: little was tested", crashes, walks)
	}
}
