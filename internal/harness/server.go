package harness

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// NewServer starts an embedded OSS server with one bucket, "bkt". A fault that was planned for it and never happened fails
// the test, which did not test what it says then; osstest's Maybe is for those that need not happen.
func NewServer(t testing.TB, opts ...osstest.Option) *osstest.Server {
	t.Helper()
	s, err := osstest.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left := s.Unfired(); len(left) > 0 && !t.Failed() && !t.Skipped() {
			t.Errorf("faults that never happened: %v", left)
		}
	})
	s.CreateBucket("bkt")
	return s
}

// NewDownloader makes a Downloader for the server, whose connections end with the test.
func NewDownloader(t testing.TB, s *osstest.Server, opts ...ossdl.Option) *ossdl.Downloader {
	t.Helper()
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	return NewDownloaderOver(t, s, hc, opts...)
}

// NewDownloaderOver makes a Downloader for the server that makes its requests with a client.
func NewDownloaderOver(t testing.TB, s *osstest.Server, over *http.Client, opts ...ossdl.Option) *ossdl.Downloader {
	t.Helper()
	client, err := s.Client(oss.HTTPClient(over))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// NewUnsigned makes a Downloader without credentials for the server, whose connections end with the test.
func NewUnsigned(t testing.TB, s *osstest.Server, opts ...ossdl.Option) *ossdl.Downloader {
	t.Helper()
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	client, err := s.ClientFor("", "", oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Wire is what a test asserts of the requests for objects: method, range and whether If-Match came with it.
func Wire(s *osstest.Server) (lines []string) {
	for _, r := range s.Requests() {
		line := r.Method + " " + r.Range
		if m := r.Header.Get("If-Match"); m != "" {
			line += " if-match"
		}
		lines = append(lines, line)
	}
	return lines
}

// SameLines fails the test unless the lines are those that are wanted.
func SameLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// WaitFor waits for the server to be in some state.
func WaitFor(t testing.TB, s *osstest.Server, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.WaitFor(ctx, cond); err != nil {
		t.Fatal(err)
	}
}

// Fetched is how many body bytes the server was asked for, and did send.
func Fetched(s *osstest.Server) (n int64) {
	for _, r := range s.Requests() {
		n += r.Sent
	}
	return n
}
