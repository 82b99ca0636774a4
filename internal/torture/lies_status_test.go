package torture_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// Statuses after which another attempt can help, in the forms in which they come.
var statusesRetried = []struct {
	status int
	form   string
	fault  func() *osstest.Fault
}{
	{500, "XML", xmlError(500, "InternalError")},
	{500, "HTML", htmlAnswer(500)},
	{500, "empty", emptyAnswer(500)},
	{500, "cut", func() *osstest.Fault { return osstest.Error(500, "InternalError").CloseAfter(20) }},
	{502, "HTML", htmlAnswer(502)},
	{503, "XML", xmlError(503, "ServiceUnavailable")},
	{503, "HTML", htmlAnswer(503)},
	{503, "empty", emptyAnswer(503)},
	{503, "JSON", func() *osstest.Fault { return osstest.Inject().Reply(503, "application/json", `{"error":"busy"}`) }},
	{503, "Retry-After of the past", func() *osstest.Fault {
		return osstest.Inject().HTML(503).Header("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")
	}},
	{503, "Retry-After that is none", func() *osstest.Fault {
		return osstest.Inject().HTML(503).Header("Retry-After", "-99999999999999999999")
	}},
	{504, "HTML", htmlAnswer(504)},
	{429, "XML", xmlError(429, "QpsLimitExceeded")},
	{429, "HTML", htmlAnswer(429)},
	{429, "empty", emptyAnswer(429)},
	{408, "empty", emptyAnswer(408)},
	{400, "RequestTimeout", xmlError(400, "RequestTimeout")},
	{599, "empty", emptyAnswer(599)},
}

func htmlAnswer(status int) func() *osstest.Fault {
	return func() *osstest.Fault { return osstest.Inject().HTML(status) }
}

func emptyAnswer(status int) func() *osstest.Fault {
	return func() *osstest.Fault { return osstest.Inject().Empty(status) }
}

func xmlError(status int, code string) func() *osstest.Fault {
	return func() *osstest.Fault { return osstest.Error(status, code) }
}

func TestRetriedStatuses(t *testing.T) {
	countLies(t)
	for i, lie := range statusesRetried {
		for _, m := range momentsOf(i) {
			t.Run(fmt.Sprintf("%d %s/%s", lie.status, lie.form, m.name), func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: m.size, v4: m.v4})
				_, err := st.answerOnceOrAlways(m, lie.fault(), 0)
				var se oss.ServiceError
				if m.always && (!errors.As(err, &se) || se.StatusCode != lie.status || (se.RequestID == "") != (lie.form == "HTML" || strings.HasPrefix(lie.form, "Retry-After"))) {
					t.Errorf("%v holds %+v", err, se)
				}
			})
		}
	}
	t.Run("500s in a row, one fewer than make an error", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		f := osstest.Error(500, "InternalError")
		st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if r.Seq < lieAttempts-1 {
				return f
			}
			return nil
		})
		res, err := st.download()
		st.mustSucceed(res, err, lieParts+lieAttempts-1)
	})
	t.Run("every second answer a 500", func(t *testing.T) {
		// Whole parts in between are progress: the count begins again.
		st := newServerStage(t, stageConfig{})
		f := osstest.Error(500, "InternalError")
		st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if r.Seq%2 == 0 {
				return f
			}
			return nil
		})
		res, err := st.download(ossdl.WithConcurrency(1))
		st.mustSucceed(res, err, 2*lieParts)
	})
	t.Run("no retry at all", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.s.Nth(0, osstest.Error(500, "InternalError"))
		_, err := st.download(ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
		gaveUp(t, err, 1)
		st.mustBeRefusal(err, 500, "InternalError")
		st.mustFailAndHeal(err, errSomehow, 1)
	})
}

// finalAlone is the status after which another attempt cannot help only if no other request is in flight. Beside others, it may be
// a proxy's refusal of one connection too many; see TestFewConnectionsAllowed.
const finalAlone = "403 HTML"

// Statuses after which another attempt cannot help.
var statusesFinal = []struct {
	name       string
	fault      func() *osstest.Fault
	status     int
	first, mid error // what they mean; nil: nothing of its own
}{
	{"304", func() *osstest.Fault { return osstest.Inject().NotModified() }, 304, nil, nil},
	{"305", func() *osstest.Fault { return osstest.Inject().Empty(305) }, 305, nil, nil},
	{"400", func() *osstest.Fault { return osstest.Error(400, "InvalidArgument") }, 400, nil, nil},
	{"401 HTML", func() *osstest.Fault { return osstest.Inject().HTML(401) }, 401, nil, nil},
	{"403", func() *osstest.Fault { return osstest.Error(403, "AccessDenied") }, 403, nil, nil},
	{finalAlone, func() *osstest.Fault { return osstest.Inject().HTML(403) }, 403, nil, nil},
	{"403 signature", func() *osstest.Fault { return osstest.Error(403, "SignatureDoesNotMatch") }, 403, nil, nil},
	{"403 archived", func() *osstest.Fault { return osstest.Error(403, "InvalidObjectState") }, 403, ossdl.ErrArchived, ossdl.ErrArchived},
	{"404", func() *osstest.Fault { return osstest.Error(404, "NoSuchKey") }, 404, ossdl.ErrNotFound, ossdl.ErrObjectChanged},
	{"404 bucket", func() *osstest.Fault { return osstest.Error(404, "NoSuchBucket") }, 404, ossdl.ErrNotFound, ossdl.ErrObjectChanged},
	{"404 HTML", func() *osstest.Fault { return osstest.Inject().HTML(404) }, 404, ossdl.ErrNotFound, ossdl.ErrObjectChanged},
	{"404 cut", func() *osstest.Fault { return osstest.Error(404, "NoSuchKey").ResetAfter(30) }, 404, ossdl.ErrNotFound, ossdl.ErrObjectChanged},
	{"405", func() *osstest.Fault { return osstest.Error(405, "MethodNotAllowed") }, 405, ossdl.ErrNotFound, ossdl.ErrObjectChanged},
	{"407 HTML", func() *osstest.Fault { return osstest.Inject().HTML(407) }, 407, nil, nil},
	{"409", func() *osstest.Fault { return osstest.Error(409, "Conflict") }, 409, nil, nil},
	{"410 HTML", func() *osstest.Fault { return osstest.Inject().HTML(410) }, 410, nil, nil},
	{"451 HTML", func() *osstest.Fault { return osstest.Inject().HTML(451) }, 451, nil, nil},
	{"501", func() *osstest.Fault { return osstest.Error(501, "NotImplemented") }, 501, nil, nil},
	{"418 empty", func() *osstest.Fault { return osstest.Inject().Empty(418) }, 418, nil, nil},
}

func TestFinalStatuses(t *testing.T) {
	countLies(t)
	n := 0
	for _, lie := range statusesFinal {
		for _, m := range []struct {
			name    string
			from    int
			resumed bool
			size    int64
		}{{"only answer", 0, false, lieSmall}, {"first answer", 0, false, 0}, {"in the middle", 7, false, 0}, {"on resume", 0, true, 0}} {
			if n++; harness.LeaveOut(n, 3) {
				continue
			}
			t.Run(lie.name+"/"+m.name, func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: m.size, v4: m.from > 0})
				want, most, kept := lie.first, 1, int64(0)
				if m.from > 0 {
					want, most = lie.mid, lieParts
				}
				if m.resumed {
					st.interrupt()
					kept = lieKept
				}
				if lie.name == finalAlone {
					st.opts = append(st.opts, ossdl.WithConcurrency(1))
				}
				st.putOldFile()
				st.s.Nth(m.from, lie.fault())
				_, err := st.download()
				if want == nil {
					want = errSomehow
				}
				st.mustFail(err, want, most, true)
				var se oss.ServiceError
				if !errors.As(err, &se) || se.StatusCode != lie.status {
					t.Errorf("%v holds %+v", err, se)
				}
				for _, r := range st.s.Requests() {
					if r.Fault != "" && !strings.HasSuffix(lie.name, "HTML") && (se.RequestID != r.RequestID || !strings.Contains(err.Error(), r.RequestID)) {
						t.Errorf("%v does not name request %s", err, r.RequestID)
					}
				}
				var pe *ossdl.PartError
				if got := errors.As(err, &pe); got != (m.from > 0) || got && pe.Attempts != 1 {
					t.Errorf("%v holds %+v", err, pe)
				}
				if got := st.claimedBytes(); m.from == 0 && got != kept {
					t.Errorf("%d bytes kept, want %d", got, kept)
				}
				st.mustResume(st.claimedBytes())
			})
		}
	}
}

// TestRedirects checks that a redirect of a request with credentials is not followed, and nothing of it reaches the other
// server.
func TestRedirects(t *testing.T) {
	countLies(t)
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		for _, from := range []int{0, 7} {
			for _, v4 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d, answer %d, V4 %t", status, from, v4), func(t *testing.T) {
					elsewhere := harness.NewServer(t)
					elsewhere.Put("bkt", "key", osstest.Random(8, lieSize))
					st := newServerStage(t, stageConfig{v4: v4})
					st.putOldFile()
					st.s.Nth(from, osstest.Inject().Redirect(elsewhere.URL("bkt", "key"), status))
					_, err := st.download()
					most := 1
					if from > 0 {
						most = lieParts // the others may all have come before the one that ends the call
					}
					st.mustFail(err, errSomehow, most, true)
					if !strings.Contains(err.Error(), elsewhere.Addr()) {
						t.Errorf("%v does not say where to", err)
					}
					st.mustBeRefusal(err, status, "")
					if n := elsewhere.Conns(); n != 0 {
						t.Errorf("%d connections to the other server", n)
					}
					st.mustResume(st.claimedBytes())
				})
			}
		}
	}
	t.Run("with a token", func(t *testing.T) {
		elsewhere := harness.NewServer(t)
		st, _, _, _ := tokenStage(t, stageConfig{})
		st.s.Nth(0, osstest.Inject().Redirect(elsewhere.URL("bkt", "key"), 302))
		_, err := st.download()
		st.mustBeRefusal(err, 302, "")
		st.mustFailAndHeal(err, errSomehow, 1)
		if n := elsewhere.Conns(); n != 0 {
			t.Errorf("%d connections to the other server", n)
		}
	})
	t.Run("without credentials", func(t *testing.T) {
		// There is nothing to lose: it is followed.
		elsewhere := harness.NewServer(t)
		elsewhere.CreateBucket("bkt", osstest.PublicRead())
		st := newServerStage(t, stageConfig{client: []oss.ClientOption{withoutKey}})
		elsewhere.Put("bkt", "key", st.content)
		st.answerAlways(osstest.Inject().Redirect(elsewhere.URL("bkt", "key"), 302))
		res, err := st.download()
		st.mustSucceed(res, err, lieParts)
		for _, r := range elsewhere.Requests() {
			for name := range r.Header {
				if harness.IsOSSHeader(name) || name == "Authorization" || name == "Referer" {
					t.Errorf("%s: %q was sent on", name, r.Header.Get(name))
				}
			}
		}
	})
	t.Run("to nowhere", func(t *testing.T) {
		for location, says := range map[string]string{"": "", "::bad::": "Location", "http://\x01/": "malformed"} {
			st := newServerStage(t, stageConfig{})
			st.answerAlways(osstest.Inject().Redirect(location, 302))
			_, err := st.download()
			if says == "" {
				st.mustBeRefusal(err, 302, "")
				st.mustFailAndHeal(err, errSomehow, 1)
				continue
			}
			// Where net/http takes no such answer, it is a connection that broke.
			if gaveUp(t, err, lieAttempts); !strings.Contains(err.Error(), says) {
				t.Errorf("%q: %v", location, err)
			}
			st.mustFailAndHeal(err, errSomehow, lieAttempts)
		}
	})
}

// TestThrottled checks that fewer requests are in flight from the moment on at which there were too many.
func TestThrottled(t *testing.T) {
	countLies(t)
	const workers = 8
	for _, lie := range []struct {
		name  string
		fault *osstest.Fault
	}{
		{"503 XML", osstest.Error(503, "DownloadTrafficRateLimitExceeded")},
		{"503 HTML", osstest.Inject().HTML(503)},
		{"503 empty", osstest.Inject().Empty(503)},
		{"429 XML", osstest.Error(429, "QpsLimitExceeded")},
		{"429 empty", osstest.Inject().Empty(429)},
	} {
		for _, whose := range []string{"Downloader's", "call's"} {
			t.Run(lie.name+", the "+whose+" concurrency", func(t *testing.T) {
				st := newServerStage(t, stageConfig{opts: []ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 10, MinDelay: 1, MaxDelay: 2})}})
				var all, call []ossdl.Option
				if whose == "call's" {
					call = append(call, ossdl.WithConcurrency(workers/2))
				} else {
					all = append(all, ossdl.WithConcurrency(workers))
					call = append(call, ossdl.WithConcurrency(workers))
				}
				d, err := ossdl.New(st.client, all...)
				if err != nil {
					t.Fatal(err)
				}
				busy := workers
				if whose == "call's" {
					busy = workers / 2
				}
				// The first answer, then as many refused as are in flight together.
				var before, after atomic.Int64
				together := make(chan struct{})
				st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
					n := int64(st.s.InFlight())
					switch {
					case r.Seq == 0:
						return nil
					case r.Seq <= busy:
						before.Store(max(before.Load(), n))
						if r.Seq == busy {
							close(together)
						}
						return osstest.Inject().And(lie.fault).HoldHeaders(together)
					}
					after.Store(max(after.Load(), n))
					return osstest.Inject().Delay(10 * time.Millisecond) // so that they overlap
				})
				res, err := st.downloadWith(d, call...)
				st.mustSucceed(res, err, lieParts+workers)
				if before.Load() != int64(busy) || after.Load() > int64(busy/2) {
					t.Errorf("%d in flight before, %d after", before.Load(), after.Load())
				}
			})
		}
	}
}

// TestTrialOfRangesRefusedForItsCondition checks a download without credentials. An unsigned request cannot ask for the
// standard behaviour of ranges, so the first answer for a small object is the whole of it with a 200. The trial of ranges
// that follows has a condition, and a server that takes none together with Range says 412, for an object that has not
// changed.
func TestTrialOfRangesRefusedForItsCondition(t *testing.T) {
	s := harness.NewServer(t, osstest.WithQuirks(osstest.IfMatchWithRangeUnsupported))
	s.CreateBucket("public", osstest.PublicRead())
	content := osstest.Random(1, 4<<20)
	s.Put("public", "k", content)
	d := harness.NewUnsigned(t, s)
	path := filepath.Join(t.TempDir(), "file")
	// The whole does not end before the trial has come.
	open := make(chan struct{})
	s.Nth(0, osstest.Inject().Gate(1000, open))
	s.Once(func(r *osstest.Request) bool { return r.Header.Get("If-Match") != "" }, osstest.Inject().Before(func() { close(open) }))
	res, err := d.Download(t.Context(), "public", "k", path)
	if err != nil || !res.Verified {
		t.Fatalf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, content)
	refused := 0
	for _, r := range s.Requests() {
		if r.Status == 412 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no request was refused: nothing was tested")
	}
}

// key is a set of credentials.
type key struct{ id, secret, token string }

func (k key) GetAccessKeyID() string { return k.id }

func (k key) GetAccessKeySecret() string { return k.secret }

func (k key) GetSecurityToken() string { return k.token }

// keys is a credentials provider whose credentials change.
type keys struct {
	mu    sync.Mutex
	now   key
	asked int
}

func (k *keys) GetCredentials() oss.Credentials {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	return k.now
}

func (k *keys) set(v key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = v
}

// tokenStage is a stage whose credentials are temporary. expire ends them; renew makes others and gives them to the
// provider.
func tokenStage(t *testing.T, c stageConfig) (st *serverStage, p *keys, expire, renew func()) {
	t.Helper()
	p = &keys{}
	c.client = append(c.client, oss.SetCredentialsProvider(p))
	st = newServerStage(t, c)
	n := 0
	renew = func() {
		n++
		k := key{fmt.Sprintf("STS.osstest%d", n), fmt.Sprintf("secret%d", n), fmt.Sprintf("secret-token-%d", n)}
		st.s.AddToken(k.id, k.secret, k.token, time.Now().Add(time.Hour))
		p.set(k)
	}
	expire = func() {
		k := p.GetCredentials().(key)
		st.s.AddToken(k.id, k.secret, k.token, time.Now().Add(-time.Second))
	}
	renew()
	return st, p, expire, renew
}

func TestTokenExpires(t *testing.T) {
	countLies(t)
	for _, v4 := range []bool{false, true} {
		for _, from := range []int{0, 7} {
			t.Run(fmt.Sprintf("before answer %d, provider has a new one, V4 %t", from, v4), func(t *testing.T) {
				st, _, expire, renew := tokenStage(t, stageConfig{v4: v4})
				st.s.Nth(from, osstest.Inject().Before(func() { expire(); renew() }))
				res, err := st.download()
				st.mustSucceed(res, err, lieParts+4) // those in flight are refused together
			})
			t.Run(fmt.Sprintf("before answer %d, for good, V4 %t", from, v4), func(t *testing.T) {
				st, _, expire, renew := tokenStage(t, stageConfig{v4: v4})
				st.putOldFile()
				st.s.Nth(from, osstest.Inject().Before(expire))
				_, err := st.download()
				most := 2
				if from > 0 {
					most = lieParts + 2*4
				}
				st.mustFail(err, ossdl.ErrExpired, most, true)
				renew()
				st.mustResume(st.claimedBytes())
			})
		}
		t.Run(fmt.Sprintf("on resume, for good, V4 %t", v4), func(t *testing.T) {
			st, _, expire, renew := tokenStage(t, stageConfig{v4: v4})
			st.interrupt()
			expire()
			_, err := st.download()
			st.mustFail(err, ossdl.ErrExpired, 2, false)
			renew()
			st.mustResume(lieKept)
		})
	}
	for _, code := range []string{"SecurityTokenExpired", "InvalidSecurityToken", "AccessKeyIdAndSecurityTokenNotMatch", "InvalidAccessKeyId"} {
		t.Run(code+" in the middle, once", func(t *testing.T) {
			st, p, _, _ := tokenStage(t, stageConfig{})
			st.s.Nth(7, osstest.Error(403, code))
			res, err := st.download()
			st.mustSucceed(res, err, lieParts+1)
			if p.asked < lieParts+1 {
				t.Errorf("the provider was asked %d times", p.asked)
			}
		})
	}
	t.Run("InvalidAccessKeyId from the start", func(t *testing.T) {
		st := newServerStage(t, stageConfig{client: []oss.ClientOption{oss.SetCredentialsProvider(&keys{now: key{"nobody", "x", ""}})}})
		_, err := st.download()
		st.mustBeRefusal(err, 403, "InvalidAccessKeyId")
		st.mustFail(err, errSomehow, 1, false)
		harness.NoLeftovers(t, st.path)
	})
	t.Run("the provider fails", func(t *testing.T) {
		broken := errors.New("metadata service is away")
		st := newServerStage(t, stageConfig{client: []oss.ClientOption{oss.SetCredentialsProvider(&failingKeys{left: 8, err: broken})}})
		_, err := st.download()
		st.mustFail(err, broken, 8, false)
		st.claimedBytes()
	})
}

// failingKeys is a credentials provider that fails after a number of calls.
type failingKeys struct {
	mu   sync.Mutex
	left int
	err  error
}

func (k *failingKeys) GetCredentials() oss.Credentials {
	return key{osstest.AccessKeyID, osstest.AccessKeySecret, ""}
}

func (k *failingKeys) GetCredentialsE() (oss.Credentials, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left--; k.left < 0 {
		return nil, k.err
	}
	return k.GetCredentials(), nil
}

// TestClockSkew is about a clock that is wrong, here or there.
func TestClockSkew(t *testing.T) {
	countLies(t)
	for _, v4 := range []bool{false, true} {
		for _, skew := range []time.Duration{3 * time.Hour, -23 * time.Hour} {
			wrong := func(st *serverStage) { st.s.SetNow(func() time.Time { return time.Now().Add(skew) }) }
			t.Run(fmt.Sprintf("by %v, V4 %t", skew, v4), func(t *testing.T) {
				st := newServerStage(t, stageConfig{v4: v4})
				wrong(st)
				res, err := st.download()
				st.mustSucceed(res, err, lieParts+1)
			})
			t.Run(fmt.Sprintf("by %v, resumed, V4 %t", skew, v4), func(t *testing.T) {
				st := newServerStage(t, stageConfig{v4: v4})
				st.interrupt()
				wrong(st)
				res, err := st.download()
				st.mustSucceed(res, err, lieParts-5+1)
				if res.ResumedBytes != lieKept {
					t.Errorf("%+v", *res)
				}
			})
			t.Run(fmt.Sprintf("by %v in the middle, V4 %t", skew, v4), func(t *testing.T) {
				st := newServerStage(t, stageConfig{v4: v4})
				st.s.Nth(7, osstest.Inject().Before(func() { wrong(st) }))
				res, err := st.download()
				st.mustSucceed(res, err, lieParts+4)
			})
		}
		t.Run(fmt.Sprintf("by more than a day, V4 %t", v4), func(t *testing.T) {
			// A server must not choose the dates of signatures at will.
			for _, skew := range []time.Duration{25 * time.Hour, -25 * time.Hour, 10 * 365 * 24 * time.Hour} {
				fieldCase()
				st := newServerStage(t, stageConfig{v4: v4})
				st.s.SetNow(func() time.Time { return time.Now().Add(skew) })
				_, err := st.download()
				st.mustBeRefusal(err, 403, "RequestTimeTooSkewed")
				if st.requestsMade != 1 {
					t.Errorf("%v: %d requests", skew, st.requestsMade)
				}
			}
		})
		for name, fault := range map[string]func() *osstest.Fault{
			"no date": func() *osstest.Fault { return osstest.Error(403, "RequestTimeTooSkewed").Header("Date", "today") },
			"a wrong date": func() *osstest.Fault {
				return osstest.Error(403, "RequestTimeTooSkewed").Header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
			},
		} {
			t.Run(fmt.Sprintf("for ever, %s, V4 %t", name, v4), func(t *testing.T) {
				st := newServerStage(t, stageConfig{v4: v4})
				st.answerAlways(fault())
				_, err := st.download()
				st.mustBeRefusal(err, 403, "RequestTimeTooSkewed")
				st.mustFailAndHeal(err, errSomehow, 2)
			})
		}
	}
}

// TestRefused is about refusals of the first request.
func TestRefused(t *testing.T) {
	countLies(t)
	for _, v4 := range []bool{false, true} {
		for name, c := range map[string]struct {
			config stageConfig
			change func(*serverStage)
			status int
			code   string
			want   error
		}{
			"no such object": {change: func(st *serverStage) { st.s.Delete("bkt", "key") }, status: 404, code: "NoSuchKey", want: ossdl.ErrNotFound},
			"delete marker": {stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}},
				func(st *serverStage) { st.s.Delete("bkt", "key") }, 404, "NoSuchKey", ossdl.ErrNotFound},
			"access denied":  {stageConfig{bucket: []osstest.BucketOption{osstest.NotYours()}}, nil, 403, "AccessDenied", nil},
			"another region": {stageConfig{bucket: []osstest.BucketOption{osstest.Elsewhere("oss-cn-beijing.aliyuncs.com")}}, nil, 403, "AccessDenied", nil},
			"archived":       {stageConfig{object: []osstest.ObjectOption{osstest.Archived("")}}, nil, 403, "InvalidObjectState", ossdl.ErrArchived},
		} {
			t.Run(fmt.Sprintf("%s, V4 %t", name, v4), func(t *testing.T) {
				c.config.v4 = v4
				st := newServerStage(t, c.config)
				st.putOldFile()
				if c.change != nil {
					c.change(st)
				}
				_, err := st.download()
				if c.want == nil {
					c.want = errSomehow
				}
				st.mustFail(err, c.want, 1, true)
				st.mustBeRefusal(err, c.status, c.code)
				harness.NoLeftovers(t, st.path)
			})
		}
	}
	t.Run("signed for another region", func(t *testing.T) {
		st := newServerStage(t, stageConfig{v4: true, client: []oss.ClientOption{oss.Region("cn-beijing")}})
		_, err := st.download()
		st.mustFail(err, errSomehow, 1, false)
		st.mustBeRefusal(err, 400, "InvalidArgument")
	})
	t.Run("wrong secret", func(t *testing.T) {
		st := newServerStage(t, stageConfig{client: []oss.ClientOption{oss.SetCredentialsProvider(&keys{now: key{osstest.AccessKeyID, "wrong", ""}})}})
		_, err := st.download()
		st.mustFail(err, errSomehow, 1, false)
		st.mustBeRefusal(err, 403, "SignatureDoesNotMatch")
	})
}

// TestTwoErrorsAtOnce checks that of two workers that fail together with different errors the first is reported, nothing
// panics and nobody hangs.
func TestTwoErrorsAtOnce(t *testing.T) {
	countLies(t)
	for i := range 20 {
		st := newServerStage(t, stageConfig{})
		both := make(chan struct{})
		st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			switch r.Seq {
			case 1:
				return osstest.Error(403, "AccessDenied").HoldHeaders(both)
			case 2:
				close(both)
				if i%2 == 0 {
					return osstest.Error(404, "NoSuchKey").HoldHeaders(both)
				}
				return osstest.Inject().OtherETag(`"0123456789ABCDEF0123456789ABCDEF"`).HoldHeaders(both)
			}
			return nil
		})
		_, err := st.download()
		var se oss.ServiceError
		if !errors.Is(err, ossdl.ErrObjectChanged) && !(errors.As(err, &se) && se.Code == "AccessDenied") {
			t.Fatal(err)
		}
		if strings.Contains(err.Error(), "cancel") {
			t.Fatal(err)
		}
		st.mustHaveFired()
		st.mustResume(st.claimedBytes())
	}
}

// TestTenFailingCalls checks that failing calls, one after another, leave nothing: no goroutine, no connection, no file.
func TestTenFailingCalls(t *testing.T) {
	countLies(t)
	st := newServerStage(t, stageConfig{})
	st.answerFrom(1, osstest.Error(403, "AccessDenied"))
	for range 10 {
		if _, err := st.download(ossdl.WithoutCheckpoint(), ossdl.WithConcurrency(8)); err == nil {
			t.Fatal("completed")
		}
		harness.NoLeftovers(t, st.path)
		st.mustLeavePathAlone(false)
	}
	st.mustHaveFired()
	st.mustResume(0)
}
