package ossdl

import (
	"path/filepath"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestRedirectTakesHeadersOff: what is meant for OSS goes to OSS, and not to the other host that an unsigned request is
// redirected to. To the same host it stays.
func TestRedirectTakesHeadersOff(t *testing.T) {
	content := osstest.Random(1, 4*testPart)
	s, elsewhere := newServer(t), newServer(t)
	for _, one := range []*osstest.Server{s, elsewhere} {
		one.CreateBucket("bkt", osstest.PublicRead())
		one.Put("bkt", "there", content)
	}
	hc := HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	client, err := s.ClientFor("", "", oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, WithPartSize(testPart), WithRequestOptions(oss.RequestPayer(oss.Requester)))
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]*osstest.Server{"same host": s, "another host": elsewhere} {
		t.Run(name, func(t *testing.T) {
			s.ClearFaults()
			s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				if r.Key == "here" {
					return osstest.Inject().Redirect(to.URL("bkt", "there"), 302)
				}
				return nil
			})
			s.ResetLog()
			path := filepath.Join(t.TempDir(), "file")
			if _, err := d.Download(t.Context(), "bkt", "here", path); err != nil {
				t.Fatal(err)
			}
			checkFile(t, path, content)
			for _, r := range s.Requests() {
				if r.Header.Get("X-Oss-Request-Payer") != "requester" {
					t.Errorf("%s was asked for with %v", r.Key, r.Header)
				}
			}
			if n := len(elsewhere.Requests()); (n > 0) != (to == elsewhere) {
				t.Errorf("%d requests to the other host", n)
			}
			for _, r := range elsewhere.Requests() {
				for header := range r.Header {
					if IsOSSHeader(header) || header == "Referer" {
						t.Errorf("%s: %q was sent on", header, r.Header.Get(header))
					}
				}
				if r.Range == "" {
					t.Error("the range was not")
				}
			}
		})
		elsewhere.ResetLog()
	}
}
