package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"

	"github.com/ossdl/ossdl"
)

// The clients of the rows with many objects, which go through a folder at once instead of file by file.
const (
	prefixClient    = "ossdl prefix"           // DownloadPrefix
	bareManyClient  = "bare many"              // requests and files in a loop, without anything else
	sdkV2SyncClient = "oss-go-sdk-v2 synced"   // GetObjectToFile in a loop, and then one sync of the file system
	sdkV2LoopClient = "oss-go-sdk-v2 unsynced" // the same, and nothing is on the disk for sure
	manyConns       = 64                       // of those whose number is not given
)

// generatedKey is the i-th key of a bucket whose listing is made up while it is read. One in rareEvery is rare.
func generatedKey(i int) string {
	kind := "bin"
	if i%rareEvery == 0 {
		kind = "rare"
	}
	return fmt.Sprintf("folder-%04d/object-%07d.%s", i/1000, i, kind)
}

const (
	rareEvery   = 100_000
	rarePattern = "*.rare"
)

// prepare makes the files of the first n generated keys below dir, as a download has left them.
func prepare(dir string, n int, size int64, modified time.Time) error {
	folder := ""
	for i := range n {
		name := filepath.Join(dir, filepath.FromSlash(generatedKey(i)))
		if d := filepath.Dir(name); d != folder {
			if folder = d; os.MkdirAll(d, 0o777) != nil {
				return fmt.Errorf("no folder %s", d)
			}
		}
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(size), f.Close(), os.Chtimes(name, modified, modified)); err != nil {
			return err
		}
	}
	return nil
}

// fetchPrefix is DownloadPrefix of the whole bucket, with the options that the job names and no other.
func fetchPrefix(ctx context.Context, j *job) error {
	d, done, err := j.downloader()
	if err != nil {
		return err
	}
	defer done()
	var opts []ossdl.Option
	if j.Include != "" {
		opts = append(opts, ossdl.WithInclude(j.Include))
	}
	res, err := d.DownloadPrefix(ctx, j.Bucket, "", j.Dir, opts...)
	if err != nil {
		return err
	}
	if res.Done != j.Done || res.Skipped != j.Skipped {
		return fmt.Errorf("%d objects downloaded and %d skipped; want %d and %d", res.Done, res.Skipped, j.Done, j.Skipped)
	}
	return nil
}

// each calls get for every object of the job, in as many goroutines as it has connections.
func (j *job) each(get func(key, path string) error) error {
	conns := j.Conns
	if conns == 0 {
		conns = manyConns
	}
	var next atomic.Int64
	errs := make([]error, conns)
	var wg sync.WaitGroup
	for worker := range conns {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(j.Keys)) && errs[worker] == nil; i = next.Add(1) - 1 {
				errs[worker] = get(j.Keys[i], j.Paths[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fetchBareMany is the least that many objects can cost: a request and a file for each. No checksum, no signature, no retry, and
// nothing is synced.
func fetchBareMany(ctx context.Context, j *job) error {
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: manyConns}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	return j.each(func(key, path string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url(key), nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", res.Status)
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, res.Body)
		return errors.Join(err, f.Close())
	})
}

// fetchSDKV2Loop is GetObjectToFile of oss-go-sdk-v2 in a loop, which checks the CRC-64. It syncs nothing.
func fetchSDKV2Loop(ctx context.Context, j *job) error {
	client := oss.NewClient(j.sdkV2Config())
	return j.each(func(key, path string) error {
		_, err := client.GetObjectToFile(ctx, &oss.GetObjectRequest{Bucket: oss.Ptr(j.Bucket), Key: oss.Ptr(key)}, path)
		return err
	})
}

// fetchSDKV2Sync is the same loop, and one sync of the file system at its end.
func fetchSDKV2Sync(ctx context.Context, j *job) error {
	if err := fetchSDKV2Loop(ctx, j); err != nil {
		return err
	}
	return syncAll(j.Dir)
}
