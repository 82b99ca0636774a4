package localfile

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// MaxSmall is the size of the largest object that is fetched into memory, in bytes.
	MaxSmall = 1 << 20
	// bodiesRoom bounds the bodies of one call that are in memory at once, in bytes.
	bodiesRoom = 24 << 20
	// heldFiles and heldBytes bound the files of one call that were begun and do not have their paths yet: those that are fetched,
	// collected and committed, together. A call that is killed loses no more. Each is open: they stay well below 1024.
	heldFiles = 512
	heldBytes = 128 << 20
	// leastBody is the capacity of the smallest buffer, in bytes.
	leastBody = 4 << 10
)

// Bodies lends the memory for the bodies of small objects, and bounds it. It also bounds how many files wait for their paths.
// [NewBodies] makes one. It is safe for concurrent use.
type Bodies struct {
	held  *semaphore.Weighted // in bytes; a file counts for heldBytes/heldFiles at least
	room  *semaphore.Weighted
	pools [bodyClasses]sync.Pool // of pointers to buffers, by the capacity of these
}

// bodyClasses is how many capacities there are: from leastBody, each twice the one before, to MaxSmall.
const bodyClasses = 9

// NewBodies makes the memory for the bodies of one call.
func NewBodies() *Bodies {
	return &Bodies{held: semaphore.NewWeighted(heldBytes), room: semaphore.NewWeighted(bodiesRoom)}
}

// body is memory for one body, which is lent.
type body struct {
	bytes []byte
	class int
}

// classOf returns which capacity a body of size bytes, at most MaxSmall, needs.
func classOf(size int64) int { return bits.Len64(uint64(max(size, 1)-1) / leastBody) }

// hold waits until one more object of size bytes may wait for its path. release says that it has its path, or has ended otherwise.
// The error is the cause of ctx.
func (b *Bodies) hold(ctx context.Context, size int64) (release func(), err error) {
	n := max(int64(leastBody)<<classOf(size), heldBytes/heldFiles)
	if err := b.held.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { b.held.Release(n) }, nil
}

// get waits until there is room for a body of size bytes. The error is the cause of ctx.
func (b *Bodies) get(ctx context.Context, size int64) (*body, error) {
	class := classOf(size)
	if err := b.room.Acquire(ctx, leastBody<<class); err != nil {
		return nil, context.Cause(ctx)
	}
	if m, ok := b.pools[class].Get().(*body); ok {
		return m, nil
	}
	return &body{bytes: make([]byte, leastBody<<class), class: class}, nil
}

// put takes a body back.
func (b *Bodies) put(m *body) {
	b.pools[m.class].Put(m)
	b.room.Release(leastBody << m.class)
}
