package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"sync"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/span"
)

// ErrStale says that what an earlier run left is of another object than the one that is there now. The caller must start
// over.
var ErrStale = errors.New("the partial download is of another object")

// support is what is known about a capability of a server.
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
	want Want

	fixed  bool
	facts  object.Facts
	header http.Header // of the answer that fixed it

	ranges     support // once unsupported it stays so, even if late answers say otherwise
	conditions support // If-Match together with Range; it counts as supported until it is refused
	versions   support // requests with the pinned version
	respelled  bool    // the caller's ETag is sent as the server spells it
	ignored    int     // ranges answered with the whole object before any 206
	outgrown   bool    // an answer was longer than the object that is wanted, by what was appended
}

// newPin makes a pin that no answer has fixed. versions reports whether requests may carry a version ID.
func newPin(want Want, versions bool, log *slog.Logger) *pin {
	p := &pin{want: want, log: log}
	if want.OneStream {
		p.ranges, p.conditions = unsupported, unsupported
	}
	if !versions {
		p.versions = unsupported
	}
	return p
}

// requestFor returns the request for a span of the object.
func (p *pin) requestFor(sp span.Span) object.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := object.Request{Span: sp, VersionID: p.want.Version}
	if p.ranges == unsupported || p.want.Empty && !p.fixed && p.want.Earlier == nil {
		r.Whole, r.Off = true, 0
	}
	if p.want.Version == "" && p.fixed && p.versions != unsupported && p.facts.VersionID != "null" {
		r.VersionID = p.facts.VersionID
	}
	switch {
	case p.conditions == unsupported:
	case p.fixed:
		if p.facts.Strong() && !p.mayGrow() {
			r.IfMatch = p.facts.ETag
		}
	case p.want.Snapshot && p.want.Earlier != nil && p.want.ETag == "":
	case p.want.Earlier != nil && p.want.Earlier.Strong():
		r.IfMatch = p.want.Earlier.ETag
	default:
		r.IfMatch = p.want.ETag
	}
	return r
}

// accept compares an answer with the pin, or fixes the pin by the first one. Its error wraps ErrStale or ErrObjectChanged.
func (p *pin) accept(r object.Request, a *object.Answer) (first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.VersionID != "" && a.VersionID != "" && a.VersionID != r.VersionID {
		// A cache in front of the service may not know the parameter.
		return false, changed(fmt.Sprintf("version %s, asked for %s", a.VersionID, r.VersionID), a.Origin)
	}
	if err := p.compare(r, a.Facts); err != nil {
		return false, err
	}
	switch {
	case a.Size == object.UnknownSize:
		p.withoutLength(a)
	case p.grown(a.Facts): // what was appended is not wanted
		p.outgrown = true
		a.Facts = p.known().Before(a.Facts)
		a.End = min(a.End, a.Size)
	}
	first = !p.fixed
	if first {
		p.fixed, p.facts, p.header = true, a.Facts, a.Header
		p.keepCRC()
	}
	if p.facts.Nameless() {
		p.ranges, p.conditions = unsupported, unsupported
		return first, nil
	}
	p.learn(a.Facts)
	asWanted := a.Len() < a.Size || r.Off == 0 // a 206 with the whole object for a part of it may be all that the server has
	if a.Partial && asWanted && p.ranges == untried {
		p.ranges = supported
	}
	if r.VersionID != "" && p.versions == untried {
		p.versions = supported
	}
	return first, nil
}

// keepCRC keeps the CRC-64 that an earlier run knew of a growing object, if the first answer has none. What came before and after
// a growth is safe only while the whole is compared with one.
func (p *pin) keepCRC() {
	if k := p.want.Earlier; p.want.Snapshot && k != nil && k.HasCRC && !p.facts.HasCRC && k.Size == p.facts.Size && !p.facts.Symlink {
		p.facts.CRC, p.facts.HasCRC = k.CRC, true
	}
}

// withoutLength fits an answer whose length is not known to the object. The length is that of the object if another answer said
// it; otherwise everything comes in one body.
func (p *pin) withoutLength(a *object.Answer) {
	if known := p.known(); known != nil && known.Size != object.UnknownSize {
		a.Size, a.End = known.Size, known.Size
		return
	}
	if !p.fixed {
		p.ranges = unsupported
		p.log.Info("size unknown until the end; using one connection")
	}
}

// learnSize records the size of an object whose answers do not say it.
func (p *pin) learnSize(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.facts.Size = size
}

// mustStream reports whether an answer to r is of no use because nothing identifies its object, and it does not have
// everything from the first byte that is wanted to the last one. Parts of two objects could be mixed unseen, so everything must
// come in one body.
func (p *pin) mustStream(r object.Request, a *object.Answer, wanted span.Span) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known() != nil || !a.Nameless() || !a.Partial || a.Off <= wanted.Off && a.End >= min(wanted.End, a.Size) {
		return false
	}
	p.ranges, p.conditions = unsupported, unsupported
	p.log.Info("nothing identifies the object; using one connection, without resume", "asked", r.String())
	return true
}

// learn adds what identifies the object and was missing from the answers until now.
func (p *pin) learn(f object.Facts) {
	if !p.facts.HasCRC && f.HasCRC {
		p.facts.CRC, p.facts.HasCRC = f.CRC, true
	}
	if p.facts.ETag == "" {
		p.facts.ETag = f.ETag
	}
	if p.facts.LastModified.IsZero() {
		p.facts.LastModified = f.LastModified
	}
}

// compare returns an error unless f are facts of the object that the run is for. An answer that says too little is a
// [*object.MismatchError]: it neither belongs to the object nor shows that there is another one.
func (p *pin) compare(r object.Request, f object.Facts) error {
	if listed := p.want.Listed; listed != nil && listed.SameButSize(f) {
		return object.Mismatch(r, f.Origin, "%d bytes; the listing has %d, with the same ETag and time", f.Size, listed.Size)
	}
	known := p.known()
	if known != nil && known.Outranks(f) {
		return object.Mismatch(r, f.Origin, "%s with %s: too little to be the object with %s", f.SizeText(), f.Names(), known.Names())
	}
	if p.want.Snapshot && f.Torn() {
		return object.Mismatch(r, f.Origin, "%s with X-Oss-Next-Append-Position %d", f.SizeText(), f.NextAppend)
	}
	if p.grown(f) && (p.fixed || p.want.ETag == "") {
		return nil
	}
	if p.fixed {
		why := p.facts.Differs(f)
		if why != "" && p.facts.GrownTo(f) {
			why += fmt.Sprintf("; it is appendable and has grown from %d to %d bytes", p.facts.Size, f.Size)
		}
		return changed(why, f.Origin)
	}
	if p.want.Check != nil { // before what an earlier run left is given up
		if err := p.want.Check(f); err != nil {
			return err
		}
	}
	if known != nil {
		if why := known.DiffersFromRecord(f); why != "" {
			return fmt.Errorf("%w: %s", ErrStale, why)
		}
	}
	switch {
	case p.want.ETag == "" || object.SameETag(p.want.ETag, f.ETag):
		return nil
	case known != nil && object.SameETag(p.want.ETag, known.ETag): // the same object under another ETag
		return nil
	case f.ETag == "":
		return object.Mismatch(r, f.Origin, "no ETag, wanted %s", p.want.ETag)
	}
	return changed(fmt.Sprintf("ETag %s, wanted %s", f.ETag, p.want.ETag), f.Origin)
}

// grown reports whether f is of the object known, after something was appended to it that the run may ignore. If it is of another
// object, the CRC-64 of the whole will show that.
func (p *pin) grown(f object.Facts) bool {
	known := p.known()
	return p.want.Snapshot && known != nil && known.GrownTo(f) && known.HasCRC && f.HasCRC && (p.mayGrow() || !p.fixed)
}

// isOutgrown reports whether an answer was longer than the object that is wanted.
func (p *pin) isOutgrown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.outgrown
}

// mayGrow reports whether the run may go on if something is appended to the object that it has pinned.
func (p *pin) mayGrow() bool {
	return p.want.Snapshot && p.facts.Appendable && p.facts.HasCRC && !p.facts.Symlink
}

// known returns what is known of the object, from this run or an earlier one; nil: nothing.
func (p *pin) known() *object.Facts {
	if p.fixed {
		return &p.facts
	}
	return p.want.Earlier
}

// changed returns the error of an object that differs, or nil if why is empty.
func changed(why string, by object.Origin) error {
	if why == "" {
		return nil
	}
	return &object.FindingError{Means: object.ErrObjectChanged, Why: why, Origin: by}
}

// remedy is what to do about an answer that is no success, other than to repeat the request.
type remedy uint8

const (
	giveUp       remedy = iota // leave the error to the retry policy
	askAgain                   // immediately: the pin has changed, and the request with it
	askWhole                   // immediately, without Range: the object may be empty
	probeIfMatch               // find out whether the server refuses the condition or the object changed
)

// refused decides what to do about the error of a request. The error that it returns replaces that one.
func (p *pin) refused(r object.Request, err error) (remedy, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var odd *object.MismatchError
	if errors.As(err, &odd) {
		if f, whole := odd.Whole(); whole {
			return p.ignoredRange(r, odd, f)
		}
	}
	var status *object.StatusError
	if !errors.As(err, &status) {
		return giveUp, err
	}
	switch status.Status() {
	case http.StatusForbidden:
		if r.VersionID != "" && r.VersionID != p.want.Version && p.versions != supported && status.Means() == nil {
			if p.versions == untried {
				p.versions = unsupported
				p.log.Warn("version pin dropped: no permission oss:GetObjectVersion", "requestId", status.RequestID())
			}
			return askAgain, nil
		}
	case http.StatusPreconditionFailed:
		if r.IfMatch != "" {
			return probeIfMatch, err
		}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		if p.fixed {
			return giveUp, fmt.Errorf("%w: %w", object.ErrObjectChanged, err)
		}
	case http.StatusRequestedRangeNotSatisfiable:
		switch {
		case p.fixed:
			return giveUp, fmt.Errorf("%w: %w", object.ErrObjectChanged, err)
		case p.want.Earlier != nil:
			return giveUp, fmt.Errorf("%w: %w", ErrStale, err)
		case r.Off == 0 && !r.Whole:
			return askWhole, nil
		}
	}
	return giveUp, err
}

// ignoredRange decides about an answer with the whole object, of which it says f, to a range that does not start at 0. OSS
// sends it for a range that is not wholly inside the object, if the request may not carry x-oss-range-behavior.
func (p *pin) ignoredRange(r object.Request, odd *object.MismatchError, f object.Facts) (remedy, error) {
	size, known := f.Size, p.known()
	if size == object.UnknownSize { // all that can be known is that the range was ignored
		size = math.MaxInt64
		if known != nil && known.Size != object.UnknownSize {
			size = known.Size
		}
	}
	if p.grown(f) {
		size = known.Size
	}
	switch {
	case known != nil && known.Outranks(f):
		return giveUp, odd
	case p.fixed && size != p.facts.Size && p.facts.Size != object.UnknownSize:
		return giveUp, changed(fmt.Sprintf("size %d, was %d", size, p.facts.Size), odd.Origin)
	case p.ranges == supported:
		return giveUp, odd
	case !p.fixed && p.want.Earlier != nil && size != p.want.Earlier.Size:
		return giveUp, fmt.Errorf("%w: size %d, was %d", ErrStale, size, p.want.Earlier.Size)
	case r.Off >= size:
		return giveUp, &object.PermanentError{Err: fmt.Errorf("%w: offset %d of %d bytes: %w", object.ErrRange, r.Off, size, odd)}
	case r.End > size:
		return giveUp, &clampError{size, odd.Origin}
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
	object.Origin
}

func (e *clampError) Error() string { return fmt.Sprintf("the object has %d bytes", e.size) }

// probed decides what a 412 meant. f are the facts of an answer to r, the request without its condition.
func (p *pin) probed(r object.Request, f object.Facts, refusal error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.compare(r, f); err != nil {
		var odd *object.MismatchError
		if errors.Is(err, ErrStale) || errors.As(err, &odd) {
			return err
		}
		return fmt.Errorf("%w: %w", err, refusal)
	}
	if !p.fixed && p.want.ETag != "" && p.want.ETag != f.ETag && f.Strong() && !p.respelled {
		// As the server spells it: OSS does not document whether it ignores the case. Only once, since the spelling may
		// change from answer to answer.
		p.want.ETag, p.respelled = f.ETag, true
		return nil
	}
	if p.conditions != unsupported {
		p.conditions = unsupported
		p.log.Warn("server refuses If-Match with Range; comparing answers instead")
	}
	return nil
}

// current returns the facts, and whether an answer has fixed them.
func (p *pin) current() (object.Facts, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts, p.fixed
}

// size returns the size of the object, and whether an answer has fixed it.
func (p *pin) size() (n int64, fixed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts.Size, p.fixed
}

// isNameless reports whether nothing identifies the object, by what is known of it.
func (p *pin) isNameless() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts.Nameless()
}

// answerHeader returns the headers of the answer that fixed the pin; nil: none has yet. They must not be changed.
func (p *pin) answerHeader() http.Header {
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
