//go:build unix

package osstest_test

import (
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// BenchmarkServe is the server and a bare client in one process, so half of the CPU time is the client's.
func BenchmarkServe(b *testing.B) {
	for name, opts := range map[string][]osstest.Option{"http": nil, "https": {osstest.WithTLS()}} {
		b.Run(name, func(b *testing.B) {
			s, err := osstest.New(opts...)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			s.CreateBucket("bkt", osstest.PublicRead())
			s.Put("bkt", "k", osstest.Random(1, 256<<20))
			buf := make([]byte, 256<<10)
			b.SetBytes(256 << 20)
			cpu := cpuTime()
			for b.Loop() {
				resp, err := s.HTTPClient().Get(s.URL("bkt", "k"))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, buf); err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
			b.ReportMetric((cpuTime()-cpu).Seconds()/float64(b.N)*4, "cpu-s/GiB")
		})
	}
}

func BenchmarkSmall(b *testing.B) {
	s, err := osstest.New(osstest.WithoutLog())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.CreateBucket("bkt", osstest.PublicRead())
	s.Put("bkt", "k", osstest.Random(1, 256<<20))
	cpu := cpuTime()
	for b.Loop() {
		req, _ := http.NewRequest("GET", s.URL("bkt", "k"), nil)
		req.Header.Set("Range", "bytes=1000-2023")
		resp, err := s.HTTPClient().Do(req)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	b.ReportMetric((cpuTime()-cpu).Seconds()/float64(b.N)*1e6, "cpu-µs/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
