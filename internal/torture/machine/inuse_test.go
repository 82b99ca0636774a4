package machine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// holding is a server with two objects whose first answer waits, and a path.
type holding struct {
	s       *osstest.Server
	content osstest.Content
	path    string
	release func()
}

func newHolding(t *testing.T) *holding {
	t.Helper()
	h := &holding{s: harness.NewServer(t), content: osstest.Random(1, 1<<20), path: filepath.Join(t.TempDir(), "file")}
	h.s.Put("bkt", "k", h.content)
	h.s.Put("bkt", "other", osstest.Random(2, 1<<20))
	open := make(chan struct{})
	h.release = sync.OnceFunc(func() { close(open) })
	t.Cleanup(h.release)
	h.s.Nth(0, osstest.Inject().HoldHeaders(open))
	return h
}

// held waits until the holder has made its request.
func (h *holding) held(t *testing.T) {
	t.Helper()
	if err := h.s.WaitFor(t.Context(), func() bool { return h.s.Stats().Requests == 1 }); err != nil {
		t.Fatal(err)
	}
}

// refused tries to download to the path in every way, and wants to be refused without a request.
func (h *holding) refused(t *testing.T) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "folder")
	if err := os.Symlink(filepath.Dir(h.path), folder); err != nil {
		t.Skip(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(h.path, link); err != nil {
		t.Skip(err)
	}
	for _, path := range []string{h.path, filepath.Join(folder, "file"), link} {
		for _, key := range []string{"k", "other"} {
			if res, err := harness.NewDownloader(t, h.s).Download(t.Context(), "bkt", key, path); !errors.Is(err, ossdl.ErrInUse) || res != nil {
				t.Errorf("%s to %s, another call: %v, %v", key, path, res, err)
			}
			var said bytes.Buffer
			cmd := newChild(t, h.s, "download", path, key)
			cmd.Stderr = &said
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || !strings.Contains(said.String(), ossdl.ErrInUse.Error()) {
				t.Errorf("%s to %s, another process: %v, %q", key, path, err, said.String())
			}
		}
	}
	if n := h.s.Stats().Requests; n != 1 {
		t.Errorf("%d requests of calls that were refused", n-1)
	}
}

func TestOtherCallHoldsThePath(t *testing.T) {
	h := newHolding(t)
	d := harness.NewDownloader(t, h.s)
	var group errgroup.Group
	group.Go(func() error {
		_, err := d.Download(t.Context(), "bkt", "k", h.path)
		return err
	})
	h.held(t)
	h.refused(t)
	h.release()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	harness.CheckFile(t, h.path, h.content)
}

func TestOtherProcessHoldsThePath(t *testing.T) {
	for _, end := range []string{"completes", "is killed"} {
		t.Run(end, func(t *testing.T) {
			h := newHolding(t)
			holder := startChild(t, h.s, "download", h.path, "k")
			h.held(t)
			h.refused(t)
			if end == "is killed" {
				if err := holder.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				holder.Wait() // it was killed
				if _, err := harness.NewDownloader(t, h.s).Download(t.Context(), "bkt", "k", h.path); err != nil {
					t.Errorf("the next does not take over: %v", err)
				}
			} else {
				h.release()
				if err := holder.Wait(); err != nil {
					t.Error(err)
				}
			}
			harness.CheckFile(t, h.path, h.content)
		})
	}
}

// TestPrefixAndPathHoldEachOther checks that a DownloadPrefix brings a file that a Download is at, and the other way round.
func TestPrefixAndPathHoldEachOther(t *testing.T) {
	for _, first := range []string{"Download", "DownloadPrefix"} {
		t.Run(first, func(t *testing.T) {
			s := harness.NewServer(t)
			s.Put("bkt", "p/d/k", osstest.Random(1, 1000))
			real := filepath.Join(t.TempDir(), "dir")
			if err := os.MkdirAll(filepath.Join(real, "d"), 0o777); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "link") // by another name of the folder
			if err := os.Symlink(real, dir); err != nil {
				dir = real
			}
			calls := map[string]func() error{
				"Download": func() error {
					_, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "p/d/k", filepath.Join(dir, "d", "k"))
					return err
				},
				"DownloadPrefix": func() error {
					_, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "p/", real)
					return err
				},
			}
			second := "Download"
			if first == second {
				second = "DownloadPrefix"
			}
			open, holds := make(chan struct{}), make(chan struct{})
			s.Nth(0, osstest.Inject().Before(func() { close(holds) }).HoldHeaders(open))
			var group errgroup.Group
			group.Go(calls[first])
			<-holds
			if err := calls[second](); !errors.Is(err, ossdl.ErrInUse) {
				t.Errorf("%s while a %s is at it: %v", second, first, err)
			}
			close(open)
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
			if err := calls[second](); err != nil {
				t.Errorf("%s afterwards: %v", second, err)
			}
			harness.CheckTree(t, real, harness.Contents{"d/k": osstest.Random(1, 1000)})
		})
	}
}

// process is a file system as another process sees it: the registry of locks that a process has does not know it.
type process struct {
	fsys.FS
	id int
}

func (p process) Key(name string) (any, error) {
	key, err := p.FS.Key(name)
	return [2]any{p.id, key}, err
}

// TestOtherProcessBetweenTwoOperations lets another process try to download to the same path, from its start to its end,
// between any two file operations of the first. Either it is refused, without a request, or the path is its own for as
// long as it takes: what it leaves there, whole or half, the first does not harm, the moment of the commit included.
func TestOtherProcessBetweenTwoOperations(t *testing.T) {
	first := newCrashScene(t, "first", smallSize, memfs.Config{})
	for name, sameObject := range map[string]bool{"same object": true, "another object": false} {
		for _, interrupted := range []bool{false, true} {
			if interrupted {
				name += ", interrupted"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				second := *first
				if !sameObject {
					second.content = bytes.Repeat([]byte("second"), smallSize/6)
					second.want = second.content
				}
				refused, before, after := 0, 0, 0
				for i := 0; ; i++ {
					disk := first.before.Kill()
					f := faultfs.New(process{disk, 1})
					var out, other outcome
					var committed bool // by the first, before the other came
					tried := false
					synctest.Test(t, func(t *testing.T) {
						f.OnOp(func(op faultfs.Op) error {
							if op.Index != i {
								return nil
							}
							tried = true
							data, err := fsys.ReadFile(disk, scenePath, 1<<20)
							committed = err == nil && bytes.Equal(data, first.content)
							ctx := t.Context()
							if interrupted {
								var cancel context.CancelFunc
								ctx, cancel = context.WithTimeout(ctx, 3*time.Second/2)
								defer cancel()
							}
							other = second.download(t, ctx, process{disk, 2})
							return nil
						})
						out = first.runInBubble(t, t.Context(), f)
					})
					if !tried {
						break
					}
					if out.err != nil {
						t.Errorf("the first: %v", out.err)
					}
					was := after
					switch {
					case errors.Is(other.err, ossdl.ErrInUse):
						refused++
						if other.res != nil {
							t.Errorf("%d requests of a call that was refused", other.res.Requests)
						}
					case interrupted != errors.Is(other.err, context.DeadlineExceeded), !interrupted && other.err != nil:
						t.Errorf("the other: %v", other.err)
					case !committed:
						before++
					default:
						after++
						if interrupted {
							if n := second.intact(t, disk); n == 0 {
								t.Error("what the other left was lost")
							}
							second.mustHeal(t, disk)
						}
						second.mustBeDone(t, disk)
					}
					if after == was {
						first.mustBeDone(t, disk)
					}
					if t.Failed() {
						t.Fatalf("at %v", f.Ops()[i])
					}
				}
				t.Logf("the other process was refused %d times, came before %d times and after %d times", refused, before, after)
				if refused == 0 || before == 0 || after == 0 {
					t.Error("nothing was tested")
				}
			})
		}
	}
}

// TestPartialFileIsSwapped puts something else at the name of the partial file, before any operation of a download: nothing
// is written through it, the path has the old file or the right one, and the foreign file never gets there. Only between
// the last look and the rename nobody can tell.
func TestPartialFileIsSwapped(t *testing.T) {
	const name, victim = scenePath + harness.PartSuffix, "/cps/victim"
	theirs := strings.Repeat("x", smallSize) // as long as ours
	for kind, plant := range map[string]func(disk *memfs.FS) error{
		"file":      func(disk *memfs.FS) error { return putFile(disk, name, theirs) },
		"link":      func(disk *memfs.FS) error { return disk.Symlink(victim, name) },
		"hard link": func(disk *memfs.FS) error { return disk.Link(victim, name) },
	} {
		t.Run(kind, func(t *testing.T) {
			sc := newCrashScene(t, kind, smallSize, memfs.Config{}).interrupt(t, killedHalfway)
			if err := putFile(sc.before, victim, theirs); err != nil {
				t.Fatal(err)
			}
			noticed := 0
			for i, missed := 0, 0; missed < harness.MissesInARow; i++ {
				disk := sc.before.Kill()
				f := faultfs.New(disk)
				swapped, looks := false, 0
				f.OnOp(func(op faultfs.Op) error {
					if op.Kind == faultfs.Lstat && op.Name == name {
						looks++
					}
					// The first look is before the file is opened, the second before it is renamed.
					if op.Index != i || looks > 1 && op.Kind != faultfs.Lstat {
						return nil
					}
					if _, err := disk.Lstat(name); err != nil {
						return nil // it is at the path by now
					}
					swapped = true
					return errors.Join(disk.Remove(name), plant(disk))
				})
				out := sc.run(t, f)
				if !swapped {
					missed++
					continue
				}
				missed = 0
				if out.err != nil {
					noticed++
					if !strings.Contains(out.err.Error(), name) {
						t.Errorf("the error does not name it: %v", out.err)
					}
				}
				if at := sc.atPath(t, disk); out.err == nil && at != "new" || out.err != nil && at != "old" {
					t.Errorf("at the path is %q", at)
				}
				if got, err := fsys.ReadFile(disk, victim, 1<<20); string(got) != theirs {
					t.Errorf("the victim is %.20q, %v", got, err)
				}
				if t.Failed() {
					t.Fatalf("at %v: %v\n%s", f.Ops()[i], out.err, out.log)
				}
			}
			if noticed == 0 {
				t.Error("nothing was noticed: little was tested")
			}
		})
	}
}

// TestNewcomerAtTheCommit is TestOtherProcessBetweenTwoOperations with a real process and a real file system, about the
// commit: between any two operations of the first call, from its rename on, a process comes that downloads something else
// to the same path. It is refused, or what it leaves, half or whole, is its own.
func TestNewcomerAtTheCommit(t *testing.T) {
	s := harness.NewServer(t)
	content, other := osstest.Random(1, 200_000), osstest.Random(2, 300_000)
	s.Put("bkt", "k", content)
	s.Put("bkt", "other", other)
	for _, interrupted := range []bool{false, true} {
		t.Run(fmt.Sprintf("interrupted %t", interrupted), func(t *testing.T) {
			refused, after := 0, 0
			for i := 0; ; i++ {
				path := filepath.Join(t.TempDir(), "file")
				f := faultfs.New(fsys.OS())
				since := -1 // operations since the rename
				came, alone := false, false
				f.OnOp(func(op faultfs.Op) error {
					if since < 0 && (op.Kind != faultfs.Rename || op.To != path) {
						return nil
					}
					if since++; since != i {
						return nil
					}
					came = true
					var said bytes.Buffer
					cmd := newChild(t, s, "download", path, "other")
					cmd.Stderr = &said
					if interrupted {
						cut := osstest.Inject().ResetAfter(150_000).Maybe() // where the newcomer is refused it asks for nothing
						s.Once(func(r *osstest.Request) bool { return r.Key == "other" }, cut)
						s.OnRequest(func(r *osstest.Request) *osstest.Fault {
							if r.Key == "other" && r.Start > 0 {
								return osstest.Error(403, "AccessDenied")
							}
							return nil
						})
					}
					err := cmd.Run()
					s.ClearFaults()
					switch {
					case strings.Contains(said.String(), ossdl.ErrInUse.Error()):
						refused++
					case interrupted == (err == nil):
						t.Errorf("the other process: %v, %s", err, said.String())
					default:
						alone = true
						after++
					}
					return nil
				})
				if _, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "k", path, harness.WithFS(f)); err != nil {
					t.Fatal(err)
				}
				if !came {
					break
				}
				switch {
				case !alone:
					harness.CheckFile(t, path, content)
				case !interrupted:
					harness.CheckFile(t, path, other)
				default:
					if n := checkpoints.Total(checkClaims(t, path)); n == 0 {
						t.Error("what the other process left was lost")
					}
					res, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "other", path)
					if err != nil || res.ResumedBytes == 0 {
						t.Errorf("the next run: %+v, %v", res, err)
					}
					harness.CheckFile(t, path, other)
				}
				if t.Failed() {
					t.Fatalf("%d operations after the rename: %v", i, f.Ops())
				}
			}
			t.Logf("refused %d times, alone %d times", refused, after)
			if refused == 0 || after == 0 {
				t.Error("nothing was tested")
			}
		})
	}
}

// hammer downloads one of the keys to the path, again and again, until n times it was not refused, and returns how often it
// was. Other errors than being refused are those of a network that the test makes fail.
func hammer(d *ossdl.Downloader, path, n string, keys []string) (refused int, err error) {
	times, err := strconv.Atoi(n)
	if err != nil {
		return 0, err
	}
	for i := 0; i < times; {
		_, err := d.Download(context.Background(), "bkt", keys[i%len(keys)], path, ossdl.WithPartSize(hammerPart), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
		var part *ossdl.PartError
		switch {
		case errors.Is(err, ossdl.ErrInUse):
			refused++
			continue
		case err != nil && !errors.As(err, &part):
			return refused, err
		}
		i++
	}
	return refused, nil
}

const hammerPart = 16 << 10

// TestManyAtOnePath lets processes and goroutines download different objects to one path, as fast as they can, over a
// network that fails now and then. Whoever opens the path finds one of the objects, whole, and what was opened once stays
// as it was: no other download gets hold of a committed file.
func TestManyAtOnePath(t *testing.T) {
	times, processes := 10, 2
	if harness.Long() {
		times, processes = 1000, 6
	}
	s := harness.NewServer(t, osstest.ResetEvery(1, 16*hammerPart, 1))
	objects := map[string]bool{}
	var keys []string
	for i := range 3 {
		content := osstest.Random(uint64(i), int64(i+2)*hammerPart+1)
		keys = append(keys, fmt.Sprint("k", i))
		s.Put("bkt", keys[i], content)
		data, err := io.ReadAll(io.NewSectionReader(content, 0, content.Size()))
		if err != nil {
			t.Fatal(err)
		}
		objects[string(data)] = true
	}
	path := filepath.Join(t.TempDir(), "file")
	job := append([]string{path, strconv.Itoa(times)}, keys...)
	var hammers errgroup.Group
	var refused [2]atomic.Int64 // calls of this process, and other processes
	for range processes {
		cmd := newChild(t, s, append([]string{"hammer"}, job...)...)
		hammers.Go(func() error {
			out, err := cmd.Output()
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(out))
			refused[1].Add(int64(n))
			return err
		})
	}
	for range 2 {
		d := harness.NewDownloader(t, s)
		hammers.Go(func() error {
			n, err := hammer(d, path, job[1], keys)
			refused[0].Add(int64(n))
			return err
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- hammers.Wait() }()

	type seen struct {
		f    *os.File
		data []byte
	}
	var all []seen
	read := func(f *os.File) []byte {
		data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for running := true; running; {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			running = false
		default:
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		data := read(f)
		if !objects[string(data)] {
			t.Fatalf("%d bytes at the path are none of the objects", len(data))
		}
		if len(all) < 100 {
			all = append(all, seen{f, data})
		} else {
			f.Close()
		}
	}
	if len(all) == 0 || refused[0].Load() == 0 || refused[1].Load() == 0 {
		t.Errorf("%d committed files were seen; %d calls and %d of other processes were refused: little was tested",
			len(all), refused[0].Load(), refused[1].Load())
	}
	for _, was := range all {
		if !bytes.Equal(read(was.f), was.data) {
			t.Error("a file was changed after it had been committed")
		}
		was.f.Close()
	}
	if _, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "k0", path); err != nil {
		t.Error(err)
	}
	harness.NoLeftovers(t, path)
}
