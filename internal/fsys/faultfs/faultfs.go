// Package faultfs makes the operations of a file system fail as planned.
//
// The usual loop fails operation i for i = 0, 1, 2, … until a run meets no failure:
//
//	for i := 0; ; i++ {
//		f := faultfs.New(fsys.OS(), faultfs.Plan{At: i, Err: syscall.EIO})
//		err := run(f)
//		if !f.Fired() {
//			break // the run has fewer than i+1 operations
//		}
//		check(t, f, err) // and on failure print f, which is the recipe
//	}
//
// A run that does several things at once numbers its operations differently each time. Where that matters count one
// kind or one file only (Plan.Kind, Plan.Name), or use OnOp.
package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrStopped is what every operation returns after a Plan with Stop. It stands for a process that is no more: what the
// code under test does about it must not matter, and does not reach the file system.
var ErrStopped = errors.New("faultfs: stopped dead")

// Kind is a method of fsys.FS or fsys.File. Key, User and File.Name are no operations.
type Kind string

const (
	Open     Kind = "open"
	Lstat    Kind = "lstat"
	Mkdir    Kind = "mkdir"
	List     Kind = "list"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	SyncDir  Kind = "syncdir"
	Free     Kind = "free"
	Writable Kind = "writable"
	Chtimes  Kind = "chtimes"
	Resolve  Kind = "resolve"

	Read     Kind = "read"
	Write    Kind = "write"
	Close    Kind = "close"
	Stat     Kind = "stat"
	Truncate Kind = "truncate"
	Reserve  Kind = "reserve"
	Sync     Kind = "sync"
	Lock     Kind = "lock"

	Volume     Kind = "volume"
	MountPoint Kind = "mountpoint"
	Chmod      Kind = "chmod"
	Chown      Kind = "chown"
	WriteBack  Kind = "writeback"
	DropCache  Kind = "dropcache"
)

// Hints is every Kind that only helps: a download can do without the answer.
func Hints() []Kind { return []Kind{Volume, MountPoint, Chmod, Chown, WriteBack, DropCache} }

// Kinds is every other Kind.
func Kinds() []Kind {
	return []Kind{
		Open, Lstat, Mkdir, List, Rename, Remove, SyncDir, Free, Writable, Chtimes, Resolve,
		Read, Write, Close, Stat, Truncate, Reserve, Sync, Lock,
	}
}

// Op is one operation.
type Op struct {
	Index  int // from 0, in the order in which operations began
	Kind   Kind
	Name   string
	To     string // Rename: the new name
	Offset int64  // Read, Write, WriteBack, DropCache
	Size   int64  // Read, Write, WriteBack, DropCache: bytes; Truncate, Reserve: the size asked for
	Flag   int    // Open
}

func (o Op) String() string {
	s := fmt.Sprintf("%d %s %s", o.Index, o.Kind, o.Name)
	switch o.Kind {
	case Rename:
		s += " to " + o.To
	case Read, Write, WriteBack, DropCache:
		s += fmt.Sprintf(" [%d,%d)", o.Offset, o.Offset+o.Size)
	case Truncate, Reserve:
		s += fmt.Sprintf(" %d", o.Size)
	case Open:
		s += fmt.Sprintf(" %#x", o.Flag)
	}
	return s
}

// Plan is one fault. An operation that several plans fit follows the first of them.
type Plan struct {
	At   int    // fails the operation with this number, from 0, among those that Kind and Name let through
	Kind Kind   // count operations of this kind only; empty: all
	Name string // count operations on names that end so; empty: all. A rename has two names

	// Err is the cause; nil: EIO. It stands for what the system says: Reserve, Sync and SyncDir return what those of
	// fsys.OS make of it (fsys.ReserveError, fsys.SyncError, fsys.SyncDirError).
	Err error

	// How it fails; by default once, and nothing has happened.
	Forever bool // and so do all later ones that Kind and Name let through
	Short   bool // a write of two bytes or more writes the first half before it fails
	Done    bool // the operation takes place, well or not, and its answer is lost
	Stop    bool // it does not take place, and neither does any later one: all return ErrStopped
}

// String is the plan as it is written in Go.
func (p Plan) String() string {
	var fields []string
	add := func(format string, v any) { fields = append(fields, fmt.Sprintf(format, v)) }
	add("At: %d", p.At)
	if p.Kind != "" {
		add("Kind: %q", string(p.Kind))
	}
	if p.Name != "" {
		add("Name: %q", p.Name)
	}
	if e, ok := p.Err.(syscall.Errno); ok {
		add("Err: syscall.Errno(%d)", int(e))
	} else if p.Err != nil {
		add("Err: errors.New(%q)", p.Err.Error())
	}
	for _, b := range []struct {
		name string
		set  bool
	}{{"Forever", p.Forever}, {"Short", p.Short}, {"Done", p.Done}, {"Stop", p.Stop}} {
		if b.set {
			fields = append(fields, b.name+": true")
		}
	}
	s := "faultfs.Plan{" + strings.Join(fields, ", ") + "}"
	if p.Err != nil {
		s += " /* " + p.Err.Error() + " */"
	}
	return s
}

// counts reports whether o is among the operations the plan counts.
func (p Plan) counts(o Op) bool {
	return (p.Kind == "" || p.Kind == o.Kind) &&
		(p.Name == "" || strings.HasSuffix(o.Name, p.Name) || o.To != "" && strings.HasSuffix(o.To, p.Name))
}

// remembered bounds the memory for Ops.
const remembered = 1 << 16

// FS does what the file system below does, except for the planned faults.
type FS struct {
	below fsys.FS

	mu      sync.Mutex
	plans   []plan
	ops     []Op
	counts  map[Kind]int
	total   int
	stopped bool
	onOp    func(Op) error
}

type plan struct {
	Plan
	seen  int // operations it counted
	fired *Op // the first that failed by it
}

var _ fsys.FS = (*FS)(nil)

// New is below with faults. Without a plan it only counts.
func New(below fsys.FS, plans ...Plan) *FS {
	f := &FS{below: below, counts: make(map[Kind]int)}
	for _, p := range plans {
		f.plans = append(f.plans, plan{Plan: p})
	}
	return f
}

// OnOp has fn called at the start of every operation that no plan fails. An error from it fails the operation, which
// does not take place. fn may wait, and may use the file system below. It must be set before the FS is used.
func (f *FS) OnOp(fn func(Op) error) { f.onOp = fn }

// Stop stops dead from outside, as Plan.Stop does: for tests that choose the moment themselves.
func (f *FS) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
}

// Fired reports whether every plan has failed an operation. A test whose planned fault never fired tested nothing.
func (f *FS) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.plans {
		if p.fired == nil {
			return false
		}
	}
	return true
}

// Count is how many operations there were; of these kinds only, if any is given. Operations after a stop do not count.
func (f *FS) Count(kinds ...Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(kinds) == 0 {
		return f.total
	}
	n := 0
	for _, k := range kinds {
		n += f.counts[k]
	}
	return n
}

// Ops is the operations in the order in which they began: the first 65536, while Count counts all.
func (f *FS) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Op(nil), f.ops...)
}

// String is the recipe: the plans, and what each of them hit.
func (f *FS) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, p := range f.plans {
		if p.fired != nil {
			fmt.Fprintf(&b, "%v, fired at %v\n", p.Plan, *p.fired)
		} else {
			fmt.Fprintf(&b, "%v, not fired\n", p.Plan)
		}
	}
	fmt.Fprintf(&b, "%d operations", f.total)
	return b.String()
}

// verdict is what becomes of one operation.
type verdict struct {
	err   error // nil: nothing is planned for it
	short bool
	done  bool
}

// skip reports whether the operation must not reach the file system below.
func (v verdict) skip() bool { return v.err != nil && !v.done }

// begin counts the operation and decides.
func (f *FS) begin(o Op) verdict {
	f.mu.Lock()
	if f.stopped {
		f.mu.Unlock()
		return verdict{err: ErrStopped}
	}
	o.Index = f.total
	f.total++
	f.counts[o.Kind]++
	if len(f.ops) < remembered {
		f.ops = append(f.ops, o)
	}
	v := f.decide(o)
	f.mu.Unlock()
	if v.err == nil && f.onOp != nil {
		v.err = f.onOp(o)
	}
	return v
}

// decide has every plan count the operation, also those that come after the one that fits.
func (f *FS) decide(o Op) verdict {
	var v verdict
	for i := range f.plans {
		p := &f.plans[i]
		if !p.counts(o) {
			continue
		}
		n := p.seen
		p.seen++
		if v.err != nil || n < p.At || n > p.At && !p.Forever {
			continue
		}
		if p.fired == nil {
			p.fired = &o
		}
		v = verdict{err: p.Err, short: p.Short, done: p.Done}
		if v.err == nil {
			v.err = syscall.EIO
		}
		if p.Stop {
			v.err, v.done = ErrStopped, false
			f.stopped = true
		}
	}
	return v
}

// do is an operation without a result of its own.
func (f *FS) do(o Op, fn func() error) error {
	v := f.begin(o)
	if v.skip() {
		return failure(o, v.err)
	}
	err := fn()
	if v.err != nil {
		return failure(o, v.err)
	}
	return err
}

// failure is err as the operation returns it.
func failure(o Op, err error) error {
	switch {
	case err == nil:
		return nil
	case o.Kind == Reserve:
		err = fsys.ReserveError(err)
	case o.Kind == Sync:
		err = fsys.SyncError(err)
	case o.Kind == SyncDir:
		err = fsys.SyncDirError(err)
	case o.Kind == Rename:
		return &os.LinkError{Op: string(o.Kind), Old: o.Name, New: o.To, Err: err}
	}
	return &fs.PathError{Op: string(o.Kind), Path: o.Name, Err: err}
}

func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	o := Op{Kind: Open, Name: name, Flag: flag}
	v := f.begin(o)
	if v.skip() {
		return nil, failure(o, v.err)
	}
	below, err := f.below.OpenFile(name, flag, perm)
	if v.err != nil {
		if err == nil {
			below.Close() // the answer is lost, and so is the file
		}
		return nil, failure(o, v.err)
	}
	if err != nil {
		return nil, err
	}
	return &file{fs: f, below: below}, nil
}

func (f *FS) Lstat(name string) (fi fs.FileInfo, err error) {
	err = f.do(Op{Kind: Lstat, Name: name}, func() error {
		fi, err = f.below.Lstat(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return fi, nil
}

func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	return f.do(Op{Kind: Mkdir, Name: name}, func() error { return f.below.Mkdir(name, perm) })
}

func (f *FS) List(dir string, most int) (names []string, err error) {
	err = f.do(Op{Kind: List, Name: dir}, func() error {
		names, err = f.below.List(dir, most)
		return err
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

func (f *FS) Rename(oldname, newname string) error {
	return f.do(Op{Kind: Rename, Name: oldname, To: newname}, func() error { return f.below.Rename(oldname, newname) })
}

func (f *FS) Remove(name string) error {
	return f.do(Op{Kind: Remove, Name: name}, func() error { return f.below.Remove(name) })
}

func (f *FS) SyncDir(name string) error {
	return f.do(Op{Kind: SyncDir, Name: name}, func() error { return f.below.SyncDir(name) })
}

func (f *FS) Free(dir string) (n int64, err error) {
	err = f.do(Op{Kind: Free, Name: dir}, func() error {
		n, err = f.below.Free(dir)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (f *FS) Volume(dir string) (v fsys.Volume, err error) {
	err = f.do(Op{Kind: Volume, Name: dir}, func() error {
		v, err = f.below.Volume(dir)
		return err
	})
	if err != nil {
		return fsys.Volume{}, err
	}
	return v, nil
}

func (f *FS) MountPoint(name string) (is bool, err error) {
	err = f.do(Op{Kind: MountPoint, Name: name}, func() error {
		is, err = f.below.MountPoint(name)
		return err
	})
	return is && err == nil, err
}

func (f *FS) Writable(dir string) error {
	return f.do(Op{Kind: Writable, Name: dir}, func() error { return f.below.Writable(dir) })
}

func (f *FS) Chtimes(name string, mtime time.Time) error {
	return f.do(Op{Kind: Chtimes, Name: name}, func() error { return f.below.Chtimes(name, mtime) })
}

func (f *FS) Resolve(name string) (path string, err error) {
	err = f.do(Op{Kind: Resolve, Name: name}, func() error {
		path, err = f.below.Resolve(name)
		return err
	})
	if err != nil {
		return "", err
	}
	return path, nil
}

func (f *FS) User() (uid uint32, ok bool) { return f.below.User() }

func (f *FS) Key(name string) (any, error) { return f.below.Key(name) }

type file struct {
	fs    *FS
	below fsys.File
	lost  atomic.Pointer[error] // of a DropCache that failed
}

func (o *file) op(k Kind) Op { return Op{Kind: k, Name: o.below.Name()} }

func (o *file) Name() string { return o.below.Name() }

func (o *file) ReadAt(p []byte, off int64) (int, error) {
	op := o.op(Read)
	op.Offset, op.Size = off, int64(len(p))
	v := o.fs.begin(op)
	if v.err != nil { // a read whose answer is lost is no read
		return 0, failure(op, v.err)
	}
	return o.below.ReadAt(p, off)
}

func (o *file) WriteAt(p []byte, off int64) (int, error) {
	op := o.op(Write)
	op.Offset, op.Size = off, int64(len(p))
	v := o.fs.begin(op)
	switch {
	case v.err == nil:
		return o.below.WriteAt(p, off)
	case v.short && len(p) > 1:
		n, err := o.below.WriteAt(p[:len(p)/2], off)
		if err == nil {
			err = failure(op, v.err)
		}
		return n, err
	case v.done:
		o.below.WriteAt(p, off) // the answer of which is lost
	}
	return 0, failure(op, v.err)
}

// Close closes the file below whatever is planned: an error of close(2) leaves no open file either, and neither does the
// end of a process.
func (o *file) Close() error {
	op := o.op(Close)
	v := o.fs.begin(op)
	if err := o.below.Close(); err != nil {
		return err
	}
	return failure(op, v.err)
}

func (o *file) Stat() (fi fs.FileInfo, err error) {
	err = o.fs.do(o.op(Stat), func() error {
		fi, err = o.below.Stat()
		return err
	})
	if err != nil {
		return nil, err
	}
	return fi, nil
}

func (o *file) Truncate(size int64) error {
	op := o.op(Truncate)
	op.Size = size
	return o.fs.do(op, func() error { return o.below.Truncate(size) })
}

func (o *file) Reserve(off, size int64) error {
	op := o.op(Reserve)
	op.Size = size
	return o.fs.do(op, func() error { return o.below.Reserve(off, size) })
}

// Sync that fails on a memfs loses what it was for, as it does on Linux: the kernel marks the pages clean, and the next
// Sync succeeds without them.
func (o *file) Sync() error {
	op := o.op(Sync)
	v := o.fs.begin(op)
	if v.err == nil {
		err := o.below.Sync()
		if lost := o.lost.Swap(nil); lost != nil {
			return *lost
		}
		return err
	}
	err := failure(op, v.err)
	if v.done {
		o.below.Sync() // the answer of which is lost
	} else if !errors.Is(err, errors.ErrUnsupported) {
		o.loseUnsynced(v.err)
	}
	return err
}

// loseUnsynced is what the system does with the pages that it could not write.
func (o *file) loseUnsynced(cause error) {
	if l, ok := o.below.(interface{ LoseUnsynced() }); ok && cause != ErrStopped {
		l.LoseUnsynced()
	}
}

func (o *file) WriteBack(off, size int64) error {
	op := o.op(WriteBack)
	op.Offset, op.Size = off, size
	return o.fs.do(op, func() error { return o.below.WriteBack(off, size) })
}

// DropCache that fails on a memfs loses what was not synced, as a Sync that fails does, and the next Sync fails.
func (o *file) DropCache(off, size int64) error {
	op := o.op(DropCache)
	op.Offset, op.Size = off, size
	v := o.fs.begin(op)
	if v.err == nil {
		return o.below.DropCache(off, size)
	}
	err := failure(op, v.err)
	o.lost.Store(&err)
	o.loseUnsynced(v.err)
	return err
}

func (o *file) Chmod(mode fs.FileMode) error {
	return o.fs.do(o.op(Chmod), func() error { return o.below.Chmod(mode) })
}

func (o *file) Chown(uid, gid int) error {
	return o.fs.do(o.op(Chown), func() error { return o.below.Chown(uid, gid) })
}

func (o *file) TryLock() error {
	return o.fs.do(o.op(Lock), o.below.TryLock)
}
