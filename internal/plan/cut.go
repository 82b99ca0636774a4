package plan

import (
	"math"
	"strings"
	"unicode/utf8"
)

// level is what is known of the expanded nodes of one level.
type level struct {
	all   mean
	by    [256]mean // those whose prefix ends in a byte
	chain int       // of one of them
}

// mean is the mean of sizes.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(size float64) { m.sum, m.n = m.sum+size, m.n+1 }

func (l *level) add(n *node) {
	l.chain = n.chain
	l.all.add(n.size)
	if n.prefix != "" {
		l.by[n.prefix[len(n.prefix)-1]].add(n.size)
	}
}

// ratio says how large nodes are whose prefix ends as that of n does, compared with all of the level. In a date, the children of "1"
// are not as many as those of "0" are, each time. Few nodes prove little, so it tends to 1 then.
func (l *level) ratio(n *node) float64 {
	const doubt = 10
	if l.all.n == 0 || n.prefix == "" {
		return 1
	}
	by, all := l.by[n.prefix[len(n.prefix)-1]], l.all.sum/float64(l.all.n)
	return (by.sum + doubt*all) / (float64(by.n+doubt) * all)
}

// measure estimates the sizes of all nodes.
func (p *planner) measure() {
	before := p.levels
	p.levels = make([]level, len(before))
	p.measureNode(&p.top, before)
}

// measureNode estimates the size of an expanded node, and of its children. before is what was known of levels.
func (p *planner) measureNode(n *node, before []level) {
	for len(p.levels) < n.level+2 {
		p.levels = append(p.levels, level{})
	}
	old := &level{}
	if n.level+1 < len(before) {
		old = &before[n.level+1]
	}
	var known []*node
	var at []int // the places of the expanded children
	place := 0
	for i := range n.items {
		c := n.items[i].child
		if c == nil {
			continue
		}
		if c.expanded {
			p.measureNode(c, before)
			if !c.partial {
				known, at = append(known, c), append(at, place)
				p.levels[c.level].add(c)
			}
		}
		place++
	}
	n.size, place = 0, 0
	for i := range n.items {
		c := n.items[i].child
		if c == nil {
			n.size += float64(n.items[i].n)
			continue
		}
		if !c.expanded {
			switch {
			case len(known) > 0:
				c.size = weighted(known, at, place, old) * old.ratio(c)
				c.chain = known[0].chain
			case old.all.n > 0:
				c.size = old.all.sum / float64(old.all.n) * old.ratio(c)
			default:
				c.size = guess
			}
			c.size = max(c.size, float64(c.head.n)+1)
		}
		n.size += c.size
		place++
	}
}

// weighted returns the mean size of nodes, in which near ones count more, without the share of their last bytes in it.
func weighted(nodes []*node, at []int, place int, l *level) float64 {
	var sum, weights float64
	for i, n := range nodes {
		w := 1 / math.Abs(float64(at[i]-place))
		sum, weights = sum+w*n.size/l.ratio(n), weights+w
	}
	return sum / weights
}

// point says how many keys come up to a key, and with it.
type point struct {
	key string
	sum float64
}

// points appends what is known of an expanded node, behind from keys.
func (p *planner) points(n *node, from float64, points []point) []point {
	var model *node // the nearest expanded child before, or the first one
	for i := range n.items {
		if c := n.items[i].child; c != nil && c.expanded {
			model = c
			break
		}
	}
	for i := range n.items {
		it := &n.items[i]
		switch {
		case it.child == nil:
			points = it.run.points(from, points)
			from += float64(it.n)
			continue
		case it.child.expanded:
			model = it.child
			points = p.points(it.child, from, points)
		default:
			points = it.child.head.points(from, points)
			points = p.imagine(it.child, model, from, points)
		}
		from += it.child.size
		if end := p.ceiling(it.child.prefix); end != "" {
			points = append(points, point{end, from})
		}
	}
	return points
}

func (r *run) points(from float64, points []point) []point {
	for i, key := range r.keys {
		points = append(points, point{key, from + float64((i+1)*r.n)/float64(len(r.keys))})
	}
	return points
}

// imagine appends points of a node behind its head, as if it had the keys of a sibling.
func (p *planner) imagine(n, model *node, from float64, points []point) []point {
	if model == nil {
		return points
	}
	scale := n.size / model.size
	passed, last := from+float64(n.head.n), n.head.last
	for _, like := range p.shapeOf(model) {
		sum := from + like.sum*scale
		suffix, ok := strings.CutPrefix(like.key, model.prefix)
		if !ok || sum < passed+p.step {
			continue
		}
		if key := n.prefix + suffix; key > last && len(key) <= p.maxKey && utf8.ValidString(key) {
			points = append(points, point{key, sum})
			passed, last = sum, key
		}
	}
	return points
}

// shapeOf returns points of an expanded node, no nearer to each other than is needed.
func (p *planner) shapeOf(n *node) []point {
	if n.shape == nil {
		n.shape = []point{}
		passed := 0.0
		for _, pt := range p.points(n, 0, nil) {
			if pt.sum >= passed+p.step {
				n.shape, passed = append(n.shape, pt), pt.sum
			}
		}
	}
	return n.shape
}

// cut returns ranges with equal sums.
func (p *planner) cut(n int) (ranges []Range) {
	total := p.top.size
	p.step = total / float64(n) / fineness
	points := p.points(&p.top, 0, nil)
	final := ""
	for i := len(p.top.items) - 1; i >= 0 && final == ""; i-- {
		if it := p.top.items[i]; it.child == nil {
			final = it.last // all is known up to the end
		} else {
			final = p.ceiling(p.top.prefix)
		}
	}
	after, passed := "", 0.0
	for i := 0; i < len(points) && len(ranges)+1 < n; {
		want := passed + (total-passed)/float64(n-len(ranges))
		best, distance := -1, math.Inf(1)
		for ; i < len(points); i++ {
			d := math.Abs(points[i].sum - want)
			if points[i].key > after && points[i].sum > passed && d < distance && len(points[i].key) <= p.maxKey {
				best, distance = i, d
			}
			if points[i].sum > want {
				break
			}
		}
		if best < 0 || final != "" && points[best].key >= final {
			break
		}
		ranges = append(ranges, Range{After: after, Until: points[best].key, Share: (points[best].sum - passed) / total})
		after, passed = points[best].key, points[best].sum
		i = best + 1
	}
	share := 1.0
	if total > 0 {
		share = (total - passed) / total
	}
	return append(ranges, Range{After: after, Share: share})
}
