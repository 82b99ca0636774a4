package ossdl

import (
	"math"
	"sync"
	"time"
)

// Progress is how far a download has got.
type Progress struct {
	// Done counts the bytes that are written, or were proved to be there already; it never goes back, and reaches Total
	// only once the result is verified and in place. Total is the size of the object, or of the range asked for; 0 until
	// the first answer. Resumed counts the bytes kept from an earlier run.
	Done, Total, Resumed int64
	BytesPerSecond       float64       // over the last seconds
	Remaining            time.Duration // at that speed; -1: not known yet
	InFlight, Retries    int           // requests: now, and tried again so far
	Requests             int           // made so far
	// Objects are those that DownloadPrefix is fetching, at most eight, the oldest first; nil elsewhere.
	Objects []ObjectProgress
}

// ObjectProgress is how far one object of a prefix has got.
type ObjectProgress struct {
	Key         string
	Done, Total int64 // bytes; as in Progress, but until the first answer Total is the size that was listed
}

const (
	reportTime = 100 * time.Millisecond
	speedTime  = 3 * time.Second // over which the reported speed is smoothed
)

// reporter calls a progress function for one call of the library, never concurrently.
type reporter struct {
	fn   func(Progress)
	look func() Progress // without speed

	last  Progress
	at    time.Time
	bytes int64 // received when last looked at
	recv  func() int64
	stop  chan struct{}
	ended sync.WaitGroup
}

// report starts reporting. The function it returns ends it, with a last report; complete says that all went well.
func report(fn func(Progress), look func() Progress, received func() int64) (end func(complete bool)) {
	if fn == nil {
		return func(bool) {}
	}
	r := &reporter{fn: fn, look: look, recv: received, stop: make(chan struct{}), at: time.Now()}
	r.last.Remaining = -1
	r.ended.Go(r.run)
	return func(complete bool) {
		close(r.stop)
		r.ended.Wait()
		p := r.next(time.Now())
		if !complete && p.Done == p.Total {
			p.Done = r.last.Done // all bytes came, but the result is not in place
		}
		if complete {
			p.Remaining = 0
		}
		p.InFlight = 0
		r.fn(p)
	}
}

func (r *reporter) run() {
	tick := time.NewTicker(reportTime)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			// The tick may have waited for a slow fn: its own time is of no use, and the next must not follow at once.
			if p := r.next(time.Now()); p.Done < p.Total {
				r.last = p
				r.fn(p)
				tick.Reset(reportTime)
			}
		}
	}
}

// next is the state at a time, with the speed since the last look.
func (r *reporter) next(now time.Time) Progress {
	p := r.look()
	p.Done = max(p.Done, r.last.Done) // what is fetched again was reported once
	p.BytesPerSecond, p.Remaining = r.last.BytesPerSecond, -1
	if elapsed := now.Sub(r.at).Seconds(); elapsed > 0 {
		n := r.recv()
		speed := float64(n-r.bytes) / elapsed
		weight := 1 - math.Exp(-elapsed/speedTime.Seconds())
		if r.bytes == 0 {
			weight = 1
		}
		p.BytesPerSecond += (speed - p.BytesPerSecond) * weight
		r.at, r.bytes, r.last.BytesPerSecond = now, n, p.BytesPerSecond
	}
	if p.BytesPerSecond > 0 && p.Total > 0 {
		if left := float64(p.Total-p.Done) / p.BytesPerSecond; left < math.MaxInt64/float64(time.Second) {
			p.Remaining = time.Duration(left * float64(time.Second))
		}
	}
	return p
}
