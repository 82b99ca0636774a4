package machine_test

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
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
	"github.com/ossdl/ossdl/internal/osstest"
)

// crashShelf is a prefix of three objects in folders of their own, and the folder they are downloaded to.
type crashShelf struct {
	objects  map[string][]byte // by the name of the file
	before   *memfs.FS
	partSize int64
	extras   []string // files without a key, which are to be deleted
	list     bool     // the objects are given in a list, rather than listed
	sealed   bool     // one of the objects is encrypted
}

// The sizes of the requests for a shelf. An object of one request is committed together with others.
const (
	inParts  = 4000 // each object takes several
	oneByOne = 8000 // two objects take one, the third two
	batched  = 1 << 20
)

func newCrashShelf(t *testing.T, partSize int64) *crashShelf {
	t.Helper()
	sh := &crashShelf{objects: map[string][]byte{}, before: memfs.New(memfs.Config{}), partSize: partSize}
	for i, name := range []string{"/a", "/sub/b", "/sub/deep/c"} {
		sh.objects[name] = newCrashScene(t, "", int64(7000+1000*i), memfs.Config{}).content
	}
	if err := putFile(sh.before, "/a", sceneOld); err != nil {
		t.Fatal(err)
	}
	return sh
}

// withExtras is a shelf with files that no key has, which becomes a mirror.
func (sh *crashShelf) withExtras(t *testing.T) *crashShelf {
	t.Helper()
	more := &crashShelf{objects: sh.objects, before: sh.before.Kill(), partSize: sh.partSize, extras: []string{"/gone/z", "/sub/y", "/x"}}
	for _, dir := range []string{"/gone", "/sub"} {
		if err := more.before.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range more.extras {
		if err := putFile(more.before, name, "mine"); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"/", "/gone", "/sub"} {
		if err := more.before.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return more
}

// mustKeepExtras fails the test if an extra file is gone although the file of a key is not yet there.
func (sh *crashShelf) mustKeepExtras(t *testing.T, disk fsys.FS) {
	t.Helper()
	gone := ""
	for _, name := range sh.extras {
		if _, err := disk.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			gone = name
		}
	}
	if gone != "" {
		sh.mustBeWhole(t, disk, true)
	}
}

// interrupted is a shelf on which a run has left a file half done.
func (sh *crashShelf) interrupted(t *testing.T) *crashShelf {
	t.Helper()
	half := &crashShelf{objects: sh.objects, before: sh.before.Kill(), partSize: sh.partSize, sealed: sh.sealed}
	f := faultfs.New(half.before, faultfs.Plan{Kind: faultfs.Write, Name: harness.TreePart, At: 5})
	all := sh.missing(t, half.before)
	_, sent, log, err := half.run(t, f)
	if left := half.missing(t, half.before); err == nil || left == 0 || left >= all || sent == 0 {
		t.Fatalf("%d bytes of %d are missing after %v, %v\n%s", left, all, f, err, log)
	}
	if _, err := half.before.Lstat("/" + harness.WorkDir); err != nil {
		t.Fatal(err)
	}
	return half
}

// killedLater is a half-done shelf on which the last save was a recent one: the checkpoint claims one byte.
func (sh *crashShelf) killedLater(t *testing.T) *crashShelf {
	t.Helper()
	half := sh.interrupted(t)
	disk, want := half.before, half.missing(t, half.before)
	name, content := "", []byte(nil)
	for name, content = range half.objects {
		if _, err := disk.Lstat("/" + harness.WorkBase(name[1:]) + harness.TreeCheckpoint); err == nil {
			break
		}
	}
	base := "/" + harness.WorkBase(name[1:])
	doc, err := fsys.ReadFile(disk, base+harness.TreeCheckpoint, checkpoints.ReadLimit)
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoints.Decode(doc)
	if err != nil {
		t.Fatal(err)
	}
	c.Claim(content, checkpoints.Span{Off: c.Parts[0].Offset, End: c.Parts[0].Offset + 1})
	less, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sum := crc64.Update(0, less)
	slot := checkpoints.Slot{Seq: 1, Bases: [2]uint64{sum, sum}, Data: doc}
	err = errors.Join(putFile(disk, base+harness.TreeCheckpoint, string(less)), putFile(disk, base+harness.TreeRecent, string(slot.Encode())))
	if got := half.missing(t, disk); err != nil || got != want {
		t.Fatalf("%d bytes are missing, want %d; %v", got, want, err)
	}
	return half
}

// killed is a shelf on which a run was killed right after the first file of a batch got its name: that is not certain to be
// on the disk, and the next ones are still working files.
func (sh *crashShelf) killed(t *testing.T) *crashShelf {
	t.Helper()
	left := &crashShelf{objects: sh.objects, before: sh.before.Kill(), partSize: sh.partSize}
	disk := left.before
	f := faultfs.New(disk, faultfs.Plan{Kind: faultfs.Rename, At: 1, Stop: true})
	_, _, log, err := left.run(t, f)
	names := strings.Join(disk.Names(), " ")
	if !f.Fired() || !strings.Contains(names, harness.TreeSmall) || !strings.Contains(names, ".batch") {
		t.Fatalf("left: %s, after %v, %v\n%s", names, f, err, log)
	}
	left.before = disk.Kill() // without its locks
	return left
}

// run downloads the prefix once. sent is how many bytes of objects came.
func (sh *crashShelf) run(t *testing.T, on fsys.FS) (res *ossdl.PrefixResult, sent int64, log string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &harness.Service{Objects: map[string][]byte{}, Piece: 2000}
		for name, content := range sh.objects {
			s.Objects["p"+name] = content
		}
		if sh.sealed {
			s.Sealed = map[string]harness.Sealer{"p/sub/b": sceneSealer}
		}
		client, cerr := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{Transport: s}))
		if cerr != nil {
			t.Fatal(cerr)
		}
		files := &opened{FS: on}
		var lines harness.Records
		d, derr := ossdl.New(client, ossdl.WithPartSize(sh.partSize), ossdl.WithConcurrency(2), ossdl.WithLogger(lines.Logger()))
		if derr != nil {
			t.Fatal(derr)
		}
		opts := []ossdl.Option{harness.WithFolderFS(func(*fsys.Root) fsys.FS { return files })}
		if sh.extras != nil {
			opts = append(opts, ossdl.WithDelete(len(sh.extras)))
		}
		if sh.sealed {
			opts = append(opts, ossdl.WithDecryption(&harness.MasterKey{}))
		}
		if sh.list {
			res, err = d.DownloadObjects(t.Context(), "bkt", sh.given(), t.TempDir(), opts...)
		} else {
			res, err = d.DownloadPrefix(t.Context(), "bkt", "p/", t.TempDir(), opts...)
		}
		log, sent = lines.String(), s.Sent.Load()
		synctest.Wait()
		noGoroutinesInBubble(t)
		if n := files.n.Load(); n != 0 {
			t.Errorf("%d files left open", n)
		}
		if n := s.Open.Load(); n != 0 {
			t.Errorf("%d bodies left open", n)
		}
	})
	return res, sent, log, err
}

// given is the list of the objects, the last one first.
func (sh *crashShelf) given() iter.Seq2[ossdl.Object, error] {
	var all []ossdl.Object
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(sh.objects))) {
		all = append(all, ossdl.Object{Key: "p" + name, Name: name[1:], Size: int64(len(sh.objects[name])), LastModified: harness.ServiceTime})
	}
	return harness.List(all...)
}

// mustBeWhole fails the test unless each file is absent, old or whole, and where all is true, unless all are whole.
func (sh *crashShelf) mustBeWhole(t *testing.T, disk fsys.FS, all bool) {
	t.Helper()
	for name, content := range sh.objects {
		data, err := fsys.ReadFile(disk, name, 1<<20)
		switch {
		case err == nil && string(data) == string(content):
		case all, err != nil && !errors.Is(err, fs.ErrNotExist), err == nil && (name != "/a" || string(data) != sceneOld):
			t.Errorf("%s has %d bytes, %v", name, len(data), err)
		}
	}
}

// mustKeepDone fails the test unless a disk, after a power loss, has every file that was counted as done and durable.
func (sh *crashShelf) mustKeepDone(t *testing.T, disk *memfs.FS, res *ossdl.PrefixResult) {
	t.Helper()
	if res == nil {
		return
	}
	whole := 0
	for name, content := range sh.objects {
		if data, err := fsys.ReadFile(disk, name, 1<<20); err == nil && string(data) == string(content) {
			whole++
		}
	}
	if whole < res.Done-res.NotDurable {
		t.Errorf("%d files are whole, %d were done, %d of them not durable", whole, res.Done, res.NotDurable)
	}
}

// written makes certain what is in the folders, as the system does in time by itself: a later call skips a file that is there.
func (sh *crashShelf) written(t *testing.T, disk *memfs.FS) {
	t.Helper()
	for _, dir := range []string{"/", "/sub", "/sub/deep"} {
		if err := disk.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// mustHeal runs once more, on a disk that works again, and takes the power away afterwards. Fetched is what is neither at its
// path, by size and time, nor claimed and there.
func (sh *crashShelf) mustHeal(t *testing.T, disk *memfs.FS) {
	t.Helper()
	want := sh.missing(t, disk)
	_, sent, log, err := sh.run(t, disk)
	if err != nil {
		t.Fatalf("a healthy run: %v\n%s", err, log)
	}
	if sent != want {
		t.Errorf("%d bytes fetched, want %d\n%s", sent, want, log)
	}
	sh.mustBeDone(t, disk)
}

// missing is how many bytes a run has to fetch.
func (sh *crashShelf) missing(t *testing.T, disk *memfs.FS) (bytes int64) {
	t.Helper()
	for name, content := range sh.objects {
		if fi, err := disk.Lstat(name); err == nil && fi.Size() == int64(len(content)) && fi.ModTime().Unix() == harness.ServiceTime.Unix() {
			continue
		}
		base := filepath.Join("/", harness.WorkBase(name[1:]))
		data, err := fsys.ReadFile(disk, base+harness.TreeCheckpoint, checkpoints.ReadLimit)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		c, older := checkpoints.LaterOn(t, disk, data, base+harness.TreeRecent)
		if c == nil {
			bytes += int64(len(content))
			continue
		}
		held, _ := checkpoints.Held(t, disk, c, older, base+harness.TreePart, name)
		bytes += int64(len(content)) - checkpoints.Total(held)
	}
	return bytes
}

func (sh *crashShelf) mustBeDone(t *testing.T, disk *memfs.FS) {
	t.Helper()
	sh.mustBeWhole(t, disk, true)
	for seed := range uint64(3) {
		sh.mustBeWhole(t, disk.Crash(rand.New(rand.NewPCG(seed, 0))), true)
	}
	names := slices.DeleteFunc(disk.Names(), func(name string) bool {
		return name == "/gone/" && sh.extras != nil // empty, and it stays if the call that made it so could not remove it
	})
	if got := strings.Join(names, " "); got != "/a /sub/ /sub/b /sub/deep/ /sub/deep/c" {
		t.Errorf("left behind: %s", got)
	}
}

// TestPrefixEveryFileOperationFails fails operation i of a DownloadPrefix, for every i.
func TestPrefixEveryFileOperationFails(t *testing.T) {
	fresh := newCrashShelf(t, inParts)
	hits := &harness.Hits{}
	each := func(t *testing.T, sh *crashShelf) {
		for n, how := range faults() {
			if testing.Short() && how.plan.Forever && how.plan.Err != syscall.EIO {
				continue
			}
			t.Run(how.name, func(t *testing.T) {
				t.Parallel()
				step := how.step()
				for i, missed := n%step, 0; missed < harness.MissesInARow; i += step {
					plan := how.plan
					plan.At = i
					disk := sh.before.Kill()
					f := faultfs.New(disk, plan)
					res, _, log, err := sh.run(t, f)
					if !f.Fired() {
						missed++
						continue
					}
					missed = 0
					harness.Tried.Add("operations failed", 1)
					hits.Add(string(hit(f, plan).Kind), how.name)
					sh.mustBeWhole(t, disk, err == nil)
					if err == nil && res.NotDurable == 0 {
						sh.mustBeWhole(t, disk.Crash(rand.New(rand.NewPCG(uint64(i), 1))), true)
					}
					sh.mustKeepDone(t, disk.Crash(rand.New(rand.NewPCG(uint64(i), 2))), res)
					if err != nil && !errors.Is(err, plan.Err) {
						t.Error("the error does not name the cause")
					}
					if err == nil && res.NotDurable > 0 {
						sh.written(t, disk)
					}
					if plan.Forever {
						disk = disk.Crash(rand.New(rand.NewPCG(uint64(i), 0)))
					}
					sh.mustHeal(t, disk)
					if t.Failed() {
						t.Fatalf("%v\n%+v, error: %v\n%s", f, res, err, log)
					}
				}
			})
		}
	}
	t.Run("fresh", func(t *testing.T) { each(t, fresh) })
	t.Run("half", func(t *testing.T) { each(t, fresh.interrupted(t)) })
	t.Run("recent saves", func(t *testing.T) { each(t, fresh.killedLater(t)) })
	t.Run("batch", func(t *testing.T) { each(t, newCrashShelf(t, batched)) })
	t.Run("mixed", func(t *testing.T) { each(t, newCrashShelf(t, oneByOne)) })
	t.Run("killed", func(t *testing.T) { each(t, newCrashShelf(t, batched).killed(t)) })
	want := []string{"EIO", "ENOSPC", "EROFS", "EACCES", "EDQUOT", "short write, ENOSPC", "done, but EIO", "EIO for ever"}
	for _, k := range faultfs.Kinds() {
		if k != faultfs.Resolve && k != faultfs.List { // names within the folder are not resolved, and all is in one folder
			want = append(want, string(k))
		}
	}
	hits.Check(t, want...)
}

// step is how many operations of a prefix there are for each one that fails so. The single download, whose steps these are, has
// them all.
func (f fault) step() int {
	switch {
	case harness.Long():
		return 1
	case testing.Short() && f.name == "EIO":
		return 3
	case testing.Short():
		return 9
	case f.name == "EIO":
		return 2
	}
	return 5
}

// TestMirrorEveryFileOperationFails fails operation i of a DownloadPrefix that deletes what no key has, for every i. Nothing is
// deleted before all objects are there, and the next call deletes what is left.
func TestMirrorEveryFileOperationFails(t *testing.T) {
	sh := newCrashShelf(t, batched).withExtras(t)
	fired := 0
	for i, missed := 0, 0; missed < harness.MissesInARow; i++ {
		plan := faultfs.Plan{At: i, Err: syscall.EIO}
		disk := sh.before.Kill()
		f := faultfs.New(disk, plan)
		res, _, log, err := sh.run(t, f)
		if !f.Fired() {
			missed++
			continue
		}
		missed = 0
		fired++
		harness.Tried.Add("operations failed", 1)
		sh.mustBeWhole(t, disk, err == nil)
		sh.mustKeepExtras(t, disk)
		if err == nil && res.NotDurable > 0 {
			sh.written(t, disk)
		}
		sh.mustHeal(t, disk)
		if t.Failed() {
			t.Fatalf("%v\n%+v, error: %v\n%s", f, res, err, log)
		}
	}
	if fired == 0 {
		t.Error("nothing failed")
	}
}

// TestPrefixEveryInstantIsACrash stops a DownloadPrefix dead at operation i, for every i, and so a DownloadObjects, and a
// DownloadPrefix that deletes what no key has.
func TestPrefixEveryInstantIsACrash(t *testing.T) {
	list := newCrashShelf(t, batched)
	list.list = true
	encrypted, sealedBatch := newCrashShelf(t, inParts), newCrashShelf(t, batched)
	encrypted.sealed, sealedBatch.sealed = true, true
	for name, sh := range map[string]*crashShelf{
		"in parts": newCrashShelf(t, inParts), "batch": newCrashShelf(t, batched), "mixed": newCrashShelf(t, oneByOne),
		"killed": newCrashShelf(t, batched).killed(t), "recent saves": newCrashShelf(t, inParts).killedLater(t), "list": list, "mirror": newCrashShelf(t, batched).withExtras(t),
		"encrypted": encrypted, "half, encrypted": encrypted.interrupted(t), "encrypted batch": sealedBatch,
	} {
		t.Run(name, sh.everyInstantIsACrash)
	}
}

func (sh *crashShelf) everyInstantIsACrash(t *testing.T) {
	points, step := 0, 1
	if testing.Short() {
		step = 2
	}
	if sh.sealed && !harness.Long() { // the files are the same; only the bytes differ
		step *= 3
	}
	for i, missed := 0, 0; missed < harness.MissesInARow; i += step {
		disk := sh.before.Kill()
		f := faultfs.New(disk, faultfs.Plan{At: i, Stop: true})
		res, _, _, _ := sh.run(t, f)
		if !f.Fired() {
			missed++
			continue
		}
		missed = 0
		points++
		harness.Tried.Add("crash points", 1)
		left := map[string]*memfs.FS{"killed": disk.Kill()}
		for seed := range clones() {
			lost := disk.Crash(rand.New(rand.NewPCG(seed, uint64(i))))
			sh.mustKeepDone(t, lost, res)
			left[fmt.Sprintf("power lost, seed %d", seed)] = lost
		}
		for _, how := range slices.Sorted(maps.Keys(left)) {
			sh.mustBeWhole(t, left[how], false)
			sh.mustKeepExtras(t, left[how])
			sh.mustHeal(t, left[how])
			if t.Failed() {
				t.Fatalf("%s at %v", how, f)
			}
		}
	}
	if points == 0 {
		t.Error("nothing was stopped")
	}
}
