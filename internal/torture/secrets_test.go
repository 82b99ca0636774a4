package torture_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

const (
	testKeyID     = "STS.NTosstestOsstest0001"
	testToken     = "CAISexampleSecurityToken1234567890"
	testProxyWord = "proxypassword"
)

// spy remembers what is secret of the requests that go through it.
type spy struct {
	http.RoundTripper
	mu      sync.Mutex
	secrets map[string]bool
}

func (s *spy) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	for _, secret := range secretsOf(r.Header.Get("Authorization"), r.URL.RawQuery) {
		s.secrets[secret] = true
		s.secrets[url.QueryEscape(secret)] = true
	}
	s.mu.Unlock()
	return s.RoundTripper.RoundTrip(r)
}

// secretsOf is what of a request is nobody's business: what comes with its Authorization, and its query, whole and in its
// parts.
func secretsOf(authorization, query string) (found []string) {
	if _, fields, ok := strings.Cut(authorization, " "); ok {
		found = append(found, fields)
		if _, signature, v1 := strings.Cut(fields, ":"); v1 {
			found = append(found, signature)
		} else {
			for field := range strings.SplitSeq(fields, ",") {
				_, value, _ := strings.Cut(field, "=")
				found = append(found, value)
			}
		}
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return append(found, query)
	}
	for _, name := range []string{"Signature", "x-oss-signature", "OSSAccessKeyId", "x-oss-credential", "security-token", "x-oss-security-token"} {
		if v := parameters.Get(name); v != "" {
			found = append(found, v)
		}
	}
	if found != nil && authorization == "" { // a signed URL
		found = append(found, query)
		for pair := range strings.SplitSeq(query, "&") {
			found = append(found, pair)
		}
	}
	return found
}

func (s *spy) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []string{testKeyID, osstest.AccessKeySecret, testToken, testProxyWord}
	for secret := range s.secrets {
		all = append(all, secret)
	}
	return all
}

// mirror is an answer that holds what was sent.
type mirror struct {
	fault    func(sent string) *osstest.Fault
	success  bool // of an object's bytes: a listing has no such fields
	harmless bool // the download completes nevertheless
}

// mirrors have what was sent in every field of an answer that is read, and in what is none.
func mirrors() map[string]mirror {
	raw := func(format string) mirror {
		return mirror{fault: func(sent string) *osstest.Fault { return osstest.Inject().Raw(fmt.Appendf(nil, format, sent)) }}
	}
	all := map[string]mirror{
		"element": {fault: func(sent string) *osstest.Fault {
			return osstest.Inject().Reply(400, "application/xml", "<Error><Code>InvalidArgument</Code><Message>Bad.</Message><ArgumentValue>"+escaped(sent)+"</ArgumentValue></Error>")
		}},
		"page": {fault: func(sent string) *osstest.Fault {
			return osstest.Inject().Reply(503, "text/html", "<html>"+sent+"</html>")
		}},
		"no XML": {fault: func(sent string) *osstest.Fault {
			return osstest.Inject().Reply(403, "application/xml", "<Error>"+sent)
		}},
		"location": {fault: func(sent string) *osstest.Fault {
			return osstest.Inject().Redirect("http://elsewhere.test/?"+sent, 302)
		}},
		"host of a location": {fault: func(sent string) *osstest.Fault {
			words := strings.Fields(sent)
			return osstest.Inject().Redirect("http://"+words[len(words)-1]+".test/", 302)
		}},
		"scheme of a location": {fault: func(sent string) *osstest.Fault {
			words := strings.Fields(sent)
			return osstest.Inject().Redirect(words[len(words)-1]+"://elsewhere.test/", 302)
		}},
		"bad location":    {fault: func(sent string) *osstest.Fault { return osstest.Inject().Redirect("http://"+sent+"@/%zz?"+sent, 302) }},
		"status line":     raw("HTTP/1.1 403 %s\r\nContent-Length: 0\r\n\r\n"),
		"no status":       raw("%s HTTP/1.1 200 OK\r\n\r\n"),
		"no header":       raw("HTTP/1.1 200 OK\r\n%s\r\n\r\n"),
		"no length":       raw("HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n"),
		"no encoding":     raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n"),
		"no status value": raw("HTTP/1.1 %s\r\n\r\n"),
	}
	for _, element := range []string{"Code", "Message", "HostId", "Endpoint", "EC", "RequestId"} {
		all[element] = mirror{fault: func(sent string) *osstest.Fault {
			return osstest.Inject().Reply(403, "application/xml", "<Error><"+element+">"+escaped(sent)+"</"+element+"></Error>")
		}}
	}
	for _, name := range []string{"X-Oss-Request-Id", "X-Oss-Ec", "Content-Type", "X-Oss-Err", "Retry-After", "Date"} {
		all[name+" of a refusal"] = mirror{fault: func(sent string) *osstest.Fault { return osstest.Error(404, "NoSuchKey").Header(name, sent) }}
	}
	for _, name := range []string{"X-Oss-Request-Id", "ETag", "X-Oss-Version-Id", "Content-Type", "Last-Modified", "X-Oss-Hash-Crc64ecma", "X-Oss-Object-Type"} {
		all[name] = mirror{func(sent string) *osstest.Fault { return osstest.Inject().Header(name, sent) }, true, true}
	}
	all["quoted ETag"] = mirror{func(sent string) *osstest.Fault { return osstest.Inject().Header("ETag", `"`+sent+`"`) }, true, true}
	all["Content-Range"] = mirror{func(sent string) *osstest.Fault { return osstest.Inject().ContentRange(sent) }, true, false}
	all["Content-Range of a 200"] = mirror{func(sent string) *osstest.Fault { return osstest.Inject().ContentRange(sent).Status(200) }, true, false}
	nameless := func() *osstest.Fault { return osstest.Inject().NoETag().NoCRC().NoHeader("Last-Modified") }
	all["Content-Type of no object"] = mirror{func(sent string) *osstest.Fault { return nameless().Header("Content-Type", sent) }, true, false}
	all["Content-Encoding"] = mirror{func(sent string) *osstest.Fault { return osstest.Inject().NoETag().Header("Content-Encoding", sent) }, true, false}
	return all
}

// escaped is text as XML has it.
func escaped(text string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(text)); err != nil {
		panic(err)
	}
	return b.String()
}

// TestNoSecretAnywhere makes downloads go wrong in many ways, through every entry point, and looks for the access key and its
// secret, the token, signatures, signed queries and the proxy's password in every error of every chain, log line, report
// and file.
func TestNoSecretAnywhere(t *testing.T) {
	troubles := map[string]func(w *world){
		"none":          func(*world) {},
		"refused later": func(w *world) { w.s.Nth(2, osstest.Error(403, "AccessDenied")) },
		"wrong secret":  func(w *world) { w.s.AddToken(testKeyID, "another secret", testToken, time.Now().Add(time.Hour)) },
		"wrong token":   func(w *world) { w.s.ExpireToken(testToken); w.s.RemoveUser(testKeyID) },
		"token expired": func(w *world) { w.s.ExpireToken(testToken) },
		"not found":     func(w *world) { w.s.Delete("bkt", "p/k") },
		"changed": func(w *world) {
			w.s.Nth(2, osstest.Inject().Before(func() { w.s.Put("bkt", "p/k", osstest.Random(2, 1<<20)) }))
		},
		"wrong CRC-64": func(w *world) { w.s.Put("bkt", "p/k", osstest.Random(1, 1<<20), osstest.CRCHeader("1")) },
		"server gone":  func(w *world) { w.s.Down() },
		"reset": func(w *world) {
			w.s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().ResetBeforeHead() })
		},
		"proxy gone": func(w *world) { w.proxy("127.0.0.1:1") },
		"proxy":      func(w *world) { w.proxy(w.s.Addr()) },
	}
	completes := map[string]bool{"none": true}
	for name, m := range mirrors() {
		answer := func(r *osstest.Request) *osstest.Fault {
			found := append(secretsOf(r.Header.Get("Authorization"), r.Query), testToken)
			return m.fault(strings.Join(found, " "))
		}
		troubles["mirror, "+name] = func(w *world) {
			w.s.OnRequest(answer)
			if !m.success {
				w.s.OnList(answer)
			}
		}
		if m.harmless {
			completes["mirror, "+name] = true
			// And where it leaves a checkpoint, or finds that the object has changed.
			troubles["mirror, then refused, "+name] = func(w *world) {
				w.s.OnRequest(answer)
				w.s.Once(func(r *osstest.Request) bool { return r.Start >= 512<<10 }, osstest.Error(403, "AccessDenied"))
			}
			troubles["mirror, then changed, "+name] = func(w *world) {
				w.s.OnRequest(answer)
				w.s.Once(func(r *osstest.Request) bool { return r.Start >= 512<<10 }, osstest.Inject().Before(func() { w.s.Put("bkt", "p/k", osstest.Random(2, 1<<20+1)) }))
			}
		}
	}
	for name, trouble := range troubles {
		for _, v4 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, V4 %t", name, v4), func(t *testing.T) {
				t.Parallel()
				for _, entryPoint := range []string{"Download", "DownloadURL", "DownloadTo", "Open", "DownloadPrefix"} {
					w := newWorld(t, v4)
					trouble(w)
					err := w.enter(entryPoint)
					if (err == nil) != completes[name] {
						t.Errorf("%s: %v", entryPoint, err)
					}
					w.check(err)
				}
			})
		}
	}
}

// world is a server, a client with temporary credentials, and all that a download leaves to look at.
type world struct {
	t         *testing.T
	s         *osstest.Server
	spy       *spy
	transport *http.Transport
	client    *oss.Client
	d         *ossdl.Downloader
	dir       string
	log       harness.Records
	reports   harness.Records
}

func newWorld(t *testing.T, v4 bool) *world {
	t.Helper()
	w := &world{t: t, s: harness.NewServer(t), dir: t.TempDir()}
	w.s.AddToken(testKeyID, osstest.AccessKeySecret, testToken, time.Now().Add(time.Hour))
	w.s.Put("bkt", "p/k", osstest.Random(1, 1<<20))
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	w.transport = harness.TransportOf(hc)
	w.spy = &spy{RoundTripper: hc.Transport, secrets: map[string]bool{}}
	hc.Transport = w.spy
	opts := []oss.ClientOption{oss.HTTPClient(hc), oss.SecurityToken(testToken)}
	if v4 {
		opts = append(opts, oss.AuthVersion(oss.AuthV4))
	}
	var err error
	if w.client, err = w.s.ClientFor(testKeyID, osstest.AccessKeySecret, opts...); err != nil {
		t.Fatal(err)
	}
	w.d, err = ossdl.New(w.client, ossdl.WithPartSize(256<<10), ossdl.WithConcurrency(1), ossdl.WithHTTPClient(hc), ossdl.WithLogger(w.log.Logger()),
		ossdl.WithProgress(func(p ossdl.Progress) { fmt.Fprintf(&w.reports, "%+v %#v\n", p, p) }),
		ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 2, MinDelay: time.Millisecond, MaxDelay: time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// proxy puts a proxy before the server.
func (w *world) proxy(addr string) {
	w.transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: addr, User: url.UserPassword("user", testProxyWord)})
	if addr == w.s.Addr() {
		w.s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().HTML(http.StatusProxyAuthRequired) })
		w.s.OnList(func(*osstest.Request) *osstest.Fault { return osstest.Inject().HTML(http.StatusProxyAuthRequired) })
	}
}

// enter downloads in one of the ways there are.
func (w *world) enter(entryPoint string) error {
	ctx, path := w.t.Context(), filepath.Join(w.dir, "file")
	switch entryPoint {
	case "Download":
		_, err := w.d.Download(ctx, "bkt", "p/k", path)
		return err
	case "DownloadURL":
		b, err := w.client.Bucket("bkt")
		if err != nil {
			return err
		}
		signed, err := b.SignURL("p/k", oss.HTTPGet, 600)
		if err != nil {
			return err
		}
		_, err = w.d.DownloadURL(ctx, signed, path)
		return err
	case "DownloadTo":
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = w.d.DownloadTo(ctx, "bkt", "p/k", f)
		return errors.Join(err, f.Close())
	case "Open":
		r, err := w.d.Open(ctx, "bkt", "p/k")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	}
	res, err := w.d.DownloadPrefix(context.WithoutCancel(ctx), "bkt", "p/", w.dir)
	if err == nil && res.Done == 0 {
		err = ossdl.ErrNotFound // nothing there
	}
	return err
}

func (w *world) check(err error) {
	w.t.Helper()
	secrets := w.spy.all()
	leaks.NoSecret(w.t, err, secrets...)
	told := map[string]string{"the log": w.log.String(), "a report": w.reports.String()}
	werr := filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		told[path] = string(data)
		return err
	})
	if werr != nil {
		w.t.Error(werr)
	}
	for where, text := range told {
		for _, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				w.t.Errorf("%s tells %s: %q", where, secret, text[max(0, i-100):min(len(text), i+100)])
			}
		}
	}
}

// TestNoSecretTaken checks that what a URL says for another reason than to be let in is no secret: an ETag in it stays an
// ETag, and a version a version.
func TestNoSecretTaken(t *testing.T) {
	const part = 64 << 10
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead(), osstest.Versioning(osstest.Enabled))
	content := osstest.Random(1, 3*part)
	o := s.Put("bkt", "k", content)
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(part), ossdl.WithConcurrency(1))
	for _, query := range []string{
		"?x-oss-request-payer=requester&v=" + strings.Trim(o.ETag, `"`), "?versionId=" + o.VersionID,
	} {
		s.ResetLog()
		path := filepath.Join(t.TempDir(), "file")
		res, err := d.DownloadURL(t.Context(), s.URL("bkt", "k")+query, path)
		if err != nil {
			t.Fatal(err)
		}
		harness.CheckFile(t, path, content)
		if res.ETag != o.ETag || res.VersionID != o.VersionID {
			t.Errorf("%s: %+v", query, *res)
		}
		harness.SameLines(t, harness.Wire(s)[1:], "GET bytes=65536-131071 if-match", "GET bytes=131072-196607 if-match")
	}
}

// TestNoSecretInTheResult checks that a server which sends back what it is sent puts no credential into a result, its
// headers, its JSON or its line in a log.
func TestNoSecretInTheResult(t *testing.T) {
	for _, v4 := range []bool{false, true} {
		for _, entryPoint := range []string{"Download", "DownloadURL"} {
			w := newWorld(t, v4)
			w.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				sent := r.Header.Get("Authorization") + " " + r.Header.Get("X-Oss-Security-Token") + " " + r.Query
				return osstest.Inject().Header("X-Echo", sent).Header("X-Oss-Meta-Echo", url.QueryEscape(sent)).Header("Content-Location", "/k?"+r.Query)
			})
			path := filepath.Join(w.dir, "file")
			var res *ossdl.Result
			var err error
			if entryPoint == "Download" {
				res, err = w.d.Download(t.Context(), "bkt", "p/k", path)
			} else {
				b, berr := w.client.Bucket("bkt")
				if berr != nil {
					t.Fatal(berr)
				}
				signed, serr := b.SignURL("p/k", oss.HTTPGet, 600)
				if serr != nil {
					t.Fatal(serr)
				}
				res, err = w.d.DownloadURL(t.Context(), signed, path)
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(res)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(res.Header.Get("X-Echo"), "***") {
				t.Errorf("%s: nothing was hidden in %q", entryPoint, res.Header.Get("X-Echo"))
			}
			all := fmt.Sprintf("%+v\n%s\n%+v", *res, text, res.LogValue())
			for _, secret := range w.spy.all() {
				if strings.Contains(all, secret) {
					t.Errorf("%s, V4 %v: %q is in\n%s", entryPoint, v4, secret, all)
				}
			}
		}
	}
}
