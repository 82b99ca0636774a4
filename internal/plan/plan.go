// Package plan divides sorted keys into ranges of about equal numbers of keys, by looking at few of them.
//
// It knows keys as sorted strings, and a function that lists some of them after a given one. It does not know buckets, requests
// or files. Its invariant: whatever it was told, and however wrong its estimates are, each range begins where the one before ends,
// the first one has no lower bound, and the last one no upper bound. So each key is in one range.
//
// # Algorithm
//
// Keys are seen as a tree: a node is all keys that begin with the same bytes, and its children have one byte more. A page that
// lies within one child shows that the child is large. The next page begins behind that child, so its other keys are skipped.
// Pages that hold several children are read one after the other, so small children are counted exactly. Expanding a node in
// this way takes about a request for each large child.
//
//  1. Expand the root, a random one of its large children, a random one of that one's, and so on, down to where all is counted.
//  2. A node that is not expanded is as large as its expanded siblings are on average. That is Knuth's estimator for the size
//     of a tree ("Estimating the efficiency of backtrack programs", 1975), in strata.
//  3. Expand the largest such node as in 1, and repeat this until all is counted or the requests are used up.
//  4. Cut at equal sums. Within a node that is not expanded, the keys are spread as in an expanded sibling.
package plan

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

// A Lister returns the first keys after one, sorted, at least one if there is any. more says whether others come after
// them. Its keys may be kept. It is called concurrently.
type Lister func(ctx context.Context, after string) (keys []string, more bool, err error)

// Range is the keys after After, up to and including Until.
type Range struct {
	After string  // "" for the first range
	Until string  // "" for the last range; such a key need not exist
	Share float64 // how much of all keys it has, estimated
}

const (
	// exactPages is how many pages are read in order at first, with all of their keys kept. If that is all, ranges are exact.
	exactPages = 16
	// samples is how many keys of a further page are kept.
	samples = 16
	// fineness is how many points of a range are known at least, if it has that many.
	fineness = 16
	// atOnce is how many nodes are expanded at once, which is also how many requests are made at once.
	atOnce = 16
	// guess is the size of a node if nothing is known of any node like it.
	guess = 4000

	// A plan makes perRange requests for each range, but no fewer than least and no more than most.
	perRange, least, most = 64, 4096, 8192
)

// Requests returns how many requests a plan for n ranges makes at most.
func Requests(n int) int { return min(max(least, perRange*n), most) }

// Ranges finds up to n ranges of the keys that begin with prefix. maxKey is how long a key can be, in bytes. list returns keys with
// the prefix only.
func Ranges(ctx context.Context, list Lister, prefix string, maxKey, n int) ([]Range, error) {
	p := &planner{list: list, maxKey: maxKey}
	p.budget.Store(int64(Requests(n)))
	if err := p.explore(ctx, prefix); err != nil {
		return nil, err
	}
	return p.cut(n), nil
}

type planner struct {
	list   Lister
	maxKey int
	budget atomic.Int64 // requests that may still be made
	levels []level
	step   float64 // keys between two points that are needed
	top    node    // of all keys; its items are what was listed in order, and a node for the rest
}

// run is keys without others between them.
type run struct {
	n           int
	first, last string
	keys        []string // some of them, evenly spaced; the last one is the last key
}

// node is the keys that begin with a prefix, from the first one of its head on. The prefix is bytes, and may end within a rune.
type node struct {
	prefix   string
	level    int
	head     run    // its first keys; there may be more
	items    []item // of an expanded node, in the order of keys
	expanded bool
	partial  bool    // keys that begin with the prefix come before it, too: it says nothing of its siblings
	size     float64 // estimated; see measure
	chain    int     // how many bytes behind the prefix all keys have in common; if it is not expanded, a guess
	shape    []point // of an expanded node: some of its points, once they were needed
}

// item is a run, or a child.
type item struct {
	run
	child *node // nil: a run
}

// explore expands nodes until all keys are counted, or the requests are used up.
func (p *planner) explore(ctx context.Context, prefix string) error {
	p.top = node{prefix: prefix, expanded: true}
	var first run
	for after, more := "", true; more; {
		keys, goesOn, err := p.page(ctx, after)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		if first.n == 0 {
			first = newRun(keys, samples)
		}
		if more = goesOn; more && len(p.top.items) == exactPages {
			p.top.items = []item{{child: &node{prefix: prefix, level: 1, head: first}}}
			break
		}
		r := newRun(keys, len(keys))
		p.top.items = append(p.top.items, item{run: r})
		after = r.last
	}
	for p.budget.Load() > 0 {
		p.measure()
		nodes := p.largest()
		if len(nodes) == 0 {
			return nil
		}
		g, ctx := errgroup.WithContext(ctx)
		for _, n := range nodes {
			g.Go(func() error { return p.dive(ctx, n) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	p.measure()
	return nil
}

// page asks for the keys after one. It returns none if the requests are used up.
func (p *planner) page(ctx context.Context, after string) (keys []string, more bool, err error) {
	if p.budget.Add(-1) < 0 {
		return nil, true, nil
	}
	return p.list(ctx, after)
}

func newRun(keys []string, most int) run {
	r := run{n: len(keys), first: strings.Clone(keys[0])}
	kept := min(most, len(keys))
	for i := range kept {
		r.keys = append(r.keys, strings.Clone(keys[(i+1)*len(keys)/kept-1]))
	}
	r.last = r.keys[kept-1]
	return r
}

// largest returns the largest nodes that are not expanded. Those of the same size are in random order: siblings all have
// the mean of the expanded ones, and whichever is taken next must be a fair sample of them.
func (p *planner) largest() []*node {
	var found []*node
	p.top.each(func(n *node) {
		if !n.expanded {
			found = append(found, n)
		}
	})
	rank := func(n *node) uint64 {
		h := fnv.New64a()
		h.Write([]byte(n.prefix))
		return h.Sum64() * 0x9e3779b97f4a7c15 >> 1
	}
	slices.SortFunc(found, func(a, b *node) int {
		switch {
		case a.size != b.size && a.size > b.size, a.size == b.size && rank(a) < rank(b):
			return -1
		case a.size == b.size && rank(a) == rank(b):
			return 0
		}
		return 1
	})
	return found[:min(len(found), atOnce)]
}

// each calls f for each node below n.
func (n *node) each(f func(*node)) {
	for i := range n.items {
		if c := n.items[i].child; c != nil {
			f(c)
			c.each(f)
		}
	}
}

// dive expands a node, a random child of it, and so on.
func (p *planner) dive(ctx context.Context, n *node) error {
	h := fnv.New64a()
	h.Write([]byte(n.prefix))
	random := rand.New(rand.NewPCG(h.Sum64(), 1))
	for n != nil && p.budget.Load() > 0 {
		if err := p.expand(ctx, n); err != nil {
			return err
		}
		var children []*node
		for i := range n.items {
			if c := n.items[i].child; c != nil && !c.partial {
				children = append(children, c)
			}
		}
		if n = nil; len(children) > 0 {
			n = children[random.IntN(len(children))]
		}
	}
	return nil
}

// expand finds the children of a node.
func (p *planner) expand(ctx context.Context, n *node) error {
	depth, next, err := p.branch(ctx, n)
	if err != nil {
		return err
	}
	page, more := n.head, true
	for {
		after := page.last
		if inside := common(page.first, page.last); more && inside > depth {
			child := page.last[:depth+1]
			partial := len(n.items) > 0 && strings.HasPrefix(n.items[len(n.items)-1].last, child)
			n.items = append(n.items, item{child: &node{prefix: child, level: n.level + 1, head: page, chain: p.chainOf(n.level + 1), partial: partial}})
			after = max(after, p.ceiling(child))
		} else {
			n.items = append(n.items, item{run: page})
		}
		if !more {
			break
		}
		if next == nil {
			if next, err = p.within(ctx, n, after); err != nil {
				return err
			}
		}
		if next.n == 0 {
			if next.unknown {
				p.giveUp(n)
				return nil
			}
			break
		}
		page, more, next = next.run, next.more, nil
	}
	n.expanded = true
	n.chain = depth - len(n.prefix)
	return nil
}

// chainOf guesses the chain of a node from others of its level.
func (p *planner) chainOf(level int) int {
	if level < len(p.levels) {
		return p.levels[level].chain
	}
	return 0
}

// giveUp leaves a node as it was: the requests are used up.
func (p *planner) giveUp(n *node) { n.items = nil }

// answer is what a page has of a node.
type answer struct {
	run
	more    bool // the node may have more keys
	unknown bool // nothing was asked: the requests are used up
}

// within asks for the keys of a node after one.
func (p *planner) within(ctx context.Context, n *node, after string) (*answer, error) {
	keys, more, err := p.page(ctx, after)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return &answer{unknown: more}, nil
	}
	end := slices.IndexFunc(keys, func(key string) bool { return !strings.HasPrefix(key, n.prefix) })
	if end >= 0 {
		keys, more = keys[:end], false
	}
	if len(keys) == 0 {
		return &answer{}, nil
	}
	return &answer{run: newRun(keys, samples), more: more}, nil
}

// branch finds the depth at which the keys of a node part, and the page behind the first child if it had to look there. All
// keys of the node may begin as those of its head do, for some bytes more than the prefix. It looks first where nodes like this
// one part.
func (p *planner) branch(ctx context.Context, n *node) (depth int, next *answer, err error) {
	low, high := len(n.prefix), common(n.head.first, n.head.last) // they part at low at the earliest, and at high at the latest
	at, step := low+n.chain, 1
	for low < high {
		at = min(at, high-1)
		behind := p.ceiling(n.head.last[:at+1])
		if behind <= n.head.last { // it is not known which keys come behind that child
			high, next = at, nil
			at = max(low, at-1)
			continue
		}
		a, err := p.within(ctx, n, behind)
		switch {
		case err != nil:
			return 0, nil, err
		case a.unknown:
			return high, a, nil
		case a.n == 0:
			low = at + 1
			at = low + step
			step *= 2
			if next != nil {
				at = low + (high-low)/2
			}
		case next == nil:
			high, next = at, a
			at = high - 1
		default:
			high, next = at, a
			at = low + (high-low)/2
		}
	}
	return low, next, nil
}

// common returns how many bytes two keys have in common.
func common(a, b string) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// ceiling returns a string in UTF-8 that comes after most keys that begin with some bytes, and before all that do not and come after
// those. It returns "" if that would be longer than a key.
func (p *planner) ceiling(prefix string) string {
	b := []byte(prefix)
	start := len(b)
	for start > 0 && len(b)-start < utf8.UTFMax && !utf8.RuneStart(b[start-1]) {
		start--
	}
	if start > 0 && !utf8.FullRune(b[start-1:]) {
		lead := b[start-1]
		if len(b) == start { // the lead alone: its second byte has bounds of its own
			switch lead {
			case 0xed:
				b = append(b, 0x9f)
			case 0xf4:
				b = append(b, 0x8f)
			default:
				b = append(b, 0xbf)
			}
		}
		for !utf8.FullRune(b[start-1:]) {
			b = append(b, 0xbf)
		}
	}
	if len(b)+utf8.UTFMax > p.maxKey {
		return ""
	}
	for i := 0; i < 3 && len(b)+utf8.UTFMax <= p.maxKey; i++ { // more than one, in case that keys have this rune
		b = utf8.AppendRune(b, utf8.MaxRune)
	}
	return string(b)
}
