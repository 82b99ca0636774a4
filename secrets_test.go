package ossdl

import (
	"context"
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

	"github.com/ossdl/ossdl/internal/osstest"
)

const (
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
	for _, secret := range secretsOf(r.Header.Get("Authorization"), r.URL.Query()) {
		s.secrets[secret] = true
		s.secrets[url.QueryEscape(secret)] = true
	}
	s.mu.Unlock()
	return s.RoundTripper.RoundTrip(r)
}

// secretsOf is the signature of a request, in the header or in the query.
func secretsOf(authorization string, query url.Values) (found []string) {
	if i := strings.LastIndexAny(authorization, ":="); strings.HasSuffix(authorization, "=") {
		// Base64 of V1, which ends so itself.
		_, signature, _ := strings.Cut(authorization, ":")
		found = append(found, signature)
	} else if i >= 0 {
		found = append(found, authorization[i+1:])
	}
	for _, name := range []string{"Signature", "x-oss-signature"} {
		if v := query.Get(name); v != "" {
			found = append(found, v)
		}
	}
	return found
}

func (s *spy) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []string{osstest.AccessKeySecret, testToken, testProxyWord}
	for secret := range s.secrets {
		all = append(all, secret)
	}
	return all
}

// mirrors are answers that hold what was sent.
func mirrors() map[string]func(sent string) *osstest.Fault {
	raw := func(format string) func(string) *osstest.Fault {
		return func(sent string) *osstest.Fault { return osstest.Inject().Raw(fmt.Appendf(nil, format, sent)) }
	}
	return map[string]func(sent string) *osstest.Fault{
		"element": func(sent string) *osstest.Fault {
			return osstest.Inject().Reply(400, "application/xml", "<Error><Code>InvalidArgument</Code><Message>Bad.</Message><ArgumentValue>"+sent+"</ArgumentValue></Error>")
		},
		"page": func(sent string) *osstest.Fault {
			return osstest.Inject().Reply(503, "text/html", "<html>"+sent+"</html>")
		},
		"no XML": func(sent string) *osstest.Fault {
			return osstest.Inject().Reply(403, "application/xml", "<Error>"+sent)
		},
		"location": func(sent string) *osstest.Fault {
			return osstest.Inject().Redirect("http://elsewhere.test/?"+sent, 302)
		},
		"bad location":    func(sent string) *osstest.Fault { return osstest.Inject().Redirect("http://"+sent+"@/%zz?"+sent, 302) },
		"status line":     raw("HTTP/1.1 403 %s\r\nContent-Length: 0\r\n\r\n"),
		"no status":       raw("%s HTTP/1.1 200 OK\r\n\r\n"),
		"no header":       raw("HTTP/1.1 200 OK\r\n%s\r\n\r\n"),
		"no length":       raw("HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n"),
		"no encoding":     raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n"),
		"no status value": raw("HTTP/1.1 %s\r\n\r\n"),
	}
}

// TestNoSecretAnywhere makes downloads go wrong in many ways, through every entrance, and looks for the access key's
// secret, the token, signatures and the proxy's password in every error of every chain, log line, report and file.
func TestNoSecretAnywhere(t *testing.T) {
	troubles := map[string]func(w *world){
		"none":          func(*world) {},
		"refused later": func(w *world) { w.s.Nth(2, osstest.Error(403, "AccessDenied")) },
		"wrong secret":  func(w *world) { w.s.AddToken("STS.id", "another secret", testToken, time.Now().Add(time.Hour)) },
		"wrong token":   func(w *world) { w.s.ExpireToken(testToken); w.s.RemoveUser("STS.id") },
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
	for name, mirror := range mirrors() {
		troubles["mirror, "+name] = func(w *world) {
			answer := func(r *osstest.Request) *osstest.Fault {
				q, err := url.ParseQuery(r.Query)
				if err != nil {
					w.t.Error(err)
				}
				found := append(secretsOf(r.Header.Get("Authorization"), q), testToken)
				return mirror(strings.Join(found, " "))
			}
			w.s.OnRequest(answer)
			w.s.OnList(answer)
		}
	}
	for name, trouble := range troubles {
		for _, v4 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, V4 %t", name, v4), func(t *testing.T) {
				t.Parallel()
				for _, entrance := range []string{"Download", "DownloadURL", "DownloadTo", "Open", "DownloadPrefix"} {
					w := newWorld(t, v4)
					trouble(w)
					err := w.enter(entrance)
					if (err == nil) != (name == "none") {
						t.Errorf("%s: %v", entrance, err)
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
	d         *Downloader
	dir       string
	log       records
	reports   records
}

func newWorld(t *testing.T, v4 bool) *world {
	t.Helper()
	w := &world{t: t, s: newServer(t), dir: t.TempDir()}
	w.s.AddToken("STS.id", osstest.AccessKeySecret, testToken, time.Now().Add(time.Hour))
	w.s.Put("bkt", "p/k", osstest.Random(1, 1<<20))
	hc := HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	w.transport = hc.Transport.(*boundedErrors).Transport
	w.spy = &spy{RoundTripper: hc.Transport, secrets: map[string]bool{}}
	hc.Transport = w.spy
	opts := []oss.ClientOption{oss.HTTPClient(hc), oss.SecurityToken(testToken)}
	if v4 {
		opts = append(opts, oss.AuthVersion(oss.AuthV4))
	}
	var err error
	if w.client, err = w.s.ClientFor("STS.id", osstest.AccessKeySecret, opts...); err != nil {
		t.Fatal(err)
	}
	w.d, err = New(w.client, WithPartSize(256<<10), WithConcurrency(1), WithHTTPClient(hc), WithLogger(w.log.logger()),
		WithProgress(func(p Progress) { fmt.Fprintf(&w.reports, "%+v %#v\n", p, p) }),
		WithRetry(RetryPolicy{Attempts: 2, MinDelay: time.Millisecond, MaxDelay: time.Millisecond}))
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
func (w *world) enter(entrance string) error {
	ctx, path := w.t.Context(), filepath.Join(w.dir, "file")
	switch entrance {
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
		err = ErrNotFound // nothing there
	}
	return err
}

func (w *world) check(err error) {
	w.t.Helper()
	secrets := w.spy.all()
	noSecret(w.t, err, secrets...)
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
