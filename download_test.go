package ossdl

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// newServer starts an embedded OSS server with one bucket, "bkt".
func newServer(t testing.TB, opts ...osstest.Option) *osstest.Server {
	t.Helper()
	s, err := osstest.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.CreateBucket("bkt")
	return s
}

// newDownloader makes a Downloader for the server, whose connections end with the test.
func newDownloader(t testing.TB, s *osstest.Server, opts ...Option) *Downloader {
	t.Helper()
	hc := HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// checkFile fails the test unless the file holds the content and nothing of ours is beside it.
func checkFile(t testing.TB, path string, want osstest.Content) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if fi.Size() != want.Size() {
		t.Fatalf("%s has %d bytes, want %d", path, fi.Size(), want.Size())
	}
	got, exp := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < want.Size(); {
		n, err := f.ReadAt(got[:min(int64(len(got)), want.Size()-off)], off)
		if err != nil && err != io.EOF || n == 0 {
			t.Fatal(n, err)
		}
		if _, err := want.ReadAt(exp[:n], off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for i := range n {
			if got[i] != exp[i] {
				t.Fatalf("%s differs at byte %d", path, off+int64(i))
			}
		}
		off += int64(n)
	}
	noLeftovers(t, path)
}

func noLeftovers(t testing.TB, path string) {
	t.Helper()
	for _, suffix := range []string{partSuffix, checkpointSuffix, lockSuffix, checkpointSuffix + ".tmp"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			t.Errorf("%s%s is left behind", path, suffix)
		}
	}
}

func TestSmoke(t *testing.T) {
	s := newServer(t)
	for _, size := range []int64{0, 1, 100, 16 << 10, 8 << 20, 8<<20 + 1, 100 << 20} {
		c := osstest.Random(uint64(size), size)
		s.Put("bkt", "key", c)
		s.ResetLog()
		d := newDownloader(t, s)
		path := filepath.Join(t.TempDir(), "file")
		res, err := d.Download(t.Context(), "bkt", "key", path)
		if err != nil {
			t.Fatal(size, err)
		}
		checkFile(t, path, c)
		t.Logf("%+v", *res)
		for _, r := range s.Requests() {
			t.Log(r.Method, r.Range, r.Header.Get("If-Match"), r.Status, r.Sent)
		}
	}
}
