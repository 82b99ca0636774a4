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

// One Downloader serves a whole program: its bounds are for all calls together.
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
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))

	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	res, err := d.Download(context.Background(), "backups", "db.dump", filepath.Join(dir, "db.dump"))
	if err != nil {
		log.Fatal(err) // the same call continues
	}
	fmt.Println(filepath.Base(res.Path), res.Size, "bytes, verified:", res.Verified)
	// Output: db.dump 20971520 bytes, verified: true
}

// What ended a download does not matter: a cancelled context, a lost network or a killed process. The same call continues.
func ExampleDownloader_Download_resume() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server.Nth(5, osstest.Inject().Before(cancel).StallAfter(0)) // at the sixth request, in the middle of the download

	d, err := ossdl.New(client, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(1))
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "db.dump")
	_, err = d.Download(ctx, "backups", "db.dump", path)
	fmt.Println("cancelled:", errors.Is(err, context.Canceled))
	_, err = os.Stat(path)
	fmt.Println("a file is there:", err == nil)

	res, err := d.Download(context.Background(), "backups", "db.dump", path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.ResumedBytes>>20, "MiB kept,", res.DownloadedBytes>>20, "MiB fetched, verified:", res.Verified)
	// Output:
	// cancelled: true
	// a file is there: false
	// 5 MiB kept, 15 MiB fetched, verified: true
}

// The function is called at most ten times a second, and once more when all is settled.
func ExampleWithProgress() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))

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

// A digest that the caller knows is held against what came, for example where the service has no CRC-64 of an object.
func ExampleWithChecksum() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	server.Put("artifacts", "tool", osstest.Bytes([]byte("#!/bin/sh\n")), osstest.NoCRC())
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
	fmt.Println("another one:", errors.Is(err, ossdl.ErrChecksum))
	content, err := os.ReadFile(path)
	fmt.Printf("still there: %q, %v\n", content, err)
	// Output:
	// verified: true
	// another one: true
	// still there: "#!/bin/sh\n", <nil>
}

// errors.Is tells what to do about an error, and errors.As what the service said.
func Example_errors() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)

	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	_, err = d.Download(context.Background(), "backups", "tomorrow.dump", filepath.Join(dir, "dump"))
	var answer oss.ServiceError
	switch {
	case errors.Is(err, ossdl.ErrNotFound):
		fmt.Println("there is no such object")
	case errors.Is(err, ossdl.ErrInUse), errors.Is(err, ossdl.ErrNoSpace), errors.Is(err, ossdl.ErrExpired):
		fmt.Println("the same call continues later")
	case errors.Is(err, ossdl.ErrObjectChanged):
		fmt.Println("the same call starts anew")
	}
	if errors.As(err, &answer) {
		fmt.Println(answer.StatusCode, answer.Code, "has a request ID:", answer.RequestID != "")
	}
	// Output:
	// there is no such object
	// 404 NoSuchKey has a request ID: true
}

// A program that uses the SDK's bucket.DownloadFile moves over by one name.
func ExampleDownloadFile() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))
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
