package ossdl

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/osstest"
)

// bubble is a Downloader for use in a synctest bubble, with the service of faults_test.go as its network and a disk in memory:
// time is exact, and what waits for it takes none.
type bubble struct {
	s    *service
	d    *Downloader
	disk *memfs.FS
	web  *http.Client
	data []byte // of the object "bkt/k"

	release func() // ends what a test has put in the way
}

const bubblePath = "/dir/file"

// newBubble has an object of this size, which comes piece bytes at a time on each connection. change, if not nil, is what
// happens on the way.
func newBubble(t *testing.T, size int64, piece int, change func(*http.Request, *http.Response) error, opts ...Option) *bubble {
	t.Helper()
	b := &bubble{release: func() {}, data: contentBytes(t, osstest.Random(1, size)), disk: memfs.New(memfs.Config{})}
	b.s = &service{objects: map[string][]byte{"k": b.data}, piece: piece}
	b.web = &http.Client{Transport: changing{b.s, change}}
	client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(b.web))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.disk.Mkdir("/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if b.d, err = New(client, append([]Option{withFS(b.disk)}, opts...)...); err != nil {
		t.Fatal(err)
	}
	return b
}

// changing is a network on which requests fail, or answers change.
type changing struct {
	http.RoundTripper
	change func(*http.Request, *http.Response) error
}

func (c changing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if err != nil || c.change == nil {
		return resp, err
	}
	if err := c.change(r, resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// oneEntrances are those that bring one object.
var oneEntrances = []string{"Download", "DownloadURL", "DownloadTo", "Open"}

// download brings the object through an entrance. A Reader is read to its end.
func (b *bubble) download(t *testing.T, ctx context.Context, entrance, path string, opts ...Option) (*Result, error) {
	t.Helper()
	switch entrance {
	case "Download":
		return b.d.Download(ctx, "bkt", "k", path, opts...)
	case "DownloadURL":
		return b.d.DownloadURL(ctx, "http://service.test/k", path, append(opts, WithHTTPClient(b.web))...)
	case "DownloadTo":
		return b.d.DownloadTo(ctx, "bkt", "k", &readable{memory{b: make([]byte, len(b.data))}}, opts...)
	case "Open":
		r, err := b.d.Open(ctx, "bkt", "k", opts...)
		if err != nil {
			return nil, err
		}
		var read bytes.Buffer
		_, err = io.Copy(&read, r)
		if err == nil && !bytes.Contains(b.data, read.Bytes()) {
			t.Error("what was read is not the object's")
		}
		if cerr := r.Close(); cerr != nil && !errors.Is(cerr, err) {
			t.Error(cerr)
		}
		return r.Result(), err
	}
	t.Fatal("no such entrance: ", entrance)
	return nil, nil
}
