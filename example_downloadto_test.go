package ossdl_test

import (
	"context"
	"fmt"
	"log"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// DownloadTo writes to any io.WriterAt. Here a range of an object is written to memory.
func ExampleDownloader_DownloadTo() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("logs")
	server.Put("logs", "access.log", osstest.Bytes([]byte("GET /\nGET /favicon.ico\nPOST /login\n")))
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))

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

// memory is an io.WriterAt of fixed size.
type memory []byte

func (m memory) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }
