package fsys_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/ossdl/ossdl/internal/fsys"
)

// selfish opens the file as scanners do: nobody else may rename or remove it meanwhile.
func selfish(t *testing.T, name string) windows.Handle {
	t.Helper()
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateFile(p, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestRenameAndRemoveWaitForScanner checks that a file that a scanner holds open briefly is still renamed, replaced and
// removed.
func TestRenameAndRemoveWaitForScanner(t *testing.T) {
	dir := t.TempDir()
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for f, at := range map[fsys.FS]func(string) string{
		fsys.OS(): func(name string) string { return filepath.Join(dir, name) }, fsys.Rooted(root): func(name string) string { return name },
	} {
		for _, scanned := range []string{"from", "to"} {
			for _, name := range []string{"from", "to"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			h := selfish(t, filepath.Join(dir, scanned))
			time.AfterFunc(300*time.Millisecond, func() { windows.CloseHandle(h) })
			if err := f.Rename(at("from"), at("to")); err != nil {
				t.Errorf("%T, a scanner has %s: %v", f, scanned, err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "to")); string(got) != "from" {
				t.Errorf("%T: holds %q, %v", f, got, err)
			}
		}
		h := selfish(t, filepath.Join(dir, "to"))
		time.AfterFunc(300*time.Millisecond, func() { windows.CloseHandle(h) })
		if err := f.Remove(at("to")); err != nil {
			t.Errorf("%T: remove: %v", f, err)
		}
	}
}

// TestRenameOverFolderIsQuick checks that errors that do not go away by waiting are returned immediately.
func TestRenameOverFolderIsQuick(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := errors.Join(os.WriteFile(from, nil, 0o600), os.Mkdir(to, 0o755)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := fsys.OS().Rename(from, to); err == nil {
		t.Error("replaced a folder")
	}
	if took := time.Since(began); took >= 5*time.Second { // patience
		t.Errorf("took %v", took)
	}
}

// What the system says of a name that it refuses, and what may pass: access to a file is denied by its ACL, and also while a scanner
// has it, and after it was removed, until the last who have it open close it.
var (
	refused = []error{
		windows.ERROR_WRITE_PROTECT, windows.ERROR_INVALID_NAME, windows.ERROR_BAD_PATHNAME, windows.ERROR_NO_UNICODE_TRANSLATION,
		windows.ERROR_FILENAME_EXCED_RANGE, windows.ERROR_DIRECTORY, windows.ERROR_CANT_RESOLVE_FILENAME,
	}
	passing = []error{
		windows.ERROR_ACCESS_DENIED, windows.ERROR_SHARING_VIOLATION, windows.ERROR_LOCK_VIOLATION, windows.ERROR_DELETE_PENDING,
		windows.ERROR_FILE_NOT_FOUND, windows.ERROR_PATH_NOT_FOUND, windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL,
	}
)

// TestRefusedNames checks that names that no file can have, and files that nobody may write to, are refused for good by the system
// itself.
func TestRefusedNames(t *testing.T) {
	dir := t.TempDir()
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := os.WriteFile(filepath.Join(dir, "read-only"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	for f, at := range map[fsys.FS]func(string) string{
		fsys.OS(): func(name string) string { return filepath.Join(dir, name) }, fsys.Rooted(root): func(name string) string { return name },
	} {
		for name, flag := range map[string]int{
			"a?b": os.O_CREATE, "a|b": os.O_CREATE, strings.Repeat("n", 300): os.O_CREATE, "read-only": 0,
		} {
			file, err := f.OpenFile(at(name), os.O_WRONLY|flag, 0o666)
			if err == nil {
				err = file.Close()
			}
			if err == nil && name == "read-only" { // wine, as root
				t.Log("this user may write to files that are read-only")
				continue
			}
			if !errors.Is(fsys.Refusal(err), fsys.ErrUnusable) {
				t.Errorf("%T, %.20s: %v", f, name, err)
			}
		}
	}
}
