package ossdl

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
)

// errStale says that what an earlier run left is of another object than the one that is there now. The run starts anew.
var errStale = errors.New("the partial download is of another object")

// support is what is known of a capability of a server.
type support uint8

const (
	untried support = iota
	supported
	unsupported
)

// pin is what all requests of a run have in common: which object they are for, what identifies it, and what its server
// supports. The first accepted answer fixes it.
type pin struct {
	mu   sync.Mutex
	log  *slog.Logger
	want wanted

	fixed  bool
	facts  facts
	header http.Header // of the answer that fixed it

	ranges     support // unsupported stays, whatever answers come in late
	conditions support // If-Match together with Range; it counts as supported until it is refused
	versions   support // requests with the pinned version
	ignored    int     // ranges answered with the whole object before any 206
}

// newPin makes a pin that no answer has fixed. Versions reports whether requests may carry a version ID.
func newPin(want wanted, versions bool, log *slog.Logger) *pin {
	p := &pin{want: want, log: log}
	if want.oneStream {
		p.ranges, p.conditions = unsupported, unsupported
	}
	if !versions {
		p.versions = unsupported
	}
	return p
}

// request is the request for a span of the object.
func (p *pin) request(sp span) request {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := request{span: sp, versionID: p.want.version}
	if p.ranges == unsupported || p.want.empty && !p.fixed && p.want.earlier == nil {
		r.whole, r.off = true, 0
	}
	if p.want.version == "" && p.fixed && p.versions != unsupported && p.facts.versionID != "null" {
		r.versionID = p.facts.versionID
	}
	switch {
	case p.conditions == unsupported:
	case p.fixed:
		if p.facts.strong() {
			r.ifMatch = p.facts.etag
		}
	case p.want.earlier != nil && p.want.earlier.strong():
		r.ifMatch = p.want.earlier.etag
	default:
		r.ifMatch = p.want.etag
	}
	return r
}

// accept compares an answer with the pin, or fixes the pin with the first one. An error is errStale or ErrObjectChanged.
func (p *pin) accept(r request, a *answer) (first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.versionID != "" && a.versionID != "" && a.versionID != r.versionID {
		// A cache in front of the service may not know the parameter.
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
	if a.partial && p.ranges == untried {
		p.ranges = supported
	}
	if r.versionID != "" && p.versions == untried {
		p.versions = supported
	}
	return first, nil
}

// compare returns an error unless facts are of the object that the run is for.
func (p *pin) compare(f facts) error {
	if p.fixed {
		return changed(p.facts.differs(f), f.origin)
	}
	if p.want.earlier != nil {
		if why := p.want.earlier.differs(f); why != "" {
			return fmt.Errorf("%w: %s", errStale, why)
		}
	}
	if p.want.etag != "" && !sameETag(p.want.etag, f.etag) {
		return changed(fmt.Sprintf("ETag %s, wanted %s", orNone(f.etag), p.want.etag), f.origin)
	}
	return nil
}

// changed is the error of an object that differs, or nil if there is no difference.
func changed(why string, by origin) error {
	if why == "" {
		return nil
	}
	return &findingError{ErrObjectChanged, why, by}
}

// remedy is what to do about an answer that was no success, other than to repeat the request.
type remedy uint8

const (
	giveUp       remedy = iota // leave the error to the retry policy
	askAgain                   // immediately: the pin has changed, and the request with it
	askWhole                   // immediately, without Range: the object may be empty
	probeIfMatch               // find out whether the server refuses the condition or the object changed
)

// refused decides what to do about the error of a request. The error that it returns replaces that one.
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
		if r.versionID != "" && r.versionID != p.want.version && p.versions != supported && status.means == nil {
			if p.versions == untried {
				p.versions = unsupported
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
		case p.want.earlier != nil:
			return giveUp, fmt.Errorf("%w: %w", errStale, err)
		case r.off == 0 && !r.whole:
			return askWhole, nil
		}
	}
	return giveUp, err
}

// ignoredRange decides about a 200 with the whole object in answer to a range that does not start at 0. OSS sends it for a
// range that is not wholly inside the object, if the request may not carry x-oss-range-behavior.
func (p *pin) ignoredRange(r request, odd *answerError) (remedy, error) {
	switch {
	case p.fixed && odd.size != p.facts.size:
		return giveUp, changed(fmt.Sprintf("size %d, was %d", odd.size, p.facts.size), odd.origin)
	case p.ranges == supported:
		return giveUp, odd
	case !p.fixed && p.want.earlier != nil && odd.size != p.want.earlier.size:
		return giveUp, fmt.Errorf("%w: size %d, was %d", errStale, odd.size, p.want.earlier.size)
	case r.off >= odd.size:
		return giveUp, &permanentError{fmt.Errorf("%w: offset %d of %d bytes: %w", ErrRange, r.off, odd.size, odd)}
	case r.end > odd.size:
		return giveUp, &clampError{odd.size, odd.origin}
	}
	if p.ignored++; p.ignored < 2 {
		return askAgain, nil
	}
	if p.ranges == untried {
		p.ranges = unsupported
		p.log.Warn("server ignores ranges; using one connection, from the start")
	}
	return askAgain, nil
}

// clampError says that the range asked for goes beyond the end of the object, whose size is now known.
type clampError struct {
	size int64
	origin
}

func (e *clampError) Error() string { return fmt.Sprintf("the object has %d bytes", e.size) }

// probed decides what a 412 meant: f are the facts of an answer to the request without its condition.
func (p *pin) probed(f facts, refusal error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.compare(f); err != nil {
		if errors.Is(err, errStale) {
			return err
		}
		return fmt.Errorf("%w: %w", err, refusal)
	}
	if !p.fixed && p.want.etag != "" && p.want.etag != f.etag {
		p.want.etag = f.etag // as the service spells it: whether it compares case-insensitively is not documented
		return nil
	}
	if p.conditions != unsupported {
		p.conditions = unsupported
		p.log.Warn("server refuses If-Match with Range; comparing answers instead")
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

// rangeSupport reports whether the server serves ranges.
func (p *pin) rangeSupport() support {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ranges
}

// withoutRanges records that a second range was answered with the whole object.
func (p *pin) withoutRanges() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ranges = unsupported
}
