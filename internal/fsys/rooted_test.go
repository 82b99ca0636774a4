package fsys_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
)

// rooted is a root beside a folder that nothing in it may reach.
func rooted(t *testing.T) (f fsys.FS, dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = filepath.Join(top, "root"), filepath.Join(top, "outside")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(outside, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	return fsys.Rooted(root), dir, outside
}

func TestRootedEscapes(t *testing.T) {
	f, dir, outside := rooted(t)
	for name, target := range map[string]string{"out": outside, "rel": "../outside", "link": filepath.Join(outside, "victim")} {
		if err := fstest.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	if err := fsys.WriteFile(f, "file", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for op, err := range map[string]error{
		"open":    second(f.OpenFile("link", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)),
		"lock":    lock(f, "link"),
		"resolve": second(f.Resolve("link")),
	} {
		if err == nil {
			t.Errorf("%s link: no error", op)
		}
	}
	for _, name := range []string{"out/victim", "rel/victim", "out/new", "../outside/victim", filepath.Join(outside, "victim")} {
		for op, err := range map[string]error{
			"write":   fsys.WriteFile(f, name, []byte("taken"), 0o600),
			"open":    second(f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)),
			"lock":    lock(f, name),
			"resolve": second(f.Resolve(name)),
			"rename":  f.Rename("file", filepath.Join(filepath.Dir(name), "new")),
			"syncdir": f.SyncDir(filepath.Dir(name)),
		} {
			if err == nil {
				t.Errorf("%s %s: no error", op, name)
			}
		}
		if f.Remove(name) == nil || f.Mkdir(name, 0o755) == nil || f.Writable(filepath.Dir(name)) == nil {
			t.Errorf("%s: reached", name)
		}
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
	if got, err := os.ReadFile(filepath.Join(outside, "victim")); err != nil || string(got) != "precious" {
		t.Errorf("the victim holds %q, %v", got, err)
	}
}

func second[T any](_ T, err error) error { return err }

func lock(f fsys.FS, name string) error {
	_, _, err := fsys.Lock(f, name)
	return err
}

// TestRootedOpenRace checks an open during which someone swaps the name between a file and a link to another file of the
// root. The other file is neither opened nor truncated.
func TestRootedOpenRace(t *testing.T) {
	f, dir, _ := rooted(t)
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	name, spare := filepath.Join(dir, "name"), filepath.Join(dir, "spare")
	if err := fstest.Symlink("victim", name); err != nil {
		t.Skip(err)
	}
	was, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			var err error
			if i%2 == 0 {
				err = os.WriteFile(spare, nil, 0o600)
			} else {
				err = fstest.Symlink("victim", spare)
			}
			if err = errors.Join(err, os.Rename(spare, name)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	opened, refused := 0, 0
	for range 5000 {
		file, err := f.OpenFile("name", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			if !strings.Contains(err.Error(), "name") {
				t.Error(err)
			}
			refused++
			continue
		}
		opened++
		if fi, err := file.Stat(); err != nil || fsys.SameFile(fi, was) {
			t.Errorf("the victim was opened, %v", err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
		t.Errorf("the victim holds %q, %v", got, err)
	}
	t.Logf("opened %d times, refused %d times", opened, refused)
}
