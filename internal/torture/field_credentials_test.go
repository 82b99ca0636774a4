package torture_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// fieldCase counts a case that was found in the field.
func fieldCase() { harness.Tried.Add("cases from the field", 1) }

// blockingKeys is a credentials provider that answers some calls and blocks in the others until it is let go.
type blockingKeys struct {
	free chan struct{}

	mu    sync.Mutex
	left  int // calls that are still answered
	asked chan struct{}
}

func newBlockingKeys(t *testing.T, answers int) *blockingKeys {
	k := &blockingKeys{free: make(chan struct{}), left: answers, asked: make(chan struct{}, 1000)}
	t.Cleanup(k.letGo)
	return k
}

func (k *blockingKeys) letGo() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.free:
	default:
		close(k.free)
	}
}

func (k *blockingKeys) GetCredentials() oss.Credentials {
	k.mu.Lock()
	k.left--
	answer := k.left >= 0
	k.mu.Unlock()
	if !answer {
		k.asked <- struct{}{}
		<-k.free
	}
	return key{osstest.AccessKeyID, osstest.AccessKeySecret, ""}
}

// TestProviderThatBlocks checks that the end of its context ends each call whose credentials provider does not answer, that
// no slot stays taken, and that a request that was left behind is never sent.
func TestProviderThatBlocks(t *testing.T) {
	for _, through := range []entryPoint{viaKey, viaWriter, viaReader} {
		for _, answers := range []int{0, 1, 5} {
			t.Run(fmt.Sprintf("%s, after %d answers", through, answers), func(t *testing.T) {
				fieldCase()
				k := newBlockingKeys(t, answers)
				st := newServerStage(t, stageConfig{through: through, client: []oss.ClientOption{oss.SetCredentialsProvider(k)}})
				d, err := ossdl.New(st.client, ossdl.WithConcurrency(1))
				if err != nil {
					t.Fatal(err)
				}
				enough := errors.New("enough")
				ctx, cancel := context.WithCancelCause(t.Context())
				st.ctx = ctx
				go func() {
					<-k.asked
					cancel(enough)
				}()
				var sent int
				st.returned = func() { // or the stage would wait for what is left behind
					sent = st.s.Stats().Requests
					k.letGo()
				}
				_, err = st.downloadWith(d)
				if !errors.Is(err, enough) || !errors.Is(err, context.Canceled) {
					t.Fatalf("the call ended with %v", err)
				}
				if n := st.s.Stats().Requests; n != sent {
					t.Errorf("%d requests after the call had returned", n-sent)
				}
				// With one slot for all calls the next one shows that it is free.
				st.ctx, st.returned = t.Context(), nil
				res, err := st.downloadWith(d)
				if err != nil || res.Size != st.content.Size() {
					t.Fatalf("the next call: %+v, %v", res, err)
				}
			})
		}
	}
	t.Run("DownloadPrefix", func(t *testing.T) {
		for _, answers := range []int{0, 1, 2} {
			fieldCase()
			k := newBlockingKeys(t, answers)
			s := harness.NewServer(t)
			s.Put("bkt", "a", osstest.Random(1, 1000))
			s.Put("bkt", "b", osstest.Random(2, 1000))
			client, err := s.Client(oss.HTTPClient(ossdl.HTTPClient()), oss.SetCredentialsProvider(k))
			if err != nil {
				t.Fatal(err)
			}
			d, err := ossdl.New(client)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-k.asked
				cancel()
			}()
			if _, err := d.DownloadPrefix(ctx, "bkt", "", t.TempDir()); !errors.Is(err, context.Canceled) {
				t.Errorf("after %d answers: %v", answers, err)
			}
		}
	})
	t.Run("DownloadFile", func(t *testing.T) {
		fieldCase()
		k := newBlockingKeys(t, 0)
		st := newServerStage(t, stageConfig{client: []oss.ClientOption{oss.SetCredentialsProvider(k)}})
		b, err := st.client.Bucket("bkt")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-k.asked
			cancel()
		}()
		if err := ossdl.DownloadFile(b, "key", st.path, 1<<20, oss.WithContext(ctx)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("a request that stalls at the provider is tried again", func(t *testing.T) {
		fieldCase()
		k := newBlockingKeys(t, 3)
		st := newServerStage(t, stageConfig{client: []oss.ClientOption{oss.SetCredentialsProvider(k)}})
		go func() {
			<-k.asked
			time.Sleep(2 * ossdl.MinStallTimeout) // longer than a request may stall
			k.letGo()
		}()
		res, err := st.download(ossdl.WithStallTimeout(ossdl.MinStallTimeout),
			ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 200, MinDelay: time.Millisecond})) // on a busy machine others stall, too
		if err != nil || res.Size != st.content.Size() {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// TestProviderWithoutKey checks that a provider that returns an empty key is an error that says so, in the first request and
// later, and that no request goes out unsigned or signed with nothing.
func TestProviderWithoutKey(t *testing.T) {
	for _, v4 := range []bool{false, true} {
		for _, answers := range []int{0, 1, 4} {
			t.Run(fmt.Sprintf("after %d answers, V4 %t", answers, v4), func(t *testing.T) {
				fieldCase()
				p := &endingKeys{left: answers}
				st := newServerStage(t, stageConfig{v4: v4, bucket: []osstest.BucketOption{osstest.PublicRead()}, client: []oss.ClientOption{oss.SetCredentialsProvider(p)}})
				_, err := st.download()
				if err == nil || !strings.Contains(err.Error(), "returned an empty access key") {
					t.Errorf("the call ended with %v", err)
				}
				for _, r := range st.s.Requests() {
					if a := r.Header.Get("Authorization"); !strings.Contains(a, osstest.AccessKeyID) {
						t.Errorf("a request with the authorization %q", a)
					}
				}
			})
		}
	}
}

// endingKeys is a credentials provider that has an empty key after a number of calls.
type endingKeys struct {
	mu   sync.Mutex
	left int
}

func (k *endingKeys) GetCredentials() oss.Credentials {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left--; k.left < 0 {
		return key{}
	}
	return key{osstest.AccessKeyID, osstest.AccessKeySecret, ""}
}
