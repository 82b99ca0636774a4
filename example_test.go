package ossdl_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
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

// A signed URL is all that DownloadURL needs. When it expires on the way, the program that issues such URLs is asked for
// another one, and the download goes on.
func ExampleDownloader_DownloadURL() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))
	bucket, err := client.Bucket("backups")
	if err != nil {
		log.Fatal(err)
	}
	expired, err := bucket.SignURL("db.dump", oss.HTTPGet, 3600)
	if err != nil {
		log.Fatal(err)
	}
	server.Advance(90 * time.Minute) // time goes by
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

// Any io.WriterAt will do: here memory, of which a range of an object is wanted.
func ExampleDownloader_DownloadTo() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	server.Put("logs", "access.log", osstest.Bytes([]byte("GET /\nGET /favicon.ico\nPOST /login\n")))

	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	line := make(memory, 16)
	res, err := d.DownloadTo(context.Background(), "logs", "access.log", line, ossdl.WithRange(6, 16))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes: %s\n", res.Size, line)
	// Output: 16 bytes: GET /favicon.ico
}

// memory is a writer at offsets of a slice of bytes.
type memory []byte

func (m memory) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }

// An archive is unpacked while it comes, with its digest pinned. What was unpacked counts once the last Read has said that
// all of it was right.
func ExampleDownloader_Open() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	archive := pack(map[string]string{"app/config": "verbose=1\n", "app/run": "#!/bin/sh\n"})
	server.Put("artifacts", "app.tar", osstest.Bytes(archive))
	digest := sha256.Sum256(archive)

	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	r, err := d.Open(context.Background(), "artifacts", "app.tar", ossdl.WithChecksum(sha256.New, digest[:]))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	files := tar.NewReader(r)
	for {
		h, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(h.Name, h.Size)
	}
	// tar stops reading at the archive's own end mark: the verdict comes with the end of the object.
	if _, err := io.Copy(io.Discard, r); err != nil {
		log.Fatal(err)
	}
	fmt.Println("verified:", r.Result().Verified)
	// Output:
	// app/config 10
	// app/run 10
	// verified: true
}

// service starts an OSS service in this process, and makes a client for it and a folder to download to. A program uses the
// endpoint of its region, and its own credentials.
func service() (*osstest.Server, *oss.Client, string) {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	for _, bucket := range []string{"backups", "logs", "artifacts"} {
		server.CreateBucket(bucket)
	}
	client, err := oss.New(server.Endpoint(), osstest.AccessKeyID, osstest.AccessKeySecret,
		oss.Region(osstest.Region), oss.AuthVersion(oss.AuthV4), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ossdl")
	if err != nil {
		log.Fatal(err)
	}
	return server, client, dir
}

func pack(files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"app/config", "app/run"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			log.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return b.Bytes()
}
