package torture_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

var errPlanned = errors.New("planned panic")

// panicAt panics in its nth call, counted from 0.
type panicAt struct {
	n     int64
	calls atomic.Int64
}

func (p *panicAt) call() {
	if p.calls.Add(1) == p.n+1 {
		panic(errPlanned)
	}
}

// panickingHash panics in Write or in Sum.
type panickingHash struct {
	hash.Hash
	write, sum *panicAt
}

func (h panickingHash) Write(b []byte) (int, error) { h.write.call(); return h.Hash.Write(b) }
func (h panickingHash) Sum(b []byte) []byte         { h.sum.call(); return h.Hash.Sum(b) }

// panickingHandler panics as it handles a record, or as it is derived.
type panickingHandler struct {
	slog.Handler
	handle, derive *panicAt
}

func (h panickingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (h panickingHandler) Handle(context.Context, slog.Record) error { h.handle.call(); return nil }
func (h panickingHandler) WithAttrs([]slog.Attr) slog.Handler        { h.derive.call(); return h }

// panickingKeys is a credentials provider that panics.
type panickingKeys struct{ at *panicAt }

func (k panickingKeys) GetCredentials() oss.Credentials {
	k.at.call()
	return key{osstest.AccessKeyID, osstest.AccessKeySecret, ""}
}

type panickingTransport struct {
	http.RoundTripper
	at *panicAt
}

func (t panickingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.at.call()
	return t.RoundTripper.RoundTrip(r)
}

func never() *panicAt { return &panicAt{n: -1} }

// raised calls fn and returns what it panics with; nil if it does not.
func raised(fn func()) (v any) {
	defer func() { v = recover() }()
	fn()
	return nil
}

// TestPanicsOfTheCaller checks that a panic of any function that the caller gave is raised in the caller's goroutine, leaves no
// goroutine, request, descriptor or lock, and that the next call completes.
func TestPanicsOfTheCaller(t *testing.T) {
	sum := func(content osstest.Content) []byte {
		d := sha256.Sum256(harness.Bytes(t, content))
		return d[:]
	}
	withHash := func(write, sumAt int64) func(*serverStage) []ossdl.Option {
		return func(st *serverStage) []ossdl.Option {
			made, inWrite, inSum := 0, &panicAt{n: write}, &panicAt{n: sumAt}
			return []ossdl.Option{ossdl.WithChecksum(func() hash.Hash {
				if made++; made == 1 { // the one that the option looks at
					return sha256.New()
				}
				return panickingHash{sha256.New(), inWrite, inSum}
			}, sum(st.content))}
		}
	}
	slowly := func(st *serverStage) { // so that there is progress to report
		st.s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Delay(120 * time.Millisecond) })
	}
	retried := func(st *serverStage) { st.s.Nth(2, osstest.Error(500, "InternalError")) } // so that there is something to log
	for _, c := range []struct {
		name    string
		through []entryPoint
		client  func() []oss.ClientOption
		before  func(*serverStage)
		opts    func(*serverStage) []ossdl.Option
	}{
		{name: "Write of the hash", through: []entryPoint{viaKey, viaURL, viaReader}, opts: withHash(2, -1)},
		{name: "Sum of the hash", through: []entryPoint{viaKey, viaURL, viaReader}, opts: withHash(-1, 0)},
		{name: "progress, first report", before: slowly, opts: func(*serverStage) []ossdl.Option {
			at := &panicAt{}
			return []ossdl.Option{ossdl.WithProgress(func(ossdl.Progress) { at.call() })}
		}},
		{name: "progress, last report", opts: func(*serverStage) []ossdl.Option {
			return []ossdl.Option{ossdl.WithProgress(func(p ossdl.Progress) {
				if p.Total > 0 && p.Done == p.Total {
					panic(errPlanned)
				}
			})}
		}},
		{name: "logger, handling a record", before: retried, opts: func(*serverStage) []ossdl.Option {
			return []ossdl.Option{ossdl.WithLogger(slog.New(panickingHandler{slog.DiscardHandler, &panicAt{}, never()}))}
		}},
		{name: "logger, as it is derived", opts: func(*serverStage) []ossdl.Option {
			return []ossdl.Option{ossdl.WithLogger(slog.New(panickingHandler{slog.DiscardHandler, never(), &panicAt{}}))}
		}},
		{name: "credentials provider, at once", through: []entryPoint{viaKey, viaWriter, viaReader},
			client: func() []oss.ClientOption {
				return []oss.ClientOption{oss.SetCredentialsProvider(panickingKeys{&panicAt{}})}
			}},
		{name: "credentials provider, later", through: []entryPoint{viaKey, viaWriter, viaReader},
			client: func() []oss.ClientOption {
				return []oss.ClientOption{oss.SetCredentialsProvider(panickingKeys{&panicAt{n: 4}})}
			}},
	} {
		if c.through == nil {
			c.through = []entryPoint{viaKey, viaURL, viaWriter, viaReader}
		}
		for _, through := range c.through {
			t.Run(fmt.Sprintf("%s, %s", c.name, through), func(t *testing.T) {
				fieldCase()
				cfg := stageConfig{through: through}
				if c.client != nil {
					cfg.client = c.client()
				}
				st := newServerStage(t, cfg)
				if c.before != nil {
					c.before(st)
				}
				var opts []ossdl.Option
				if c.opts != nil {
					opts = c.opts(st)
				}
				st.mustRaise(opts...)
				st.s.ClearFaults()
				res, err := st.download()
				if err != nil || res.Size != st.content.Size() {
					t.Errorf("the next call: %+v, %v", res, err)
				}
			})
		}
	}
	t.Run("URL refresh", func(t *testing.T) {
		fieldCase()
		st := newServerStage(t, stageConfig{through: viaURL})
		st.s.Nth(2, osstest.Error(403, "AccessDenied", "Request has expired."))
		st.mustRaise(ossdl.WithURLRefresh(func(context.Context) (string, error) { panic(errPlanned) }))
		res, err := st.download()
		if err != nil || res.Size != st.content.Size() {
			t.Errorf("the next call: %+v, %v", res, err)
		}
	})
	t.Run("HTTP client", func(t *testing.T) {
		for _, n := range []int64{0, 3} {
			fieldCase()
			st := newServerStage(t, stageConfig{})
			d := harness.NewURLDownloader(t, ossdl.WithHTTPClient(&http.Client{Transport: panickingTransport{st.http.Transport, &panicAt{n: n}}}))
			u := harness.Sign(t, st.s, oss.AuthV1, time.Hour, "key")
			if v := raised(func() { _, _ = d.DownloadURL(t.Context(), u, st.path, ossdl.WithPartSize(liePart)) }); !isPlanned(v) {
				t.Errorf("raised %v", v)
			}
		}
	})
	t.Run("ReadAt of the writer", func(t *testing.T) {
		fieldCase()
		st := newServerStage(t, stageConfig{})
		d, err := ossdl.New(st.client)
		if err != nil {
			t.Fatal(err)
		}
		to := unreadable{&harness.Memory{Content: make([]byte, lieSize)}}
		v := raised(func() {
			_, _ = d.DownloadTo(t.Context(), "bkt", "key", to, ossdl.WithChecksum(sha256.New, sum(st.content)))
		})
		if !isPlanned(v) {
			t.Errorf("raised %v", v)
		}
	})
	for name, opt := range map[string]func() ossdl.Option{
		"logger": func() ossdl.Option {
			return ossdl.WithLogger(slog.New(panickingHandler{slog.DiscardHandler, &panicAt{}, never()}))
		},
		"progress": func() ossdl.Option { return ossdl.WithProgress(func(ossdl.Progress) { panic(errPlanned) }) },
		"objects":  func() ossdl.Option { return ossdl.WithObjectResult(func(ossdl.ObjectResult) { panic(errPlanned) }) },
	} {
		t.Run("DownloadPrefix, "+name, func(t *testing.T) {
			fieldCase()
			st := newServerStage(t, stageConfig{})
			st.s.Nth(0, osstest.Error(500, "InternalError").Maybe()) // so that there is something to log
			dir := filepath.Join(t.TempDir(), "dir")
			d, err := ossdl.New(st.client)
			if err != nil {
				t.Fatal(err)
			}
			var v any
			_, _ = st.call("", func(ctx context.Context) (*ossdl.Result, error) {
				v = raised(func() { _, _ = d.DownloadPrefix(ctx, "bkt", "", dir, opt()) })
				return &ossdl.Result{Requests: 1 << 20}, context.Canceled
			})
			if !isPlanned(v) {
				t.Errorf("raised %v", v)
			}
			if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
		t.Run("DownloadAll, "+name, func(t *testing.T) {
			fieldCase()
			st := newServerStage(t, stageConfig{})
			st.s.Nth(0, osstest.Error(500, "InternalError").Maybe()) // so that there is something to log
			dir := t.TempDir()
			items := harness.Items(
				ossdl.Item{Source: "oss://bkt/key", Path: filepath.Join(dir, "a")}, ossdl.Item{Source: "oss://bkt/key", Path: filepath.Join(dir, "b")},
			)
			d, err := ossdl.New(st.client)
			if err != nil {
				t.Fatal(err)
			}
			var v any
			_, _ = st.call("", func(ctx context.Context) (*ossdl.Result, error) {
				v = raised(func() { _, _ = d.DownloadAll(ctx, items, opt()) })
				return &ossdl.Result{Requests: 1 << 20}, context.Canceled
			})
			if !isPlanned(v) {
				t.Errorf("raised %v", v)
			}
			if _, err := d.DownloadAll(t.Context(), items); err != nil {
				t.Errorf("the next call: %v", err)
			}
			harness.CheckTree(t, dir, harness.Contents{"a": st.content, "b": st.content})
		})
	}
}

type unreadable struct{ io.WriterAt }

func (unreadable) ReadAt([]byte, int64) (int, error) { panic(errPlanned) }

func isPlanned(v any) bool {
	err, ok := v.(error)
	return ok && errors.Is(err, errPlanned)
}

// mustRaise makes a download that must panic with errPlanned, and leave nothing that runs.
func (st *serverStage) mustRaise(opts ...ossdl.Option) {
	st.t.Helper()
	d, err := ossdl.New(st.client)
	if err != nil {
		st.t.Fatal(err)
	}
	var v any
	_, _ = st.call("", func(ctx context.Context) (*ossdl.Result, error) {
		all := append(st.opts[:len(st.opts):len(st.opts)], opts...)
		if st.through == viaReader {
			v = raised(func() {
				r, err := d.Open(ctx, "bkt", "key", all...)
				if err != nil {
					st.t.Fatalf("Open: %v", err)
				}
				defer r.Close()
				_, _ = io.Copy(&bytes.Buffer{}, r)
			})
		} else {
			v = raised(func() { _, _ = st.enter(ctx, d, all) })
		}
		return &ossdl.Result{Requests: 1 << 20}, context.Canceled // so that the stage looks at nothing but what is left
	})
	if !isPlanned(v) {
		st.t.Errorf("raised %v", v)
	}
}

// TestHashThatIsNil checks that a hash function that returns nil is an error of the option.
func TestHashThatIsNil(t *testing.T) {
	fieldCase()
	st := newServerStage(t, stageConfig{})
	_, err := st.download(ossdl.WithChecksum(func() hash.Hash { return nil }, make([]byte, 32)))
	if err == nil || !strings.Contains(err.Error(), "WithChecksum: the hash function returned nil") {
		t.Errorf("got %v", err)
	}
	if st.requestsMade != 0 {
		t.Errorf("%d requests were made", st.requestsMade)
	}
}
