package ossdl_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// DownloadPrefix downloads what is missing. The second call finds that everything is there.
func ExampleDownloader_DownloadPrefix() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "db/may/users.sql", osstest.Random(1, 20<<20))
	server.Put("backups", "db/may/orders.sql", osstest.Random(2, 100))
	server.Put("backups", "db/may/run.log", osstest.Random(3, 100))
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
	for range 2 {
		res, err := d.DownloadPrefix(context.Background(), "backups", "db/may/", dir, ossdl.WithInclude("*.sql"))
		if err != nil {
			log.Fatal(err) // to resume, repeat the call
		}
		fmt.Println(res.Done, "downloaded,", res.Skipped, "skipped")
	}
	// Output:
	// 2 downloaded, 0 skipped
	// 0 downloaded, 2 skipped
}
