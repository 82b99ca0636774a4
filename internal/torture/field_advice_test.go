package torture_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestHeadIsRefused checks that a server that refuses HEAD is asked for one byte instead, for full and empty objects, and
// that the error of that is the one that counts.
func TestHeadIsRefused(t *testing.T) {
	for _, status := range []int{403, 405, 501} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			fieldCase()
			s := harness.NewServer(t)
			s.Put("bkt", "full", osstest.Random(1, 100_000))
			s.Put("bkt", "empty", osstest.Bytes(nil))
			d := harness.NewDownloader(t, s, ossdl.WithCompareCRC64())
			dir := t.TempDir()
			if res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err != nil || res.Done != 2 {
				t.Fatalf("%+v, %v", res, err)
			}
			s.ResetLog()
			refuse := osstest.Inject().Empty(status)
			s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				if r.Method == http.MethodHead {
					return refuse
				}
				return nil
			})
			if res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err != nil || res.Skipped != 2 {
				t.Errorf("%+v, %v", res, err)
			}
			if n := harness.Fetched(s); n > 10_000 { // the listing and one byte
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
	t.Run("and so is GET", func(t *testing.T) {
		fieldCase()
		s := harness.NewServer(t)
		s.Put("bkt", "key", osstest.Random(1, 1000))
		d := harness.NewDownloader(t, s, ossdl.WithCompareCRC64())
		dir := t.TempDir()
		if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err != nil {
			t.Fatal(err)
		}
		denied := osstest.Error(403, "AccessDenied", "not any more")
		s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if r.Key == "key" {
				return denied
			}
			return nil
		})
		_, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
		if err == nil || !strings.Contains(err.Error(), "not any more") {
			t.Errorf("the call ended with %v", err)
		}
	})
}

// failingDialer counts dials, and lets none succeed.
type failingDialer struct {
	err   error
	dials atomic.Int64
}

func (f *failingDialer) dial(context.Context, string, string) (net.Conn, error) {
	f.dials.Add(1)
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: f.err}
}

// TestUnknownHost checks that a host that DNS does not know is given up after three attempts, and that other failures of DNS
// are tried as often as the policy says.
func TestUnknownHost(t *testing.T) {
	for _, c := range []struct {
		err   error
		dials int64
	}{
		{&net.DNSError{Err: "no such host", Name: "bkt.nowhere.test", IsNotFound: true}, 3},
		{&net.DNSError{Err: "server misbehaving", Name: "bkt.nowhere.test", IsTemporary: true}, 5},
		{syscall.ECONNREFUSED, 5},
	} {
		for _, through := range []entryPoint{viaKey, viaUnsigned, viaURL, viaWriter, viaReader} {
			t.Run(fmt.Sprintf("%v, %s", c.err, through), func(t *testing.T) {
				fieldCase()
				st := newServerStage(t, stageConfig{through: through})
				f := &failingDialer{err: c.err}
				st.transport().DialContext = f.dial
				_, err := st.download(ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 5, MinDelay: time.Millisecond, MaxDelay: time.Millisecond}))
				if n := f.dials.Load(); err == nil || n != c.dials {
					t.Errorf("%d dials, want %d: %v", n, c.dials, err)
				}
			})
		}
	}
}

// TestErrorsSayWhatToDo checks that errors whose reason lies outside the object say what is so, and what to do.
func TestErrorsSayWhatToDo(t *testing.T) {
	t.Run("another endpoint", func(t *testing.T) {
		st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Elsewhere("oss-cn-beijing.aliyuncs.com")}})
		st.mustAdvise(`the endpoint of the bucket is "oss-cn-beijing.aliyuncs.com"`, nil)
	})
	t.Run("no credentials", func(t *testing.T) {
		st := newServerStage(t, stageConfig{client: []oss.ClientOption{withoutKey}})
		st.mustAdvise("no credentials were found, so the request was not signed", nil)
	})
	t.Run("URL without a signature", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		fieldCase()
		_, err := harness.NewURLDownloader(t).DownloadURL(t.Context(), st.s.URL("bkt", "key"), st.path)
		if err == nil || !strings.Contains(err.Error(), "the URL is not signed") {
			t.Errorf("the call ended with %v", err)
		}
	})
	t.Run("delete marker", func(t *testing.T) {
		st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
		marker := st.s.Delete("bkt", "key")
		st.mustAdvise("the object was deleted; its earlier versions can be downloaded by their IDs", ossdl.ErrNotFound)
		st.mustAdvise("this version is a delete marker", ossdl.ErrNotFound, ossdl.WithVersionID(marker))
	})
	t.Run("archived", func(t *testing.T) {
		st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{osstest.Archived("")}})
		st.mustAdvise("it must be restored before it can be read", ossdl.ErrArchived)
	})
	t.Run("no such style", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.s.Nth(0, osstest.Error(404, "NoSuchStyle"))
		if err := st.mustAdvise("the bucket has no style with the name in x-oss-process", nil); errors.Is(err, ossdl.ErrNotFound) {
			t.Errorf("the object is said to be missing: %v", err)
		}
	})
	t.Run("internal endpoint", func(t *testing.T) {
		hc := ossdl.HTTPClient()
		f := &failingDialer{err: syscall.ETIMEDOUT}
		harness.TransportOf(hc).DialContext = f.dial
		st := newServerStage(t, stageConfig{})
		client, err := oss.New("http://oss-cn-hangzhou-internal.aliyuncs.com", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(hc))
		if err != nil {
			t.Fatal(err)
		}
		st.client = client
		const advice = "an internal endpoint can be reached only from within its region"
		st.mustAdvise(advice, syscall.ETIMEDOUT)
		const url = "http://bkt.oss-cn-hangzhou-internal.aliyuncs.com/key"
		if _, err := harness.NewURLDownloader(t, ossdl.WithHTTPClient(hc), ossdl.WithRetry(lieRetry)).DownloadURL(t.Context(), url, st.path); err == nil || !strings.Contains(err.Error(), advice) {
			t.Errorf("a URL: %v", err)
		}
	})
	t.Run("no endpoint", func(t *testing.T) {
		for _, endpoint := range []string{"", " ", "https://", "http:///"} {
			client, err := oss.New("oss.invalid", osstest.AccessKeyID, osstest.AccessKeySecret)
			if err != nil {
				t.Fatal(err)
			}
			fieldCase()
			client.Config.Endpoint = endpoint
			if _, err := ossdl.New(client); err == nil || !strings.Contains(err.Error(), "has no host") {
				t.Errorf("%q: %v", endpoint, err)
			}
		}
	})
}

// mustAdvise checks that a download fails with an error that is means, and says the advice.
func (st *serverStage) mustAdvise(advice string, means error, opts ...ossdl.Option) error {
	st.t.Helper()
	fieldCase()
	_, err := st.download(opts...)
	if err == nil || !strings.Contains(err.Error(), advice) || means != nil && !errors.Is(err, means) {
		st.t.Errorf("%q is not in %v", advice, err)
	}
	return err
}
