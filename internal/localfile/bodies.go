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
	// leastBody is the capacity of the smallest buffer, in bytes.
	leastBody = 4 << 10
)

// Bodies lends the memory for the bodies of small objects, and bounds it. [NewBodies] makes one. It is safe for concurrent use.
type Bodies struct {
	room  *semaphore.Weighted
	pools [bodyClasses]sync.Pool // of pointers to buffers, by the capacity of these
}

// bodyClasses is how many capacities there are: from leastBody, each twice the one before, to MaxSmall.
const bodyClasses = 9

// NewBodies makes the memory for the bodies of one call.
func NewBodies() *Bodies { return &Bodies{room: semaphore.NewWeighted(bodiesRoom)} }

// body is memory for one body, which is lent.
type body struct {
	bytes []byte
	class int
}

// classOf returns which capacity a body of size bytes, at most MaxSmall, needs.
func classOf(size int64) int { return bits.Len64(uint64(max(size, 1)-1) / leastBody) }

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
