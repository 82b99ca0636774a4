package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/transport"
)

// CheckFallback returns an error unless clients can reach the buckets of first over other endpoints. The providers of credentials
// are not asked.
func CheckFallback(first *oss.Client, clients []*oss.Client) error {
	if first == nil {
		return errors.New("New was given no client")
	}
	seen := []*oss.Client{first}
	for i, c := range clients {
		err := checkOne(first, c)
		for _, other := range seen {
			if c == other {
				err = errors.New("it is given twice")
			}
		}
		if err != nil {
			return fmt.Errorf("client %d: %w", i+1, err)
		}
		seen = append(seen, c)
	}
	return nil
}

func checkOne(first, c *oss.Client) error {
	if c == nil {
		return errors.New("it is nil")
	}
	if err := errors.Join(CheckClient(c), CheckEndpoint(c), CheckSignature(c)); err != nil {
		return err
	}
	switch {
	case c.Config.CredentialsProvider == nil:
		return errors.New("its credentials provider is nil")
	case (keysOf(c) == noKey) != (keysOf(first) == noKey):
		return errors.New("either it has no access key, or that of New has none; give both the same")
	}
	return nil
}

// keysOf says where the credentials of a client come from, without asking a provider of the caller.
func keysOf(client *oss.Client) keys {
	switch provider := client.Config.CredentialsProvider; {
	case provider == nil || !isDefault(provider):
		return providedKey
	case isEmpty(provider.GetCredentials()):
		return noKey
	}
	return fixedKey
}

// UseRoute makes the requests of c go over a route, of which c has the first endpoint. extra returns what the requests of a client
// have, log gets what becomes of the endpoints. It must be called before any request.
func (c *Client) UseRoute(route *Route, extra func(*oss.Client) Extra, log *slog.Logger) {
	w := &ways{route: route, all: []*Client{c}, log: log, hopeless: make([]bool, len(route.clients))}
	for _, other := range route.clients[1:] {
		w.all = append(w.all, &Client{client: other, name: c.name, extra: extra(other), keys: keysOf(other)})
	}
	c.ways = w
}

// attempt is one request over one of several endpoints, and its context.
type attempt struct {
	turn
	w      *ways
	outer  context.Context // of the caller
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // of a trial; nil otherwise
}

var errTrial = errors.New("no answer in time when it was tried again")

// begin begins the next request. It must be ended.
func (w *ways) begin(ctx context.Context, avoid func(int) bool) *attempt {
	return w.take(ctx, w.route.next(avoid))
}

// tryFirst begins a request that tries the first endpoint. It must be ended.
func (w *ways) tryFirst(ctx context.Context) *attempt { return w.take(ctx, w.route.trial()) }

func (w *ways) take(ctx context.Context, t turn) *attempt {
	a := &attempt{turn: t, w: w, outer: ctx}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	if a.trial {
		a.timer = time.AfterFunc(trialTime, func() { a.cancel(errTrial) })
	}
	return a
}

// answered is called with the error of the head of an answer. A trial whose time was over before has failed.
func (a *attempt) answered(err error) error {
	if a.timer != nil && !a.timer.Stop() && err == nil {
		return errTrial
	}
	return err
}

func (a *attempt) end() { a.cancel(nil) }

// alive records a sign of life of the endpoint.
func (a *attempt) alive() error {
	a.w.setHopeless(a.at, false)
	if !a.w.route.lives(&a.turn) {
		return nil
	}
	return logged(func() { a.w.log.Info("using the first endpoint again", "endpoint", a.w.route.host(0)) })
}

// failed records an error of the request. It reports whether the request is to be made again at once, over another endpoint: that is
// so after a trial, which nobody has asked for. The error that it returns replaces err.
func (a *attempt) failed(err error, avoid func(int) bool) (again bool, _ error) {
	switch {
	case a.outer.Err() != nil && !engine.Stalled(context.Cause(a.outer)):
		return false, err
	case isVerdict(err):
		if perr := a.alive(); perr != nil {
			err = perr
		}
		return false, err
	case !endpointFailed(err):
		return false, err
	}
	final := !object.Retryable(err) || object.UnknownHost(err)
	a.w.setHopeless(a.at, final)
	if to, left, warn := a.w.route.fails(a.turn, final); left {
		if perr := a.w.say(a.at, to, warn, err); perr != nil {
			return false, perr
		}
	}
	if a.trial {
		return a.outer.Err() == nil, err
	}
	if to := a.w.route.then(avoid); to != a.at && !a.w.isHopeless(to) {
		err = &object.ElsewhereError{Err: err}
	}
	return false, err
}

// endpointFailed reports whether an error is one of the endpoint or the way to it, and not an answer about what was asked for.
func endpointFailed(err error) bool {
	var status *object.StatusError
	if errors.As(err, &status) {
		switch status.Status() {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	var unsent *unsentError
	if errors.As(err, &unsent) || errors.Is(err, transport.ErrEmptyKey) || errors.Is(err, transport.ErrDowngrade) {
		return false
	}
	var proxy *transport.ProxyError
	return object.NetworkFailed(err) || errors.As(err, &proxy) || engine.Stalled(err) || errors.Is(err, errTrial)
}

// isVerdict reports whether an error is a final answer about what was asked for.
func isVerdict(err error) bool {
	var status *object.StatusError
	if errors.As(err, &status) {
		return !object.Retryable(err) && status.Status() < http.StatusInternalServerError
	}
	var odd *object.MismatchError
	return errors.As(err, &odd)
}

// do asks one endpoint after the other, as [Client.doVersion] does with one.
func (w *ways) do(ctx context.Context, out outgoing) (*oss.Response, error) {
	for {
		a := w.begin(ctx, noneAvoided)
		resp, err := w.all[a.at].doVersion(a.ctx, out)
		if late := a.answered(err); late != nil && err == nil {
			resp.Body.Close()
			err = late
		}
		if err == nil {
			resp.Body = &routedBody{ReadCloser: resp.Body, a: a, least: untilClosed}
			return resp, nil
		}
		again, err := a.failed(err, noneAvoided)
		a.end()
		if !again {
			return nil, err
		}
	}
}

func noneAvoided(int) bool { return false }

const (
	// progressUnit is how many bytes of an object are a sign of life.
	progressUnit = 64 << 10
	// untilClosed says that only a whole body is a sign of life: one that is closed without an error.
	untilClosed = math.MaxInt64
)

// routedBody is the body of an answer. It tells the route how it goes.
type routedBody struct {
	io.ReadCloser
	a     *attempt
	least int64 // bytes that are a sign of life
	n     int64 // bytes that came
	broke bool
}

func (b *routedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	if err != nil && err != io.EOF {
		b.broke = true
		if perr := b.a.bodyBroke(err, b.n >= b.least); perr != nil {
			err = perr
		}
		return n, err
	}
	if b.n >= b.least || err == io.EOF {
		if perr := b.a.alive(); perr != nil {
			return n, perr
		}
	}
	return n, err
}

func (b *routedBody) Close() error {
	defer b.a.end()
	var err error
	if !b.broke && b.least == untilClosed {
		err = b.a.alive()
	}
	return errors.Join(b.ReadCloser.Close(), err)
}

// bodyBroke records that a body has ended with an error. One that has brought something shows nothing about the endpoint unless it
// stalled: the next request will.
func (a *attempt) bodyBroke(err error, brought bool) error {
	stalled := engine.Stalled(context.Cause(a.outer))
	if !stalled && (brought || a.outer.Err() != nil) {
		return nil
	}
	if to, left, warn := a.w.route.fails(a.turn, false); left {
		return a.w.say(a.at, to, warn, object.WithoutURL(err))
	}
	return nil
}

// several are the sources of one object over several endpoints. The first answer decides which object it is. An endpoint that
// answers otherwise is not asked for it again.
type several struct {
	w   *ways
	all []*Source // in the order of the route

	mu      sync.Mutex
	origin  int // of the first answer; -1: there is none
	first   object.Facts
	avoided []bool
}

func newSeveral(w *ways, key string) (*several, error) {
	s := &several{w: w, origin: -1, avoided: make([]bool, len(w.all))}
	for _, c := range w.all {
		one, err := c.objectHere(key)
		if err != nil {
			return nil, err
		}
		s.all = append(s.all, one)
	}
	return s, nil
}

// get asks one endpoint after the other, as [Source.getHere] does with one.
func (s *several) get(ctx context.Context, r object.Request) (*object.Answer, error) {
	for sent := 0; ; sent++ {
		if sent > 0 {
			r.Resent.Add(1)
		}
		a := s.w.begin(ctx, s.isAvoided)
		answer, err := s.getOnce(a, r)
		if err == nil {
			return answer, nil
		}
		if s.doubtful(a.at, r, err) {
			a.end()
			return s.askFirst(ctx, r, err)
		}
		again, err := s.failed(a, err)
		a.end()
		if !again {
			return nil, err
		}
	}
}

// doubtful reports whether an endpoint other than the first does not have the object of an earlier run, before any has answered with
// an object. The first one may have it still.
func (s *several) doubtful(at int, r object.Request, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return at != 0 && s.origin < 0 && r.IfMatch != "" && isVerdict(err)
}

// askFirst asks the first endpoint after another one has said that the object of an earlier run is gone. If the first one cannot be
// reached, that stands.
func (s *several) askFirst(ctx context.Context, r object.Request, gone error) (*object.Answer, error) {
	r.Resent.Add(1)
	a := s.w.tryFirst(ctx)
	answer, err := s.getOnce(a, r)
	if err == nil {
		return answer, nil
	}
	defer a.end()
	verdict := isVerdict(err)
	if _, err = s.failed(a, err); verdict {
		return nil, err
	}
	return nil, gone
}

func (s *several) getOnce(a *attempt, r object.Request) (*object.Answer, error) {
	answer, err := s.all[a.at].getHere(a.ctx, r)
	if err = a.answered(err); err == nil {
		err = s.compare(a.at, answer.Facts)
	}
	if err != nil {
		if answer != nil {
			answer.Body.Close()
		}
		return nil, err
	}
	answer.Body = &routedBody{ReadCloser: answer.Body, a: a, least: min(progressUnit, answer.Len())}
	return answer, nil
}

// otherObjectError says that the answer of an endpoint is of another object than the first answer.
type otherObjectError struct{ why string }

func (e *otherObjectError) Error() string { return e.why }

// compare returns an error if an answer is of another object than the first one, which came from another endpoint. Answers of one
// endpoint are compared by the engine, and so is an object that has grown.
func (s *several) compare(at int, f object.Facts) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.origin < 0:
		s.origin, s.first = at, f
	case at == s.origin || s.first.GrownTo(f):
	case s.first.Outranks(f):
		return &otherObjectError{fmt.Sprintf("an object with %s, instead of %s", f.Names(), s.first.Names())}
	default:
		if why := s.first.Differs(f); why != "" {
			return &otherObjectError{why}
		}
	}
	return nil
}

// failed does what [attempt.failed] does, unless the first answer stands against the error.
func (s *several) failed(a *attempt, err error) (again bool, _ error) {
	if !s.overruled(a.at, err) {
		return a.failed(err, s.isAvoided)
	}
	s.mu.Lock()
	s.avoided[a.at] = true
	s.mu.Unlock()
	if perr := logged(func() {
		a.w.log.Warn("endpoint not used for this object, since it has another one or none", "endpoint", a.w.route.host(a.at),
			"object", s.all[0].String(), "reason", err)
	}); perr != nil {
		return false, perr
	}
	return a.outer.Err() == nil, err
}

// overruled reports whether an error is what one endpoint says of the object, after another one has answered with it.
func (s *several) overruled(at int, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var other *otherObjectError
	return errors.As(err, &other) || s.origin >= 0 && at != s.origin && isVerdict(err)
}

func (s *several) isAvoided(at int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.avoided[at]
}
