package harness

import (
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// NewURLDownloader makes a Downloader without an SDK client, whose connections end with the test.
func NewURLDownloader(t testing.TB, opts ...ossdl.Option) *ossdl.Downloader {
	t.Helper()
	d, err := ossdl.New(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.CloseIdleConnections)
	return d
}

// Sign makes a signed GET URL.
func Sign(t testing.TB, s *osstest.Server, v oss.AuthVersionType, life time.Duration, key string, opts ...oss.Option) string {
	t.Helper()
	client, err := s.Client(oss.AuthVersion(v))
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	u, err := b.SignURL(key, oss.HTTPGet, int64(life/time.Second), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
