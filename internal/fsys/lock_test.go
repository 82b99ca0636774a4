package fsys_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// helperEnv makes the test binary one of the other processes of a test: what to do, and with which lock.
const helperEnv = "OSSDL_FSYS_TEST_HELPER"

func TestMain(m *testing.M) {
	what, name, ok := strings.Cut(os.Getenv(helperEnv), ":")
	if !ok {
		os.Exit(m.Run())
	}
	var err error
	switch what {
	case "hold":
		err = holdForEver(name)
	case "contend":
		err = contend(fsys.OS(), name, 100)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("done")
}

func holdForEver(name string) error {
	_, systemwide, err := fsys.Lock(fsys.OS(), name)
	if err != nil {
		return err
	}
	fmt.Println("held", systemwide)
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}

// contend takes and gives back the lock until it had it so many times, and checks each time that it is alone: the
// folder that stands for what the lock protects can be made once only.
func contend(f fsys.FS, name string, times int) error {
	inside := filepath.Join(filepath.Dir(name), "inside")
	for n := 0; n < times; {
		unlock, _, err := fsys.Lock(f, name)
		if errors.Is(err, fsys.ErrLocked) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			return err
		}
		n++
		if err := f.Mkdir(inside, 0o700); err != nil {
			return fmt.Errorf("not alone: %w", err)
		}
		runtime.Gosched()
		if err := f.Remove(inside); err != nil {
			return fmt.Errorf("not alone: %w", err)
		}
		if err := unlock(); err != nil {
			return err
		}
	}
	return nil
}

// helper is the command for a process that does what helperEnv says.
func helper(t *testing.T, what, name string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperEnv+"="+what+":"+name)
	return cmd
}

// apart hides from the registry that its calls are of one process, as another process's would be.
type apart struct {
	fsys.FS
	calls *atomic.Int64
}

func newApart(f fsys.FS) apart { return apart{f, new(atomic.Int64)} }

func (a apart) Key(string) (any, error) { return [2]any{a.calls, a.calls.Add(1)}, nil }

// TestLockTakenOverAfterKill checks that the kernel releases the lock of a killed process, and that the next one takes over
// its file.
func TestLockTakenOverAfterKill(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	cmd := helper(t, "hold", name)
	stdin, err := cmd.StdinPipe() // open while we want the helper to stay
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "held") {
		t.Errorf("the helper says %q, %v", line, err)
	}
	if line == "held true\n" {
		_, _, err = fsys.Lock(fsys.OS(), name)
		if !errors.Is(err, fsys.ErrLocked) || !strings.Contains(err.Error(), name) {
			t.Errorf("while another process holds it: %v", err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if cmd.Wait() == nil {
		t.Error("the helper ended by itself")
	}
	stdin.Close()
	if _, err := os.Lstat(name); err != nil {
		t.Errorf("the helper tidied up: %v", err)
	}

	unlock, _, err := fsys.Lock(fsys.OS(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after unlock: %v", err)
	}
}

// TestLockContendedByProcesses checks that two processes never hold the lock at the same time, while several take it and
// remove its file as fast as they can.
func TestLockContendedByProcesses(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	var wg sync.WaitGroup
	for range 3 {
		cmd := helper(t, "contend", name)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Start()
		if errors.Is(err, syscall.ENOEXEC) {
			t.Skip("emulated: a program for this processor cannot be started by name:", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, out.String())
			}
		})
	}
	if err := contend(fsys.OS(), name, 100); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestLockContendedByGoroutines(t *testing.T) {
	dir := t.TempDir()
	for title, f := range map[string]fsys.FS{
		"registry":           fsys.OS(),
		"file":               newApart(fsys.OS()), // the file's lock alone keeps them apart
		"memory":             memfs.New(memfs.Config{}),
		"memory, file":       newApart(memfs.New(memfs.Config{})),
		"memory, unlockable": memfs.New(memfs.Config{NoLocks: true}), // the registry alone
	} {
		t.Run(title, func(t *testing.T) {
			name := "/lock"
			if strings.HasPrefix(title, "registry") || title == "file" {
				name = filepath.Join(dir, "lock")
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := contend(f, name, 50); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestClaim checks that Claim makes no file, excludes Lock and other claims of the same file, and that a second release does
// not end the next claim.
func TestClaim(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	release, err := fsys.Claim(fsys.OS(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Claim(fsys.Rooted(root), "file"); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("claimed twice: %v", err)
	}
	if _, _, err := fsys.Lock(fsys.OS(), name); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("locked though it is claimed: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files were made: %v, %v", entries, err)
	}
	release()
	again, err := fsys.Claim(fsys.Rooted(root), "file")
	if err != nil {
		t.Fatal(err)
	}
	release() // of the first, once more: it must not end the second
	if _, err := fsys.Claim(fsys.OS(), name); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("claimed twice: %v", err)
	}
	again()
	if _, err := fsys.Claim(fsys.OS(), filepath.Join(dir, "none", "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is missing: %v", err)
	}
}

// TestLockOfRemovedFileStartsAgain checks a waiter that opens the file before the holder removes it and ends. It gets the
// lock of a file that no longer exists, and must start again.
func TestLockOfRemovedFileStartsAgain(t *testing.T) {
	for title, dir := range map[string]string{"OS": t.TempDir(), "memory": "/"} {
		var below fsys.FS = memfs.New(memfs.Config{})
		if title == "OS" {
			below = fsys.OS()
		}
		for _, newcomer := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/newcomer=%t", title, newcomer), func(t *testing.T) {
				f, name := newApart(below), filepath.Join(dir, "lock")
				unlockFirst, _, err := fsys.Lock(f, name)
				if err != nil {
					t.Fatal(err)
				}
				unlockThird := func() error { return nil }
				want := 2
				waiter := faultfs.New(below)
				waiter.OnOp(func(op faultfs.Op) error {
					if op.Kind != faultfs.Lock || waiter.Count(faultfs.Lock) > 1 {
						return nil
					}
					if err := unlockFirst(); err != nil {
						t.Error(err)
					}
					if _, err := below.Lstat(name); runtime.GOOS == "windows" && err == nil {
						want = 1 // wine: the file stays, and can be opened, as long as the waiter has it open
					}
					if newcomer {
						if unlockThird, _, err = fsys.Lock(f, name); err != nil {
							t.Error(err)
						}
					}
					return nil
				})
				unlock, _, err := fsys.Lock(newApart(waiter), name)
				if n := waiter.Count(faultfs.Lock); n != want {
					t.Errorf("%d attempts to lock, want %d", n, want)
				}
				if newcomer {
					if !errors.Is(err, fsys.ErrLocked) {
						t.Errorf("beside a newcomer: %v", err)
					}
				} else if err != nil {
					t.Fatal(err)
				} else {
					// Held in earnest: the file at the name is the one that is locked.
					if _, _, err := fsys.Lock(f, name); !errors.Is(err, fsys.ErrLocked) {
						t.Errorf("a third gets %v", err)
					}
					if err := unlock(); err != nil {
						t.Error(err)
					}
				}
				if err := unlockThird(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestLockGivesUp checks that Lock does not run for ever on a file system that reports another identity at each call.
func TestLockGivesUp(t *testing.T) {
	below := memfs.New(memfs.Config{})
	f := faultfs.New(below)
	f.OnOp(func(op faultfs.Op) error {
		if op.Kind == faultfs.Lock {
			return below.Remove("/lock")
		}
		return nil
	})
	if _, _, err := fsys.Lock(f, "/lock"); err == nil || !strings.Contains(err.Error(), "/lock") {
		t.Errorf("error %v", err)
	}
	if n := f.Count(faultfs.Lock); n != 100 {
		t.Errorf("%d attempts, want 100", n)
	}
}

// TestUnlockLeavesNewcomerAlone checks the case that someone removes the file while the lock is held. The next process then
// has a file of its own, which unlock must not remove.
func TestUnlockLeavesNewcomerAlone(t *testing.T) {
	below := memfs.New(memfs.Config{})
	f := newApart(below)
	unlock, _, err := fsys.Lock(f, "/lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := below.Remove("/lock"); err != nil {
		t.Fatal(err)
	}
	unlockNewcomer, _, err := fsys.Lock(f, "/lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if _, _, err := fsys.Lock(f, "/lock"); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("after the first unlock a third gets %v", err)
	}
	if err := unlockNewcomer(); err != nil {
		t.Error(err)
	}
	if names := below.Names(); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

func TestLockUnsupported(t *testing.T) {
	for _, cause := range []error{errors.ErrUnsupported, syscall.ENOSYS, syscall.ENOTSUP} {
		f := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{Kind: faultfs.Lock, Err: cause, Forever: true})
		unlock, systemwide, err := fsys.Lock(f, "/lock")
		if err != nil || systemwide {
			t.Fatalf("%v: systemwide %t, error %v", cause, systemwide, err)
		}
		if _, _, err := fsys.Lock(f, "/lock"); !errors.Is(err, fsys.ErrLocked) {
			t.Errorf("%v: a second call in the process gets %v", cause, err)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}
}

// TestLockRefusesPlanted checks that anything else at the name is reported and left unchanged.
func TestLockRefusesPlanted(t *testing.T) {
	dir := t.TempDir()
	name, victim := filepath.Join(dir, "lock"), filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	plants := map[string]func() error{
		"folder": func() error { return os.Mkdir(name, 0o755) },
	}
	if runtime.GOOS != "windows" {
		plants["link"] = func() error { return fstest.Symlink("victim", name) }
		plants["dangling link"] = func() error { return fstest.Symlink("new", name) }
	}
	for kind, plant := range special {
		plants[kind] = func() error { return plant(name) }
	}
	for kind, plant := range plants {
		if err := plant(); err != nil {
			t.Logf("%s: %v", kind, err)
			continue
		}
		before, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = fsys.Lock(fsys.OS(), name)
		if !errors.Is(err, fsys.ErrNotRegular) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", kind, err)
		}
		after, err := os.Lstat(name)
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: replaced, %v", kind, err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.GOOS != "windows" {
		// A second name of someone's file: that name goes, as a lock file's does, and the file stays as it is.
		if err := os.Link(victim, name); err != nil {
			t.Fatal(err)
		}
		unlock, _, err := fsys.Lock(fsys.OS(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
		t.Errorf("the victim holds %q, %v", got, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made through the link: %v", err)
	}
}

func TestLockFolderMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, _, err := fsys.Lock(fsys.OS(), filepath.Join(dir, "lock")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
}

// TestLockFaults checks that no failure in Lock or unlock leaves a lock behind, in the process or on the file.
func TestLockFaults(t *testing.T) {
	faults := 0
	for _, cause := range []error{syscall.EIO, syscall.EACCES, syscall.EROFS, syscall.ENOSPC} {
		for _, shape := range []faultfs.Plan{{}, {Done: true}, {Forever: true}} {
			for i := 0; ; i++ {
				below := memfs.New(memfs.Config{})
				plan := shape
				plan.At, plan.Err = i, cause
				f := faultfs.New(below, plan)
				unlock, _, err := fsys.Lock(f, "/lock")
				unlocked := false
				if err == nil {
					err, unlocked = unlock(), true
				}
				if !f.Fired() {
					if err != nil {
						t.Fatalf("without a fault: %v", err)
					}
					break
				}
				faults++
				if !errors.Is(err, cause) {
					t.Errorf("%v: error %v", f, err)
				}
				if unlocked && plan.Forever == false && plan.Done == false && f.Ops()[i].Kind == faultfs.Close {
					if names := below.Names(); len(names) != 0 {
						t.Errorf("%v: left %v", f, names)
					}
				}
				for range 2 {
					unlock, _, err := fsys.Lock(below, "/lock")
					if err != nil {
						t.Fatalf("%v: then %v", f, err)
					}
					if err := unlock(); err != nil {
						t.Fatalf("%v: then %v", f, err)
					}
				}
				// The registry of the FS that failed.
				healed := faultfs.New(below)
				if unlock, _, err := fsys.Lock(healed, "/lock"); err != nil {
					t.Errorf("%v: then %v", f, err)
				} else if err := unlock(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	t.Logf("%d faults", faults)
}

// TestHolder checks that the holder of a lock can be identified, on every kind of file system, and that the query disturbs
// nothing.
func TestHolder(t *testing.T) {
	for name, f := range map[string]fsys.FS{"OS": fsys.OS(), "memory": memfs.New(memfs.Config{}), "without locks": memfs.New(memfs.Config{NoLocks: true})} {
		path := "/lock"
		if name == "OS" {
			path = filepath.Join(t.TempDir(), "lock")
		}
		ask := func(when, want string, held bool) {
			t.Helper()
			if note, is, err := fsys.Holder(f, path); note != want || is != held || err != nil {
				t.Errorf("%s, %s: %q, held: %t, %v", name, when, note, is, err)
			}
		}
		ask("no file", "", false)
		mustWrite(t, f, path, "a dead process, which said rather a lot about itself")
		ask("left behind", "", false)
		unlock, _, err := fsys.LockNamed(f, path, 0o644, "pid 1 on host")
		if err != nil {
			t.Fatal(err)
		}
		ask("held", "pid 1 on host", true)
		if _, _, err := fsys.LockNamed(f, path, 0o644, "pid 2"); !errors.Is(err, fsys.ErrLocked) {
			t.Errorf("%s: a second one: %v", name, err)
		}
		ask("still held", "pid 1 on host", true)
		if err := unlock(); err != nil {
			t.Error(err)
		}
		ask("free", "", false)
		unlock, _, err = fsys.LockNamed(f, path, 0o644, "")
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := f.Lstat(path); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm()&0o600 != 0o600 {
			t.Errorf("%s: mode %v, %v", name, fi.Mode(), err)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}
	// A disk too full for the note is none for the lock.
	full := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{Kind: faultfs.Write, Err: syscall.ENOSPC})
	unlock, _, err := fsys.LockNamed(full, "/lock", 0o644, "pid 1")
	if err != nil || !full.Fired() {
		t.Fatalf("%v, %v", err, full)
	}
	if note, held, err := fsys.Holder(full, "/lock"); note != "" || !held || err != nil {
		t.Errorf("%q, %t, %v", note, held, err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
