//go:build unix

package machine_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestPrefixSharedFolders checks that files get what a file made in their own folder gets: its group if the folder is setgid,
// and its mode; and that a file that is replaced is not opened to more people, nor an executable made none.
func TestPrefixSharedFolders(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder to a group that it is not in")
	}
	harness.Tried.Add("cases from the field", 1)
	const ci = 4321
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	if err := errors.Join(
		os.Mkdir(at("ci"), 0o755), os.Chown(at("ci"), -1, ci), os.Chmod(at("ci"), 0o775|fs.ModeSetgid), os.Mkdir(at("plain"), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{
		"top": 1, "plain/new": 2, "plain/secret": 3, "plain/program": 4, "ci/new": 5, "ci/deep/new": 5 * harness.PartSize, "ci/secret": 7,
	})
	modes := map[string]fs.FileMode{"plain/secret": 0o600, "plain/program": 0o755, "ci/secret": 0o640}
	for name, mode := range modes {
		harness.WriteFile(t, at(name), "old")
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		harness.CheckTree(t, dir, all)
		for name := range all {
			fi, err := os.Lstat(at(name))
			if err != nil {
				t.Fatal(err)
			}
			mode, group := fs.FileMode(0o644), uint32(os.Getegid())
			if m, ok := modes[name]; ok {
				mode = m
			}
			if name[:2] == "ci" {
				group = ci
			}
			if st := fi.Sys().(*syscall.Stat_t); fi.Mode().Perm() != mode || st.Gid != group {
				t.Errorf("%s has mode %v and group %d, want %v and %d", name, fi.Mode(), st.Gid, mode, group)
			}
		}
	}
	d := harness.NewDownloader(t, s)
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, len(all), 0, 0)
	check()
	for name, content := range all { // another one of each
		all[name] = osstest.Random(1000+uint64(len(name)), content.Size()+1)
		s.Put("bkt", name, all[name])
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, len(all), 0, 0)
	check()
}
