package machine_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// opened counts the files that are open through it.
type opened struct {
	fsys.FS
	n atomic.Int64
}

func (o *opened) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	f, err := o.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	o.n.Add(1)
	return &openedFile{File: f, o: o}, nil
}

type openedFile struct {
	fsys.File
	o      *opened
	closed sync.Once
}

func (f *openedFile) Close() error {
	f.closed.Do(func() { f.o.n.Add(-1) })
	return f.File.Close()
}

const (
	scenePath = "/dir/file"
	sceneOld  = "the old file"
	smallSize = 20<<10 + 100 // of most scenes: few operations
	bigSize   = 1<<20 + 100  // of those for which the partial file has ballast
)

// crashScene is a download and the disk that it starts on.
type crashScene struct {
	name    string
	content []byte // of the object
	want    []byte // what of it is asked for
	keeps   bool   // with a checkpoint
	opts    []ossdl.Option
	url     bool         // by DownloadURL
	sealed  bool         // the object is encrypted
	before  *memfs.FS    // never written to: runs have copies of it
	flip    int64        // what service.flip is in a run that is not healthy
	decays  bool         // the disk changes a byte that was written, in a run that is not healthy
	only    faultfs.Kind // fail these operations alone: there are many others
	alone   bool         // no other scene has some of its operations
}

// newCrashScene has an old file at the path, everything of which is certain to be on the disk. Its options must not change what is
// asked for, nor where a checkpoint is kept; see withRange and withoutCheckpoint.
func newCrashScene(t *testing.T, name string, size int64, config memfs.Config, opts ...ossdl.Option) *crashScene {
	t.Helper()
	sc := &crashScene{name: name, content: sceneContent(t, 1, size), keeps: true, opts: opts, before: memfs.New(config)}
	sc.want = sc.content
	for _, dir := range []string{"/dir", "/cps"} {
		if err := sc.before.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(putFile(sc.before, scenePath, sceneOld), sc.before.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return sc
}

// withRange makes it a download of a part of the object.
func (sc *crashScene) withRange(offset, length int64) *crashScene {
	sc.want = sc.content[offset : offset+length]
	sc.opts = append(sc.opts, ossdl.WithRange(offset, length))
	return sc
}

// encrypted makes it a download of an encrypted object.
func (sc *crashScene) encrypted() *crashScene {
	sc.sealed = true
	sc.opts = append(sc.opts, ossdl.WithDecryption(&harness.MasterKey{}))
	return sc
}

// stored is the object as the service has it.
func (sc *crashScene) stored() []byte {
	if sc.sealed {
		return sceneSealer.Seal(sc.content)
	}
	return sc.content
}

func (sc *crashScene) withoutCheckpoint() *crashScene {
	sc.keeps = false
	sc.opts = append(sc.opts, ossdl.WithoutCheckpoint())
	return sc
}

func sceneContent(t *testing.T, seed uint64, size int64) []byte {
	t.Helper()
	content := make([]byte, size)
	if _, err := osstest.Random(seed, size).ReadAt(content, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return content
}

// part is the part size, piece how much of a part comes at a time.
func (sc *crashScene) part() int64 { return int64(len(sc.content)) / 5 }

func (sc *crashScene) piece() int { return int(sc.part()) / 4 }

// putFile makes a file, durably.
func putFile(f fsys.FS, name, content string) error {
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte(content), 0)
	return errors.Join(err, file.Sync(), file.Close(), f.SyncDir(filepath.Dir(name)))
}

// The moments at which an earlier run was killed.
var (
	killedHalfway = faultfs.Plan{Kind: faultfs.Write, Name: harness.PartSuffix, At: 8, Stop: true}
	killedBefore  = faultfs.Plan{Kind: faultfs.Rename, Name: harness.PartSuffix, Stop: true}              // the commit
	killedAfter   = faultfs.Plan{Kind: faultfs.Remove, Name: harness.CheckpointSuffix, At: 1, Stop: true} // the first is a fresh start's
)

// interrupt makes the disk one that an earlier run has left.
func (sc *crashScene) interrupt(t *testing.T, at faultfs.Plan) *crashScene {
	t.Helper()
	f := faultfs.New(sc.before, at)
	if sc.run(t, f); !f.Fired() || f.Count(faultfs.Rename) == 0 {
		t.Fatalf("scene %s: %v", sc.name, f)
	}
	if at.Kind != faultfs.Write {
		sc.claim(t, checkpoints.Span{End: int64(len(sc.want))})
	}
	sc.before = sc.before.Kill()
	if n, all := sc.intact(t, sc.before), int64(len(sc.want)); n == 0 || (at.Kind == faultfs.Write) == (n == all) {
		t.Fatalf("scene %s has %d bytes", sc.name, n)
	}
	return sc
}

// claim makes the checkpoint one that claims these ranges, truly.
func (sc *crashScene) claim(t *testing.T, spans ...checkpoints.Span) {
	t.Helper()
	name, cp := sc.checkpoint(t, sc.before)
	if cp == nil {
		t.Fatal("no checkpoint")
	}
	cp.Claim(sc.want, spans...)
	data, err := cp.Encode()
	if err == nil {
		err = fsys.WriteFile(sc.before, name, data, checkpoints.Mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// falsify splits each claim in two, and changes a byte that the first of them speaks for.
func (sc *crashScene) falsify(t *testing.T) *crashScene {
	t.Helper()
	_, cp := sc.checkpoint(t, sc.before)
	was := checkpoints.Total(cp.Spans())
	var spans []checkpoints.Span
	for _, p := range cp.Parts {
		half := p.Offset + p.Done/2
		spans = append(spans, checkpoints.Span{Off: p.Offset, End: half}, checkpoints.Span{Off: half, End: p.Offset + p.Done})
	}
	sc.claim(t, spans...)
	if err := harness.Spoil(sc.before, scenePath+harness.PartSuffix, spans[0].Off); err != nil {
		t.Fatal(err)
	}
	if n := sc.intact(t, sc.before); n == 0 || n != was-spans[0].Len() {
		t.Fatalf("scene %s has %d bytes that are claimed truly", sc.name, n)
	}
	return sc
}

// scenes are the states that a download can start from. The first two are a fresh start and a resume.
func scenes(t *testing.T) []*crashScene {
	t.Helper()
	fresh := func(name string, opts ...ossdl.Option) *crashScene {
		return newCrashScene(t, name, smallSize, memfs.Config{}, opts...)
	}
	sum := sha256.Sum256(fresh("").content)
	times := ossdl.WithObjectTime() // which DownloadPrefix always has

	replaced := fresh("half of another object").interrupt(t, killedHalfway)
	replaced.content = sceneContent(t, 2, smallSize)
	replaced.want = replaced.content
	byURL := &crashScene{}
	*byURL = *fresh("half, by URL")
	byURL.url = true
	flipped := fresh("a byte is flipped on the way")
	flipped.flip = 1
	flippedSealed := fresh("a byte of an encrypted one is flipped on the way").encrypted()
	flippedSealed.flip = 1
	decayed := fresh("a byte is flipped on the way, and on the disk")
	decayed.flip, decayed.decays = 1, true

	timed := fresh("elsewhere, digest, time", ossdl.WithCheckpointDir("/cps"), ossdl.WithChecksum(sha256.New, sum[:]), times)
	timed.alone = true
	// The order of operations varies, so a loop that goes by their numbers can miss the only one of a kind.
	timeAlone := fresh("time alone", times)
	timeAlone.only, timeAlone.alone = faultfs.Chtimes, true

	all := []*crashScene{
		fresh("fresh"),
		fresh("half").interrupt(t, killedHalfway),
		fresh("not committed").interrupt(t, killedBefore),
		fresh("committed").interrupt(t, killedAfter),
		newRecentScene(t).scene(t),
		newRecentScene(t).falseScene(t),
		fresh("half, partly false").interrupt(t, killedHalfway).falsify(t),
		replaced,
		fresh("half, checkpoint file", ossdl.WithCheckpoint("/cps/mine.cp")).interrupt(t, killedHalfway),
		fresh("half, checkpoint folder", ossdl.WithCheckpointDir("/cps")).interrupt(t, killedHalfway),
		fresh("half of a range").withRange(1000, smallSize-2000).interrupt(t, killedHalfway),
		byURL.interrupt(t, killedHalfway),
		fresh("encrypted").encrypted(),
		fresh("half of an encrypted one").encrypted().interrupt(t, killedHalfway),
		fresh("an encrypted one, not committed").encrypted().interrupt(t, killedBefore),
		fresh("half of an encrypted one, partly false").encrypted().interrupt(t, killedHalfway).falsify(t),
		fresh("half of a range of an encrypted one").encrypted().withRange(1001, smallSize-2000).interrupt(t, killedHalfway),
		flippedSealed,
		flipped,
		decayed,
		newCrashScene(t, "no reservation", smallSize, memfs.Config{NoReserve: true, NoLocks: true}),
		fresh("sparse, no checkpoint", ossdl.WithoutPreallocation()).withoutCheckpoint(),
		timed,
		timeAlone,
	}
	if testing.Short() {
		return all // the big ones take minutes under the race detector
	}
	all = append(all,
		newCrashScene(t, "big", bigSize, memfs.Config{}),
		newCrashScene(t, "big, no reservation", bigSize, memfs.Config{NoReserve: true}),
	)
	if step := int64(fsys.ReserveStep); step < 1<<30 { // elsewhere it has no bound
		huge := newCrashScene(t, "reserved beside the writes", step+100, memfs.Config{}, ossdl.WithConcurrency(1))
		huge.only = faultfs.Reserve
		all = append(all, huge)
	}
	return all
}

// outcome is what a run of a scene came to.
type outcome struct {
	res  *ossdl.Result
	err  error
	log  string
	sent int64 // bytes of the object
}

// run downloads once on a file system, and fails the test where the call leaves anything open or running.
func (sc *crashScene) run(t *testing.T, on fsys.FS) (out outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { out = sc.runInBubble(t, t.Context(), on) })
	return out
}

// runInBubble also fails the test where the call leaves a goroutine.
func (sc *crashScene) runInBubble(t *testing.T, ctx context.Context, on fsys.FS) outcome {
	t.Helper()
	out := sc.download(t, ctx, on)
	synctest.Wait()
	noGoroutinesInBubble(t)
	return out
}

// runsInBubbles are the runs of the loops that fail or stop everything.
var runsInBubbles atomic.Uint32

// noGoroutinesInBubble fails the test if a goroutine of the bubble is left. A bubble does not end before each has ended; what
// would end by itself, later, is looked for after one run in four, since to get all stacks costs as much as the run.
func noGoroutinesInBubble(t *testing.T) {
	t.Helper()
	if !harness.Long() && runsInBubbles.Add(1)%4 != 1 {
		return
	}
	if left := leaks.OthersInBubble(); left != "" {
		t.Errorf("goroutines left running:\n%s", left)
	}
}

func (sc *crashScene) download(t *testing.T, ctx context.Context, on fsys.FS) outcome {
	t.Helper()
	s := &harness.Service{Objects: map[string][]byte{"k": sc.content}, Piece: sc.piece(), Flip: sc.flip}
	if sc.sealed {
		s.Sealed = map[string]harness.Sealer{"k": sceneSealer}
	}
	hc := &http.Client{Transport: s}
	client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(hc))
	if err != nil {
		t.Error(err)
		return outcome{err: err}
	}
	if sc.decays {
		on = &decaying{FS: on}
	}
	files := &opened{FS: on}
	var log harness.Records
	d, err := ossdl.New(client, harness.WithFS(files), ossdl.WithPartSize(sc.part()), ossdl.WithConcurrency(2), ossdl.WithLogger(log.Logger()))
	if err != nil {
		t.Error(err)
		return outcome{err: err}
	}
	var res *ossdl.Result
	if sc.url {
		opts := append([]ossdl.Option{ossdl.WithHTTPClient(hc)}, sc.opts...)
		res, err = d.DownloadURL(ctx, "http://service.test/k", scenePath, opts...)
	} else {
		res, err = d.Download(ctx, "bkt", "k", scenePath, sc.opts...)
	}
	if n := files.n.Load(); n != 0 {
		t.Errorf("%d files left open", n)
	}
	if n := s.Open.Load(); n != 0 {
		t.Errorf("%d bodies left open", n)
	}
	if (res != nil) != (s.Requests.Load() > 0) {
		t.Errorf("result %+v after %d requests", res, s.Requests.Load())
	}
	return outcome{res, err, log.String(), s.Sent.Load()}
}

// decaying is a disk that changes the first byte of the partial file, once it is written.
type decaying struct {
	fsys.FS
	once sync.Once
}

func (d *decaying) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, harness.PartSuffix) {
		return f, err
	}
	return &decayingFile{File: f, d: d}, nil
}

type decayingFile struct {
	fsys.File
	d *decaying
}

func (f *decayingFile) WriteAt(p []byte, off int64) (int, error) {
	if off == 0 {
		f.d.once.Do(func() {
			p = bytes.Clone(p)
			p[0] ^= 2
		})
	}
	return f.File.WriteAt(p, off)
}

// atPath is which file is at the path: "", "old" or "new"; anything else fails the test.
func (sc *crashScene) atPath(t *testing.T, disk fsys.FS) string {
	t.Helper()
	buf := sceneBuffers.Get().(*[]byte)
	defer sceneBuffers.Put(buf)
	data, err := readInto(buf, disk, scenePath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		t.Error(err)
	case string(data) == sceneOld:
		return "old"
	case bytes.Equal(data, sc.want):
		return "new"
	default:
		t.Errorf("%d bytes at the path are neither the old file nor the new one", len(data))
	}
	return "?"
}

// sceneSealer encrypts the objects of scenes that have encrypted ones.
var sceneSealer = harness.Sealer{Seed: "scene"}

// sceneBuffers are for files: the fault loops read them tens of thousands of times.
var sceneBuffers = sync.Pool{New: func() any { return new([]byte) }}

// readInto is the content of a file, in buf, which grows to what it needs.
func readInto(buf *[]byte, disk fsys.FS, name string) ([]byte, error) {
	file, err := disk.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	*buf = slices.Grow((*buf)[:0], int(fi.Size()))
	n, err := io.ReadFull(io.NewSectionReader(file, 0, fi.Size()), (*buf)[:fi.Size()])
	return (*buf)[:n], err
}

// checkpoint is what the checkpoint of a disk is called and says; nil where there is none.
func (sc *crashScene) checkpoint(t *testing.T, disk *memfs.FS) (name string, cp *checkpoints.Document) {
	t.Helper()
	for _, n := range disk.Names() {
		if strings.HasSuffix(n, harness.CheckpointSuffix) || strings.HasPrefix(n, "/cps/") && strings.HasSuffix(n, ".cp") {
			name = n
		}
	}
	if name == "" {
		return "", nil
	}
	data, err := fsys.ReadFile(disk, name, checkpoints.ReadLimit)
	if err != nil {
		t.Fatal(err)
	}
	if cp, err = checkpoints.Decode(data); err != nil {
		t.Fatalf("a checkpoint that is not whole: %v\n%s", err, data)
	}
	return name, cp
}

// later is what the checkpoint of a disk and the recent saves say together; nil where there is neither.
func (sc *crashScene) later(t *testing.T, disk *memfs.FS) (cp *checkpoints.Document, older []checkpoints.Part) {
	t.Helper()
	var data []byte
	if name, cp := sc.checkpoint(t, disk); cp != nil {
		var err error
		if data, err = fsys.ReadFile(disk, name, checkpoints.ReadLimit); err != nil {
			t.Fatal(err)
		}
	}
	return checkpoints.LaterOn(t, disk, data, scenePath+harness.RecentSuffix)
}

// holds is the ranges that the checkpoint of a disk, with the recent saves, claims and that are there.
func (sc *crashScene) holds(t *testing.T, disk *memfs.FS) (held []checkpoints.Span, have []byte) {
	t.Helper()
	cp, older := sc.later(t, disk)
	if cp == nil || cp.CRC64 == nil || *cp.CRC64 != crc64.Update(0, sc.stored()) {
		return nil, nil
	}
	return checkpoints.Held(t, disk, cp, older, scenePath+harness.PartSuffix, scenePath)
}

// intact is how many bytes of a disk a run need not fetch: those that the checkpoint claims and that are there.
func (sc *crashScene) intact(t *testing.T, disk *memfs.FS) int64 {
	t.Helper()
	held, _ := sc.holds(t, disk)
	return checkpoints.Total(held)
}

// poisoned reports whether what is there is claimed as it came, and came wrong.
func (sc *crashScene) poisoned(t *testing.T, disk *memfs.FS) bool {
	t.Helper()
	held, have := sc.holds(t, disk)
	return slices.ContainsFunc(held, func(s checkpoints.Span) bool { return !bytes.Equal(have[s.Off:s.End], sc.want[s.Off:s.End]) })
}

// mustHeal runs once more, on a disk and a network that work again: the file is right, nothing is beside it, and fetched is
// what was neither claimed nor on the disk. Only where that turns out to have come wrong is everything fetched once more.
func (sc *crashScene) mustHeal(t *testing.T, disk *memfs.FS) outcome {
	t.Helper()
	kept := sc.intact(t, disk)
	sent := int64(len(sc.want)) - kept
	if sc.poisoned(t, disk) {
		kept, sent = 0, sent+int64(len(sc.want))
	}
	healthy := *sc
	healthy.flip, healthy.decays = 0, false
	// One worker: nobody takes over a range, of which both would read some bytes.
	healthy.opts = append(sc.opts[:len(sc.opts):len(sc.opts)], ossdl.WithConcurrency(1))
	out := healthy.run(t, disk)
	if out.err != nil {
		t.Fatalf("a healthy run: %v\n%s", out.err, out.log)
	}
	if out.res.ResumedBytes != kept || out.sent != sent {
		t.Errorf("%d bytes resumed and %d fetched, want %d and %d of %d\n%s",
			out.res.ResumedBytes, out.sent, kept, sent, len(sc.want), out.log)
	}
	sc.mustBeDone(t, disk)
	sc.mustLast(t, disk)
	return out
}

// mustLast takes the power away after a call has returned without an error: the new file must still be there.
func (sc *crashScene) mustLast(t *testing.T, disk *memfs.FS) {
	t.Helper()
	for seed := range uint64(3) {
		if at := sc.atPath(t, disk.Crash(rand.New(rand.NewPCG(seed, 0)))); at != "new" {
			t.Errorf("after a power loss (seed %d) at the path is %q", seed, at)
		}
	}
}

// mustBeDone fails the test unless the new file is at the path, with nothing beside it.
func (sc *crashScene) mustBeDone(t *testing.T, disk *memfs.FS) {
	t.Helper()
	if at := sc.atPath(t, disk); at != "new" {
		t.Errorf("at the path is %q", at)
	}
	if got := strings.Join(disk.Names(), " "); got != "/cps/ /dir/ /dir/file" {
		t.Errorf("left behind: %s", got)
	}
}

// fault is one way in which an operation fails.
type fault struct {
	name string
	plan faultfs.Plan // with At 0
}

func faults() []fault {
	return []fault{
		{"EIO", faultfs.Plan{Err: syscall.EIO}},
		{"ENOSPC", faultfs.Plan{Err: syscall.ENOSPC}},
		{"EROFS", faultfs.Plan{Err: syscall.EROFS}},
		{"EACCES", faultfs.Plan{Err: syscall.EACCES}},
		{"EDQUOT", faultfs.Plan{Err: syscall.EDQUOT}},
		{"short write, ENOSPC", faultfs.Plan{Err: syscall.ENOSPC, Kind: faultfs.Write, Short: true}},
		{"short write, EIO", faultfs.Plan{Err: syscall.EIO, Kind: faultfs.Write, Short: true}},
		{"done, but EIO", faultfs.Plan{Err: syscall.EIO, Done: true}},
		{"EIO for ever", faultfs.Plan{Err: syscall.EIO, Forever: true}},
		{"ENOSPC for ever", faultfs.Plan{Err: syscall.ENOSPC, Forever: true}},
		{"EROFS for ever", faultfs.Plan{Err: syscall.EROFS, Forever: true}},
	}
}

// short reports whether the fault is one of the short forms, of which the scenes that matter most have more.
func (f fault) short(most bool) bool {
	switch f.name {
	case "EIO":
		return true
	case "EIO for ever":
		return most || !testing.Short()
	case "ENOSPC", "short write, ENOSPC":
		return most
	}
	return most && !testing.Short()
}

// sampled is how many operations there are for each one that a loop fails so, in the scenes that matter less. The short form is
// meant for the race detector.
func sampled(f fault) int {
	switch {
	case testing.Short():
		return 3
	case f.plan.Forever && !harness.Long(): // each operation is failed once as well
		return 2
	}
	return 1
}

// TestEveryFileOperationFails fails operation i of a download, for every i, in every way, from every state that a
// download can start from.
func TestEveryFileOperationFails(t *testing.T) {
	hits := &harness.Hits{}
	t.Run("scenes", func(t *testing.T) {
		for n, sc := range scenes(t) {
			for _, f := range faults() {
				if !harness.Long() && !f.short(n < 2) {
					continue
				}
				f.plan.Kind = cmp.Or(f.plan.Kind, sc.only)
				if f.plan.Kind != sc.only && sc.only != "" {
					continue
				}
				t.Run(sc.name+"/"+f.name, func(t *testing.T) {
					t.Parallel()
					failed := 0
					step := 1
					if n >= 2 && !sc.alone {
						step = sampled(f)
					}
					for i, missed := n%step, 0; missed < harness.MissesInARow; i += step {
						plan := f.plan
						plan.At = i
						op, fired := sc.failOnce(t, plan)
						if t.Failed() {
							return
						}
						if !fired {
							missed++
							continue
						}
						missed = 0
						failed++
						hits.Add(string(op.Kind), f.name)
					}
					if failed == 0 && !f.plan.Short { // where all is there nothing is written
						t.Error("nothing was failed")
					}
				})
			}
		}
	})
	var want []string
	for _, k := range faultfs.Kinds() {
		want = append(want, string(k))
	}
	for _, f := range faults() {
		if f.short(true) {
			want = append(want, f.name)
		}
	}
	hits.Check(t, want...)
}

// hit is the first operation that a plan has failed.
func hit(f *faultfs.FS, plan faultfs.Plan) faultfs.Op {
	n := 0
	for _, op := range f.Ops() {
		if plan.Kind != "" && plan.Kind != op.Kind {
			continue
		}
		if n == plan.At {
			return op
		}
		n++
	}
	return faultfs.Op{}
}

// needsSpace reports whether a full disk can fail the operation.
func needsSpace(op faultfs.Op) bool {
	switch op.Kind {
	case faultfs.Resolve, faultfs.Lstat, faultfs.Stat, faultfs.Remove, faultfs.Read, faultfs.Lock, faultfs.List, faultfs.Free, faultfs.Writable:
		return false
	}
	return true
}

// failOnce runs the scene with one planned fault, and reports which operation it hit, if there was one.
func (sc *crashScene) failOnce(t *testing.T, plan faultfs.Plan) (op faultfs.Op, fired bool) {
	t.Helper()
	disk := sc.before.Kill()
	f := faultfs.New(disk, plan)
	out := sc.run(t, f)
	defer func() {
		if t.Failed() {
			t.Logf("%v\nerror: %v\n%s", f, out.err, out.log)
		}
	}()
	if !f.Fired() {
		if out.err != nil {
			t.Errorf("nothing failed, and the error is %v", out.err)
		}
		sc.mustBeDone(t, disk)
		sc.mustLast(t, disk)
		return op, false
	}
	harness.Tried.Add("operations failed", 1)
	op = hit(f, plan)
	at := sc.atPath(t, disk)
	switch {
	case out.err == nil:
		if at != "new" {
			t.Errorf("no error, and at the path is %q", at)
		}
		if out.res.Durable {
			sc.mustLast(t, disk)
		} else if op.Kind != faultfs.SyncDir {
			t.Error("the result is not durable")
		}
	case !errors.Is(out.err, plan.Err):
		t.Errorf("the error does not name the cause, %v", plan.Err)
	case fsys.IsNoSpace(plan.Err) && !errors.Is(out.err, ossdl.ErrNoSpace) && needsSpace(op):
		t.Error("the error is not ErrNoSpace")
	case !strings.Contains(out.err.Error(), scenePath):
		t.Error("the error does not name the destination")
	}
	if at == "" {
		t.Error("the old file is gone")
	}
	if out.err != nil && !plan.Forever {
		sc.mustKeep(t, disk, op, out)
	}
	if plan.Forever {
		// Such a file system is mounted anew before it works again, which shows what is on the disk.
		disk = disk.Crash(rand.New(rand.NewPCG(uint64(plan.At), 0)))
	}
	sc.mustHeal(t, disk)
	return op, true
}

// mustKeep asks that a call which one operation has ended gave up nothing of what the earlier run had left, claimed and
// intact. Three things do so by design: a sync of the data that failed, after which nothing counts that no sync has covered
// (and a run begins without knowing of any); a checksum that is wrong, after which everything is fetched anew; and
// WithoutCheckpoint. A write that failed costs, beyond that, what this one write was for.
func (sc *crashScene) mustKeep(t *testing.T, disk *memfs.FS, op faultfs.Op, out outcome) {
	t.Helper()
	part := strings.HasSuffix(op.Name, harness.PartSuffix)
	if !sc.keeps || sc.flip > 0 || op.Kind == faultfs.Sync && part {
		return
	}
	was, is := sc.intact(t, sc.before), sc.intact(t, disk)
	if is < was {
		t.Errorf("%d bytes are left of %d that the earlier run had", is, was)
	}
	if came := was + out.sent; op.Kind == faultfs.Write && part && is < came-2*int64(sc.piece()) {
		t.Errorf("%d bytes kept of %d that were there or came", is, came)
	}
}
