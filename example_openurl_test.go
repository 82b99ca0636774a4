package ossdl_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// A signed URL can be read in order, too. What was read is proved once the last Read has returned io.EOF.
func ExampleDownloader_OpenURL() {
	server, client, dir := service()
	defer server.Close()
	defer os.RemoveAll(dir)
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))
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
