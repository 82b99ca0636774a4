package ossdl_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// One Downloader serves a whole program. Its limits apply to all calls together.
func ExampleNew() {
	client, err := oss.New("https://oss-cn-hangzhou.aliyuncs.com", "access key ID", "access key secret",
		oss.AuthVersion(oss.AuthV4), oss.Region("cn-hangzhou"), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		log.Fatal(err)
	}
	_, err = ossdl.New(client, ossdl.WithConcurrency(16), ossdl.WithRateLimit(50<<20))
	fmt.Println(err)
	_, err = ossdl.New(client, ossdl.WithConcurrency(1000))
	fmt.Println(err)
	// Output:
	// <nil>
	// ossdl: WithConcurrency: concurrency 1000 is outside 1 to 256
}

func ExampleDownloader_Download() {
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

	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	res, err := d.Download(context.Background(), "backups", "db.dump", filepath.Join(dir, "db.dump"))
	if err != nil {
		log.Fatal(err) // to resume, repeat the call
	}
	fmt.Println(filepath.Base(res.Path), res.Size, "bytes, verified:", res.Verified)
	// Output: db.dump 20971520 bytes, verified: true
}

// To resume a download, repeat the call. It does not matter what ended it: a canceled context, a lost network or a killed process.
func ExampleDownloader_Download_resume() {
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server.Nth(5, osstest.Inject().Before(cancel).StallAfter(0)) // at the sixth request, in the middle of the download

	d, err := ossdl.New(client, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(1))
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "db.dump")
	_, err = d.Download(ctx, "backups", "db.dump", path)
	fmt.Println("canceled:", errors.Is(err, context.Canceled))
	_, err = os.Stat(path)
	fmt.Println("a file is there:", err == nil)

	res, err := d.Download(context.Background(), "backups", "db.dump", path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.ResumedBytes>>20, "MiB kept,", res.DownloadedBytes>>20, "MiB downloaded, verified:", res.Verified)
	// Output:
	// canceled: true
	// a file is there: false
	// 5 MiB kept, 15 MiB downloaded, verified: true
}

// The function is called at most ten times a second, and once more when the outcome is settled.
func ExampleWithProgress() {
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

	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	var last string
	show := func(p ossdl.Progress) {
		last = fmt.Sprintf("%d of %d MiB", p.Done>>20, p.Total>>20)
	}
	if _, err := d.Download(context.Background(), "backups", "db.dump", filepath.Join(dir, "db.dump"), ossdl.WithProgress(show)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(last)
	// Output: 20 of 20 MiB
}

// WithChecksum verifies a digest that the caller knows. Here the service has no CRC-64 of the object.
func ExampleWithChecksum() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("artifacts")
	server.Put("artifacts", "tool", osstest.Bytes([]byte("#!/bin/sh\n")), osstest.NoCRC())
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
	dir, err := os.MkdirTemp("", "ossdl")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	published := sha256.Sum256([]byte("#!/bin/sh\n"))

	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "tool")
	res, err := d.Download(context.Background(), "artifacts", "tool", path, ossdl.WithChecksum(sha256.New, published[:]))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("verified:", res.Verified)

	server.Put("artifacts", "tool", osstest.Bytes([]byte("#!/bin/evil\n")), osstest.NoCRC())
	_, err = d.Download(context.Background(), "artifacts", "tool", path, ossdl.WithChecksum(sha256.New, published[:]))
	fmt.Println("wrong digest:", errors.Is(err, ossdl.ErrChecksum))
	content, err := os.ReadFile(path)
	fmt.Printf("the file is still %q, %v\n", content, err)
	// Output:
	// verified: true
	// wrong digest: true
	// the file is still "#!/bin/sh\n", <nil>
}

// A program that uses the SDK's bucket.DownloadFile changes one name.
func ExampleDownloadFile() {
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

	path := filepath.Join(dir, "db.dump")
	// bucket.DownloadFile("db.dump", path, 1<<20, oss.Routines(8), oss.Checkpoint(true, path+".cp")) becomes:
	err = ossdl.DownloadFile(bucket, "db.dump", path, 1<<20, oss.Routines(8), oss.Checkpoint(true, path+".cp"))
	if err != nil {
		log.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(fi.Size(), "bytes")
	// Output: 20971520 bytes
}
