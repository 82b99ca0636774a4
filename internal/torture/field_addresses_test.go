package torture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// oneAddress is an address at which everything is right for the first requests, and then wrong.
type oneAddress struct {
	right http.Handler
	wrong http.HandlerFunc
	fine  int64 // how many requests are answered rightly, from the first
	asked atomic.Int64
}

func (a *oneAddress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.asked.Add(1) <= a.fine {
		a.right.ServeHTTP(w, r)
		return
	}
	a.wrong(w, r)
}

// pageOf answers with a status and a page, as something does that is not OSS.
func pageOf(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<h1>nothing of yours</h1>")
	}
}

// forward returns a handler that passes requests on to a server, and lets change alter the answers.
func forward(t *testing.T, addr string, change func(*http.Response) error) http.Handler {
	below := &http.Transport{DisableCompression: true}
	t.Cleanup(below.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Transport: below, ModifyResponse: change,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host // which is signed
		},
	}
}

// atAddress is a connection to one of the addresses of a host.
type atAddress struct {
	net.Conn
	at *net.TCPAddr
}

func (c atAddress) RemoteAddr() net.Addr { return c.at }

// severalAddresses makes every name have as many addresses as there are listeners, each of which has the connections to one. Every
// second connection, beginning with the first, goes to the second of two addresses; if always is set, each one does that can.
func severalAddresses(hc *http.Client, always bool, listeners ...string) {
	ip := func(i int) net.IP { return net.IPv4(10, 0, 0, byte(1+i)) }
	var lookups atomic.Int64
	lookup := func(context.Context, string) (ips []net.IPAddr, err error) {
		for i := range listeners {
			ips = append(ips, net.IPAddr{IP: ip(i)})
		}
		if n := lookups.Add(1); always && n%2 == 0 {
			slices.Reverse(ips) // the client starts at the next place
		}
		return ips, nil
	}
	harness.SetNetwork(hc, lookup, func(ctx context.Context, network, addr string) (net.Conn, error) {
		for i, l := range listeners {
			if addr == ip(i).String()+":80" {
				c, err := new(net.Dialer).DialContext(ctx, network, l)
				if err != nil {
					return nil, err
				}
				return atAddress{c, &net.TCPAddr{IP: ip(i), Port: 80}}, nil
			}
		}
		return nil, fmt.Errorf("no such address: %s", addr)
	})
}

// addressStage is an object of a server whose host has another address, too, which the first request goes to.
type addressStage struct {
	t       *testing.T
	s       *osstest.Server
	other   *oneAddress
	hc      *http.Client
	client  *oss.Client
	d       *ossdl.Downloader
	content osstest.Content

	otherAddr string // where the other address leads to
}

func newAddressStage(t *testing.T) *addressStage {
	t.Helper()
	harness.Tried.Add("cases from the field", 1)
	st := &addressStage{t: t, s: harness.NewServer(t), hc: ossdl.HTTPClient(), content: osstest.Random(20, 1<<20)}
	st.s.Put("bkt", "k", st.content)
	st.other = &oneAddress{right: forward(t, st.s.Addr(), nil), wrong: pageOf(404)}
	other := httptest.NewServer(st.other)
	t.Cleanup(other.Close)
	t.Cleanup(st.hc.CloseIdleConnections)
	st.otherAddr = other.Listener.Addr().String()
	severalAddresses(st.hc, false, st.s.Addr(), st.otherAddr)
	var err error
	if st.client, err = oss.New("http://oss.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(st.hc)); err != nil {
		t.Fatal(err)
	}
	if st.d, err = ossdl.New(st.client, ossdl.WithPartSize(64<<10), ossdl.WithRetry(lieRetry)); err != nil {
		t.Fatal(err)
	}
	return st
}

// url is a signed URL of the object.
func (st *addressStage) url() string {
	st.t.Helper()
	b, err := st.client.Bucket("bkt")
	if err != nil {
		st.t.Fatal(err)
	}
	u, err := b.SignURL("k", oss.HTTPGet, 3600)
	if err != nil {
		st.t.Fatal(err)
	}
	return u
}

// download downloads the object in one of the ways there are, or asks about it, and checks what has come.
func (st *addressStage) download(way string, opts ...ossdl.Option) error {
	st.t.Helper()
	path, ctx := filepath.Join(st.t.TempDir(), "k"), st.t.Context()
	var got []byte
	var r *ossdl.Reader
	var err error
	switch way {
	case "Stat":
		info, err := st.d.Stat(ctx, "bkt", "k")
		if err == nil && info.Size != st.content.Size() {
			st.t.Errorf("%+v", info)
		}
		return err
	case "Download":
		_, err = st.d.Download(ctx, "bkt", "k", path, opts...)
	case "DownloadURL":
		_, err = st.d.DownloadURL(ctx, st.url(), path, append(opts, ossdl.WithHTTPClient(st.hc))...)
	case "DownloadPrefix":
		_, err = st.d.DownloadPrefix(ctx, "bkt", "", filepath.Dir(path), opts...)
	case "DownloadTo":
		to := &harness.Memory{Content: make([]byte, st.content.Size())}
		_, err = st.d.DownloadTo(ctx, "bkt", "k", to, opts...)
		got = to.Content
	case "Open":
		r, err = st.d.Open(ctx, "bkt", "k", opts...)
	case "OpenURL":
		r, err = st.d.OpenURL(ctx, st.url(), append(opts, ossdl.WithHTTPClient(st.hc))...)
	}
	if r != nil {
		got, err = io.ReadAll(r)
		r.Close()
	}
	switch {
	case err != nil:
	case got == nil:
		harness.CheckFile(st.t, path, st.content)
	case !bytes.Equal(got, harness.Bytes(st.t, st.content)):
		st.t.Error("wrong bytes")
	}
	return err
}

// checkAsked checks how often the other address was asked. net/http may have a connection to it that was not used yet, which
// makes it once more.
func (st *addressStage) checkAsked(times int64) {
	st.t.Helper()
	if n := st.other.asked.Load(); n < times || n > times+1 {
		st.t.Errorf("the other address was asked %d times, want %d", n, times)
	}
}

// waysIn are the calls that ask for an object.
var waysIn = []string{"Download", "DownloadURL", "DownloadPrefix", "DownloadTo", "Open", "OpenURL", "Stat"}

// TestOneAddressFails checks that what one address of a host says, and OSS itself does not, is no verdict: another one is asked,
// whatever is asked for, in the middle of a download as well.
func TestOneAddressFails(t *testing.T) {
	for name, wrong := range map[string]http.HandlerFunc{
		"404": pageOf(404), "403": pageOf(403), "a page": pageOf(200), "a part of a page": pageOf(206), "400": pageOf(400),
	} {
		for _, fine := range []int64{0, 3} {
			for _, way := range waysIn {
				if way == "Stat" && fine > 0 {
					continue // it makes one request
				}
				t.Run(fmt.Sprintf("%s/%s after %d", way, name, fine), func(t *testing.T) {
					st := newAddressStage(t)
					st.other.wrong, st.other.fine = wrong, fine
					severalAddresses(st.hc, true, st.s.Addr(), st.otherAddr)
					if err := st.download(way, ossdl.WithConcurrency(1)); err != nil {
						t.Fatal(err)
					}
					st.checkAsked(fine + 1)
				})
			}
		}
	}
}

// TestAddressesAgree checks that a refusal is the verdict once a second address says the same, and at once if OSS itself has
// refused.
func TestAddressesAgree(t *testing.T) {
	for _, way := range waysIn {
		t.Run(way, func(t *testing.T) {
			st := newAddressStage(t)
			second := &oneAddress{wrong: pageOf(404)}
			l := httptest.NewServer(second)
			t.Cleanup(l.Close)
			t.Cleanup(st.hc.CloseIdleConnections)
			severalAddresses(st.hc, false, l.Listener.Addr().String(), st.otherAddr)
			if err := st.download(way); !errors.Is(err, ossdl.ErrNotFound) {
				t.Errorf("got %v", err)
			}
			if a, b := st.other.asked.Load(), second.asked.Load(); a != 1 || b != 1 {
				t.Errorf("asked %d and %d times, want once each", a, b)
			}
		})
		t.Run(way+", OSS's own", func(t *testing.T) {
			st := newAddressStage(t)
			st.other.fine = 1000
			st.s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Error(403, "AccessDenied") })
			var refused oss.ServiceError
			if err := st.download(way); !errors.As(err, &refused) || refused.Code != "AccessDenied" {
				t.Errorf("got %v", err)
			}
			wire := slices.DeleteFunc(harness.Wire(st.s), func(line string) bool { return line == "GET " }) // a listing
			asked := []string{"GET bytes=0-65535"}
			if way == "Stat" {
				asked = []string{"HEAD ", "GET bytes=0-0"} // some CDNs refuse HEAD alone
			}
			harness.SameLines(t, wire, asked...)
		})
	}
}

// TestOneAddressSendsWrongBytes checks that after a wrong checksum the address that gave wrong bytes is avoided, then and in later
// calls.
func TestOneAddressSendsWrongBytes(t *testing.T) {
	for _, way := range []string{"Download", "DownloadURL", "DownloadPrefix", "DownloadTo"} {
		t.Run(way, func(t *testing.T) {
			st := newAddressStage(t)
			st.other.wrong = forward(t, st.s.Addr(), func(resp *http.Response) error {
				if resp.Header.Get("X-Oss-Hash-Crc64ecma") == "" {
					return nil // a listing
				}
				b, err := io.ReadAll(resp.Body)
				if err == nil && len(b) > 0 {
					b[len(b)/2] ^= 1
				}
				resp.Body.Close()
				resp.Body = io.NopCloser(bytes.NewReader(b))
				return err
			}).ServeHTTP
			if err := st.download(way); err != nil {
				t.Fatal(err)
			}
			asked := st.other.asked.Load()
			if asked == 0 {
				t.Error("the wrong address was not asked")
			}
			if err := st.download(way); err != nil {
				t.Fatal(err)
			}
			if n := st.other.asked.Load(); n != asked {
				t.Errorf("the wrong address was asked %d times more", n-asked)
			}
		})
	}
}

// TestOneAddressHasAnotherVersion checks that a web server with an older file at one of its addresses does not make it seem that
// the file has changed.
func TestOneAddressHasAnotherVersion(t *testing.T) {
	content := harness.Bytes(t, osstest.Random(20, 1<<20))
	versioned := func(etag string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", strconv.Quote(etag))
			r.Header.Del("If-Match") // which such a server does not know
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}
	for _, way := range []string{"DownloadURL", "OpenURL"} {
		for _, fine := range []int64{1, 3} {
			t.Run(fmt.Sprintf("%s after %d", way, fine), func(t *testing.T) {
				st := newAddressStage(t)
				good := httptest.NewServer(versioned("new"))
				t.Cleanup(good.Close)
				t.Cleanup(st.hc.CloseIdleConnections)
				st.other.right, st.other.wrong, st.other.fine = versioned("new"), versioned("old"), fine
				severalAddresses(st.hc, true, good.Listener.Addr().String(), st.otherAddr)
				var got []byte
				path := filepath.Join(t.TempDir(), "k")
				opts := []ossdl.Option{ossdl.WithHTTPClient(st.hc), ossdl.WithConcurrency(1)}
				if way == "DownloadURL" {
					if _, err := st.d.DownloadURL(t.Context(), "http://files.test/k", path, opts...); err != nil {
						t.Fatal(err)
					}
					harness.CheckFile(t, path, st.content)
				} else {
					r, err := st.d.OpenURL(t.Context(), "http://files.test/k", opts...)
					if err != nil {
						t.Fatal(err)
					}
					if got, err = io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
					r.Close()
				}
				st.checkAsked(fine + 1)
			})
		}
	}
}

// TestOtherAddressIsGone checks that an address is not asked for ever whether it serves ranges, if it has another version of the
// file than the one that sent the first answer, and that one no longer takes connections.
func TestOtherAddressIsGone(t *testing.T) {
	content := harness.Bytes(t, osstest.Random(20, lieSize))
	const enough = 50 // requests, after which the address that is left refuses everything
	for _, way := range []string{"DownloadURL", "OpenURL"} {
		t.Run(way, func(t *testing.T) {
			harness.Tried.Add("cases from the field", 1)
			// The first one ignores ranges, and does not get ahead.
			first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"new"`)
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				_, _ = w.Write(content[:liePart])
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			t.Cleanup(first.Close)
			left := &oneAddress{fine: enough, wrong: pageOf(403), right: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"old"`)
				r.Header.Del("If-Match") // which such a server does not know
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
			})}
			second := httptest.NewServer(left)
			t.Cleanup(second.Close)
			hc := ossdl.HTTPClient()
			t.Cleanup(hc.CloseIdleConnections)
			ips := []net.IPAddr{{IP: net.IPv4(10, 0, 0, 1)}, {IP: net.IPv4(10, 0, 0, 2)}}
			var connected atomic.Bool // to the first server
			harness.SetNetwork(hc, func(context.Context, string) ([]net.IPAddr, error) { return ips, nil },
				func(ctx context.Context, network, addr string) (net.Conn, error) {
					at, listener := ips[0].IP, second.Listener
					if addr == ips[1].IP.String()+":80" { // which the first connection goes to
						if connected.Swap(true) {
							return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
						}
						at, listener = ips[1].IP, first.Listener
					}
					c, err := new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
					if err != nil {
						return nil, err
					}
					return atAddress{c, &net.TCPAddr{IP: at, Port: 80}}, nil
				})
			d := harness.NewURLDownloader(t, ossdl.WithHTTPClient(hc), ossdl.WithPartSize(liePart), ossdl.WithRetry(lieRetry))
			var err error
			if way == "DownloadURL" {
				path := filepath.Join(t.TempDir(), "k")
				_, err = d.DownloadURL(t.Context(), "http://files.test/k", path)
				if _, serr := os.Lstat(path); !errors.Is(serr, fs.ErrNotExist) {
					t.Errorf("something is at the path: %v", serr)
				}
			} else {
				var r *ossdl.Reader
				if r, err = d.OpenURL(t.Context(), "http://files.test/k"); err != nil {
					t.Fatal(err)
				}
				_, err = io.ReadAll(r)
				r.Close()
			}
			if !errors.Is(err, ossdl.ErrObjectChanged) {
				t.Errorf("error %v", err)
			}
			if n := left.asked.Load(); n < 1 || n > 3 {
				t.Errorf("%d requests", n)
			}
		})
	}
}
