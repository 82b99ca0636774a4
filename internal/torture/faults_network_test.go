package torture_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The tests of this file fail each event of a client's connections once, on the wire, over a whole download and over a
// whole resume.

// wireFault counts what a client does with its connections, and fails one of these events. A connection that has failed
// stays broken.
type wireFault struct {
	at  int
	err error

	forever bool // all later events fail, too

	mu   sync.Mutex
	gone *sync.Cond // a connection
	n    int
	hit  string // what failed
	open int    // connections, those being dialed among them
	over bool   // no more are dialed
}

func newWireFault(at int, err error) *wireFault {
	w := &wireFault{at: at, err: err}
	w.gone = sync.NewCond(&w.mu)
	return w
}

// next counts an event and returns how it fails, or nil.
func (w *wireFault) next(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	if again := w.hit != "" && w.forever; w.n-1 != w.at && !again {
		return nil
	}
	w.hit = cmp.Or(w.hit, what)
	return &net.OpError{Op: what, Net: "tcp", Err: w.err}
}

// failed is what has failed, or "".
func (w *wireFault) failed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hit
}

// into makes all connections of a transport go through w.
func (w *wireFault) into(t *http.Transport) {
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := w.dial(ctx, network, addr)
		if err != nil {
			return nil, err // not a nil *wireConn
		}
		return c, nil
	}
	config := t.TLSClientConfig
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := w.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		config := config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr)
		secure := tls.Client(c, config)
		c.set(shaking)
		if err := secure.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		c.set(asked)
		return secure, nil
	}
}

func (w *wireFault) dial(ctx context.Context, network, addr string) (*wireConn, error) {
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return nil, net.ErrClosed
	}
	w.open++
	w.mu.Unlock()
	err := w.next("dial")
	var c net.Conn
	if err == nil {
		c, err = new(net.Dialer).DialContext(ctx, network, addr)
	}
	if err != nil {
		w.left()
		return nil, err
	}
	return &wireConn{Conn: c, w: w}, nil
}

func (w *wireFault) left() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	w.gone.Broadcast()
}

// end waits until all connections are gone. A transport may dial for a request that has ended meanwhile.
func (w *wireFault) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.over = true; w.open > 0; {
		w.gone.Wait()
	}
}

// phase is what a connection is at.
type phase string

const (
	shaking  phase = "handshake"
	asked    phase = "head" // read next
	answered phase = "body" // likewise
)

// wireConn stays broken once it has failed.
type wireConn struct {
	net.Conn
	w      *wireFault
	closed sync.Once
	mu     sync.Mutex
	at     phase
	broken error
}

func (c *wireConn) set(p phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = p
}

// fails returns how the next event fails, or nil.
func (c *wireConn) fails(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == shaking && what != "close" {
		what = string(shaking)
	} else if what == "read" {
		what = string(cmp.Or(c.at, asked))
	}
	if c.broken == nil {
		if c.broken = c.w.next(what); c.broken != nil {
			c.Conn.Close()
		}
	}
	return c.broken
}

func (c *wireConn) Read(p []byte) (int, error) {
	return c.do("read", answered, c.Conn.Read, p)
}

func (c *wireConn) Write(p []byte) (int, error) {
	return c.do("write", asked, c.Conn.Write, p)
}

func (c *wireConn) do(what string, then phase, op func([]byte) (int, error), p []byte) (n int, err error) {
	if err = c.fails(what); err == nil {
		n, err = op(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 && c.at != shaking {
		c.at = then
	}
	if err != nil && c.broken != nil {
		err = c.broken // also of what was under way when it broke
	}
	if errors.Is(err, io.EOF) {
		err = io.EOF // bare, as a connection says it
	}
	return n, err
}

func (c *wireConn) Close() error {
	err := errors.Join(c.fails("close"), c.Conn.Close())
	c.closed.Do(c.w.left)
	return err
}

const (
	wirePart = 6 << 10
	wireSize = 5*wirePart + 77
	wireKept = 2 * wirePart // of an earlier run
)

// wireCall is a call of some entry point for a stage's object, to its path or elsewhere.
type wireCall func(ctx context.Context, st *serverStage, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.Result, error)

func callDownload(ctx context.Context, st *serverStage, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.Result, error) {
	return d.Download(ctx, "bkt", "key", st.path, opts...)
}

func callSnapshot(ctx context.Context, st *serverStage, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.Result, error) {
	return callDownload(ctx, st, d, append(opts[:len(opts):len(opts)], ossdl.WithSnapshot()))
}

func callURL(ctx context.Context, st *serverStage, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.Result, error) {
	opts = append(opts[:len(opts):len(opts)], ossdl.WithHTTPClient(st.http))
	return d.DownloadURL(ctx, harness.Sign(st.t, st.s, oss.AuthV1, time.Hour, "key"), st.path, opts...)
}

func callTo(ctx context.Context, st *serverStage, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.Result, error) {
	m := &harness.Memory{Content: make([]byte, wireSize)}
	res, err := d.DownloadTo(ctx, "bkt", "key", m, opts...)
	if err == nil && !bytes.Equal(m.Content, harness.Bytes(st.t, st.content)) {
		st.t.Error("the bytes are not the object's")
	}
	return res, err
}

func callOpen(ctx context.Context, st *serverStage, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.Result, error) {
	r, err := d.Open(ctx, "bkt", "key", opts...)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	if want := harness.Bytes(st.t, st.content); !bytes.HasPrefix(want, got) || err == nil && len(got) < len(want) {
		st.t.Errorf("%d bytes were read, not those of the object", len(got))
	}
	if cerr := r.Close(); cerr != nil {
		st.t.Error(cerr)
	}
	return r.Result(), err
}

// wireScene is what the calls of a loop start from.
type wireScene struct {
	name  string
	call  wireCall
	leave func(st *serverStage, call wireCall) // what an earlier run has left; nil: nothing
	// A part of the object; length 0: all of it.
	offset, length int64
	most           bool // for every cause also in the short form, over HTTP
	sealed         bool // the object is encrypted
}

func wireScenes() []wireScene {
	return []wireScene{
		{name: "fresh", call: callDownload, most: true},
		{name: "half", call: callDownload, leave: (*serverStage).leaveHalf, most: true},
		{name: "half, partly false", call: callDownload, leave: (*serverStage).leavePartlyFalse},
		{name: "half of another object", call: callDownload, leave: (*serverStage).leaveAnotherHalf},
		{name: "half of what has grown", call: callSnapshot, leave: (*serverStage).leaveHalfAndGrow},
		{name: "not committed", call: callDownload, leave: (*serverStage).leaveWhole},
		{name: "committed", call: callDownload, leave: (*serverStage).leaveCommitted},
		{name: "half of a range", call: callDownload, leave: (*serverStage).leaveHalf, offset: 100, length: wireSize - 200},
		{name: "URL", call: callURL},
		{name: "half, by URL", call: callURL, leave: (*serverStage).leaveHalf},
		{name: "DownloadTo", call: callTo},
		{name: "Open", call: callOpen},
		{name: "encrypted", call: callDownload, sealed: true},
		{name: "half of an encrypted one", call: callDownload, leave: (*serverStage).leaveHalf, sealed: true},
		{name: "half of an encrypted one, partly false", call: callDownload, leave: (*serverStage).leavePartlyFalse, sealed: true},
		{name: "half of a range of an encrypted one", call: callDownload, leave: (*serverStage).leaveHalf, offset: 101, length: wireSize - 200, sealed: true},
		{name: "Open of an encrypted one", call: callOpen, sealed: true},
	}
}

// leaveHalf is an earlier run that got wireKept bytes.
func (st *serverStage) leaveHalf(call wireCall) {
	st.t.Helper()
	n := 0
	st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if n++; n > wireKept/wirePart {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	d, err := ossdl.New(st.client)
	if err != nil {
		st.t.Fatal(err)
	}
	_, err = st.call(st.path, func(ctx context.Context) (*ossdl.Result, error) {
		return call(ctx, st, d, append(st.opts[:len(st.opts):len(st.opts)], ossdl.WithConcurrency(1)))
	})
	st.s.ClearFaults()
	if n := checkpoints.Total(st.holds()); err == nil || n != wireKept {
		st.t.Fatalf("%d bytes were left, want %d: %v", n, wireKept, err)
	}
}

// leaveHalfAndGrow leaves half of an object to which something is appended then.
func (st *serverStage) leaveHalfAndGrow(call wireCall) {
	st.t.Helper()
	st.s.SetQuirks(osstest.AppendKeepsETag) // by which holds knows the object
	st.s.Put("bkt", "key", st.content, osstest.Type("Appendable"))
	st.leaveHalf(call)
	st.s.Append("bkt", "key", []byte("more"))
}

// leavePartlyFalse changes a byte that a claim speaks for.
func (st *serverStage) leavePartlyFalse(call wireCall) {
	st.t.Helper()
	st.leaveHalf(call)
	st.claim(checkpoints.Span{End: wirePart}, checkpoints.Span{Off: wirePart, End: wireKept})
	if err := harness.Spoil(fsys.OS(), st.path+harness.PartSuffix, wirePart); err != nil {
		st.t.Fatal(err)
	}
}

func (st *serverStage) leaveAnotherHalf(call wireCall) {
	st.t.Helper()
	st.leaveHalf(call)
	st.content = osstest.Random(8, wireSize)
	st.s.Put("bkt", "key", st.content)
}

// leaveWhole leaves a partial file that has everything.
func (st *serverStage) leaveWhole(call wireCall) {
	st.t.Helper()
	st.leaveHalf(call)
	if err := os.WriteFile(st.path+harness.PartSuffix, harness.Bytes(st.t, st.content), 0o644); err != nil {
		st.t.Fatal(err)
	}
	st.claim(checkpoints.Span{End: wireSize})
}

// leaveCommitted is killed after the rename.
func (st *serverStage) leaveCommitted(call wireCall) {
	st.t.Helper()
	st.leaveWhole(call)
	if err := os.Rename(st.path+harness.PartSuffix, st.path); err != nil {
		st.t.Fatal(err)
	}
}

// claim makes the checkpoint one that claims these ranges, truly.
func (st *serverStage) claim(spans ...checkpoints.Span) {
	st.t.Helper()
	cp := checkpoints.Read(st.t, st.path+harness.CheckpointSuffix)
	cp.Claim(harness.Bytes(st.t, st.content), spans...)
	checkpoints.Write(st.t, st.path+harness.CheckpointSuffix, cp)
}

// holds is the ranges of the object that a run need not fetch: those that the checkpoint claims and that are there.
func (st *serverStage) holds() []checkpoints.Span {
	st.t.Helper()
	cp, older := harness.CheckpointOf(st.t, st.path)
	if cp == nil || cp.ETag != st.s.Stat("bkt", "key").ETag {
		return nil
	}
	held, _ := checkpoints.Held(st.t, fsys.OS(), cp, older, st.path+harness.PartSuffix, st.path)
	return held
}

// TestEveryNetworkEventFails fails event i of a call on the wire, for every i: a dial, a read or write of the TLS
// handshake, the write of a request, a read of a head or a body, a close. With retries the file is right, and no byte comes
// twice; without, the error names cause, key and range, the path has what it had, and the next call fetches the rest.
func TestEveryNetworkEventFails(t *testing.T) {
	for scheme, server := range map[string][]osstest.Option{"http": nil, "https": {osstest.WithTLS()}} {
		hits := &harness.Hits{}
		t.Run(scheme, func(t *testing.T) {
			for _, sc := range wireScenes() {
				if testing.Short() && server != nil && !sc.most {
					continue
				}
				if sc.sealed && server != nil && !harness.Long() {
					continue // what TLS does to a body, it does before it is decrypted
				}
				for _, cause := range []error{syscall.ECONNRESET, syscall.EPIPE, os.ErrDeadlineExceeded, io.EOF} {
					if cause != syscall.ECONNRESET && !harness.Long() && (testing.Short() || !sc.most || server != nil) {
						continue
					}
					for _, attempts := range []int{3, 1} {
						if attempts == 1 && server != nil && !sc.most && !harness.Long() {
							continue // how a call ends does not depend on TLS
						}
						t.Run(fmt.Sprintf("%s/%v, %d attempts", sc.name, cause, attempts), func(t *testing.T) {
							t.Parallel()
							sc.failEach(t, server, cause, attempts, hits)
						})
					}
				}
			}
		})
		want := []string{"dial", "write", "head", "body", "close"}
		if scheme == "https" {
			want = append(want, "handshake")
		}
		hits.Check(t, want...)
	}
}

func (sc wireScene) failEach(t *testing.T, server []osstest.Option, cause error, attempts int, hits *harness.Hits) {
	st := newServerStage(t, stageConfig{size: wireSize, server: server, sealed: sc.sealed, opts: []ossdl.Option{
		ossdl.WithPartSize(wirePart), ossdl.WithConcurrency(2), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: attempts, MinDelay: time.Millisecond, MaxDelay: time.Millisecond}),
	}})
	harness.Tried.Add(liesTold, -1) // it tells none
	st.httpRepeats = true
	if n := sc.length; n > 0 {
		st.opts = append(st.opts, ossdl.WithRange(sc.offset, n))
		st.content = osstest.Bytes(harness.Bytes(t, st.content)[sc.offset : sc.offset+n])
	}
	st.putOldFile()
	if sc.leave != nil {
		sc.leave(st, sc.call)
	}
	dir := filepath.Dir(st.path)
	left := folder(t, dir)
	failed := 0
	step := 1
	if testing.Short() { // which is meant for the race detector
		step = 3
	}
	for i, missed := 0, 0; missed < harness.MissesInARow; i += step {
		refill(t, dir, left)
		w := newWireFault(i, cause)
		sc.fails(st, w, attempts)
		what := w.failed()
		if t.Failed() {
			t.Fatalf("event %d, of %s", i, what)
		}
		if what == "" {
			missed++
			continue
		}
		missed = 0
		failed++
		hits.Add(what)
		harness.Tried.Add("network events failed", 1)
	}
	if failed == 0 {
		t.Error("nothing was failed")
	}
}

// folder is the files in and below a folder.
func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// refill makes the files in and below a folder these.
func refill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		harness.WriteFile(t, path, content)
	}
}

// fails makes a call with one planned fault.
func (sc wireScene) fails(st *serverStage, w *wireFault, attempts int) {
	st.t.Helper()
	was, err := os.ReadFile(st.path)
	if err != nil {
		st.t.Fatal(err)
	}
	before := checkpoints.Total(st.holds())
	size := st.content.Size()
	res, err := sc.once(st, w)
	switch {
	case err == nil:
		if st.mustFetch(res, size-before); res.ResumedBytes != before {
			st.t.Errorf("%d bytes resumed, where %d of %d were there", res.ResumedBytes, before, size)
		}
		sc.right(st)
		return
	case attempts > 1 || w.failed() == "":
		st.t.Error(err)
		return
	case !errors.Is(err, w.err) && !(w.err == io.EOF && (errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "server closed idle connection"))): // net/http's word for an end before any answer
		st.t.Errorf("the error does not name the cause: %v", err)
	}
	sc.names(st, err)
	if got, err := os.ReadFile(st.path); string(got) != string(was) {
		st.t.Errorf("the old file is gone: %d bytes, %v", len(got), err)
	}
	if harness.Exists(st.path + harness.LockSuffix) {
		st.t.Error("the lock file is left behind")
	}
	held := checkpoints.Total(st.holds())
	if sc.toFile() {
		// What came before there was a partial file to write it to is lost: a part for each worker.
		came := int64(0)
		if res != nil {
			came = res.DownloadedBytes
		}
		if held < before+came-2*wirePart || held < before {
			st.t.Errorf("%d bytes are kept, where %d were there and %d came", held, before, came)
		}
	}
	res, err = sc.once(st, newWireFault(-1, nil))
	if err != nil || res.ResumedBytes != held {
		st.t.Errorf("a healthy run, where %d bytes are there: %+v, %v", held, res, err)
	} else {
		st.mustFetch(res, size-held)
	}
	sc.right(st)
}

func (sc wireScene) toFile() bool {
	return sc.name != "DownloadTo" && !strings.HasPrefix(sc.name, "Open")
}

// right asks for the new file where one was asked for.
func (sc wireScene) right(st *serverStage) {
	st.t.Helper()
	if sc.toFile() {
		harness.CheckFile(st.t, st.path, st.content)
	}
}

// names asks that an error has the names of the object, of the file and of a range of bytes.
func (sc wireScene) names(st *serverStage, err error) {
	st.t.Helper()
	var pe *ossdl.PartError
	if !errors.As(err, &pe) {
		st.t.Errorf("error %v holds no *PartError", err)
		return
	}
	if !strings.HasSuffix(pe.Key, "key") || pe.Attempts != 1 || pe.Offset < 0 || pe.Size < 1 || pe.Offset+pe.Size > wireSize {
		st.t.Errorf("%+v", *pe)
	}
	names := []string{"bkt/key", fmt.Sprintf("bytes %d-%d", pe.Offset, pe.Offset+pe.Size-1)}
	if sc.toFile() {
		names = append(names, st.path)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			st.t.Errorf("%v does not name %s", err, name)
		}
	}
}

// once is one call, over connections of its own.
func (sc wireScene) once(st *serverStage, w *wireFault) (*ossdl.Result, error) {
	st.t.Helper()
	w.into(st.transport())
	d, err := ossdl.New(st.client)
	if err != nil {
		st.t.Fatal(err)
	}
	path := st.path
	if !sc.toFile() {
		path = ""
	}
	return st.call(path, func(ctx context.Context) (*ossdl.Result, error) {
		defer w.end()
		defer st.http.CloseIdleConnections()
		return sc.call(ctx, st, d, st.opts)
	})
}
