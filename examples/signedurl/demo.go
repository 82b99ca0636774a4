package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/osstest"
)

const (
	bucket = "media"
	key    = "film.mp4"
	size   = 64 << 20 // bytes
	life   = 3600     // seconds, of a URL
)

// demo downloads while the time goes by: at the second request the first URL is two hours old.
func demo(ctx context.Context, out io.Writer) (err error) {
	server, err := osstest.Start()
	if err != nil {
		return err
	}
	defer server.Close()
	server.CreateBucket(bucket)
	server.Put(bucket, key, osstest.Random(1, size))
	server.Nth(1, osstest.Inject().Before(func() {
		server.Advance(2 * time.Hour)
	}))

	issuer, err := issue(server, out)
	if err != nil {
		return err
	}
	defer issuer.Close()
	dir, err := os.MkdirTemp("", "ossdl-signedurl-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := download(ctx, "http://"+issuer.Addr, filepath.Join(dir, key), out); err != nil {
		return err
	}
	refused := 0
	for _, r := range server.Requests() {
		if r.Status == http.StatusForbidden {
			refused++
		}
	}
	if refused == 0 {
		return errors.New("the URL did not expire")
	}
	fmt.Fprintf(out, "Requests that were refused on the way, since their URL had expired: %d\n", refused)
	return nil
}

// issue serves URLs, each good for an hour of the server's time. It holds the credentials that the download has not.
func issue(server *osstest.Server, out io.Writer) (*http.Server, error) {
	b, err := server.Client().Bucket(bucket)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	good := int64(life)
	issuer := &http.Server{Addr: l.Addr().String(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		url, err := b.SignURL(key, oss.HTTPGet, good)
		if err != nil {
			http.Error(w, "no URL", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(out, "A URL was issued.")
		fmt.Fprintln(w, url)
		good += 2 * life // by then it is two hours later for the server, not for us
	})}
	go issuer.Serve(l)
	return issuer, nil
}
