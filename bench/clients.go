package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

// The clients, by the names that -peers and the table use.
const (
	ossdlClient  = "ossdl"
	streamClient = "ossdl stream" // Open instead of Download
	bareClient   = "bare"
	bareSynced   = "bare synced" // the bare loop, and a sync of each file at its end
	drainClient  = "drain"       // the bare loop without a file: what the server can do
	sdkClient    = "aliyun-oss-go-sdk"
	sdkV2Client  = "oss-go-sdk-v2"
	aria2Client  = "aria2"
)

// fetch does a job. It makes no check of its own beyond what the client does by itself.
type fetch func(context.Context, *job) error

func newFetch(client string) (fetch, error) {
	switch client {
	case ossdlClient:
		return fetchOssdl, nil
	case streamClient:
		return streamOssdl, nil
	case bareClient:
		return fetchBare, nil
	case bareSynced:
		return fetchBareSynced, nil
	case drainClient:
		return fetchDrain, nil
	case sdkClient:
		return fetchSDK, nil
	case sdkV2Client:
		return fetchSDKV2, nil
	case aria2Client:
		return fetchAria2, nil
	case prefixClient:
		return fetchPrefix, nil
	case bareManyClient:
		return fetchBareMany, nil
	case sdkV2LoopClient:
		return fetchSDKV2Loop, nil
	case sdkV2SyncClient:
		return fetchSDKV2Sync, nil
	}
	return nil, fmt.Errorf("no such client: %q", client)
}

// trust makes this process trust the certificate of the job's server, and no other, with any client.
func (j *job) trust() error {
	if j.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(j.CAFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no certificate in it", j.CAFile)
	}
	x509.SetFallbackRoots(pool) // they take the system's place by useFallbackRoots
	return nil
}

// useFallbackRoots is the setting of a client's process that makes trust work on every system.
const useFallbackRoots = "GODEBUG=x509usefallbackroots=1"

func (j *job) url(key string) string { return j.Endpoint + "/" + j.Bucket + "/" + key }

const (
	bareRead = 256 << 10 // bytes
	// bareConns is the bare loop's connections if the job leaves them to the client.
	bareConns = 20
)

// fetchBare is the least that a ranged download can be: connections that take parts in turn, 256 KiB reads, one
// positional write each. No checksum, no signature, no retry.
func fetchBare(ctx context.Context, j *job) error { return j.bareFile(ctx, (*os.File).Close) }

// fetchBareSynced also puts the bytes on the disk.
func fetchBareSynced(ctx context.Context, j *job) error {
	return j.bareFile(ctx, func(f *os.File) error { return errors.Join(f.Sync(), f.Close()) })
}

// bareFile is the bare loop into files, each of which done closes.
func (j *job) bareFile(ctx context.Context, done func(*os.File) error) error {
	return j.bareLoop(ctx, func(i int) (io.WriterAt, func() error, error) {
		flags := os.O_WRONLY | os.O_CREATE
		if j.Warm {
			flags = os.O_WRONLY
		}
		f, err := os.OpenFile(j.Paths[i], flags, 0o666)
		if err != nil {
			return nil, nil, err
		}
		return f, func() error { return done(f) }, nil
	})
}

// fetchDrain drops the bytes: what is left is the server and the network.
func fetchDrain(ctx context.Context, j *job) error {
	return j.bareLoop(ctx, func(int) (io.WriterAt, func() error, error) {
		return discard{}, func() error { return nil }, nil
	})
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// bareLoop downloads the job's objects, one after another, into what open returns.
func (j *job) bareLoop(ctx context.Context, open func(i int) (io.WriterAt, func() error, error)) error {
	conns := j.Conns
	if conns == 0 {
		conns = bareConns
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: conns}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	part := j.PartSize
	if part == 0 {
		part = max(1, (j.Size+int64(conns)-1)/int64(conns))
	}
	buffers := make([][]byte, conns)
	for i := range buffers {
		buffers[i] = make([]byte, min(bareRead, part))
	}
	for i, key := range j.Keys {
		w, done, err := open(i)
		if err != nil {
			return err
		}
		err = bareObject(ctx, client, j.url(key), w, j.Size, part, buffers)
		if err := errors.Join(err, done()); err != nil {
			return err
		}
	}
	return nil
}

// bareObject downloads one object with as many connections as there are buffers.
func bareObject(ctx context.Context, c *http.Client, url string, w io.WriterAt, size, part int64, buffers [][]byte) error {
	var next atomic.Int64
	errs := make([]error, len(buffers))
	var wg sync.WaitGroup
	for i, buf := range buffers {
		wg.Go(func() {
			for {
				start := next.Add(part) - part
				if start >= size {
					return
				}
				if errs[i] = bareRange(ctx, c, url, w, start, min(start+part, size), buf); errs[i] != nil {
					next.Store(size)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func bareRange(ctx context.Context, c *http.Client, url string, w io.WriterAt, start, end int64, buf []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, end-1))
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("status %s", res.Status)
	}
	for start < end {
		n, err := io.ReadFull(res.Body, buf[:min(int64(len(buf)), end-start)])
		if err != nil {
			return err
		}
		if _, err := w.WriteAt(buf[:n], start); err != nil {
			return err
		}
		start += int64(n)
	}
	// The end of the body has to be read for the connection to be used again.
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
