package engine

import (
	"sync/atomic"
	"time"
)

const (
	cautiousShare = 4 // a request that stalled without a byte is divided by this
	maxPatience   = 4 // times the stall timeout
)

// caution is what the requests of a call have learned about something on the way that stores bodies before it forwards them,
// such as a virus scanner. It gives nothing for long, and then everything at once.
//
// After a request that stalled without a byte of its body, the next ones ask for less, and have more time. While they are
// answered soon, they grow again. Workers write it after a request, and read it before one: nothing of it is done per byte.
type caution struct {
	base     time.Duration // the stall timeout that was asked for
	most     atomic.Int64  // bytes of one request; 0: no bound
	patience atomic.Int64  // stall timeout of the next request, in nanoseconds
}

func newCaution(stall time.Duration) *caution {
	c := &caution{base: stall}
	c.patience.Store(int64(stall))
	return c
}

// stall returns the stall timeout of the next request.
func (c *caution) stall() time.Duration { return time.Duration(c.patience.Load()) }

// limit returns the bytes that a request may ask for that would ask for n.
func (c *caution) limit(n int64) int64 {
	if most := c.most.Load(); most > 0 {
		return min(n, most)
	}
	return n
}

// stalled records that a request for n bytes, with this stall timeout, stalled without a byte. It returns how many bytes the
// next one asks for. Requests that stall together count once: their size and their timeout are the same.
//
// A request of progressUnit bytes does not become smaller, nor do others because of it: what holds so little holds it for a
// time, and not until all of it is there.
func (c *caution) stalled(n int64, stall time.Duration) int64 {
	more := int64(min(2*stall, maxPatience*c.base))
	for old := c.patience.Load(); more > old && !c.patience.CompareAndSwap(old, more); old = c.patience.Load() {
	}
	if n > progressUnit {
		less := max(progressUnit, n/cautiousShare)
		for old := c.most.Load(); (old == 0 || less < old) && !c.most.CompareAndSwap(old, less); old = c.most.Load() {
		}
	}
	return c.limit(n)
}

// fetched records that n bytes came within d.
func (c *caution) fetched(n int64, d time.Duration) {
	if most := c.most.Load(); most > 0 && n >= most && d < c.base/cautiousShare {
		c.most.CompareAndSwap(most, 2*most)
	}
}
