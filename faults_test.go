package ossdl

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The tests of this file fail each operation of a download once. Those on files run in a synctest bubble, against a
// service without a network: hours of saving and syncing pass at once, and a goroutine that is left is seen.

// long reports whether the long forms of the tests are to run.
func long() bool { return os.Getenv("OSSDL_LONG") != "" }

// service is OSS as one bucket, without a network. A body comes a piece at a time, with a pause before each.
type service struct {
	objects map[string][]byte
	piece   int

	requests, open atomic.Int64 // open: bodies not closed
	sent           atomic.Int64 // bytes of bodies that were read
}

const servicePause = 200 * time.Millisecond

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests.Add(1)
	if err := wait(r.Context(), servicePause); err != nil {
		return nil, err
	}
	if r.URL.Path == "/" {
		return s.list(r), nil
	}
	content := s.objects[r.URL.Path[1:]]
	crc := crc64.Update(0, content)
	var off, last int64
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &off, &last); err != nil {
		return nil, fmt.Errorf("the service wants a range: %w", err)
	}
	end := min(last+1, int64(len(content)))
	return s.answer(r, http.StatusPartialContent, content[off:end], map[string]string{
		"Content-Range":        fmt.Sprintf("bytes %d-%d/%d", off, end-1, len(content)),
		"ETag":                 fmt.Sprintf(`"%016X"`, crc),
		"X-Oss-Hash-Crc64ecma": strconv.FormatUint(crc, 10),
		"Last-Modified":        serviceTime.Format(http.TimeFormat),
	}), nil
}

var serviceTime = time.Unix(1e9, 0).UTC()

// list answers ListObjectsV2.
func (s *service) list(r *http.Request) *http.Response {
	var doc strings.Builder
	doc.WriteString("<ListBucketResult>")
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		fmt.Fprintf(&doc, "<Contents><Key>%s</Key><Size>%d</Size><LastModified>%s</LastModified></Contents>",
			key, len(s.objects[key]), serviceTime.Format(time.RFC3339))
	}
	doc.WriteString("</ListBucketResult>")
	return s.answer(r, http.StatusOK, []byte(doc.String()), nil)
}

func (s *service) answer(r *http.Request, status int, body []byte, header map[string]string) *http.Response {
	h := http.Header{}
	for name, value := range header {
		h.Set(name, value)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Oss-Request-Id", "5C3D9778CC1C2AEDF85B587E")
	s.open.Add(1)
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, ContentLength: int64(len(body)),
		Body: &serviceBody{s: s, ctx: r.Context(), rest: body}, Request: r,
	}
}

type serviceBody struct {
	s      *service
	ctx    context.Context
	rest   []byte
	closed sync.Once
}

func (b *serviceBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	if err := wait(b.ctx, servicePause); err != nil {
		return 0, err
	}
	n := copy(p[:min(len(p), b.s.piece)], b.rest)
	b.rest = b.rest[n:]
	b.s.sent.Add(int64(n))
	return n, nil
}

func (b *serviceBody) Close() error {
	b.closed.Do(func() { b.s.open.Add(-1) })
	return nil
}

// wait passes time, or ends with the context.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// opened counts the files that are open through it.
type opened struct {
	fsys.FS
	n atomic.Int64
}

func (o *opened) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	f, err := o.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	o.n.Add(1)
	return &openedFile{File: f, o: o}, nil
}

type openedFile struct {
	fsys.File
	o      *opened
	closed sync.Once
}

func (f *openedFile) Close() error {
	f.closed.Do(func() { f.o.n.Add(-1) })
	return f.File.Close()
}

// records keeps what a call logs.
type records struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (r *records) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.Write(p)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.String()
}

const (
	scenePath = "/dir/file"
	sceneOld  = "the old file"
	smallSize = 20<<10 + 100 // of most scenes: few operations
	bigSize   = 1<<20 + 100  // of those for which the partial file has a spare
)

// scene is a download and the disk that it starts on.
type scene struct {
	name    string
	content []byte
	keeps   bool // with a checkpoint
	opts    []Option
	before  *memfs.FS // never written to: runs have copies of it
}

// newScene has an old file at the path, everything of which is certain to be on the disk.
func newScene(t *testing.T, name string, size int64, config memfs.Config, opts ...Option) *scene {
	t.Helper()
	content := make([]byte, size)
	if _, err := osstest.Random(1, size).ReadAt(content, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	sc := &scene{name: name, content: content, keeps: true, opts: opts, before: memfs.New(config)}
	for _, o := range opts {
		sc.keeps = sc.keeps && o.name != "WithoutCheckpoint"
	}
	for _, dir := range []string{"/dir", "/cps"} {
		if err := sc.before.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(putFile(sc.before, scenePath, sceneOld), sc.before.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return sc
}

// part is the part size, piece how much of a part comes at a time.
func (sc *scene) part() int64 { return int64(len(sc.content)) / 5 }
func (sc *scene) piece() int  { return int(sc.part()) / 4 }

// putFile makes a file, durably.
func putFile(f fsys.FS, name, content string) error {
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte(content), 0)
	return errors.Join(err, file.Sync(), file.Close(), f.SyncDir(filepath.Dir(name)))
}

// scenes are the states that a download can start from. Each is made by a run that something ended.
func scenes(t *testing.T) []*scene {
	t.Helper()
	fresh := newScene(t, "fresh", smallSize, memfs.Config{})
	all := []*scene{fresh}
	for _, s := range []struct {
		name string
		ends faultfs.Plan
		all  bool // the checkpoint claims everything
	}{
		{"half", faultfs.Plan{Kind: faultfs.Write, Name: partSuffix, At: 8}, false},
		{"not committed", faultfs.Plan{Kind: faultfs.Rename, Name: partSuffix}, true},
		{"committed", faultfs.Plan{Kind: faultfs.Remove, Name: checkpointSuffix, At: 1}, true}, // the first is a fresh start's
	} {
		sc := newScene(t, s.name, smallSize, memfs.Config{})
		s.ends.Stop = true
		f := faultfs.New(sc.before, s.ends)
		if sc.run(t, f); !f.Fired() || f.Count(faultfs.Rename) == 0 {
			t.Fatalf("scene %s: %v", s.name, f)
		}
		if s.all {
			sc.claimEverything(t, sc.before)
		}
		sc.before = sc.before.Kill()
		if n := sc.intact(t, sc.before); n == 0 || s.all != (n == smallSize) {
			t.Fatalf("scene %s has %d bytes", s.name, n)
		}
		all = append(all, sc)
	}
	sum := sha256.Sum256(fresh.content)
	all = append(all,
		newScene(t, "no reservation", smallSize, memfs.Config{NoReserve: true, NoLocks: true}),
		newScene(t, "sparse, no checkpoint", smallSize, memfs.Config{}, WithoutPreallocation(), WithoutCheckpoint()),
		newScene(t, "elsewhere, digest", smallSize, memfs.Config{}, WithCheckpointDir("/cps"), WithChecksum(sha256.New, sum[:])),
	)
	if testing.Short() {
		return all // the big ones take minutes under the race detector
	}
	return append(all,
		newScene(t, "big", bigSize, memfs.Config{}),
		newScene(t, "big, no reservation", bigSize, memfs.Config{NoReserve: true}),
	)
}

// claimEverything makes the checkpoint the one that a save right before the commit would have written.
func (sc *scene) claimEverything(t *testing.T, disk *memfs.FS) {
	t.Helper()
	data, err := fsys.ReadFile(disk, scenePath+checkpointSuffix, checkpointReadLimit)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := decodeCheckpoint(data)
	if err != nil {
		t.Fatal(err)
	}
	data, err = cp.encode(func(int) []claim { return []claim{{0, smallSize, smallSize, crc64.Update(0, sc.content), true}} })
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.WriteFile(disk, scenePath+checkpointSuffix, data, checkpointMode); err != nil {
		t.Fatal(err)
	}
}

// outcome is what a run of a scene came to.
type outcome struct {
	res  *Result
	err  error
	log  string
	sent int64 // bytes of bodies
}

// run downloads once on a file system, and fails the test where the call leaves anything open or running.
func (sc *scene) run(t *testing.T, on fsys.FS) (out outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { out = sc.runInBubble(t, t.Context(), on) })
	return out
}

// runInBubble also fails the test where the call leaves a goroutine.
func (sc *scene) runInBubble(t *testing.T, ctx context.Context, on fsys.FS) outcome {
	t.Helper()
	out := sc.download(t, ctx, on)
	synctest.Wait()
	if left := othersInBubble(); left != "" {
		t.Errorf("goroutines left running:\n%s", left)
	}
	return out
}

func (sc *scene) download(t *testing.T, ctx context.Context, on fsys.FS) outcome {
	t.Helper()
	s := &service{objects: map[string][]byte{"k": sc.content}, piece: sc.piece()}
	client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{Transport: s}))
	if err != nil {
		t.Error(err)
		return outcome{err: err}
	}
	files := &opened{FS: on}
	var log records
	d, err := New(client, withFS(files), WithPartSize(sc.part()), WithConcurrency(2), WithLogger(log.logger()))
	if err != nil {
		t.Error(err)
		return outcome{err: err}
	}
	res, err := d.Download(ctx, "bkt", "k", scenePath, sc.opts...)
	if n := files.n.Load(); n != 0 {
		t.Errorf("%d files left open", n)
	}
	if n := s.open.Load(); n != 0 {
		t.Errorf("%d bodies left open", n)
	}
	if (res != nil) != (s.requests.Load() > 0) {
		t.Errorf("result %+v after %d requests", res, s.requests.Load())
	}
	return outcome{res, err, log.String(), s.sent.Load()}
}

// othersInBubble is the stacks of all goroutines of the caller's bubble but the caller's.
func othersInBubble() string {
	buf := make([]byte, 1<<18)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	header, _, _ := strings.Cut(stacks[0], "\n")
	bubble := header[strings.LastIndexByte(header, ','):] // ", synctest bubble 7]:"
	var left []string
	for _, s := range stacks[1:] {
		header, _, _ := strings.Cut(s, "\n")
		if strings.HasSuffix(header, bubble) && !strings.Contains(s, "testing/synctest.Test") {
			left = append(left, s)
		}
	}
	return strings.Join(left, "\n\n")
}

// atPath is which file is at the path: "", "old" or "new"; anything else fails the test.
func (sc *scene) atPath(t *testing.T, disk fsys.FS) string {
	t.Helper()
	data, err := fsys.ReadFile(disk, scenePath, 1<<30)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		t.Error(err)
	case string(data) == sceneOld:
		return "old"
	case string(data) == string(sc.content):
		return "new"
	default:
		t.Errorf("%d bytes at the path are neither the old file nor the new one", len(data))
	}
	return "?"
}

// intact is how many bytes of a disk a run need not fetch: those that the checkpoint claims and that are there.
func (sc *scene) intact(t *testing.T, disk *memfs.FS) (bytes int64) {
	t.Helper()
	name := ""
	for _, n := range disk.Names() {
		if strings.HasSuffix(n, checkpointSuffix) {
			name = n
		}
	}
	if name == "" {
		return 0
	}
	data, err := fsys.ReadFile(disk, name, checkpointReadLimit)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := decodeCheckpoint(data)
	if err != nil {
		t.Fatalf("a checkpoint that is not whole: %v\n%s", err, data)
	}
	file := scenePath + partSuffix
	if _, err := disk.Lstat(file); errors.Is(err, fs.ErrNotExist) && cp.complete() {
		file = scenePath
	}
	have, err := fsys.ReadFile(disk, file, 1<<30)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, p := range cp.Parts {
		if p.Offset+p.Done <= int64(len(have)) && crc64.Update(0, have[p.Offset:p.Offset+p.Done]) == p.CRC64 {
			bytes += p.Done
		}
	}
	return bytes
}

// heals runs once more, on a disk that works again: the file is right, nothing is beside it, and fetched is what was
// neither claimed nor on the disk.
func (sc *scene) heals(t *testing.T, disk *memfs.FS) outcome {
	t.Helper()
	intact := sc.intact(t, disk)
	out := sc.run(t, disk)
	if out.err != nil {
		t.Fatalf("a healthy run: %v\n%s", out.err, out.log)
	}
	if out.res.ResumedBytes != intact || out.sent != int64(len(sc.content))-intact {
		t.Errorf("%d bytes resumed and %d fetched, where %d of %d were recorded and there\n%s",
			out.res.ResumedBytes, out.sent, intact, len(sc.content), out.log)
	}
	sc.done(t, disk)
	sc.lasts(t, disk)
	return out
}

// lasts takes the power away after a call has returned without an error: the new file must still be there.
func (sc *scene) lasts(t *testing.T, disk *memfs.FS) {
	t.Helper()
	for seed := range uint64(3) {
		if at := sc.atPath(t, disk.Crash(rand.New(rand.NewPCG(seed, 0)))); at != "new" {
			t.Errorf("after a power loss (seed %d) at the path is %q", seed, at)
		}
	}
}

// done fails the test unless the new file is at the path, with nothing beside it.
func (sc *scene) done(t *testing.T, disk *memfs.FS) {
	t.Helper()
	if at := sc.atPath(t, disk); at != "new" {
		t.Errorf("at the path is %q", at)
	}
	if got := strings.Join(disk.Names(), " "); got != "/cps/ /dir/ /dir/file" {
		t.Errorf("left behind: %s", got)
	}
}

// fault is one way in which an operation fails.
type fault struct {
	name string
	plan faultfs.Plan // with At 0
}

func faults() []fault {
	return []fault{
		{"EIO", faultfs.Plan{Err: syscall.EIO}},
		{"ENOSPC", faultfs.Plan{Err: syscall.ENOSPC}},
		{"EROFS", faultfs.Plan{Err: syscall.EROFS}},
		{"EACCES", faultfs.Plan{Err: syscall.EACCES}},
		{"EDQUOT", faultfs.Plan{Err: syscall.EDQUOT}},
		{"short write, ENOSPC", faultfs.Plan{Err: syscall.ENOSPC, Kind: faultfs.Write, Short: true}},
		{"short write, EIO", faultfs.Plan{Err: syscall.EIO, Kind: faultfs.Write, Short: true}},
		{"done, but EIO", faultfs.Plan{Err: syscall.EIO, Done: true}},
		{"EIO for ever", faultfs.Plan{Err: syscall.EIO, Forever: true}},
		{"ENOSPC for ever", faultfs.Plan{Err: syscall.ENOSPC, Forever: true}},
		{"EROFS for ever", faultfs.Plan{Err: syscall.EROFS, Forever: true}},
	}
}

// short reports whether the fault is one of the short forms, of which the scenes that matter most have more.
func (f fault) short(most bool) bool {
	switch f.name {
	case "EIO":
		return true
	case "EIO for ever":
		return most || !testing.Short()
	case "ENOSPC", "short write, ENOSPC":
		return most
	}
	return most && !testing.Short()
}

// TestEveryFileOperationFails fails operation i of a download, for every i, in every way, from every state that a
// download can start from.
func TestEveryFileOperationFails(t *testing.T) {
	var failed atomic.Int64
	t.Cleanup(func() { t.Logf("operations failed: %d", failed.Load()) })
	for n, sc := range scenes(t) {
		for _, f := range faults() {
			if !long() && !f.short(n < 2) { // the first two are a fresh start and a resume
				continue
			}
			t.Run(sc.name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				for i := 0; ; i++ {
					plan := f.plan
					plan.At = i
					if !sc.fails(t, plan) {
						break
					}
					failed.Add(1)
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

// hit is the first operation that a plan has failed.
func hit(f *faultfs.FS, plan faultfs.Plan) faultfs.Op {
	n := 0
	for _, op := range f.Ops() {
		if plan.Kind != "" && plan.Kind != op.Kind {
			continue
		}
		if n == plan.At {
			return op
		}
		n++
	}
	return faultfs.Op{}
}

// needsSpace reports whether a full disk can fail the operation.
func needsSpace(op faultfs.Op) bool {
	switch op.Kind {
	case faultfs.Resolve, faultfs.Lstat, faultfs.Stat, faultfs.Remove, faultfs.Read, faultfs.Lock, faultfs.Free, faultfs.Writable:
		return false
	}
	return true
}

// fails runs the scene with one planned fault, and reports whether there was such an operation.
func (sc *scene) fails(t *testing.T, plan faultfs.Plan) bool {
	t.Helper()
	disk := sc.before.Kill()
	f := faultfs.New(disk, plan)
	out := sc.run(t, f)
	defer func() {
		if t.Failed() {
			t.Logf("%v\nerror: %v\n%s", f, out.err, out.log)
		}
	}()
	if !f.Fired() {
		if out.err != nil {
			t.Errorf("nothing failed, and the error is %v", out.err)
		}
		sc.done(t, disk)
		sc.lasts(t, disk)
		return false
	}
	at := sc.atPath(t, disk)
	switch {
	case out.err == nil:
		if at != "new" {
			t.Errorf("no error, and at the path is %q", at)
		}
		sc.lasts(t, disk)
	case !errors.Is(out.err, plan.Err):
		t.Errorf("the error does not name the cause, %v", plan.Err)
	case fsys.IsNoSpace(plan.Err) && !errors.Is(out.err, ErrNoSpace) && needsSpace(hit(f, plan)):
		t.Error("the error is not ErrNoSpace")
	case !strings.Contains(out.err.Error(), scenePath):
		t.Error("the error does not name the destination")
	}
	if at == "" {
		t.Error("the old file is gone")
	}
	if op := hit(f, plan); out.err != nil && !plan.Forever && sc.keeps && op.Kind == faultfs.Write && strings.HasSuffix(op.Name, partSuffix) {
		// All but what this one write was for is kept.
		if kept, came := sc.intact(t, disk), sc.intact(t, sc.before)+out.sent; kept < came-2*int64(sc.piece()) {
			t.Errorf("%d bytes kept of %d that were there or came", kept, came)
		}
	}
	if plan.Forever {
		// Such a file system is mounted anew before it works again, which shows what is on the disk.
		disk = disk.Crash(rand.New(rand.NewPCG(uint64(plan.At), 0)))
	}
	sc.heals(t, disk)
	return true
}

// wireFault counts what a client does with its connections, and fails one of these events. A connection that has failed
// stays broken.
type wireFault struct {
	at  int
	err error

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
	if w.n-1 != w.at {
		return nil
	}
	w.hit = what
	return &net.OpError{Op: what, Net: "tcp", Err: w.err}
}

// failed is what has failed, or "".
func (w *wireFault) failed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hit
}

// dial is DialContext of a transport.
func (w *wireFault) dial(ctx context.Context, network, addr string) (net.Conn, error) {
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

// wireConn stays broken once it has failed.
type wireConn struct {
	net.Conn
	w      *wireFault
	closed sync.Once
	mu     sync.Mutex
	broken error
}

// fails returns how the next event fails, or nil.
func (c *wireConn) fails(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		if c.broken = c.w.next(what); c.broken != nil {
			c.Conn.Close()
		}
	}
	return c.broken
}

func (c *wireConn) Read(p []byte) (int, error) { return c.do("read", c.Conn.Read, p) }

func (c *wireConn) Write(p []byte) (int, error) { return c.do("write", c.Conn.Write, p) }

func (c *wireConn) do(what string, op func([]byte) (int, error), p []byte) (n int, err error) {
	if err = c.fails(what); err == nil {
		n, err = op(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
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
)

// TestEveryNetworkEventFails fails event i of a download on the wire, for every i: a dial, a read or write of the TLS
// handshake, of requests, headers and bodies, a close. With retries the file is right, and no byte comes twice; without,
// the error names the cause, and the next call fetches the rest.
func TestEveryNetworkEventFails(t *testing.T) {
	var mu sync.Mutex
	kinds := map[string]int{}
	t.Cleanup(func() {
		total := 0
		for _, n := range kinds {
			total += n
		}
		t.Logf("network events failed: %d, %v", total, kinds)
	})
	for scheme, opts := range map[string][]osstest.Option{"http": nil, "https": {osstest.WithTLS()}} {
		s := newServer(t, opts...)
		s.Put("bkt", "k", osstest.Random(5, wireSize))
		for _, cause := range []error{syscall.ECONNRESET, syscall.EPIPE, os.ErrDeadlineExceeded, io.EOF} {
			for _, attempts := range []int{3, 1} {
				t.Run(fmt.Sprintf("%s, %v, %d attempts", scheme, cause, attempts), func(t *testing.T) {
					t.Parallel()
					for i := 0; ; i++ {
						w := newWireFault(i, cause)
						w.download(t, s, attempts)
						what := w.failed()
						if t.Failed() {
							t.Fatalf("event %d, a %s", i, what)
						}
						if what == "" {
							break
						}
						mu.Lock()
						kinds[what]++
						mu.Unlock()
					}
				})
			}
		}
	}
}

func (w *wireFault) download(t *testing.T, s *osstest.Server, attempts int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	res, err := w.once(t, s, path, attempts)
	switch {
	case err == nil:
		if res.DownloadedBytes != wireSize {
			t.Errorf("%d bytes downloaded, want %d", res.DownloadedBytes, wireSize)
		}
	case attempts > 1 || w.failed() == "":
		t.Error(err)
	case !errors.Is(err, w.err) && !(w.err == io.EOF && (errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "server closed idle connection"))): // net/http's word for an end before any answer
		t.Errorf("the error does not name the cause: %v", err)
	default:
		came := int64(0)
		if res != nil {
			came = res.DownloadedBytes
		}
		res, err = newWireFault(-1, nil).once(t, s, path, attempts)
		// What came before there was a partial file to write it to is lost.
		if err != nil || res.ResumedBytes != came && res.ResumedBytes != 0 || res.DownloadedBytes != wireSize-res.ResumedBytes {
			t.Errorf("after %d bytes: %+v, %v", came, res, err)
		}
	}
	checkFile(t, path, osstest.Random(5, wireSize))
}

// once is one call, and the end of its connections.
func (w *wireFault) once(t *testing.T, s *osstest.Server, path string, attempts int) (*Result, error) {
	t.Helper()
	hc := HTTPClient()
	transport := hc.Transport.(*transport).Transport
	transport.DialContext = w.dial
	transport.TLSClientConfig = &tls.Config{RootCAs: s.Roots()}
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, WithPartSize(wirePart), WithConcurrency(2),
		WithRetry(RetryPolicy{Attempts: attempts, MinDelay: time.Millisecond, MaxDelay: time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	res, err := d.Download(t.Context(), "bkt", "k", path)
	hc.CloseIdleConnections()
	w.end()
	return res, err
}
