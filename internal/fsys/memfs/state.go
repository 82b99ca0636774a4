package memfs

import (
	"io/fs"
	"maps"
	"math"
	"slices"
	"syscall"
	"time"
)

const pageSize = 4096

// inode is a file, folder or link, under FS.mu.
type inode struct {
	mode  fs.FileMode
	mtime time.Time
	links int // names
	opens int // open files
	uid   uint32

	mount   uint64 // distinguishes mounts; 0: that of the root
	mounted bool   // it is the mount point of mount

	// A folder.
	entries map[string]*inode // as seen; nil: no folder
	certain map[string]*inode // as on the disk, whatever happens

	// A link.
	target string

	// A file.
	now      content
	disk     content  // what Sync covered
	pending  []change // what came since
	reserved int64    // so many pages from the start are paid for, written or not
	locked   *file
}

func newFolder(perm fs.FileMode) *inode {
	return &inode{
		mode: fs.ModeDir | perm.Perm(), mtime: time.Now(),
		entries: map[string]*inode{}, certain: map[string]*inode{},
	}
}

// change is one write, or with no data a new size.
type change struct {
	data []byte // never written to again
	off  int64
	size int64 // of the file, after it
}

// content is a sparse file. A page that is not there is zeros; no byte beyond size is anything else.
type content struct {
	pages map[int64]*page
	size  int64
}

// page is copied before it is changed if another content may have it too.
type page struct {
	shared bool
	data   [pageSize]byte
}

func (c *content) read(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for n := 0; n < len(p); {
		i, at := (off+int64(n))/pageSize, (off+int64(n))%pageSize
		part := p[n:min(len(p), n+int(pageSize-at))]
		if page := c.pages[i]; page != nil {
			copy(part, page.data[at:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	return len(p)
}

func (c *content) write(p []byte, off int64) {
	c.size = max(c.size, off+int64(len(p)))
	for len(p) > 0 {
		n := copy(c.own(off / pageSize).data[off%pageSize:], p)
		p, off = p[n:], off+int64(n)
	}
}

// own is the page, made or copied so that it may be written.
func (c *content) own(i int64) *page {
	p := c.pages[i]
	if p == nil || p.shared {
		mine := new(page)
		if p != nil {
			mine.data = p.data
		}
		if c.pages == nil {
			c.pages = map[int64]*page{}
		}
		c.pages[i], p = mine, mine
	}
	return p
}

// take has the page in both contents; nil: it was cut off.
func (c *content) take(i int64, p *page) {
	if p == nil {
		delete(c.pages, i)
		return
	}
	p.share()
	if c.pages == nil {
		c.pages = map[int64]*page{}
	}
	c.pages[i] = p
	c.size = max(c.size, (i+1)*pageSize) // until the end is set
}

func (c *content) resize(size int64) {
	if size < c.size {
		maps.DeleteFunc(c.pages, func(i int64, _ *page) bool { return i >= pagesOf(size) })
		if at := size % pageSize; at != 0 && c.pages[size/pageSize] != nil {
			clear(c.own(size / pageSize).data[at:])
		}
	}
	c.size = size
}

// share is a copy that costs no more than the map.
func (c *content) share() content {
	for _, p := range c.pages {
		p.share()
	}
	return content{maps.Clone(c.pages), c.size}
}

// share marks the page once only: another FS may be reading the mark by then.
func (p *page) share() {
	if !p.shared {
		p.shared = true
	}
}

func pagesOf(size int64) int64 {
	n := size / pageSize
	if size%pageSize != 0 {
		n++
	}
	return n
}

// room is how many pages may still be allocated.
func (f *FS) room() int64 {
	if f.config.Capacity == 0 {
		return math.MaxInt64
	}
	return max(f.config.Capacity/pageSize-f.used, 0)
}

// allocate pays for the pages of a write and returns how many of its bytes that covers.
func (f *FS) allocate(n *inode, off, size int64) int64 {
	room := f.room()
	for i := off / pageSize; i < pagesOf(off+size); i++ {
		if i < n.reserved || n.now.pages[i] != nil {
			continue
		}
		if room == 0 {
			return max(i*pageSize-off, 0)
		}
		room--
		f.used++
		n.now.own(i)
	}
	return size
}

// reserve pays for all pages of the first size bytes, or none.
func (f *FS) reserve(n *inode, size int64) bool {
	before := n.blocks()
	was := n.reserved
	n.reserved = max(was, pagesOf(size))
	cost := n.blocks() - before
	if cost > f.room() {
		n.reserved = was
		return false
	}
	f.used += cost
	return true
}

// blocks is what the file has been charged.
func (n *inode) blocks() int64 {
	blocks := n.reserved
	for i := range n.now.pages {
		if i >= n.reserved {
			blocks++
		}
	}
	return blocks
}

func (f *FS) resize(n *inode, size int64) {
	before := n.blocks()
	if size < n.now.size {
		n.reserved = min(n.reserved, pagesOf(size))
	}
	n.now.resize(size)
	f.used += n.blocks() - before
	n.mtime = time.Now()
	n.pending = append(n.pending, change{size: size})
}

// drop frees the space of a file that has neither a name nor an open handle.
func (f *FS) drop(n *inode) {
	if n.links == 0 && n.opens == 0 {
		f.used -= n.blocks()
	}
}

// commit makes what came since the last one certain. Only that is looked at: the cost of many syncs of a growing file is
// that of its growth, and what a failed sync lost stays lost.
func (n *inode) commit() {
	for _, c := range n.pending {
		if c.data == nil {
			n.disk.resize(c.size)
			continue
		}
		for i := c.off / pageSize; i < pagesOf(c.off+int64(len(c.data))); i++ {
			n.disk.take(i, n.now.pages[i])
		}
	}
	n.disk.resize(n.now.size)
	n.pending = nil
}

// made is a new inode, as it comes into the folder.
func (f *FS) made(dir, n *inode) *inode {
	n.uid, n.mount = f.user, dir.mount
	return n
}

// admit returns what keeps a new name out of its folder.
func (f *FS) admit(at place) error {
	switch {
	case len(at.base) > f.config.maxName():
		return syscall.ENAMETOOLONG
	case f.config.MaxFiles > 0 && f.files() >= f.config.MaxFiles:
		return syscall.ENOSPC
	}
	return nil
}

// files is how many files, folders and links there are.
func (f *FS) files() int64 {
	seen := map[*inode]bool{}
	var walk func(dir *inode)
	walk = func(dir *inode) {
		for _, n := range dir.entries {
			seen[n] = true
			walk(n)
		}
	}
	walk(f.root)
	return int64(len(seen))
}

// guarded: the folder is sticky, and neither it nor what is there belongs to the user.
func (f *FS) guarded(at place) bool {
	return at.node != nil && at.dir.mode&fs.ModeSticky != 0 && f.user != 0 && at.node.uid != f.user && at.dir.uid != f.user
}

// edit gives a name in a folder to a node, or with nil to none.
type edit struct {
	dir  *inode
	name string
	node *inode
}

// dirChange is seen whole or not at all.
type dirChange []edit

func (d dirChange) touches(dirs map[*inode]bool) bool {
	return slices.ContainsFunc(d, func(e edit) bool { return dirs[e.dir] })
}

func (d dirChange) mark(dirs map[*inode]bool) {
	for _, e := range d {
		dirs[e.dir] = true
	}
}

// apply does the change on the disk.
func (d dirChange) apply() {
	for _, e := range d {
		if e.node == nil {
			delete(e.dir.certain, e.name)
		} else {
			e.dir.certain[e.name] = e.node
		}
	}
}

// change does the edits as seen and notes them in the journal.
func (f *FS) change(edits ...edit) {
	var gone []*inode
	for _, e := range edits {
		if old := e.dir.entries[e.name]; old != nil {
			old.links--
			gone = append(gone, old)
		}
		if e.node == nil {
			delete(e.dir.entries, e.name)
		} else {
			e.dir.entries[e.name] = e.node
			e.node.links++
		}
		e.dir.mtime = time.Now()
	}
	// After all edits: a rename takes a file's one name away before it gives it another.
	for _, n := range gone {
		f.drop(n)
	}
	f.journal = append(f.journal, edits)
}

// commit makes the changes of a folder certain, and those of other folders that came before one of them.
func (f *FS) commit(dir *inode) {
	certain := make([]bool, len(f.journal))
	dirs := map[*inode]bool{dir: true}
	for i, d := range slices.Backward(f.journal) {
		if d.touches(dirs) {
			d.mark(dirs)
			certain[i] = true
		}
	}
	var left []dirChange
	for i, d := range f.journal {
		if certain[i] {
			d.apply()
		} else {
			left = append(left, d)
		}
	}
	f.journal = left
}
