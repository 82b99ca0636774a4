package localfile

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// TestTrial checks that a file system which cannot do what a download needs is found with an empty file, that the error says
// what works, and that nothing is left.
func TestTrial(t *testing.T) {
	const size = 2 << 20
	for name, plan := range map[string]faultfs.Plan{
		"write a file out of order":          {Kind: faultfs.Write, Name: trialName, Err: syscall.EINVAL, Forever: true},
		"write a file out of order, at last": {Kind: faultfs.Write, Name: trialName, At: 1, Err: syscall.ESPIPE, Forever: true},
		"set the length of a file":           {Kind: faultfs.Truncate, Err: syscall.ENOTSUP, Forever: true},
		"rename a file":                      {Kind: faultfs.Rename, Err: syscall.ENOSYS, Forever: true},
		"open a file to read and write it":   {Kind: faultfs.Open, Name: trialName, Err: syscall.EINVAL, Forever: true},
	} {
		t.Run(name, func(t *testing.T) {
			below := memfs.New(memfs.Config{})
			disk := faultfs.New(below, plan)
			d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file", KeepPartial: true})
			unlock, err := d.Lock()
			if err != nil {
				t.Fatal(err)
			}
			err = d.Begin(size, size)
			d.Abandon(Nothing)
			unlock()
			what, _, _ := strings.Cut(name, ",")
			if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, plan.Err) || !strings.Contains(err.Error(), "cannot "+what) ||
				!strings.Contains(err.Error(), "another folder") || !strings.Contains(err.Error(), "ossget: -") {
				t.Errorf("%v", err)
			}
			if left := below.Names(); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestTrialOfASmallFile checks that a file system is not tried for a little, and that its errors say what works all the same.
func TestTrialOfASmallFile(t *testing.T) {
	disk := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{Kind: faultfs.Rename, Err: syscall.ENOSYS})
	d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"})
	if err := disk.Mkdir(d.work.folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := beginAndCommit(d); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "another folder") {
		t.Errorf("%v", err)
	}
	d.Abandon(Nothing)
}

// TestEveryOperationOfATrialFails fails each operation of a trial. The error names the cause, nothing is left, and the next
// call succeeds.
func TestEveryOperationOfATrialFails(t *testing.T) {
	const size = trialFrom
	for _, shape := range []faultfs.Plan{{}, {Done: true}, {Stop: true}} {
		for at, tried := 0, 0; ; at++ {
			below := memfs.New(memfs.Config{})
			plan := shape
			plan.At, plan.Err = at, syscall.EIO
			disk := faultfs.New(below, plan)
			d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"})
			if err := below.Mkdir(d.work.folder, 0o777); err != nil {
				t.Fatal(err)
			}
			err := d.tryOut(size)
			if !disk.Fired() {
				if err != nil || tried < 5 {
					t.Errorf("%d operations, and then %v", tried, err)
				}
				break
			}
			tried++
			if !plan.Stop && !errors.Is(err, syscall.EIO) || plan.Stop && !errors.Is(err, faultfs.ErrStopped) {
				t.Errorf("%v: %v", disk, err)
			}
			left := len(below.Names()) - 1 // the folder
			if !plan.Stop && left > 0 && !(plan.Done && disk.Ops()[at].Kind == faultfs.Open) && disk.Ops()[at].Kind != faultfs.Remove {
				t.Errorf("%v: left %v", disk, below.Names())
			}
			// The folder is there with what a kill has left in it.
			d = newDestination(Config{FS: below, Log: slog.New(slog.DiscardHandler), Path: "/file"})
			unlock, err := d.Lock()
			if err == nil {
				err = d.Begin(size, size)
			}
			if err == nil {
				_, err = d.Commit(size, time.Time{})
			}
			if err != nil {
				t.Fatalf("%v: then %v", disk, err)
			}
			unlock()
			if got := strings.Join(below.Names(), " "); got != "/file" {
				t.Errorf("%v: then there are %s", disk, got)
			}
		}
	}
}

// TestTrialOfManyFiles checks that a file system on which many files are to be written is tried once, that what it cannot do is
// said of the folder that has it and keeps each further file of the kind from being begun, and that nothing is left.
func TestTrialOfManyFiles(t *testing.T) {
	const size = trialFrom
	for name, c := range map[string]struct {
		plan  faultfs.Plan
		small bool // small files fail as well
	}{
		"write a file out of order":        {faultfs.Plan{Kind: faultfs.Write, Name: trialSuffix, Err: syscall.EINVAL, Forever: true}, false},
		"set the length of a file":         {faultfs.Plan{Kind: faultfs.Truncate, Err: syscall.ENOTSUP, Forever: true}, false},
		"open a file to read and write it": {faultfs.Plan{Kind: faultfs.Open, Name: trialSuffix, Err: syscall.EINVAL}, false},
		"rename a file":                    {faultfs.Plan{Kind: faultfs.Rename, Err: syscall.ENOSYS, Forever: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			below := memfs.New(memfs.Config{})
			disk := faultfs.New(below, c.plan)
			trials := &Trials{Dir: "/where"}
			config := func(path string) Config {
				cfg := inWorkDir(disk, path)
				cfg.Trials = trials
				return cfg
			}
			mustBeExplained := func(err error) {
				t.Helper()
				if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, c.plan.Err) ||
					!strings.Contains(err.Error(), "file system of "+filepath.FromSlash("/where")+" cannot "+name) || !strings.Contains(err.Error(), "ossget: -") {
					t.Errorf("%v", err)
				}
			}
			d, err := Check(config("/first"))
			if err != nil {
				t.Fatal(err)
			}
			unlock, err := d.Lock()
			if err != nil {
				t.Fatal(err)
			}
			mustBeExplained(d.Begin(size, size))
			d.Abandon(Nothing)
			unlock()
			tried := len(disk.Ops())
			_, err = Check(config("/second"))
			mustBeExplained(err)
			if ops := disk.Ops()[tried:]; len(ops) > 0 {
				t.Errorf("the second file: %v", ops)
			}
			for i, path := range []string{"/small", "/another"} {
				s, err := openSmall(t, config(path), 4)
				if i == 1 && c.small {
					mustBeExplained(err)
					continue
				}
				if err == nil {
					err = s.fill("good")
				}
				if err != nil {
					t.Fatal(err)
				}
				if err = s.rename(); !c.small {
					if err != nil {
						t.Error(err)
					}
					s.end()
					continue
				}
				mustBeExplained(err)
				s.Abandon()
			}
			for _, left := range below.Names() {
				if left != "/work/" && (c.small || left != "/small" && left != "/another") {
					t.Errorf("left: %s", left)
				}
			}
		})
	}
}

// TestTrialIsMadeOnce checks that files that are begun after a trial make none, and that a trial which came to no end for another
// reason is made again.
func TestTrialIsMadeOnce(t *testing.T) {
	below := memfs.New(memfs.Config{})
	disk := faultfs.New(below, faultfs.Plan{Kind: faultfs.Open, Name: trialSuffix, Err: syscall.EIO})
	trials := &Trials{}
	begin := func(path string) (trialed int, err error) {
		before := len(disk.Ops())
		cfg := inWorkDir(disk, path)
		cfg.Trials = trials
		d, err := Check(cfg)
		if err != nil {
			return 0, err
		}
		unlock, err := d.Lock()
		if err != nil {
			return 0, err
		}
		defer unlock()
		err = d.Begin(trialFrom, trialFrom)
		for _, op := range disk.Ops()[before:] {
			if op.Kind == faultfs.Rename && strings.HasSuffix(op.Name, trialSuffix) {
				trialed++
			}
		}
		d.Abandon(Nothing)
		return trialed, err
	}
	if _, err := begin("/first"); !errors.Is(err, syscall.EIO) {
		t.Errorf("the first: %v", err)
	}
	for i, path := range []string{"/second", "/third"} {
		if n, err := begin(path); err != nil || n != 1-i {
			t.Errorf("%s: %d trials, %v", path, n, err)
		}
	}
}

// TestNameThatIsRefused checks that a file system which refuses one name is not taken for one that cannot rename.
func TestNameThatIsRefused(t *testing.T) {
	below := memfs.New(memfs.Config{})
	disk := faultfs.New(below, faultfs.Plan{Kind: faultfs.Rename, Name: "/a:b", Err: syscall.EINVAL, Forever: true})
	trials := &Trials{}
	for path, want := range map[string]error{"/a:b": errors.ErrUnsupported, "/b": nil} {
		cfg := inWorkDir(disk, path)
		cfg.Trials = trials
		s, err := openSmall(t, cfg, 4)
		if err == nil {
			err = s.fill("good")
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := s.rename(); !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), "not to this name") {
			t.Errorf("%s: %v", path, err)
		}
		s.Abandon()
	}
	if err := trials.refuses("/work"); err != nil {
		t.Error(err)
	}
}

// TestTrialLeftByAKill kills each operation of a trial. Whatever comes next in the folder removes what is left: the same file,
// large or small, or what tidies up after it.
func TestTrialLeftByAKill(t *testing.T) {
	next := map[string]func(t *testing.T, cfg Config) error{
		"a large file": func(_ *testing.T, cfg Config) error {
			d, err := Check(cfg)
			if err != nil {
				return err
			}
			unlock, err := d.Lock()
			if err != nil {
				return err
			}
			defer unlock()
			if err := d.Begin(trialFrom, trialFrom); err != nil {
				return err
			}
			_, err = d.Commit(trialFrom, time.Time{})
			return err
		},
		"a small file": func(t *testing.T, cfg Config) error {
			s, err := openSmall(t, cfg, 4)
			if err == nil {
				s.Abandon()
			}
			return err
		},
		"what tidies up": func(_ *testing.T, cfg Config) error {
			_, err := RemoveLeftovers(cfg)
			return err
		},
	}
	for name, call := range next {
		for at, tried := 0, 0; ; at++ {
			below := memfs.New(memfs.Config{})
			cfg := inWorkDir(below, "/file")
			if err := below.Mkdir(cfg.Folder, 0o777); err != nil {
				t.Fatal(err)
			}
			disk := faultfs.New(below, faultfs.Plan{At: at, Stop: true})
			killed := cfg
			killed.FS = disk
			err := newDestination(killed).tryAll()
			if !disk.Fired() {
				if err != nil || tried < 5 {
					t.Errorf("%d operations, and then %v", tried, err)
				}
				break
			}
			tried++
			names, err := below.List(cfg.Folder, 10)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Left, cfg.AreLeft, cfg.Trials = map[string]struct{}{}, true, &Trials{}
			for _, n := range names {
				cfg.Left[n] = struct{}{}
			}
			if err := call(t, cfg); err != nil {
				t.Errorf("%s after %v: %v", name, disk, err)
			}
			if left, err := below.List(cfg.Folder, 10); err != nil || len(left) > 0 {
				t.Errorf("%s after %v: left are %v, %v", name, disk, left, err)
			}
		}
	}
}

// TestPathThatCannotBeOpened checks that an old file which cannot be opened for now, or not in this way, is replaced.
func TestPathThatCannotBeOpened(t *testing.T) {
	for _, c := range []struct {
		err    error
		refuse bool
	}{
		{syscall.EWOULDBLOCK, false}, // under a lease
		{syscall.EINVAL, false}, {syscall.ENOTSUP, false}, {syscall.ETXTBSY, false},
		{syscall.EACCES, true}, {syscall.EROFS, true},
	} {
		below := memfs.New(memfs.Config{})
		if err := fsys.WriteFile(below, "/file", []byte("old"), 0o666); err != nil {
			t.Fatal(err)
		}
		disk := faultfs.New(below, faultfs.Plan{Kind: faultfs.Open, Name: "file", Err: c.err, Forever: true})
		if _, err := Check(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"}); (err != nil) != c.refuse || !disk.Fired() {
			t.Errorf("%v: %v, fired %t", c.err, err, disk.Fired())
		}
	}
}
