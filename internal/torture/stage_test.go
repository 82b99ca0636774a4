package torture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The tests of the files lies_*_test.go are about servers and networks that do not keep to the protocol. Each lie is told
// on the wire, and each test asks for the same things: the right file or the error that the interface names, few requests,
// no byte where it does not belong, every planned fault met, nothing left running, and a healthy run afterwards that
// completes.

const (
	liePart     = 64 << 10
	lieParts    = 17
	lieSize     = (lieParts-1)*liePart + 12345
	lieSmall    = 20_000 // one request
	lieAttempts = 3
	lieWorkers  = 4
	lieKept     = 5 * liePart // what the interrupted run of a stage leaves
)

// lieRetry is as patient as the tests are.
var lieRetry = ossdl.RetryPolicy{Attempts: lieAttempts, MinDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond}

// serverStage is one object of a server and the path it is downloaded to.
type serverStage struct {
	t            *testing.T
	s            *osstest.Server
	content      osstest.Content
	path         string
	label        string
	http         *http.Client
	client       *oss.Client
	opts         []ossdl.Option  // of every download
	requestsMade int             // by the last download
	took         time.Duration   // for the last download
	httpRepeats  bool            // net/http may repeat requests by itself, which the engine does not see
	damagedBytes bool            // bytes that are not the object's are expected to be given out
	ctx          context.Context // of every download
	returned     func()          // nil, or called as soon as a download has returned
	through      entryPoint
}

// entryPoint is what a stage's downloads go through.
type entryPoint string

const (
	viaKey      entryPoint = "Download"
	viaUnsigned entryPoint = "Download of an unsigned client"
	viaURL      entryPoint = "DownloadURL"
	viaWriter   entryPoint = "DownloadTo"
	viaReader   entryPoint = "Open"
)

// toFile reports whether it makes a file, and resumes one.
func (e entryPoint) toFile() bool { return e != viaWriter && e != viaReader }

// stageConfig is what differs between stages; the zero value is an ordinary object of lieSize bytes.
type stageConfig struct {
	size   int64
	v4     bool
	server []osstest.Option
	bucket []osstest.BucketOption
	object []osstest.ObjectOption
	client []oss.ClientOption
	opts   []ossdl.Option
	sealed bool // the object is encrypted, and the options have its key

	through entryPoint // Download where it is not given
}

// liesTold is the name of their count.
const liesTold = "lies told"

// countLies prints how many lies a test has told, once its parallel subtests have ended too.
func countLies(t *testing.T) {
	before := harness.Tried.Count(liesTold)
	t.Cleanup(func() { t.Logf("%d lies told", harness.Tried.Count(liesTold)-before) })
}

// quietHTTP checks that net/http does not print what comes behind the end of an answer, with the log package of the program.
func quietHTTP(t *testing.T) {
	var printed bytes.Buffer // the log package writes to it under a lock
	log.SetOutput(&printed)
	t.Cleanup(func() {
		log.SetOutput(os.Stderr)
		if printed.String() != "" {
			t.Errorf("printed: %.300s", &printed)
		}
	})
}

func newServerStage(t *testing.T, c stageConfig) *serverStage {
	t.Helper()
	harness.Tried.Add(liesTold, 1)
	if c.size == 0 {
		c.size = lieSize
	}
	if c.through == "" {
		c.through = viaKey
	}
	if c.through == viaUnsigned {
		c.bucket = append(c.bucket, osstest.PublicRead())
		c.client = append(c.client, withoutKey)
	}
	st := &serverStage{
		through: c.through, ctx: t.Context(),
		t: t, s: harness.NewServer(t, c.server...), content: osstest.Random(7, c.size), path: filepath.Join(t.TempDir(), "file"),
		label: t.Name(), http: ossdl.HTTPClient(),
	}
	st.s.CreateBucket("bkt", c.bucket...)
	if c.sealed {
		stageSealer.Put(st.s, "key", harness.Bytes(t, st.content), c.object...)
		c.opts = append([]ossdl.Option{ossdl.WithDecryption(&harness.MasterKey{})}, c.opts...)
	} else {
		st.s.Put("bkt", "key", st.content, c.object...)
	}
	st.transport().TLSClientConfig = st.s.HTTPClient().Transport.(*http.Transport).TLSClientConfig
	t.Cleanup(st.http.CloseIdleConnections)
	opts := []oss.ClientOption{oss.HTTPClient(st.http)}
	if c.v4 {
		opts = append(opts, oss.AuthVersion(oss.AuthV4))
	}
	st.client = st.newClient(append(opts, c.client...)...)
	st.opts = append([]ossdl.Option{ossdl.WithPartSize(liePart), ossdl.WithConcurrency(lieWorkers), ossdl.WithRetry(lieRetry)}, c.opts...)
	return st
}

// stageSealer encrypts the objects of stages that have encrypted ones.
var stageSealer = harness.Sealer{Seed: "stage"}

// withoutKey makes a client one that oss.New was given no key for.
func withoutKey(c *oss.Client) {
	plain, err := oss.New("oss.invalid", "", "")
	if err != nil {
		panic(err)
	}
	c.Config.CredentialsProvider = plain.Config.CredentialsProvider
}

func (st *serverStage) newClient(opts ...oss.ClientOption) *oss.Client {
	st.t.Helper()
	client, err := st.s.Client(opts...)
	if err != nil {
		st.t.Fatal(err)
	}
	return client
}

// transport is the one that everything of a stage goes through.
func (st *serverStage) transport() *http.Transport { return harness.TransportOf(st.http) }

// download makes one call, and fails the test where the call leaves a goroutine or a request behind.
func (st *serverStage) download(opts ...ossdl.Option) (*ossdl.Result, error) {
	st.t.Helper()
	d, err := ossdl.New(st.client)
	if err != nil {
		st.t.Fatal(err)
	}
	return st.downloadWith(d, opts...)
}

func (st *serverStage) downloadWith(d *ossdl.Downloader, opts ...ossdl.Option) (*ossdl.Result, error) {
	st.t.Helper()
	path := ""
	if st.through.toFile() {
		path = st.path
	}
	return st.call(path, func(ctx context.Context) (*ossdl.Result, error) {
		return st.enter(ctx, d, append(st.opts[:len(st.opts):len(st.opts)], opts...))
	})
}

// call makes one call of any entry point, to path or "".
func (st *serverStage) call(path string, fn func(ctx context.Context) (*ossdl.Result, error)) (res *ossdl.Result, err error) {
	st.t.Helper()
	st.s.ResetLog()
	begun := time.Now()
	pprof.Do(st.ctx, pprof.Labels("stage", st.label), func(ctx context.Context) { res, err = fn(ctx) })
	st.took = time.Since(begun)
	if st.returned != nil {
		st.returned()
	}
	st.noGoroutinesLeft(leaks.Ours)
	ctx, cancel := context.WithTimeout(st.t.Context(), 10*time.Second)
	defer cancel()
	if werr := st.s.WaitFor(ctx, func() bool { return st.s.InFlight() == 0 }); werr != nil {
		st.t.Errorf("%d requests are left: %v", st.s.InFlight(), werr)
	}
	st.http.CloseIdleConnections()
	st.noGoroutinesLeft(func(string) bool { return true })
	// What was sent before a connection ended is read by the server, and belongs to this call.
	for deadline := time.Now().Add(10 * time.Second); st.s.OpenConns() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			st.t.Errorf("%d connections are left", st.s.OpenConns())
			break
		}
	}
	st.requestsMade = st.s.Stats().Requests
	if res != nil && res.Requests < st.requestsMade && !st.httpRepeats { // more: a request that was ended before it was sent
		st.t.Errorf("Result.Requests is %d, the server had %d", res.Requests, st.requestsMade)
	}
	if err != nil && (st.requestsMade > 0 && res == nil && st.through != viaReader || res != nil && (res.Verified || res.CRC64 != 0)) {
		st.t.Errorf("result %+v beside %v", res, err)
	}
	if err == nil && (res.Size != st.content.Size() || res.CRC64 != st.content.CRC64() || res.Path != path) {
		st.t.Errorf("result %+v", *res)
	}
	return res, err
}

// enter downloads in the stage's way. What does not come as a file is made one where it is all there; before, it must be
// right as far as it goes.
func (st *serverStage) enter(ctx context.Context, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.Result, error) {
	st.t.Helper()
	var got []byte
	var res *ossdl.Result
	var err error
	switch st.through {
	case viaURL:
		v := oss.AuthV1
		if st.client.Config.AuthVersion == oss.AuthV4 {
			v = oss.AuthV4
		}
		return d.DownloadURL(ctx, harness.Sign(st.t, st.s, v, time.Hour, "key"), st.path, append(opts, ossdl.WithHTTPClient(st.http))...)
	case viaReader:
		got, res, err = st.readAll(ctx, d, opts)
	case viaWriter:
		to := &harness.Memory{Content: make([]byte, 2*lieSize)} // the object may be said to be longer than it is
		res, err = d.DownloadTo(ctx, "bkt", "key", to, opts...)
		got = bytes.TrimRight(to.Content, "\x00")
	default:
		return d.Download(ctx, "bkt", "key", st.path, opts...)
	}
	want := harness.Bytes(st.t, st.content)
	for i, b := range got {
		if !st.damagedBytes && (b != 0 || st.through == viaReader) && (i >= len(want) || b != want[i]) {
			st.t.Errorf("byte %d is not the object's, beside %v", i, err)
			break
		}
	}
	if err == nil {
		if st.through == viaWriter {
			got = append(got, make([]byte, max(0, len(want)-len(got)))...)
		}
		if werr := os.WriteFile(st.path, got, 0o644); werr != nil {
			st.t.Fatal(werr)
		}
	}
	return res, err
}

func (st *serverStage) readAll(ctx context.Context, d *ossdl.Downloader, opts []ossdl.Option) ([]byte, *ossdl.Result, error) {
	r, err := d.Open(ctx, "bkt", "key", opts...)
	if err != nil {
		return nil, nil, err
	}
	got, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return got, r.Result(), err
}

// noGoroutinesLeft waits until no goroutine that the stage's calls have started is left, among those whose stack is of interest.
// Goroutines inherit the labels of those that start them, so parallel tests do not disturb each other.
func (st *serverStage) noGoroutinesLeft(of func(stack string) bool) {
	st.t.Helper()
	label := fmt.Sprintf("%q:%q", "stage", st.label)
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		var all bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
			st.t.Fatal(err)
		}
		left = left[:0]
		for stack := range strings.SplitSeq(all.String(), "\n\n") {
			if strings.Contains(stack, label) && of(stack) && !strings.Contains(stack, "internal/osstest") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	st.t.Errorf("goroutines are left:\n%s", strings.Join(left, "\n\n"))
}

// interrupt makes an earlier run that got lieKept bytes and then no permission.
func (st *serverStage) interrupt() {
	st.t.Helper()
	denied := osstest.Error(403, "AccessDenied")
	st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Start >= lieKept {
			return denied
		}
		return nil
	})
	if _, err := st.download(ossdl.WithConcurrency(1)); err == nil {
		st.t.Fatal("the run that was to be interrupted completed")
	}
	if kept := st.claimedBytes(); kept != lieKept {
		st.t.Fatalf("the interrupted run left %d bytes, want %d", kept, lieKept)
	}
	st.s.ClearFaults()
}

// putOldFile puts a file at the path that must survive every failure.
func (st *serverStage) putOldFile() {
	st.t.Helper()
	if err := os.WriteFile(st.path, []byte("old"), 0o644); err != nil {
		st.t.Fatal(err)
	}
}

// claimedBytes is how many bytes the checkpoint claims, each of which must be right on disk. No byte of the partial file may be
// one that belongs elsewhere, claimed or not, and partial file and checkpoint must be there together.
func (st *serverStage) claimedBytes() (sum int64) {
	st.t.Helper()
	data, err := os.ReadFile(st.path + harness.CheckpointSuffix)
	disk, derr := os.ReadFile(st.path + harness.PartSuffix)
	if errors.Is(err, fs.ErrNotExist) && errors.Is(derr, fs.ErrNotExist) {
		return 0
	}
	if err != nil || derr != nil {
		st.t.Fatal(err, derr)
	}
	cp, err := checkpoints.Decode(data)
	if err != nil {
		st.t.Fatal(err)
	}
	want := make([]byte, st.content.Size())
	if _, err := st.content.ReadAt(want, 0); err != nil {
		st.t.Fatal(err)
	}
	for i, b := range disk {
		if b != 0 && (i >= len(want) || b != want[i]) {
			st.t.Fatalf("byte %d of the partial file is not the object's", i)
		}
	}
	for _, p := range cp.Parts {
		b := disk[p.Offset : p.Offset+p.Done]
		if !bytes.Equal(b, want[p.Offset:p.Offset+p.Done]) || crc64.Update(0, b) != p.CRC64 {
			st.t.Fatalf("claim %+v is wrong", p)
		}
		sum += p.Done
	}
	return sum
}

// mustLeavePathAlone asks that a failed call has left the path as it was: absent, or the old file.
func (st *serverStage) mustLeavePathAlone(old bool) {
	st.t.Helper()
	got, err := os.ReadFile(st.path)
	switch {
	case old && string(got) != "old":
		st.t.Errorf("the old file is gone: %q, %v", got, err)
	case !old && !errors.Is(err, fs.ErrNotExist):
		st.t.Errorf("a file is at the path: %d bytes, %v", len(got), err)
	}
	if _, err := os.Lstat(st.path + harness.LockSuffix); err == nil {
		st.t.Error("the lock file is left behind")
	}
}

// mustHaveFired asks that every fault was met, and ends them.
func (st *serverStage) mustHaveFired() {
	st.t.Helper()
	if left := st.s.Unfired(); len(left) > 0 {
		st.t.Errorf("faults that never happened: %v", left)
	}
	st.s.ClearFaults()
}

// mustSucceed asks that a call has brought the object, with at most so many requests.
func (st *serverStage) mustSucceed(res *ossdl.Result, err error, most int) {
	st.t.Helper()
	st.mustHaveFired()
	if err != nil {
		st.logRequests()
		st.t.Fatal(err)
	}
	harness.CheckFile(st.t, st.path, st.content)
	st.mustAskAtMost(most)
}

// mustFailAndHeal asks that a call has failed with want, after at most so many requests, and that a healthy call then completes
// with what was kept.
func (st *serverStage) mustFailAndHeal(err, want error, most int) {
	st.t.Helper()
	st.mustFail(err, want, most, false)
	st.mustResume(st.claimedBytes())
}

func (st *serverStage) mustFail(err, want error, most int, old bool) {
	st.t.Helper()
	st.mustHaveFired()
	if err == nil || want != errSomehow && !errors.Is(err, want) {
		st.logRequests()
		st.t.Fatalf("error %v, want %v", err, want)
	}
	if errors.Is(err, context.Canceled) {
		st.t.Errorf("the first cause is lost: %v", err)
	}
	if want == ossdl.ErrArchived && st.through != viaURL {
		most++ // a HEAD says in which class and state the object is
	}
	names := []string{"oss://bkt/key", st.path}
	switch {
	case st.through == viaURL:
		names[0] = st.s.URL("bkt", "key")
	case !st.through.toFile():
		names = names[:1]
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			st.t.Errorf("%v does not name %s", err, name)
		}
	}
	for _, secret := range []string{osstest.AccessKeyID, osstest.AccessKeySecret, "ignature=", "StringToSign", "STS.osstest", "secret-token"} {
		if strings.Contains(fmt.Sprintf("%+v", err), secret) {
			st.t.Errorf("%v holds %s", err, secret)
		}
	}
	st.mustLeavePathAlone(old)
	st.mustAskAtMost(most)
}

// errSomehow (failed somehow) stands for any error, where a test has looked at the error by itself.
var errSomehow = errors.New("an error that is looked at by itself")

// mustResume asks that the same call, now undisturbed, completes, and fetches only what is missing.
func (st *serverStage) mustResume(kept int64) {
	st.t.Helper()
	// One worker: nobody takes over a range, of which both would read some bytes.
	res, err := st.download(ossdl.WithConcurrency(1))
	if err != nil {
		st.logRequests()
		st.t.Fatal("healthy run: ", err)
	}
	harness.CheckFile(st.t, st.path, st.content)
	if res.ResumedBytes != kept || res.DownloadedBytes != st.content.Size()-kept {
		st.t.Errorf("the healthy run kept %d bytes and fetched %d, want %d and %d", res.ResumedBytes, res.DownloadedBytes, kept, st.content.Size()-kept)
	}
}

// mustAskAtMost checks that the last call made at most so many requests, not counting those that it made only because the
// machine was too busy.
func (st *serverStage) mustAskAtMost(requests int) {
	st.t.Helper()
	if more := harness.TakenOver(st.s.Requests(), lieWorkers, st.took); st.requestsMade > requests+more {
		st.logRequests()
		st.t.Errorf("%d requests in %v, want at most %d, and %d for ranges that seemed slow", st.requestsMade, st.took, requests, more)
	}
}

// mustFetch checks how many body bytes the last call read, not counting those that came twice only because the machine was
// too busy.
func (st *serverStage) mustFetch(res *ossdl.Result, size int64) {
	st.t.Helper()
	if twice := harness.TakenOverBytes(st.s.Requests(), st.took); res.DownloadedBytes < size || res.DownloadedBytes > size+twice {
		st.logRequests()
		st.t.Errorf("%d bytes read in %v, want %d, and at most %d of ranges that seemed slow: %+v", res.DownloadedBytes, st.took, size, twice, *res)
	}
}

// logRequests prints the wire of the last call.
func (st *serverStage) logRequests() {
	st.t.Helper()
	for _, r := range st.s.Requests() {
		st.t.Logf("%d %s %s %s If-Match %s: %d, %d bytes, %s", r.Seq, r.Method, r.Range, r.Query, r.Header.Get("If-Match"), r.Status, r.Sent, r.Fault)
	}
}

// partError is the *PartError of err, which must be there.
func partError(t *testing.T, err error) *ossdl.PartError {
	t.Helper()
	var pe *ossdl.PartError
	if !errors.As(err, &pe) {
		t.Fatalf("error %v holds no *PartError", err)
	}
	// By URL the bucket is in the path.
	if name := "/" + pe.Bucket + "/" + pe.Key; !strings.HasSuffix(name, "/bkt/key") || pe.Size <= 0 {
		t.Errorf("%+v", *pe)
	}
	return pe
}

// mustBeRefusal asks that err holds the service's own word, with the request ID of an answer of that status to the last call;
// code is "" where the answer has none. A redirect is a refusal, too.
func (st *serverStage) mustBeRefusal(err error, status int, code string) {
	st.t.Helper()
	var se oss.ServiceError
	if !errors.As(err, &se) || se.StatusCode != status || se.Code != code {
		st.t.Errorf("%v holds %+v, want status %d and code %q", err, se, status, code)
	}
	named := func(r osstest.Request) bool { return r.Status == status && r.RequestID == se.RequestID }
	if !slices.ContainsFunc(st.s.Requests(), named) || !strings.Contains(err.Error(), se.RequestID) {
		st.t.Errorf("%v does not name the request that was refused", err)
	}
}

// gaveUp asks that err is of a range for which so many attempts were made, and returns what it says of the last.
func gaveUp(t *testing.T, err error, attempts int) *ossdl.PartError {
	t.Helper()
	pe := partError(t, err)
	if pe.Attempts != attempts {
		t.Errorf("%v: attempts %d, want %d", err, pe.Attempts, attempts)
	}
	return pe
}

// mustBeOddAnswer asks that err is of an answer that says success and is not what was asked for, by its request ID.
func (st *serverStage) mustBeOddAnswer(err error) {
	st.t.Helper()
	var se oss.ServiceError
	if !harness.IsOddAnswer(err) || errors.As(err, &se) && !strings.Contains(err.Error(), se.RequestID) {
		st.t.Errorf("%v holds no odd answer, %+v", err, se)
	}
}

// moment is when a lie is told: in one answer, or in all from the n-th on; of a fresh run or of a resumed one.
type moment struct {
	name    string
	size    int64
	resumed bool
	v4      bool
	old     bool
	from    int
	always  bool
	clean   int // requests of an undisturbed run
}

// moments is one of those that an entry point can have, another one for each lie; all of them in the long form. Under -short
// each entry point has a sixth of the lies.
func (e entryPoint) moments(lie int) (some []moment) {
	if harness.LeaveOut(lie+len(e), 6) {
		return nil
	}
	for _, m := range moments {
		// Where requests may not say how they want ranges outside the object, the answer to the first is a 200.
		if m.resumed && !e.toFile() || m.size == lieSmall && e != viaWriter && e != viaReader {
			continue
		}
		some = append(some, m)
	}
	if !harness.Long() {
		some = some[lie%len(some):][:1]
	}
	return some
}

var moments = []moment{
	{name: "only answer", size: lieSmall, clean: 1},
	{name: "only answer, always", size: lieSmall, always: true, old: true},
	{name: "first answer", v4: true, clean: lieParts},
	{name: "first answer, over an old file", old: true, clean: lieParts},
	{name: "answer in the middle", from: 7, clean: lieParts, v4: true},
	{name: "all answers", always: true},
	{name: "all but the first", from: 1, always: true, old: true},
	{name: "first answer of a resumed run", resumed: true, clean: lieParts - 5},
	{name: "answer in the middle of a resumed run", resumed: true, from: 4, v4: true, clean: lieParts - 5},
	{name: "all answers of a resumed run", resumed: true, always: true, v4: true},
}

// momentsOf is a share of the moments, another one for each lie; all of them in the long form.
func momentsOf(lie int) (some []moment) {
	every := 2
	switch {
	case os.Getenv("OSSDL_LONG") != "":
		every = 1
	case testing.Short():
		every = 8
	}
	for i, m := range moments {
		if (i+lie)%every == 0 {
			some = append(some, m)
		}
	}
	return some
}

// leeway is why there may be more requests than a lie costs by itself.
type leeway int

const (
	mayStall leeway = 1 << iota // honest answers may seem to stall, too
	allStart                    // all workers start although every answer is a lie
)

// answerOnceOrAlways runs the stage under a lie for which the request is made again: told once it costs one request more,
// told always it fails a range.
func (st *serverStage) answerOnceOrAlways(m moment, fault *osstest.Fault, l leeway) (*ossdl.Result, error) {
	st.t.Helper()
	if m.resumed {
		st.interrupt()
	}
	if m.old {
		st.putOldFile()
	}
	if m.always {
		st.answerFrom(m.from, fault)
	} else {
		st.s.Nth(m.from, fault)
	}
	res, err := st.download()
	if !m.always {
		most := m.clean + 1
		if st.httpRepeats {
			most++
		}
		if l&mayStall != 0 {
			most *= 2
		}
		st.mustSucceed(res, err, most)
		return res, err
	}
	gaveUp(st.t, err, lieAttempts)
	most := lieAttempts // one worker until an answer is accepted
	if m.from > 0 || l&allStart != 0 {
		most = m.from + 4*lieAttempts
	}
	if st.httpRepeats {
		most += 4
	}
	if m.from > 0 && l&mayStall != 0 {
		// On a busy machine the honest answer may be read while others stall: they seem to be one too many, once for each worker.
		most += lieWorkers
	}
	st.mustFail(err, errSomehow, most, m.old)
	st.mustResume(st.claimedBytes())
	return res, err
}

// answerAlways and answerFrom lie in every answer, or from the n-th of a call on.
func (st *serverStage) answerAlways(f *osstest.Fault) { st.answerFrom(0, f) }

func (st *serverStage) answerFrom(n int, f *osstest.Fault) {
	st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Seq < n {
			return nil
		}
		return f
	})
}
