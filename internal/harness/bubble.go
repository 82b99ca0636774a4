package harness

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/osstest"
)

// BubbleClient is a Downloader for use in a synctest bubble, with a Service as its network and a disk in memory: time is
// exact, and what waits for it takes none.
type BubbleClient struct {
	Service    *Service
	Downloader *ossdl.Downloader
	Disk       *memfs.FS
	HTTP       *http.Client
	Content    []byte // of the object "bkt/k"

	Release func() // ends what a test has put in the way
}

// BubblePath is where a BubbleClient downloads to.
const BubblePath = "/dir/file"

// NewBubbleClient has an object of this size, which comes piece bytes at a time on each connection. change, if not nil, is what
// happens on the way.
func NewBubbleClient(t *testing.T, size int64, piece int, change func(*http.Request, *http.Response) error, opts ...ossdl.Option) *BubbleClient {
	t.Helper()
	b := &BubbleClient{Release: func() {}, Content: Bytes(t, osstest.Random(1, size)), Disk: memfs.New(memfs.Config{})}
	b.Service = &Service{Objects: map[string][]byte{"k": b.Content}, Piece: piece}
	b.HTTP = &http.Client{Transport: changing{b.Service, change}}
	client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(b.HTTP))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Disk.Mkdir("/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if b.Downloader, err = ossdl.New(client, append([]ossdl.Option{WithFS(b.Disk)}, opts...)...); err != nil {
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

// EntryPoints are those that download one object.
var EntryPoints = []string{"Download", "DownloadURL", "DownloadTo", "Open"}

// LeaveOut reports whether a test leaves case n out. Under -short, which is meant for the race detector, it tries one in so many.
func LeaveOut(n, oneIn int) bool { return testing.Short() && n%oneIn != 0 }

// Download downloads the object through an entry point. A Reader is read to its end.
func (b *BubbleClient) Download(t *testing.T, ctx context.Context, entryPoint, path string, opts ...ossdl.Option) (*ossdl.Result, error) {
	t.Helper()
	switch entryPoint {
	case "Download":
		return b.Downloader.Download(ctx, "bkt", "k", path, opts...)
	case "DownloadURL":
		return b.Downloader.DownloadURL(ctx, "http://service.test/k", path, append(opts, ossdl.WithHTTPClient(b.HTTP))...)
	case "DownloadTo":
		return b.Downloader.DownloadTo(ctx, "bkt", "k", &ReadableMemory{Memory{Content: make([]byte, len(b.Content))}}, opts...)
	case "Open":
		r, err := b.Downloader.Open(ctx, "bkt", "k", opts...)
		if err != nil {
			return nil, err
		}
		var read bytes.Buffer
		_, err = io.Copy(&read, r)
		if err == nil && !bytes.Contains(b.Content, read.Bytes()) {
			t.Error("what was read is not the object's")
		}
		if cerr := r.Close(); cerr != nil && !errors.Is(cerr, err) {
			t.Error(cerr)
		}
		return r.Result(), err
	}
	t.Fatal("no such entry point: ", entryPoint)
	return nil, nil
}
