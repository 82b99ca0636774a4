package machine_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
)

// recentScene is a download with all its data in the partial file. The checkpoint claims a quarter of it, an older recent save two, a
// newer one three.
type recentScene struct {
	*crashScene
	doc          checkpoints.Document // the checkpoint
	base         uint64               // its CRC-64
	older, newer checkpoints.Slot
}

func newRecentScene(t *testing.T) *recentScene {
	t.Helper()
	rs := &recentScene{crashScene: newCrashScene(t, "a quarter, recent saves of more", smallSize, memfs.Config{}).interrupt(t, killedBefore)}
	rs.claim(t, rs.quarters(0, 1))
	name, cp := rs.checkpoint(t, rs.before)
	rs.doc = *cp
	data, err := fsys.ReadFile(rs.before, name, checkpoints.ReadLimit)
	if err != nil {
		t.Fatal(err)
	}
	rs.base = crc64.Update(0, data)
	rs.older = rs.slot(t, 7, rs.claiming(rs.quarters(0, 2)))
	rs.newer = rs.slot(t, 8, rs.claiming(rs.quarters(0, 2), rs.quarters(2, 3)))
	return rs
}

// scene is the download with both recent saves on the disk.
func (rs *recentScene) scene(t *testing.T) *crashScene {
	t.Helper()
	return rs.with(t, recentFile(rs.older.Encode(), rs.newer.Encode()), 3)
}

// falseScene is the download with a recent save whose one claim, in which that of the checkpoint lies, does not hold.
func (rs *recentScene) falseScene(t *testing.T) *crashScene {
	t.Helper()
	rs.name = "a quarter, a recent save of more that is false"
	lost := rs.slot(t, 9, rs.claiming(rs.quarters(0, 3)), func(d *checkpoints.Document) { d.Parts[0].CRC64++ })
	return rs.with(t, recentFile(lost.Encode(), nil), 1)
}

// with puts a file of recent saves on the disk, with which so many quarters count.
func (rs *recentScene) with(t *testing.T, file []byte, quarters int64) *crashScene {
	t.Helper()
	if err := putFile(rs.before, scenePath+harness.RecentSuffix, string(file)); err != nil {
		t.Fatal(err)
	}
	if n := rs.intact(t, rs.before); n != rs.quarters(0, quarters).Len() {
		t.Fatalf("scene %s: %d bytes count", rs.name, n)
	}
	return rs.crashScene
}

// quarters is the bytes of quarter a up to quarter b.
func (rs *recentScene) quarters(a, b int64) checkpoints.Span {
	q := int64(len(rs.want)) / 4
	return checkpoints.Span{Off: a * q, End: b * q}
}

// claiming changes a document so that it claims these ranges.
func (rs *recentScene) claiming(spans ...checkpoints.Span) func(*checkpoints.Document) {
	return func(d *checkpoints.Document) { d.Claim(rs.want, spans...) }
}

// slot is a recent save that continues the checkpoint, with a document that is changed.
func (rs *recentScene) slot(t *testing.T, seq uint64, changes ...func(*checkpoints.Document)) checkpoints.Slot {
	t.Helper()
	crc := *rs.doc.CRC64
	d := rs.doc
	d.CRC64 = &crc
	for _, change := range changes {
		change(&d)
	}
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return checkpoints.Slot{Seq: seq, Bases: [2]uint64{1, rs.base}, Data: data}
}

// recentFile is a file with these slots.
func recentFile(first, second []byte) []byte {
	return append(append(bytes.Clone(first), make([]byte, checkpoints.SlotSize-len(first))...), second...)
}

// meetsRecent runs a download that finds this file of recent saves, and wants so many quarters resumed.
func (rs *recentScene) meetsRecent(t *testing.T, what string, file []byte, quarters int64) {
	t.Helper()
	disk := rs.before.Kill()
	if err := putFile(disk, scenePath+harness.RecentSuffix, string(file)); err != nil {
		t.Fatal(err)
	}
	sc := *rs.crashScene
	sc.opts = append(slices.Clip(sc.opts), ossdl.WithConcurrency(1)) // nobody takes over a range, of which both would read some bytes
	out := sc.run(t, disk)
	want := rs.quarters(0, quarters).Len()
	if out.err != nil || out.res.ResumedBytes != want || out.sent != int64(len(rs.want))-want {
		t.Fatalf("%s: %+v, %v, %d bytes fetched, want %d resumed of %d\n%s", what, out.res, out.err, out.sent, want, len(rs.want), out.log)
	}
	rs.mustBeDone(t, disk)
	rs.mustLast(t, disk)
}

// TestRecentSaves meets a checkpoint with recent saves that are lost, torn, older, newer, false, or of something else. None makes a
// run resume less than the checkpoint alone does, and none counts that does not continue the checkpoint.
func TestRecentSaves(t *testing.T) {
	rs := newRecentScene(t)
	older, newer := rs.older.Encode(), rs.newer.Encode()
	alone := func(s checkpoints.Slot) []byte { return recentFile(s.Encode(), nil) }
	of := func(change func(*checkpoints.Document)) []byte {
		return alone(rs.slot(t, 9, rs.claiming(rs.quarters(0, 3)), change))
	}
	stranger := rs.newer
	stranger.Bases = [2]uint64{1, 2}
	coming := rs.newer
	coming.Bases = [2]uint64{rs.base, 2}
	first := rs.newer
	first.Bases = [2]uint64{}
	last := rs.newer
	last.Seq = math.MaxUint64
	wrong := func(n int) func(*checkpoints.Document) {
		return func(d *checkpoints.Document) { d.Parts[n].CRC64++ }
	}
	for what, c := range map[string]struct {
		file     []byte
		quarters int64
	}{
		"both":                           {recentFile(older, newer), 3},
		"the other way round":            {recentFile(newer, older), 3},
		"empty":                          {nil, 1},
		"the older one alone":            {recentFile(older, nil), 2},
		"the older one, and zeros":       {recentFile(older, make([]byte, len(newer))), 2},
		"zeros, and the newer one":       {recentFile(nil, newer), 3},
		"too long":                       {append(recentFile(older, newer), make([]byte, 2*checkpoints.SlotSize)...), 1},
		"no recent saves at all":         {bytes.Repeat([]byte("x"), 2*checkpoints.SlotSize), 1},
		"a checkpoint":                   {rs.newer.Data, 1},
		"of another checkpoint":          {alone(stranger), 1},
		"of a checkpoint being replaced": {alone(coming), 3},
		"of no checkpoint":               {alone(first), 1},
		"the last sequence number":       {recentFile(older, last.Encode()), 3},
		"of another key":                 {of(func(d *checkpoints.Document) { d.Key = "other" }), 1},
		"of another object":              {of(func(d *checkpoints.Document) { d.ETag = `"other"` }), 1},
		"of another checksum":            {of(func(d *checkpoints.Document) { *d.CRC64++ }), 1},
		"of another path":                {of(func(d *checkpoints.Document) { d.Path = "../other" }), 1},
		"of another range":               {of(func(d *checkpoints.Document) { d.Range = &checkpoints.Range{Length: -1} }), 1},
		"of another version":             {of(func(d *checkpoints.Document) { d.Version = 2 }), 1},
		"no document":                    {alone(checkpoints.Slot{Seq: 9, Bases: rs.newer.Bases, Data: []byte("{")}), 1},
		"of no more than the checkpoint": {alone(rs.slot(t, 9)), 1},
		"of less than the checkpoint":    {alone(rs.slot(t, 9, rs.claiming(checkpoints.Span{End: 5}))), 1},
		"false in the last quarter":      {alone(rs.slot(t, 9, rs.claiming(rs.quarters(0, 2), rs.quarters(2, 3)), wrong(1))), 2},
		"false in one claim of all":      {alone(rs.slot(t, 9, rs.claiming(rs.quarters(0, 3)), wrong(0))), 1},
		"false across the checkpoint's end": {alone(rs.slot(t, 9, rs.claiming(checkpoints.Span{Off: 100, End: rs.quarters(0, 3).End}),
			wrong(0))), 1},
		"claims across the checkpoint's": {alone(rs.slot(t, 9, rs.claiming(checkpoints.Span{Off: 100, End: rs.quarters(0, 2).End},
			rs.quarters(2, 4)))), 3},
	} {
		rs.meetsRecent(t, what, c.file, c.quarters)
	}
	for n := 0; n < len(newer); n += 1 + n/9 {
		rs.meetsRecent(t, fmt.Sprintf("the newer one's first %d bytes", n), recentFile(older, newer[:n]), 2)
		rs.meetsRecent(t, fmt.Sprintf("the older one's first %d bytes", n), recentFile(older[:min(n, len(older)-1)], newer), 3)
		changed := bytes.Clone(newer)
		changed[n] ^= 1
		rs.meetsRecent(t, fmt.Sprintf("the newer one with byte %d changed", n), recentFile(older, changed), 2)
	}
}

// TestRecentSavesOfNoCheckpoint checks that recent saves count without a checkpoint only if they were made before there was one, and
// are of this download.
func TestRecentSavesOfNoCheckpoint(t *testing.T) {
	rs := newRecentScene(t)
	if err := rs.before.Remove(scenePath + harness.CheckpointSuffix); err != nil {
		t.Fatal(err)
	}
	before := func(s checkpoints.Slot) []byte {
		s.Bases = [2]uint64{0, rs.base}
		return s.Encode()
	}
	older, newer := before(rs.older), before(rs.newer)
	for what, c := range map[string]struct {
		file     []byte
		quarters int64
	}{
		"after it":          {recentFile(rs.older.Encode(), rs.newer.Encode()), 0},
		"before it":         {recentFile(older, newer), 3},
		"before, and after": {recentFile(older, rs.newer.Encode()), 2},
		"torn":              {recentFile(older, newer[:len(newer)-1]), 2},
		"of another path":   {recentFile(before(rs.slot(t, 9, rs.claiming(rs.quarters(0, 3)), func(d *checkpoints.Document) { d.Path = "../other" })), nil), 0},
		"of another key":    {recentFile(before(rs.slot(t, 9, rs.claiming(rs.quarters(0, 3)), func(d *checkpoints.Document) { d.Key = "other" })), nil), 0},
		"of another object": {recentFile(before(rs.slot(t, 9, rs.claiming(rs.quarters(0, 3)), func(d *checkpoints.Document) { d.ETag = `"other"`; *d.CRC64++ })), nil), 0},
		"no document":       {recentFile(before(checkpoints.Slot{Data: []byte("{")}), nil), 0},
	} {
		rs.meetsRecent(t, what, c.file, c.quarters)
	}
}

// TestRecentSavesNotRead checks that recent saves which cannot be read cost what they claim and no more.
func TestRecentSavesNotRead(t *testing.T) {
	rs := newRecentScene(t)
	sc := rs.scene(t)
	for _, kind := range []faultfs.Kind{faultfs.Open, faultfs.Read} {
		disk := sc.before.Kill()
		f := faultfs.New(disk, faultfs.Plan{Kind: kind, Name: harness.RecentSuffix, Forever: true})
		out := sc.run(t, f)
		if out.err != nil || !f.Fired() || out.res.ResumedBytes != rs.quarters(0, 1).Len() {
			t.Errorf("%s: %+v, %v; %v\n%s", kind, out.res, out.err, f, out.log)
		}
		sc.mustBeDone(t, disk)
	}
}

// TestKilledBeforeASave kills a download whose save of the checkpoint waits for the disk: the first one or the second one, before or
// after its rename. The next run resumes what was done meanwhile.
func TestKilledBeforeASave(t *testing.T) {
	for what, c := range map[string]struct {
		waits   faultfs.Kind
		done    int64 // saves before it
		renamed bool
	}{
		"the first save":                    {faultfs.Sync, 0, false},
		"the first save, after its rename":  {faultfs.SyncDir, 0, true},
		"the second save":                   {faultfs.Sync, 1, true},
		"the second save, after its rename": {faultfs.SyncDir, 1, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := harness.NewBubbleClient(t, 4<<20, 64<<10, nil, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(2))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f := faultfs.New(b.Disk)
			var saves, recents atomic.Int64
			f.OnOp(func(op faultfs.Op) error {
				switch {
				case op.Kind == faultfs.Open && strings.HasSuffix(op.Name, harness.CheckpointSuffix+fsys.TempSuffix):
					saves.Add(1)
				case saves.Load() <= c.done:
				case op.Kind == c.waits && strings.Contains(op.Name, harness.FolderSuffix) && !strings.HasSuffix(op.Name, harness.PartSuffix):
					<-ctx.Done()
					return faultfs.ErrStopped
				case op.Kind == faultfs.Write && strings.HasSuffix(op.Name, harness.RecentSuffix) && recents.Add(1) == 8:
					f.Stop()
					cancel()
					return faultfs.ErrStopped
				}
				return nil
			})
			if res, err := b.Download(t, ctx, "Download", harness.BubblePath, harness.WithFS(f)); err == nil {
				t.Fatalf("not killed: %+v", res)
			}
			disk := b.Disk.Kill()
			data, err := fsys.ReadFile(disk, harness.BubblePath+harness.CheckpointSuffix, checkpoints.ReadLimit)
			if there := err == nil; there != c.renamed {
				t.Fatalf("%s: %v", what, err)
			}
			var alone int64
			if cp, _ := checkpoints.LaterOn(t, disk, data, "/none"); cp != nil {
				alone = checkpoints.Total(cp.Spans())
			}
			res, err := b.Download(t, t.Context(), "Download", harness.BubblePath, harness.WithFS(disk))
			if err != nil || !res.Verified {
				t.Fatalf("%+v, %v", res, err)
			}
			// Seven more saves, and 128 KiB between two.
			if more := res.ResumedBytes - alone; more < 6*128<<10 {
				t.Errorf("%s: %d bytes resumed, the checkpoint claims %d", what, res.ResumedBytes, alone)
			}
		})
	}
}

// TestSaveBeforeTheProof kills a download that has saved the checkpoint while a claim of a recent save, which does not hold, was still
// being read. What the checkpoint claimed before is resumed, and so is what came meanwhile.
func TestSaveBeforeTheProof(t *testing.T) {
	rs := newRecentScene(t)
	sc := rs.falseScene(t)
	disk := sc.before.Kill()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := faultfs.New(disk)
		var saved atomic.Bool
		f.OnOp(func(op faultfs.Op) error {
			switch {
			case op.Kind == faultfs.Read && strings.HasSuffix(op.Name, harness.PartSuffix):
				<-ctx.Done()
				return faultfs.ErrStopped
			case op.Kind == faultfs.Rename && strings.HasSuffix(op.To, harness.CheckpointSuffix):
				saved.Store(true)
			case op.Kind == faultfs.SyncDir && saved.Load():
				f.Stop()
				cancel()
				return faultfs.ErrStopped
			}
			return nil
		})
		if out := sc.runInBubble(t, ctx, f); out.err == nil || !saved.Load() {
			t.Fatalf("not killed: %+v\n%s", out.res, out.log)
		}
	})
	left := disk.Kill()
	if got, want := sc.intact(t, left), rs.quarters(0, 2).Len(); got != want {
		t.Errorf("%d bytes count, want %d", got, want)
	}
	sc.mustHeal(t, left)
}

// TestRecentSaveThatFails checks that a recent save that fails is logged once and ends nothing.
func TestRecentSaveThatFails(t *testing.T) {
	for name, plan := range map[string]faultfs.Plan{
		"open":  {Kind: faultfs.Open},
		"write": {Kind: faultfs.Write},
		"short": {Kind: faultfs.Write, Short: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log harness.Records
				b := harness.NewBubbleClient(t, 8<<20, 64<<10, nil, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(2), ossdl.WithLogger(log.Logger()))
				plan.Name, plan.Forever = harness.RecentSuffix, true
				f := faultfs.New(b.Disk, plan)
				res, err := b.Download(t, t.Context(), "Download", harness.BubblePath, harness.WithFS(f))
				if err != nil || !res.Verified || !f.Fired() {
					t.Fatalf("%+v, %v; %v", res, err, f)
				}
				if n := strings.Count(log.String(), "no more saves between"); n != 1 {
					t.Errorf("logged %d times\n%s", n, log.String())
				}
				if got := strings.Join(b.Disk.Names(), " "); got != "/dir/ /dir/file" {
					t.Errorf("left behind: %s", got)
				}
			})
		})
	}
}
