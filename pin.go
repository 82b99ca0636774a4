package ossdl

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
)

// errStale: what an earlier run left is of another object than the one that is there now. The run starts anew.
var errStale = errors.New("what an earlier run left is of another object")

// pin is what all requests of a run have in common: which object they are for, what identifies it, and what this server
// was found not to do. The first accepted answer fixes it.
type pin struct {
	mu  sync.Mutex
	log *slog.Logger

	wantETag string // the caller's, or ""
	version  string // the caller's, or ""
	earlier  *facts // what the checkpoint is of; nil on a fresh start
	empty    bool   // the object is said to have no bytes

	fixed  bool
	facts  facts
	header http.Header // of the answer that fixed it

	versionWorks bool // a request with the pinned version was answered
	noVersion    bool // the pinned version may not be asked for, or not by this source
	noIfMatch    bool // this server refuses If-Match together with Range
	ranges       bool // a 206 was accepted
	noRanges     bool // this server does not know ranges
	ignored      int  // ranges answered with the whole object before any 206
}

// request makes the request for a span of the object as the pin wants it.
func (p *pin) request(sp span) request {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := request{span: sp, versionID: p.version}
	if p.noRanges || p.empty && !p.fixed && p.earlier == nil {
		r.whole, r.off = true, 0
	}
	if p.version == "" && p.fixed && !p.noVersion && p.facts.versionID != "null" {
		r.versionID = p.facts.versionID
	}
	switch {
	case p.noIfMatch:
	case p.fixed:
		if p.facts.strong() {
			r.ifMatch = p.facts.etag
		}
	case p.earlier != nil && p.earlier.strong():
		r.ifMatch = p.earlier.etag
	default:
		r.ifMatch = p.wantETag
	}
	return r
}

// accept holds an answer against the pin, or fixes the pin with the first one. An error is errStale or ErrObjectChanged.
func (p *pin) accept(r request, a *answer) (first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.versionID != "" && a.versionID != "" && a.versionID != r.versionID {
		// A cache before the service that does not know the parameter, say.
		return false, changed(fmt.Sprintf("version %s, asked for %s", a.versionID, r.versionID), a.origin)
	}
	if err := p.compare(a.facts); err != nil {
		return false, err
	}
	first = !p.fixed
	if first {
		p.fixed, p.facts, p.header = true, a.facts, a.header
	}
	if !p.facts.hasCRC && a.hasCRC {
		p.facts.crc, p.facts.hasCRC = a.crc, true
	}
	p.ranges = p.ranges || a.partial
	p.versionWorks = p.versionWorks || r.versionID != ""
	return first, nil
}

// compare says whether facts are of the object that the run is for.
func (p *pin) compare(f facts) error {
	if p.fixed {
		return changed(p.facts.differs(f), f.origin)
	}
	if p.earlier != nil {
		if why := p.earlier.differs(f); why != "" {
			return fmt.Errorf("%w: %s", errStale, why)
		}
	}
	if p.wantETag != "" && !sameETag(p.wantETag, f.etag) {
		return changed(fmt.Sprintf("ETag %s, wanted %s", orNone(f.etag), p.wantETag), f.origin)
	}
	return nil
}

func changed(why string, by origin) error {
	if why == "" {
		return nil
	}
	return &findingError{ErrObjectChanged, why, by}
}

// sameETag compares what a caller gave with what the service sent: OSS writes upper-case hex in quotes, callers may not.
func sameETag(a, b string) bool {
	return strings.EqualFold(strings.Trim(a, `"`), strings.Trim(b, `"`))
}

// remedy is what to do about an answer that was no success, short of trying the same again.
type remedy uint8

const (
	giveUp       remedy = iota // the error is for the retry predicate
	askAgain                   // at once: the pin has changed, and the request with it
	askWhole                   // at once, without Range: the object may be empty
	probeIfMatch               // find out whether the server refuses the condition or the object changed
)

// refused judges the error of a request. What it returns beside a remedy replaces the error.
func (p *pin) refused(r request, err error) (remedy, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var odd *answerError
	if errors.As(err, &odd) && odd.size >= 0 {
		return p.ignoredRange(r, odd)
	}
	var status *statusError
	if !errors.As(err, &status) {
		return giveUp, err
	}
	switch status.service.StatusCode {
	case http.StatusForbidden:
		if r.versionID != "" && r.versionID != p.version && !p.versionWorks && status.means == nil {
			if !p.noVersion {
				p.noVersion = true
				p.log.Warn("version pin dropped: no permission oss:GetObjectVersion", "requestId", status.service.RequestID)
			}
			return askAgain, nil
		}
	case http.StatusPreconditionFailed:
		if r.ifMatch != "" {
			return probeIfMatch, err
		}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		if p.fixed {
			return giveUp, fmt.Errorf("%w: %w", ErrObjectChanged, err)
		}
	case http.StatusRequestedRangeNotSatisfiable:
		switch {
		case p.fixed:
			return giveUp, fmt.Errorf("%w: %w", ErrObjectChanged, err)
		case p.earlier != nil:
			return giveUp, fmt.Errorf("%w: %w", errStale, err)
		case r.off == 0 && !r.whole:
			return askWhole, nil
		}
	}
	return giveUp, err
}

// ignoredRange judges a 200 with the whole object to a range that does not start at 0. OSS sends it, where a request
// may not carry x-oss-range-behavior, for a range that is not wholly inside the object.
func (p *pin) ignoredRange(r request, odd *answerError) (remedy, error) {
	switch {
	case p.fixed && odd.size != p.facts.size:
		return giveUp, changed(fmt.Sprintf("size %d, was %d", odd.size, p.facts.size), odd.origin)
	case p.ranges:
		return giveUp, odd
	case !p.fixed && p.earlier != nil && odd.size != p.earlier.size:
		return giveUp, fmt.Errorf("%w: size %d, was %d", errStale, odd.size, p.earlier.size)
	case r.off >= odd.size:
		return giveUp, &permanentError{fmt.Errorf("%w: offset %d of %d bytes: %w", ErrRange, r.off, odd.size, odd)}
	case r.end > odd.size:
		return giveUp, &clampError{odd.size, odd.origin}
	}
	if p.ignored++; p.ignored < 2 {
		return askAgain, nil
	}
	if !p.noRanges {
		p.noRanges = true
		p.log.Warn("the server does not know ranges: one request at a time, from the start")
	}
	return askAgain, nil
}

// clampError: the range asked for ends behind the object, whose size is now known.
type clampError struct {
	size int64
	origin
}

func (e *clampError) Error() string { return fmt.Sprintf("the object has %d bytes", e.size) }

// probed ends the question that a 412 raised: f are the facts of an answer to a request without the condition.
func (p *pin) probed(f facts, refusal error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.compare(f); err != nil {
		if errors.Is(err, errStale) {
			return err
		}
		return fmt.Errorf("%w: %w", err, refusal)
	}
	if !p.fixed && p.wantETag != "" && p.wantETag != f.etag {
		p.wantETag = f.etag // as the service spells it; whether it compares without regard to case is not documented
		return nil
	}
	if !p.noIfMatch {
		p.noIfMatch = true
		p.log.Warn("the server refuses If-Match together with Range: answers are compared instead")
	}
	return nil
}

// now returns the facts, and whether an answer has fixed them.
func (p *pin) now() (facts, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts, p.fixed
}

// firstHeader returns the headers of the answer that fixed the pin; nil if none has yet. They are not to be changed.
func (p *pin) firstHeader() http.Header {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.header
}

// rangesKnown reports whether it is known if the server serves ranges, and whether it is known not to.
func (p *pin) rangesKnown() (known, none bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ranges || p.noRanges, p.noRanges
}

// withoutRanges records that a second range was answered with the whole object.
func (p *pin) withoutRanges() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noRanges = true
}
