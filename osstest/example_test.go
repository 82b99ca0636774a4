package osstest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/osstest"
)

// restore is the code under test: it reads an object, and tries again if that fails.
func restore(client *oss.Client, bucketName, key string) ([]byte, error) {
	bucket, err := client.Bucket(bucketName)
	if err != nil {
		return nil, err
	}
	var errs []error
	for range 3 {
		data, err := readAll(bucket, key)
		if err == nil {
			return data, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func readAll(bucket *oss.Bucket, key string) ([]byte, error) {
	body, err := bucket.GetObject(key)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// A test of one's own restore tool: what it restores is what was stored, and it asks for it once. In a test, NewServer(t)
// takes the place of Start and Close.
func Example() {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "notes.txt", osstest.Bytes([]byte("remember the milk")))

	data, err := restore(server.Client(), "backups", "notes.txt")
	fmt.Printf("%s, %v\n", data, err)
	for _, r := range server.Requests() {
		fmt.Println(r.Method, r.Key, r.Status, r.Sent, "bytes")
	}
	// Output:
	// remember the milk, <nil>
	// GET notes.txt 200 17 bytes
}

// The first request is answered with 503, as OSS does when it asks for a lower rate.
func ExampleError() {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "notes.txt", osstest.Bytes([]byte("remember the milk")))
	server.Nth(0, osstest.Error(503, "ServiceUnavailable").Header("Retry-After", "1"))

	data, err := restore(server.Client(), "backups", "notes.txt")
	fmt.Printf("%s, %v\n", data, err)
	for _, r := range server.Requests() {
		fmt.Println(r.Status, r.Fault)
	}
	// Output:
	// remember the milk, <nil>
	// 503 Error(503, "ServiceUnavailable").Header("Retry-After", "1")
	// 200
}

// The body ends after 1000 bytes of a megabyte, each time. A tool that does not compare lengths would take what came for
// the whole object.
func ExampleFault_CloseAfter() {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "db.dump", osstest.Random(1, 1<<20))
	server.OnRequest(func(r *osstest.Request) *osstest.Fault {
		return osstest.Inject().CloseAfter(1000)
	})

	_, err = restore(server.Client(), "backups", "db.dump")
	fmt.Println("cut:", errors.Is(err, io.ErrUnexpectedEOF))
	fmt.Println("requests:", len(server.Requests()), "sent:", server.Sent())
	// Output:
	// cut: true
	// requests: 3 sent: 3000
}

// A token expires when half of the work is done: after the first object.
func ExampleServer_ExpireToken() {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "1.dump", osstest.Random(1, 1000))
	server.Put("backups", "2.dump", osstest.Random(2, 1000))
	server.AddToken("STS.id", "secret", "token", time.Now().Add(time.Hour))
	server.Nth(0, osstest.Inject().Then(func() { server.ExpireToken("token") }))

	client, err := oss.New(server.Endpoint(), "STS.id", "secret", oss.SecurityToken("token"),
		oss.AuthVersion(oss.AuthV4), oss.Region(osstest.Region))
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range []string{"1.dump", "2.dump"} {
		data, err := restore(client, "backups", key)
		var refused oss.ServiceError
		if errors.As(err, &refused) {
			fmt.Println(key, refused.StatusCode, refused.Code)
		} else {
			fmt.Println(key, len(data), "bytes", err)
		}
	}
	// Output:
	// 1.dump 1000 bytes <nil>
	// 2.dump 403 SecurityTokenExpired
}

// A signed URL is good for ten minutes, and the server's clock moves on by an hour.
func ExampleServer_Advance() {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "notes.txt", osstest.Bytes([]byte("remember the milk")))
	bucket, err := server.Client().Bucket("backups")
	if err != nil {
		log.Fatal(err)
	}
	signed, err := bucket.SignURL("notes.txt", oss.HTTPGet, 600)
	if err != nil {
		log.Fatal(err)
	}

	get := func() int {
		resp, err := server.HTTPClient().Get(signed)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	fmt.Println("now:", get())
	server.Advance(time.Hour)
	fmt.Println("later:", get())
	// Output:
	// now: 200
	// later: 403
}

// An object of a cold storage class is restored for a day. Its restore takes five hours, which pass at once.
func ExampleWithThawTime() {
	server, err := osstest.Start(osstest.WithThawTime(5 * time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "2019.dump", osstest.Random(1, 1000), osstest.StorageClass("ColdArchive"))
	bucket, err := server.Client().Bucket("backups")
	if err != nil {
		log.Fatal(err)
	}
	read := func() {
		data, err := readAll(bucket, "2019.dump")
		var refused oss.ServiceError
		if errors.As(err, &refused) {
			fmt.Println(refused.StatusCode, refused.Code)
			return
		}
		fmt.Println(len(data), "bytes", err)
	}

	read()
	if err := bucket.RestoreObject("2019.dump"); err != nil {
		log.Fatal(err)
	}
	read()
	server.Advance(5 * time.Hour)
	read()
	server.Advance(24 * time.Hour)
	read()
	// Output:
	// 403 InvalidObjectState
	// 403 InvalidObjectState
	// 1000 bytes <nil>
	// 403 InvalidObjectState
}

// An object was changed, then deleted. Its versions are still there.
func ExampleVersioned() {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups", osstest.Versioned())
	server.Put("backups", "notes.txt", osstest.Bytes([]byte("remember the milk")))
	server.Put("backups", "notes.txt", osstest.Bytes([]byte("forget the milk")))
	server.Delete("backups", "notes.txt")

	bucket, err := server.Client().Bucket("backups")
	if err != nil {
		log.Fatal(err)
	}
	list, err := bucket.ListObjectVersions()
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range list.ObjectDeleteMarkers {
		fmt.Println(m.Key, "deleted, latest:", m.IsLatest)
	}
	for _, v := range list.ObjectVersions {
		body, err := bucket.GetObject(v.Key, oss.VersionId(v.VersionId))
		if err != nil {
			log.Fatal(err)
		}
		data, err := io.ReadAll(body)
		body.Close()
		fmt.Printf("%s %q, %v\n", v.Key, data, err)
	}
	// Output:
	// notes.txt deleted, latest: true
	// notes.txt "forget the milk", <nil>
	// notes.txt "remember the milk", <nil>
}

// The object is replaced while the tool reads it in two ranges. With If-Match the second request is refused, and halves
// of two objects are never joined.
func ExampleFault_Then() {
	server, err := osstest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	old := server.Put("backups", "db.dump", osstest.Bytes(bytes.Repeat([]byte("old "), 250)))
	server.Nth(0, osstest.Inject().Then(func() {
		server.Put("backups", "db.dump", osstest.Bytes(bytes.Repeat([]byte("new "), 250)))
	}))

	bucket, err := server.Client().Bucket("backups")
	if err != nil {
		log.Fatal(err)
	}
	for _, part := range []oss.Option{oss.Range(0, 499), oss.Range(500, 999)} {
		body, err := bucket.GetObject("db.dump", part, oss.IfMatch(old.ETag))
		var refused oss.ServiceError
		if errors.As(err, &refused) {
			fmt.Println(refused.StatusCode, refused.Code)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		data, err := io.ReadAll(body)
		body.Close()
		fmt.Println(len(data), "bytes", err)
	}
	// Output:
	// 500 bytes <nil>
	// 412 PreconditionFailed
}
