//go:build linux || darwin

package machine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness"
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

// workingFile is one of the files that a download passes through.
type workingFile struct {
	name string
	is   string                                      // the suffix of what it is
	opts func(dir string) []ossdl.Option             // dir is for checkpoints
	at   func(t *testing.T, path, dir string) string // where it is, or is to be, after a run was interrupted
	free func(kind string) bool                      // not to be planted; nil: all are
	// refused: whatever is there, if it is not ours, is an error. In the working folder it has the other folder used.
	refused bool
}

func workingFiles() (files []workingFile) {
	beside := func(string) []ossdl.Option { return nil }
	for _, suffix := range []string{
		harness.PartSuffix, harness.CheckpointSuffix, harness.CheckpointSuffix + fsys.TempSuffix, harness.RecentSuffix, harness.LockSuffix,
	} {
		files = append(files, workingFile{suffix, suffix, beside, func(_ *testing.T, path, _ string) string { return path + suffix }, nil, false})
	}
	file := func(dir string) []ossdl.Option {
		return []ossdl.Option{ossdl.WithCheckpoint(filepath.Join(dir, "mine"))}
	}
	folder := func(dir string) []ossdl.Option { return []ossdl.Option{ossdl.WithCheckpointDir(dir)} }
	for _, temp := range []string{"", fsys.TempSuffix} {
		// The caller names the file, and a link there is followed as one at the path is.
		named := func(kind string) bool { return temp == "" && strings.Contains(kind, "link") && kind != "hard link" }
		files = append(files,
			workingFile{"checkpoint file" + temp, harness.CheckpointSuffix + temp, file, func(_ *testing.T, _, dir string) string {
				return filepath.Join(dir, "mine"+temp)
			}, named, temp == ""},
			workingFile{"checkpoint folder" + temp, harness.CheckpointSuffix + temp, folder, func(t *testing.T, _, dir string) string {
				entries, err := os.ReadDir(dir)
				if err != nil || len(entries) != 1 {
					t.Fatal(entries, err)
				}
				return filepath.Join(dir, entries[0].Name()+temp)
			}, nil, temp == ""})
	}
	return files
}

// TestPlantedAtTheWorkingFiles checks that whatever stands at the name of a working file, at the start or when an
// interrupted download is continued, nothing is written through it, nothing waits for it, and the path has the old file or
// the new one.
func TestPlantedAtTheWorkingFiles(t *testing.T) {
	for _, w := range workingFiles() {
		for _, p := range plants {
			if w.free != nil && w.free(p.kind) {
				continue
			}
			for _, resumes := range []bool{false, true} {
				name := w.name + "/" + p.kind
				if resumes {
					name += ", resumed"
				}
				t.Run(name, func(t *testing.T) {
					cps := t.TempDir()
					opts := w.opts(cps)
					s, d, path, content := harness.Interrupted(t, opts...)
					file := w.at(t, path, cps)
					cp := file
					if w.is == harness.PartSuffix || w.is == harness.RecentSuffix || w.is == harness.LockSuffix {
						cp = path + harness.CheckpointSuffix
					}
					if !resumes {
						if err := errors.Join(os.Remove(path+harness.PartSuffix), os.Remove(strings.TrimSuffix(cp, fsys.TempSuffix))); err != nil {
							t.Fatal(err)
						}
					}
					harness.WriteFile(t, path, "old")
					v := newVictim(t)
					if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
						t.Fatal(err)
					}
					if err := p.plant(file, v.dir); err != nil {
						t.Fatal(err)
					}

					// Once interrupted, so that a checkpoint is written; and once to the end.
					for _, ends := range []bool{false, true} {
						refused := w.refused
						if !ends && !refused {
							s.Nth(3, osstest.Error(403, "AccessDenied"))
						}
						_, err := d.Download(t.Context(), "bkt", "k", path, opts...)
						switch {
						case refused && (err == nil || !strings.Contains(err.Error(), file)):
							t.Errorf("the error does not name what is in the way: %v", err)
						case !refused && ends && err != nil, !refused && !ends && !errors.As(err, new(*ossdl.PartError)):
							t.Error(err)
						}
						if p.kind == "folder" {
							if got, err := os.ReadFile(filepath.Join(file, "file")); string(got) != "theirs" {
								t.Errorf("the folder's file is %.20q, %v", got, err)
							}
						}
						if ends && !refused {
							if p.kind != "hard link" && filepath.Dir(file) == path+harness.FolderSuffix && !harness.Exists(file) {
								t.Error("what is not ours was removed")
							}
							if strings.HasPrefix(file, path) && harness.Exists(file) { // the folder stays with it
								if err := os.RemoveAll(path + harness.FolderSuffix); err != nil {
									t.Fatal(err)
								}
							} else if p.kind == "folder" {
								if err := os.RemoveAll(file); err != nil {
									t.Fatal(err)
								}
							}
							harness.CheckFile(t, path, content)
							if entries, err := os.ReadDir(cps); err != nil || len(entries) > 0 {
								t.Errorf("left behind: %v, %v", entries, err)
							}
						} else if got, err := os.ReadFile(path); string(got) != "old" {
							t.Errorf("the old file is %.20q, %v", got, err)
						}
						v.unharmed(t)
					}
				})
			}
		}
	}
}

// victim is a file that links may lead to, alone in its folder.
type victim struct {
	dir, file string
	then      time.Time
}

const victimContent = "not ours to write"

func newVictim(t *testing.T) *victim {
	t.Helper()
	dir := t.TempDir()
	v := &victim{dir, filepath.Join(dir, "file"), time.Unix(1e9, 0)}
	harness.WriteFile(t, v.file, victimContent)
	if err := os.Chtimes(v.file, v.then, v.then); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	if fi, err := os.Stat(v.file); err != nil || !fi.ModTime().Equal(v.then) || fi.Mode().Perm() != 0o644 {
		t.Errorf("the victim is %v, %v", fi, err)
	}
	if got, err := os.ReadFile(v.file); string(got) != victimContent {
		t.Errorf("the victim is %.20q, %v", got, err)
	}
	if entries, err := os.ReadDir(v.dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the victim: %v, %v", entries, err)
	}
}

// TestPlantedInTheFolderOfAPrefix is the same for the working files of DownloadPrefix, which lie in a folder of their own.
func TestPlantedInTheFolderOfAPrefix(t *testing.T) {
	for _, suffix := range []string{
		harness.TreePart, harness.TreeCheckpoint, harness.TreeCheckpoint + fsys.TempSuffix, harness.TreeRecent, harness.TreeLock, harness.TreeSmall,
	} {
		for _, p := range plants {
			t.Run(suffix+"/"+p.kind, func(t *testing.T) {
				s := harness.NewServer(t)
				content := osstest.Random(1, 8*harness.PartSize)
				s.Put("bkt", "p/k", content)
				d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
				dir := t.TempDir()
				s.Nth(4, osstest.Error(403, "AccessDenied"))
				if res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir); err == nil || res.Failed != 1 {
					t.Fatalf("not interrupted: %+v, %v", res, err)
				}
				parts, err := filepath.Glob(filepath.Join(dir, harness.WorkDir, "*"+harness.TreePart))
				if err != nil || len(parts) != 1 {
					t.Fatal(parts, err)
				}
				file := strings.TrimSuffix(parts[0], harness.TreePart) + suffix
				if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				v := newVictim(t)
				if err := p.plant(file, v.dir); err != nil {
					t.Fatal(err)
				}
				harness.WriteFile(t, filepath.Join(dir, "k"), "old")

				for _, ends := range []bool{false, true} {
					refused := refusesPlant(suffix, p.kind)
					if !ends && !refused {
						s.Nth(2, osstest.Error(403, "AccessDenied"))
					}
					res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir)
					switch {
					case refused && (err == nil || !strings.Contains(res.Failures[0].Err.Error(), filepath.Base(file))):
						t.Errorf("the error does not name what is in the way: %v", err)
					case !refused && ends && err != nil, !refused && !ends && !errors.As(err, new(*ossdl.PartError)):
						t.Error(err)
					}
					got, err := os.ReadFile(filepath.Join(dir, "k"))
					if done := err == nil && string(got) == string(harness.Bytes(t, content)); done != (ends && !refused) || !done && string(got) != "old" {
						t.Errorf("at the path are %d bytes, %v", len(got), err)
					}
					v.unharmed(t)
				}
			})
		}
	}
}

// TestPlantedForASmallObject is the same for an object that is small. What is at the name of its lock file is looked at and not
// touched.
func TestPlantedForASmallObject(t *testing.T) {
	for _, suffix := range []string{harness.TreePart, harness.TreeCheckpoint, harness.TreeLock, harness.TreeSmall} {
		for _, p := range plants {
			t.Run(suffix+"/"+p.kind, func(t *testing.T) {
				s := harness.NewServer(t)
				all := harness.Put(s, map[string]int64{"k": 1000})
				dir := t.TempDir()
				if err := os.Mkdir(filepath.Join(dir, harness.WorkDir), 0o777); err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(dir, harness.WorkBase("k")) + suffix
				v := newVictim(t)
				if err := p.plant(file, v.dir); err != nil {
					t.Fatal(err)
				}
				harness.WriteFile(t, filepath.Join(dir, "k"), "old")
				want := all["k"]
				if suffix != harness.TreeLock && refusesPlant(suffix, p.kind) {
					want = osstest.Bytes([]byte("old"))
				}
				res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
				if refused := want != all["k"]; refused != (err != nil) || refused && !strings.Contains(res.Failures[0].Err.Error(), filepath.Base(file)) {
					t.Errorf("%+v, %v", res, err)
				}
				harness.CheckFile(t, filepath.Join(dir, "k"), want)
				v.unharmed(t)
			})
		}
	}
}

// refusesPlant says where a download of a prefix has to stop: at what is not ours, but for what is only a name of ours.
func refusesPlant(suffix, kind string) bool {
	switch suffix {
	case harness.TreePart, harness.TreeSmall:
		return kind != "hard link"
	case harness.TreeCheckpoint, harness.TreeLock:
		return true
	}
	return false
}
