package ossdl

import (
	"math"
	"sync"
	"time"
)

// Progress describes how far a download is. [WithProgress] reports it.
type Progress struct {
	// Done counts the bytes that were received, or verified to be there. It never goes back, and reaches Total only
	// once the result is verified and in place. Total is the size of the object, or of the range asked for, in bytes; it is 0
	// until the first answer, and until the end if a web server does not say it. Resumed counts the bytes kept from an earlier call.
	Done, Total, Resumed int64
	BytesPerSecond       float64       // received over the last few seconds; 0 until it was measured
	Remaining            time.Duration // at that speed; -1 if it is not known
	InFlight, Retries    int           // requests that are in flight now, and retries so far
	Requests             int           // requests made so far, including retries
	Restoring            int           // archived objects that thaw; see [WithRestore]
	// Objects are some of those that [Downloader.DownloadPrefix] is downloading: at most eight, those that were begun first.
	// It is nil for other calls.
	Objects []ObjectProgress
}

// ObjectProgress describes how far one object of a prefix is.
type ObjectProgress struct {
	Key         string
	Done, Total int64 // bytes, as in Progress; until the first answer Total is the size that was listed
}

const (
	reportTime = 100 * time.Millisecond // least time between two reports
	speedTime  = 3 * time.Second        // over which the reported speed is smoothed
)

// reporter calls a progress function for one call of the library, never concurrently. A nil reporter does nothing.
type reporter struct {
	fn       func(Progress)
	snapshot func() Progress // without the speed
	received func() int64    // bytes

	last  Progress
	at    time.Time // of the last snapshot
	bytes int64     // received by then
	stop  chan struct{}
	ended sync.WaitGroup
}

// startReporter starts reporting to fn, until end is called. With a nil fn it returns nil. snapshot returns the state without
// the speed, received how many body bytes were read so far.
func startReporter(fn func(Progress), snapshot func() Progress, received func() int64) *reporter {
	if fn == nil {
		return nil
	}
	r := &reporter{fn: fn, snapshot: snapshot, received: received, stop: make(chan struct{}), at: time.Now()}
	r.last.Remaining = -1
	r.ended.Go(r.run)
	return r
}

// end stops reporting, with a last report of the outcome.
func (r *reporter) end(err error) {
	if r == nil {
		return
	}
	close(r.stop)
	r.ended.Wait()
	if err == nil {
		r.succeeded()
	} else {
		r.failed()
	}
}

// succeeded reports that the result is in place.
func (r *reporter) succeeded() {
	p := r.next(time.Now())
	p.Remaining, p.InFlight = 0, 0
	r.fn(p)
}

// failed reports how far a call came that did not succeed. It never reports all bytes as done.
func (r *reporter) failed() {
	p := r.next(time.Now())
	if p.Done == p.Total {
		p.Done = r.last.Done // all bytes came, but the result is not in place
	}
	p.InFlight = 0
	r.fn(p)
}

// run reports until it is stopped.
func (r *reporter) run() {
	tick := time.NewTicker(reportTime)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			// The tick may have waited for a slow fn, so its own time is wrong, and the next must not follow immediately.
			if p := r.next(time.Now()); p.Done < p.Total || p.Total == 0 && p.Done > 0 || p.Restoring != r.last.Restoring {
				r.last = p
				r.fn(p)
				tick.Reset(reportTime)
			}
		}
	}
}

// next returns the state at the time now, with the speed since it was last called.
func (r *reporter) next(now time.Time) Progress {
	p := r.snapshot()
	p.Done = max(p.Done, r.last.Done) // bytes that are downloaded again were reported already
	p.BytesPerSecond, p.Remaining = r.last.BytesPerSecond, -1
	if elapsed := now.Sub(r.at).Seconds(); elapsed > 0 {
		n := r.received()
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
