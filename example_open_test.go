package ossdl_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// An archive is unpacked while it is downloaded, and its digest is verified. What was unpacked can be used once the last Read
// has returned io.EOF.
func ExampleDownloader_Open() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("artifacts")
	archive := pack("app/config", "app/run")
	server.Put("artifacts", "app.tar", osstest.Bytes(archive))
	digest := sha256.Sum256(archive) // published with the archive
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))

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
	// tar stops reading at the archive's own end mark. The digest is verified at the end of the object.
	if _, err := io.Copy(io.Discard, r); err != nil {
		log.Fatal(err)
	}
	fmt.Println("verified:", r.Result().Verified)
	// Output:
	// app/config 4
	// app/run 4
	// verified: true
}

// pack makes an archive with some files.
func pack(names ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 4}); err != nil {
			log.Fatal(err)
		}
		if _, err := io.WriteString(w, "abc\n"); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return b.Bytes()
}
