package ossdl_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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

// An encrypted object is decrypted with the private key of its master key. A MasterCipher of either SDK will do in place of ReadRSAKeys.
func ExampleWithDecryption() {
	file, err := os.ReadFile("master-key.pem")
	if err != nil {
		log.Fatal(err)
	}
	keys, err := ossdl.ReadRSAKeys(file)
	if err != nil {
		log.Fatal(err)
	}
	client, err := oss.New("https://oss-cn-hangzhou.aliyuncs.com", os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.Region("cn-hangzhou"), oss.AuthVersion(oss.AuthV4), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		log.Fatal(err)
	}
	d, err := ossdl.New(client, ossdl.WithDecryption(keys...))
	if err != nil {
		log.Fatal(err)
	}
	res, err := d.Download(context.Background(), "backups", "db.dump", "/data/db.dump")
	if errors.Is(err, ossdl.ErrDecryption) {
		log.Fatal("this is not the key: ", err)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Size, res.Verified)
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

// A private endpoint behind a proxy, with a certificate from a CA of one's own.
func ExampleHTTPClient() {
	pem, err := os.ReadFile("/etc/ssl/own-ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal("own-ca.pem: no certificate")
	}
	proxy := &url.URL{Scheme: "http", Host: "proxy.example.com:3128"}
	hc := ossdl.HTTPClient(func(t *http.Transport) {
		t.Proxy = http.ProxyURL(proxy)
		t.TLSClientConfig = &tls.Config{RootCAs: roots}
	})

	client, err := oss.New("https://oss.example.com", os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.AuthVersion(oss.AuthV4), oss.Region("cn-hangzhou"), oss.HTTPClient(hc))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ossdl.New(client); err != nil {
		log.Fatal(err)
	}
}

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

// DownloadURL needs nothing but a signed URL. When the URL expires during the download, WithURLRefresh gets another one from
// the program that issues such URLs, and the download continues.
func ExampleDownloader_DownloadURL() {
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
	expired, err := bucket.SignURL("db.dump", oss.HTTPGet, 3600)
	if err != nil {
		log.Fatal(err)
	}
	server.Advance(90 * time.Minute) // time passes
	issue := func(context.Context) (string, error) {
		return bucket.SignURL("db.dump", oss.HTTPGet, 2*3600)
	}

	d, err := ossdl.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer d.CloseIdleConnections()
	path := filepath.Join(dir, "db.dump")
	_, err = d.DownloadURL(context.Background(), expired, path)
	fmt.Println("expired:", errors.Is(err, ossdl.ErrExpired))
	res, err := d.DownloadURL(context.Background(), expired, path, ossdl.WithURLRefresh(issue))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(filepath.Base(res.Path), res.Size, "bytes, verified:", res.Verified)
	// Output:
	// expired: true
	// db.dump 20971520 bytes, verified: true
}

// OpenURL reads the object of a signed URL in order. What was read is verified once the last Read has returned io.EOF.
func ExampleDownloader_OpenURL() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "db.dump", osstest.Random(1, 20<<20))
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
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

// A list from an inventory says which objects to download, and what they are. What is known saves requests for files that are
// there already. The second call finds that everything is.
func ExampleDownloader_DownloadObjects() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "db/2024/users.sql", osstest.Random(1, 20<<20))
	server.Put("backups", "db/2025/users.sql", osstest.Random(2, 1000))
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
	dir, err := os.MkdirTemp("", "ossdl")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	inventory := "db/2025/users.sql,1000\ndb/2024/users.sql,20971520\n" // in any order; it may be longer than memory

	d, err := ossdl.New(client)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		rows := csv.NewReader(strings.NewReader(inventory))
		objects := func(yield func(ossdl.Object, error) bool) {
			for {
				row, err := rows.Read()
				if err == io.EOF {
					return
				}
				var o ossdl.Object
				if err == nil {
					o.Key, o.Name = row[0], strings.TrimPrefix(row[0], "db/")
					o.Size, err = strconv.ParseInt(row[1], 10, 64)
				}
				if !yield(o, err) || err != nil {
					return
				}
			}
		}
		res, err := d.DownloadObjects(context.Background(), "backups", objects, dir)
		if err != nil {
			log.Fatal(err) // to resume, repeat the call
		}
		fmt.Println(res.Done, "downloaded,", res.Skipped, "skipped,", res.Unverified, "not verified")
	}
	// Output:
	// 2 downloaded, 0 skipped, 0 not verified
	// 0 downloaded, 2 skipped, 0 not verified
}

// A list of sources, objects and URLs, with the digests that their files must have. The second call finds that everything is there,
// without a request.
func ExampleDownloader_DownloadAll() {
	server, err := osstest.Start() // stands in for OSS
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("builds")
	server.CreateBucket("web", osstest.PublicRead())
	server.Put("builds", "app-1.2.3", osstest.Bytes([]byte("the app")))
	server.Put("web", "tool", osstest.Bytes([]byte("the tool")))
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
	dir, err := os.MkdirTemp("", "ossdl")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	app, tool := sha256.Sum256([]byte("the app")), sha256.Sum256([]byte("the tool"))
	items := func(yield func(ossdl.Item, error) bool) {
		_ = yield(ossdl.Item{Source: "oss://builds/app-1.2.3", Path: filepath.Join(dir, "app"), SHA256: app[:]}, nil) &&
			yield(ossdl.Item{Source: server.URL("web", "tool"), Path: filepath.Join(dir, "tool"), SHA256: tool[:]}, nil)
	}

	d, err := ossdl.New(client, ossdl.WithIfChanged())
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		res, err := d.DownloadAll(context.Background(), items)
		if err != nil {
			log.Fatal(err) // to resume, repeat the call
		}
		fmt.Println(res.Done, "downloaded,", res.Skipped, "skipped,", res.Requests, "requests")
	}
	// Output:
	// 2 downloaded, 0 skipped, 2 requests
	// 0 downloaded, 2 skipped, 0 requests
}

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
