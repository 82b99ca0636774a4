//go:build linux || darwin

package ossdl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/osstest"
)

// plants are what somebody else may have put at the name of a working file, beside a victim in a folder of its own.
var plants = []struct {
	kind  string
	plant func(name, victims string) error
}{
	{"link", func(name, victims string) error { return os.Symlink(filepath.Join(victims, "file"), name) }},
	{"dangling link", func(name, victims string) error { return os.Symlink(filepath.Join(victims, "none"), name) }},
	{"link to a folder", func(name, victims string) error { return os.Symlink(victims, name) }},
	{"hard link", func(name, victims string) error { return os.Link(filepath.Join(victims, "file"), name) }},
	{"folder", func(name, victims string) error {
		return errors.Join(os.Mkdir(name, 0o755), os.WriteFile(filepath.Join(name, "file"), []byte("theirs"), 0o644))
	}},
	{"pipe", func(name, victims string) error { return syscall.Mkfifo(name, 0o644) }},
}

// TestPlantedAtTheWorkingFiles: whatever stands at the name of a working file, at the start or when an interrupted
// download is continued, nothing is written through it, nothing waits for it, and the path has the old file or the new one.
func TestPlantedAtTheWorkingFiles(t *testing.T) {
	const theirs = "not ours to write"
	for _, suffix := range []string{partSuffix, checkpointSuffix, checkpointSuffix + fsys.TempSuffix, lockSuffix} {
		for _, p := range plants {
			for _, resumes := range []bool{false, true} {
				name := suffix + "/" + p.kind
				if resumes {
					name += ", resumed"
				}
				t.Run(name, func(t *testing.T) {
					s, d, path, content := interrupted(t)
					if !resumes {
						if err := errors.Join(os.Remove(path+partSuffix), os.Remove(path+checkpointSuffix)); err != nil {
							t.Fatal(err)
						}
					}
					writeFile(t, path, "old")
					victims := t.TempDir()
					victim := filepath.Join(victims, "file")
					writeFile(t, victim, theirs)
					then := time.Unix(1e9, 0)
					if err := os.Chtimes(victim, then, then); err != nil {
						t.Fatal(err)
					}
					if err := os.Remove(path + suffix); err != nil && !os.IsNotExist(err) {
						t.Fatal(err)
					}
					if err := p.plant(path+suffix, victims); err != nil {
						t.Fatal(err)
					}

					// Once interrupted, so that a checkpoint is written; and once to the end.
					for _, ends := range []bool{false, true} {
						refused := refusesPlant(suffix, p.kind)
						if !ends && !refused {
							s.Nth(3, osstest.Error(403, "AccessDenied"))
						}
						_, err := d.Download(t.Context(), "bkt", "k", path)
						switch {
						case refused && (err == nil || !strings.Contains(err.Error(), path+suffix)):
							t.Errorf("the error does not name what is in the way: %v", err)
						case !refused && ends && err != nil, !refused && !ends && !errors.As(err, new(*PartError)):
							t.Error(err)
						}
						if ends && !refused {
							if p.kind == "folder" { // which stays
								if err := os.RemoveAll(path + suffix); err != nil {
									t.Fatal(err)
								}
							}
							checkFile(t, path, content)
						} else if got, err := os.ReadFile(path); string(got) != "old" {
							t.Errorf("the old file is %.20q, %v", got, err)
						}
						if fi, err := os.Stat(victim); err != nil || !fi.ModTime().Equal(then) || fi.Mode().Perm() != 0o644 {
							t.Errorf("the victim is %v, %v", fi, err)
						}
						if got, err := os.ReadFile(victim); string(got) != theirs {
							t.Errorf("the victim is %.20q, %v", got, err)
						}
						if entries, err := os.ReadDir(victims); err != nil || len(entries) != 1 {
							t.Errorf("beside the victim: %v, %v", entries, err)
						}
						if p.kind == "folder" && (refused || !ends) {
							if got, err := os.ReadFile(filepath.Join(path+suffix, "file")); string(got) != "theirs" {
								t.Errorf("the folder's file is %.20q, %v", got, err)
							}
						}
					}
				})
			}
		}
	}
}

// refusesPlant says where a download has to stop, as the table of the interface has it: a checkpoint that cannot be one is
// a fresh start, and what is only a name of ours is replaced.
func refusesPlant(suffix, kind string) bool {
	switch suffix {
	case partSuffix, lockSuffix:
		return kind != "hard link"
	case checkpointSuffix:
		return kind == "folder"
	}
	return false
}
