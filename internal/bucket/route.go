package bucket

import (
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/engine"
)

const (
	// firstPause passes before the first endpoint is tried again, after requests have gone to another one. Each time that it
	// still fails the pause doubles, up to lastPause.
	firstPause = 30 * time.Second
	lastPause  = 10 * time.Minute
	// trialTime is how long the first endpoint may take to answer when it is tried again. The request then goes to the one that
	// works, so no call waits longer.
	trialTime = 5 * time.Second
)

// Route says which of several endpoints requests go to, for all calls of a Downloader. They stay with one until it fails. Now and
// then one request tries the first endpoint again. It is safe for concurrent use.
type Route struct {
	clients []*oss.Client // the first is preferred

	mu      sync.Mutex
	current int           // of clients
	times   int           // that current has changed
	signs   []int64       // of life, of each endpoint
	pause   time.Duration // before the next trial
	tryAt   time.Time     // the first one is tried from then on, if it is not the current one
	warned  bool          // that the first one is not used
}

// NewRoute makes a route over the endpoints of clients.
func NewRoute(clients ...*oss.Client) *Route {
	return &Route{clients: clients, signs: make([]int64, len(clients))}
}

// turn is one request to one endpoint.
type turn struct {
	at    int   // the endpoint
	trial bool  // the first endpoint is tried again
	times int   // that the current endpoint had changed when it began
	signs int64 // of life of the endpoint, when it began or gave the last one
}

// next returns the turn of the next request. Endpoints for which avoid is true are left out, unless all are.
func (r *Route) next(avoid func(int) bool) turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := turn{at: r.choose(avoid), times: r.times}
	if now := time.Now(); r.current != 0 && !now.Before(r.tryAt) && !avoid(0) {
		r.pause = min(2*r.pause, lastPause)
		r.tryAt = now.Add(r.pause)
		t.at, t.trial = 0, true
	}
	t.signs = r.signs[t.at]
	return t
}

// trial returns a turn of the first endpoint.
func (r *Route) trial() turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return turn{trial: true, times: r.times, signs: r.signs[0]}
}

// choose returns the current endpoint, or the one after it that is not avoided. The mutex is held.
func (r *Route) choose(avoid func(int) bool) int {
	for i := range r.clients {
		if at := (r.current + i) % len(r.clients); !avoid(at) {
			return at
		}
	}
	return r.current
}

// then returns the endpoint that a request would go to now, apart from trials.
func (r *Route) then(avoid func(int) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.choose(avoid)
}

// lives records a sign of life of an endpoint: bytes, or an answer that is not about failures of the endpoint. It reports whether
// requests go to the first one again.
func (r *Route) lives(t *turn) (back bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signs[t.at]++
	t.signs = r.signs[t.at]
	if t.at != 0 || r.current == 0 || t.times != r.times { // what began before may only be left over
		return false
	}
	r.current, r.warned = 0, false
	r.times++
	return true
}

// fails records that a request has failed. If it went to the current endpoint, and that has given no sign of life since, requests
// go to the next one. Without doubt they do so in any case.
func (r *Route) fails(t turn, certain bool) (to int, left, warn bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.at != r.current || r.signs[t.at] != t.signs && !certain {
		return 0, false, false
	}
	if r.current == 0 {
		r.pause = firstPause
		r.tryAt = time.Now().Add(r.pause)
		warn, r.warned = !r.warned, true
	}
	r.current = (r.current + 1) % len(r.clients)
	r.times++
	return r.current, true, warn
}

// host returns the host of an endpoint, for messages.
func (r *Route) host(at int) string {
	endpoint := r.clients[at].Config.Endpoint
	if !strings.Contains(endpoint, "://") {
		endpoint = "//" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// logged calls fn, which logs. A panic of the caller's handler is an error.
func logged(fn func()) error { return engine.Guard("the logger", fn) }

// say logs that requests go to another endpoint.
func (w *ways) say(from, to int, warn bool, why error) error {
	return logged(func() {
		if warn {
			w.log.Warn("endpoint failed; using another one, whose traffic is charged if it is public", "from", w.route.host(from), "to", w.route.host(to), "error", why)
			return
		}
		w.log.Info("endpoint failed; using another one", "from", w.route.host(from), "to", w.route.host(to), "error", why)
	})
}

// ways are the endpoints of one bucket.
type ways struct {
	route *Route
	all   []*Client // in the order of the route
	log   *slog.Logger

	mu       sync.Mutex
	hopeless []bool // the last failure of the endpoint was one that no further request can repair
}

func (w *ways) setHopeless(at int, yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hopeless[at] = yes
}

func (w *ways) isHopeless(at int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hopeless[at]
}
