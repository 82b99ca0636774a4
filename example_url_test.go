package ossdl_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// DownloadURL needs nothing but a signed URL. When the URL expires during the download, WithURLRefresh gets another one from
// whoever issues such URLs, and the download continues.
func ExampleDownloader_DownloadURL() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
	dir, err := os.MkdirTemp("", "ossdl")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bucket, err := client.Bucket("backups")
	if err != nil {
		log.Fatal(err)
	}
	expired, err := bucket.SignURL("db.dump", oss.HTTPGet, 3600)
	if err != nil {
		log.Fatal(err)
	}
	server.Advance(90 * time.Minute) // time passes
	issue := func(context.Context) (string, error) {
		return bucket.SignURL("db.dump", oss.HTTPGet, 2*3600)
	}

	d, err := ossdl.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer d.CloseIdleConnections()
	path := filepath.Join(dir, "db.dump")
	_, err = d.DownloadURL(context.Background(), expired, path)
	fmt.Println("expired:", errors.Is(err, ossdl.ErrExpired))
	res, err := d.DownloadURL(context.Background(), expired, path, ossdl.WithURLRefresh(issue))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(filepath.Base(res.Path), res.Size, "bytes, verified:", res.Verified)
	// Output:
	// expired: true
	// db.dump 20971520 bytes, verified: true
}

// OpenURL reads the object of a signed URL in order. What was read is verified once the last Read has returned io.EOF.
func ExampleDownloader_OpenURL() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
	bucket, err := client.Bucket("backups")
	if err != nil {
		log.Fatal(err)
	}
	signed, err := bucket.SignURL("db.dump", oss.HTTPGet, 3600)
	if err != nil {
		log.Fatal(err)
	}

	d, err := ossdl.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer d.CloseIdleConnections()
	r, err := d.OpenURL(context.Background(), signed, ossdl.WithReadAhead(16<<20))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "of", r.Size(), "bytes, verified:", r.Result().Verified)
	// Output:
	// 20971520 of 20971520 bytes, verified: true
}
