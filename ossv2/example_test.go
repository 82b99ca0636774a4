package ossv2_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"

	"github.com/ossdl/ossdl/osstest"
	"github.com/ossdl/ossdl/ossv2"
)

// start starts a server with one object, and returns what a program that uses oss-go-sdk-v2 has: a configuration.
func start() (*osstest.Server, *oss.Config) {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	server.CreateBucket("backups")
	server.Put("backups", "db.dump", osstest.Random(1, 1<<20))
	return server, oss.LoadDefaultConfig().WithRegion(osstest.Region).WithEndpoint(server.Endpoint()).
		WithCredentialsProvider(credentials.NewStaticCredentialsProvider(osstest.AccessKeyID, osstest.AccessKeySecret))
}

func ExampleNew() {
	server, cfg := start()
	defer server.Close()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	d, err := ossv2.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	res, err := d.Download(context.Background(), "backups", "db.dump", filepath.Join(dir, "db.dump"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Size, "bytes, verified:", res.Verified)
	// Output: 1048576 bytes, verified: true
}

// A program that used oss.NewDownloader(oss.NewClient(cfg)) keeps its requests and options.
func ExampleDownloader_DownloadFile() {
	server, cfg := start()
	defer server.Close()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	d, err := ossv2.NewDownloader(cfg, func(o *oss.DownloaderOptions) {
		o.ParallelNum = 4
		o.EnableCheckpoint = true
	})
	if err != nil {
		log.Fatal(err)
	}
	res, err := d.DownloadFile(context.Background(), &oss.GetObjectRequest{
		Bucket: oss.Ptr("backups"),
		Key:    oss.Ptr("db.dump"),
	}, filepath.Join(dir, "db.dump"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Written, "bytes")
	// Output: 1048576 bytes
}
