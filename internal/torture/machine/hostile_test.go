package machine_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
)

// TestCheckpointFormat checks that a run writes its checkpoint byte for byte as the mirror of the format does, and that an
// honest one of long ago is still read.
func TestCheckpointFormat(t *testing.T) {
	for _, sc := range scenes(t) {
		name, cp := sc.checkpoint(t, sc.before)
		if cp == nil {
			continue
		}
		data, err := fsys.ReadFile(sc.before, name, checkpoints.ReadLimit)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := cp.Encode(); err != nil || string(again) != string(data) {
			t.Errorf("%s: %v\n%s%s", sc.name, err, data, again)
		}
	}
}

// hostileScene is a download with all its data in the partial file, and the checkpoint still to come.
func hostileScene(t *testing.T) *crashScene {
	t.Helper()
	return newCrashScene(t, "hostile", smallSize, memfs.Config{}).interrupt(t, killedBefore)
}

// meets runs a download that finds a document in the place of its checkpoint. Whatever that says, the file is right, nothing
// is written elsewhere, and it is told whether the download was continued or started anew.
func (sc *crashScene) meets(t *testing.T, doc []byte) outcome {
	t.Helper()
	disk := sc.before.Kill()
	if err := putFile(disk, scenePath+harness.CheckpointSuffix, string(doc)); err != nil {
		t.Fatal(err)
	}
	out := sc.run(t, disk)
	if out.err != nil {
		t.Fatalf("%.300q: %v\n%s", doc, out.err, out.log)
	}
	if strings.Contains(out.log, "using another working folder") { // it does not begin as one of ours, and stays
		got, err := fsys.ReadFile(disk, scenePath+harness.CheckpointSuffix, 1<<20)
		if at := sc.atPath(t, disk); at != "new" || string(got) != string(doc) || err != nil {
			t.Errorf("at the path is %q; the document is %.100q, %v", at, got, err)
		}
		return out
	}
	sc.mustBeDone(t, disk)
	if !strings.Contains(out.log, "msg=resuming") && !strings.Contains(out.log, "starting over") {
		t.Errorf("%.300q: nothing is said of it\n%s", doc, out.log)
	}
	return out
}

// TestHostileCheckpoints checks that a hostile document costs a fresh start at worst, and never an error, which the next
// call would meet again.
func TestHostileCheckpoints(t *testing.T) {
	sc := hostileScene(t)
	resumed := map[string]int64{
		"honest": checkpoints.HonestBytes, "ETag without quotes": 0, "odd date": checkpoints.HonestBytes, "false sums": checkpoints.HonestBytes - 8000,
		"claims all": smallSize, "thousands of parts, all true": smallSize / 2, "thousands of parts, all false": 0,
	}
	for name, doc := range checkpoints.Hostile(t) {
		t.Run(name, func(t *testing.T) {
			out := sc.meets(t, doc)
			if want, known := resumed[name]; known && out.res.ResumedBytes != want {
				t.Errorf("%d bytes resumed, want %d\n%s", out.res.ResumedBytes, want, out.log)
			}
		})
	}
}

// FuzzHostileCheckpoint is TestHostileCheckpoints for any document.
func FuzzHostileCheckpoint(f *testing.F) {
	var sc *crashScene
	var once sync.Once
	f.Add([]byte(checkpoints.Honest))
	f.Add([]byte(strings.Replace(checkpoints.Honest, "C96228F16CA7382C", `A\r\nX: 1`, 1)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		once.Do(func() { sc = hostileScene(t) })
		sc.meets(t, doc)
	})
}
