package ossdl_test

import (
	"context"
	"fmt"
	"os"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

func ExampleDownloader_DownloadPrefix() {
	server, err := osstest.Start() // stands for OSS
	if err != nil {
		panic(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "db/may/users.sql", osstest.Random(1, 20<<20))
	server.Put("backups", "db/may/orders.sql", osstest.Random(2, 100))
	server.Put("backups", "db/may/run.log", osstest.Random(3, 100))
	client := server.Client()
	dir, err := os.MkdirTemp("", "restored")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	d, err := ossdl.New(client)
	if err != nil {
		panic(err)
	}
	for range 2 { // the second time there is nothing left to do
		res, err := d.DownloadPrefix(context.Background(), "backups", "db/may/", dir, ossdl.WithInclude("*.sql"))
		if err != nil {
			panic(err)
		}
		fmt.Println(res.Done, "brought,", res.Skipped, "there already")
	}
	// Output:
	// 2 brought, 0 there already
	// 0 brought, 2 there already
}
