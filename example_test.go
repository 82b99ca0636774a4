package ossdl_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// A program makes one client and one Downloader, and uses them for all downloads. HTTPClient has a connection pool that is
// made for parallel ranges.
func Example() {
	client, err := oss.New("https://oss-cn-hangzhou.aliyuncs.com", os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.Region("cn-hangzhou"), oss.AuthVersion(oss.AuthV4), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		log.Fatal(err)
	}
	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	res, err := d.Download(ctx, "backups", "db.dump", "/data/db.dump")
	if err != nil {
		log.Fatal(err) // to resume, run the program again
	}
	fmt.Printf("%s: %d bytes, verified: %t\n", res.Path, res.Size, res.Verified)
}

// errors.Is finds out what to do about an error, and errors.As what the service answered.
func Example_errors() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
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
	_, err = d.Download(context.Background(), "backups", "tomorrow.dump", filepath.Join(dir, "dump"))
	var answer oss.ServiceError
	switch {
	case errors.Is(err, ossdl.ErrNotFound):
		fmt.Println("there is no such object")
	case errors.Is(err, ossdl.ErrInUse), errors.Is(err, ossdl.ErrNoSpace), errors.Is(err, ossdl.ErrExpired):
		fmt.Println("repeat the call later; it resumes")
	case errors.Is(err, ossdl.ErrObjectChanged):
		fmt.Println("repeat the call; it starts over")
	}
	if errors.As(err, &answer) {
		fmt.Println(answer.StatusCode, answer.Code, "has a request ID:", answer.RequestID != "")
	}
	// Output:
	// there is no such object
	// 404 NoSuchKey has a request ID: true
}
