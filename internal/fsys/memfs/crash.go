package memfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Kill is the file system as the next process finds it after this one was killed: every write is there, open files and
// locks are not, and what was not synced is no more certain than before. The receiver goes on by itself.
func (f *FS) Kill() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	copies := make(copier)
	g := &FS{config: f.config, root: copies.inode(f.root), user: f.user, mounts: f.mounts}
	for _, d := range f.journal {
		var c dirChange
		for _, e := range d {
			c = append(c, edit{copies.inode(e.dir), e.name, copies.inode(e.node)})
		}
		g.journal = append(g.journal, c)
	}
	g.count()
	return g
}

// Crash is the file system as it is found after a power loss at this moment: one state of those that the package
// comment allows, drawn with rng. Open files and locks are gone, and all that is left is certain. The receiver goes on by
// itself, so that one moment can be crashed again with another rng.
func (f *FS) Crash(rng *rand.Rand) *FS {
	g := f.Kill()
	fate := fate{rng: rng, sector: 512, writes: chance(rng), names: chance(rng)}
	if rng.IntN(2) == 0 {
		fate.sector = 4096
	}
	fate.folders(g.journal)
	g.journal = nil
	fate.tree(g.root, make(map[*inode]bool))
	g.count()
	return g
}

// chance is often none or all: the extremes are where many bugs are, and mixtures of many things seldom meet them.
func chance(rng *rand.Rand) float64 {
	switch rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return 1
	}
	return rng.Float64()
}

// copier maps the inodes of one FS to their copies in another.
type copier map[*inode]*inode

func (c copier) inode(n *inode) *inode {
	if n == nil {
		return nil
	}
	if m, ok := c[n]; ok {
		return m
	}
	m := &inode{
		mode: n.mode, mtime: n.mtime, target: n.target, uid: n.uid, mount: n.mount, mounted: n.mounted,
		now: n.now.share(), disk: n.disk.share(), pending: slices.Clone(n.pending), reserved: n.reserved,
	}
	c[n] = m
	if n.entries != nil {
		m.entries, m.certain = c.entries(n.entries), c.entries(n.certain)
	}
	return m
}

func (c copier) entries(from map[string]*inode) map[string]*inode {
	to := make(map[string]*inode, len(from))
	for name, n := range from {
		to[name] = c.inode(n)
	}
	return to
}

// count sets the numbers that follow from the tree: links, and blocks in use.
func (f *FS) count() {
	f.used = 0
	seen := make(map[*inode]bool)
	var walk func(dir *inode)
	walk = func(dir *inode) {
		for _, n := range dir.entries {
			if !seen[n] {
				seen[n] = true
				n.links = 0
				f.used += n.blocks()
			}
			n.links++
			walk(n)
		}
	}
	walk(f.root)
}

// fate decides what a power loss leaves.
type fate struct {
	rng    *rand.Rand
	sector int64   // bytes that are written as one
	writes float64 // chance of a write
	names  float64 // chance of a change of a folder
}

// folders applies what survives of the journal: within a folder up to a point.
func (f fate) folders(journal []dirChange) {
	cut := make(map[*inode]bool)
	for _, d := range journal {
		if d.touches(cut) || f.rng.Float64() >= f.names {
			d.mark(cut)
			continue
		}
		d.apply()
	}
}

// tree makes the disk's state the one to be seen, from dir down.
func (f fate) tree(dir *inode, done map[*inode]bool) {
	dir.entries = maps.Clone(dir.certain)
	// Sorted, so that the same rng gives the same state.
	for _, name := range slices.Sorted(maps.Keys(dir.entries)) {
		n := dir.entries[name]
		if done[n] {
			continue
		}
		done[n] = true
		if n.entries != nil {
			f.tree(n, done)
			continue
		}
		n.now = f.file(n)
		n.disk, n.pending = n.now.share(), nil
		n.reserved = min(n.reserved, pagesOf(n.now.size))
	}
}

// file is what is left of a file's content.
func (f fate) file(n *inode) content {
	left, size := n.disk.share(), n.disk.size
	sizes := len(n.pending) // so many changes of the size survive
	switch f.rng.IntN(3) {
	case 0:
		sizes = 0
	case 1:
		sizes = f.rng.IntN(sizes + 1)
	}
	for i, c := range n.pending {
		if i < sizes {
			size = c.size
		}
		if c.data != nil {
			f.write(&left, c)
		} else if i < sizes {
			left.resize(c.size)
		}
	}
	left.resize(size)
	return left
}

// write does what is left of a write: all, nothing, or some of the sectors.
func (f fate) write(left *content, c change) {
	if f.rng.Float64() < f.writes {
		left.write(c.data, c.off)
		return
	}
	if f.writes == 0 || f.rng.IntN(2) == 0 {
		return
	}
	end := c.off + int64(len(c.data))
	for off := c.off; off < end; {
		next := min(off-off%f.sector+f.sector, end)
		if f.rng.IntN(2) == 0 {
			left.write(c.data[off-c.off:next-c.off], off)
		}
		off = next
	}
}
