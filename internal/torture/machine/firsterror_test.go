package machine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// mishaps are what can end a call, each with an error of its own. Each waits for its moment whatever becomes of the call
// meanwhile, as a system call does.
var mishaps = map[string]error{
	"network": syscall.ECONNRESET, // a body
	"write":   syscall.EIO,        // of the data
	"sync":    syscall.ENXIO,      // of the data
	"save":    syscall.EFBIG,      // of the checkpoint, which ends nothing
	"caller":  context.Canceled,
}

// TestFirstErrorIsReported lets two things go wrong in one call, one after the other, in different places. Reported is the
// first that ends a call, and of the other nothing.
func TestFirstErrorIsReported(t *testing.T) {
	for first := range mishaps {
		for second := range mishaps {
			if first == second {
				continue
			}
			t.Run(first+" before "+second, func(t *testing.T) {
				sc := newCrashScene(t, "", smallSize, memfs.Config{})
				synctest.Test(t, func(t *testing.T) {
					happened, err := sc.goesWrong(t, map[string]time.Duration{first: 10 * time.Second, second: 11 * time.Second})
					want, other := first, second
					if first == "save" {
						want, other = second, first
					}
					if !errors.Is(err, mishaps[want]) || errors.Is(err, mishaps[other]) || other != "caller" && want != "caller" && errors.Is(err, context.Canceled) {
						t.Errorf("%v, where first was the %s's %v", err, want, mishaps[want])
					}
					if second != "caller" && !happened[second] || first != "caller" && !happened[first] {
						t.Errorf("a mishap did not happen: %v", happened)
					}
				})
			})
		}
	}
}

// goesWrong makes a call to which mishaps happen, each so long after its start.
func (sc *crashScene) goesWrong(t *testing.T, when map[string]time.Duration) (happened map[string]bool, err error) {
	t.Helper()
	start := time.Now()
	happened = map[string]bool{}
	var mu sync.Mutex
	goesWrong := func(what string) error {
		at, planned := when[what]
		if !planned {
			return nil
		}
		time.Sleep(time.Until(start.Add(at)))
		mu.Lock()
		defer mu.Unlock()
		happened[what] = true
		return mishaps[what]
	}

	files := faultfs.New(sc.before)
	files.OnOp(func(op faultfs.Op) error {
		part := strings.HasSuffix(op.Name, harness.PartSuffix)
		switch {
		case op.Kind == faultfs.Write && part && op.Offset >= 2*sc.part(): // a part is done before, to be saved and synced
			return goesWrong("write")
		case op.Kind == faultfs.Sync && part:
			return goesWrong("sync")
		case op.Kind == faultfs.Write && !part:
			return goesWrong("save")
		}
		return nil
	})
	s := &holdingService{Service: &harness.Service{Objects: map[string][]byte{"k": sc.content}, Piece: sc.piece()}, off: sc.part()}
	s.read = func(ctx context.Context) error {
		if err := goesWrong("network"); err != nil {
			return &net.OpError{Op: "read", Net: "tcp", Err: err}
		}
		return harness.Pass(ctx, time.Until(start.Add(time.Minute))) // nothing comes to its end before
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if at, planned := when["caller"]; planned {
		time.AfterFunc(at, cancel)
	}
	client, cerr := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{Transport: s}))
	if cerr != nil {
		t.Fatal(cerr)
	}
	d, derr := ossdl.New(client, harness.WithFS(files), ossdl.WithPartSize(sc.part()), ossdl.WithConcurrency(3), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	if derr != nil {
		t.Fatal(derr)
	}
	_, err = d.Download(ctx, "bkt", "k", scenePath)
	mu.Lock()
	defer mu.Unlock()
	return happened, err
}

// holdingService is a service whose body of one range waits for read before each piece.
type holdingService struct {
	*harness.Service
	off  int64 // of that range
	read func(ctx context.Context) error
}

func (s *holdingService) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.Service.RoundTrip(r)
	if err == nil && strings.HasPrefix(r.Header.Get("Range"), fmt.Sprintf("bytes=%d-", s.off)) {
		resp.Body = &heldBody{ReadCloser: resp.Body, read: func() error { return s.read(r.Context()) }}
	}
	return resp, err
}

type heldBody struct {
	io.ReadCloser
	read func() error
}

func (b *heldBody) Read(p []byte) (int, error) {
	if err := b.read(); err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p)
}
