package ossdl

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/osstest"
)

// shelf is a prefix of three objects in folders of their own, and the folder they are downloaded to.
type shelf struct {
	objects map[string][]byte // by the name of the file
	before  *memfs.FS
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	sh := &shelf{objects: map[string][]byte{}, before: memfs.New(memfs.Config{})}
	for i, name := range []string{"/a", "/sub/b", "/sub/deep/c"} {
		sh.objects[name] = newScene(t, "", int64(7000+1000*i), memfs.Config{}).content
	}
	if err := putFile(sh.before, "/a", sceneOld); err != nil {
		t.Fatal(err)
	}
	return sh
}

// run downloads the prefix once.
func (sh *shelf) run(t *testing.T, on fsys.FS) (res *PrefixResult, log string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &service{objects: map[string][]byte{}, piece: 2000}
		for name, content := range sh.objects {
			s.objects["p"+name] = content
		}
		client, cerr := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{Transport: s}))
		if cerr != nil {
			t.Fatal(cerr)
		}
		files := &opened{FS: on}
		var lines records
		d, derr := New(client, WithPartSize(4000), WithConcurrency(2), WithLogger(lines.logger()))
		if derr != nil {
			t.Fatal(derr)
		}
		res, err = d.DownloadPrefix(t.Context(), "bkt", "p/", t.TempDir(), within(func(*os.Root) fsys.FS { return files }))
		log = lines.String()
		synctest.Wait()
		if left := othersInBubble(); left != "" {
			t.Errorf("goroutines left running:\n%s", left)
		}
		if n := files.n.Load(); n != 0 {
			t.Errorf("%d files left open", n)
		}
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d bodies left open", n)
		}
	})
	return res, log, err
}

// whole fails the test unless each file is absent, old or whole, and where all is true, unless all are whole.
func (sh *shelf) whole(t *testing.T, disk fsys.FS, all bool) {
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

// heals runs once more, on a disk that works again, and takes the power away afterwards.
func (sh *shelf) heals(t *testing.T, disk *memfs.FS) {
	t.Helper()
	if _, log, err := sh.run(t, disk); err != nil {
		t.Fatalf("a healthy run: %v\n%s", err, log)
	}
	sh.done(t, disk)
}

func (sh *shelf) done(t *testing.T, disk *memfs.FS) {
	t.Helper()
	sh.whole(t, disk, true)
	for seed := range uint64(3) {
		sh.whole(t, disk.Crash(rand.New(rand.NewPCG(seed, 0))), true)
	}
	if got := strings.Join(disk.Names(), " "); got != "/a /sub/ /sub/b /sub/deep/ /sub/deep/c" {
		t.Errorf("left behind: %s", got)
	}
}

// TestPrefixEveryFileOperationFails fails operation i of a DownloadPrefix, for every i.
func TestPrefixEveryFileOperationFails(t *testing.T) {
	sh := newShelf(t)
	var failed atomic.Int64
	t.Cleanup(func() { t.Logf("operations failed: %d", failed.Load()) })
	for _, how := range []fault{
		{"EIO", faultfs.Plan{Err: syscall.EIO}},
		{"ENOSPC", faultfs.Plan{Err: syscall.ENOSPC}},
		{"EIO for ever", faultfs.Plan{Err: syscall.EIO, Forever: true}},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			for i := 0; ; i++ {
				plan := how.plan
				plan.At = i
				disk := sh.before.Kill()
				f := faultfs.New(disk, plan)
				res, log, err := sh.run(t, f)
				if !f.Fired() {
					break
				}
				failed.Add(1)
				sh.whole(t, disk, err == nil)
				if err != nil && !errors.Is(err, plan.Err) {
					t.Error("the error does not name the cause")
				}
				if plan.Forever {
					disk = disk.Crash(rand.New(rand.NewPCG(uint64(i), 0)))
				}
				sh.heals(t, disk)
				if t.Failed() {
					t.Fatalf("%v\n%+v, error: %v\n%s", f, res, err, log)
				}
			}
		})
	}
}

// TestPrefixEveryInstantIsACrash stops a DownloadPrefix dead at operation i, for every i.
func TestPrefixEveryInstantIsACrash(t *testing.T) {
	sh := newShelf(t)
	points := 0
	for i := 0; ; i++ {
		disk := sh.before.Kill()
		f := faultfs.New(disk, faultfs.Plan{At: i, Stop: true})
		sh.run(t, f)
		if !f.Fired() {
			break
		}
		points++
		left := map[string]*memfs.FS{"killed": disk.Kill()}
		for seed := range clones() {
			left[fmt.Sprintf("power lost, seed %d", seed)] = disk.Crash(rand.New(rand.NewPCG(seed, uint64(i))))
		}
		for _, how := range slices.Sorted(maps.Keys(left)) {
			sh.whole(t, left[how], false)
			sh.heals(t, left[how])
			if t.Failed() {
				t.Fatalf("%s at %v", how, f)
			}
		}
	}
	t.Logf("crash points: %d", points)
}
