package harness

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// Outside lets a test in a synctest bubble use a server outside of it, whose clock is that of the bubble. So hours pass in no time
// while nothing is asked, and no time passes while something is. It must be made outside of the bubble.
type Outside struct {
	server  *osstest.Server
	now     atomic.Int64 // what the bubble's clock said at the latest request
	ask     chan outsideRequest
	replies chan chan outsideReply // made outside as well: a channel of a bubble must not leave it

	// Before, if not nil, is called in the bubble before each request, never concurrently. n counts the requests, from 0.
	Before func(n int, r *http.Request)

	mu  sync.Mutex
	log []Moment
}

// Moment says when a request was made.
type Moment struct {
	Method, Query string
	At            time.Time // by the clock of the bubble
}

// Moments returns what was asked since the last call, in order.
func (o *Outside) Moments() []Moment {
	o.mu.Lock()
	defer o.mu.Unlock()
	log := o.log
	o.log = nil
	return log
}

// begin notes a request.
func (o *Outside) begin(r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now.Store(time.Now().UnixNano())
	if o.Before != nil {
		o.Before(len(o.log), r)
	}
	o.log = append(o.log, Moment{r.Method, r.URL.RawQuery, time.Now()})
}

type outsideRequest struct {
	request *http.Request
	reply   chan outsideReply
}

// outsideReply is an answer, whose body is read.
type outsideReply struct {
	resp *http.Response
	body []byte
	cut  error // that ended the body; nil: it is complete
	err  error // there is no answer
}

// outsideRequests is how many requests can be made at once.
const outsideRequests = 100

// NewOutside makes an Outside for a server.
func NewOutside(t testing.TB, s *osstest.Server) *Outside {
	o := &Outside{server: s, ask: make(chan outsideRequest), replies: make(chan chan outsideReply, outsideRequests)}
	o.now.Store(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()) // when every bubble begins
	s.SetNow(func() time.Time { return time.Unix(0, o.now.Load()) })
	client := &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: outsideRequests},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var working sync.WaitGroup
	for range outsideRequests {
		o.replies <- make(chan outsideReply, 1)
		working.Go(func() {
			for r := range o.ask {
				r.reply <- answer(client, r.request)
			}
		})
	}
	t.Cleanup(func() {
		close(o.ask)
		working.Wait()
		client.CloseIdleConnections()
	})
	return o
}

// answer makes a request and reads the answer.
func answer(client *http.Client, r *http.Request) (a outsideReply) {
	if a.resp, a.err = client.Do(r); a.err == nil {
		a.body, a.cut = io.ReadAll(a.resp.Body)
		a.resp.Body.Close()
	}
	return a
}

// RoundTrip implements [http.RoundTripper].
func (o *Outside) RoundTrip(r *http.Request) (*http.Response, error) {
	o.begin(r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	out := r.Clone(context.Background())
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	reply := <-o.replies
	defer func() { o.replies <- reply }()
	o.ask <- outsideRequest{out, reply}
	a := <-reply
	if a.err != nil {
		return nil, a.err
	}
	a.resp.Request = r
	a.resp.Body = io.NopCloser(&cutReader{bytes.NewReader(a.body), a.cut})
	return a.resp, nil
}

// cutReader ends with an error, if there is one.
type cutReader struct {
	*bytes.Reader
	cut error
}

func (c *cutReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if err == io.EOF && c.cut != nil {
		err = c.cut
	}
	return n, err
}

// Downloader makes a Downloader for the server. It must be called in the bubble.
func (o *Outside) Downloader(t testing.TB, opts ...ossdl.Option) *ossdl.Downloader {
	t.Helper()
	o.now.Store(time.Now().UnixNano())
	return NewDownloaderOver(t, o.server, &http.Client{Transport: o}, opts...)
}
