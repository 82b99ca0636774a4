package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/alibaba-cloud-sdk-go/services/kms"
	ossv2 "github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"
	cryptov2 "github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/crypto"
	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	osscrypto "github.com/aliyun/aliyun-oss-go-sdk/oss/crypto"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// These tests use the embedded server with what only this module may import: SDK v2, and the crypto package of SDK v1.

func startSDKServer(t *testing.T, opts ...osstest.Option) (*osstest.Server, *ossv2.Client) {
	t.Helper()
	s, err := osstest.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.CreateBucket("bkt")
	return s, ossv2.NewClient(ossv2.LoadDefaultConfig().WithRegion(osstest.Region).WithEndpoint(s.Endpoint()).
		WithCredentialsProvider(credentials.NewStaticCredentialsProvider(osstest.AccessKeyID, osstest.AccessKeySecret)))
}

// TestSDKV2Versions checks that SDK v2 reads the listing of versions, in its order and from page to page.
func TestSDKV2Versions(t *testing.T) {
	s, client := startSDKServer(t)
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	var want []string
	for _, key := range []string{"a b+c%2F", "ключ"} {
		var versions []string
		for i := range 3 {
			r, err := client.PutObject(t.Context(), &ossv2.PutObjectRequest{
				Bucket: ossv2.Ptr("bkt"), Key: ossv2.Ptr(key), Body: strings.NewReader(fmt.Sprint(i)),
			})
			if err != nil {
				t.Fatal(err)
			}
			versions = append(versions, fmt.Sprint(key, *r.VersionId, fmt.Sprint(i), false))
		}
		r, err := client.DeleteObject(t.Context(), &ossv2.DeleteObjectRequest{Bucket: ossv2.Ptr("bkt"), Key: ossv2.Ptr(key)})
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, fmt.Sprint(key, *r.VersionId, "", true))
		slices.Reverse(versions)
		want = append(want, versions...)
	}
	for _, most := range []int32{1, 3, 1000} {
		var got []string
		req := &ossv2.ListObjectVersionsRequest{Bucket: ossv2.Ptr("bkt"), MaxKeys: most, IsMix: true}
		for p := client.NewListObjectVersionsPaginator(req); p.HasNext(); {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range page.ObjectVersionsDeleteMarkers {
				text := ""
				r, err := client.GetObject(t.Context(), &ossv2.GetObjectRequest{Bucket: ossv2.Ptr("bkt"), Key: v.Key, VersionId: v.VersionId})
				switch refused := (*ossv2.ServiceError)(nil); {
				case v.IsDeleteMarker() && errors.As(err, &refused) && refused.StatusCode == 405:
				case err != nil:
					t.Fatal(err)
				default:
					text = string(readBody(t, r.Body))
				}
				got = append(got, fmt.Sprint(*v.Key, *v.VersionId, text, v.IsDeleteMarker()))
				if v.IsLatest != (len(got)%4 == 1) || v.LastModified.IsZero() || *v.Owner.ID == "" {
					t.Errorf("%+v", v)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d at a time: %q, want %q", most, got, want)
		}
	}
}

// TestSDKV2Restore checks that SDK v2 restores an object.
func TestSDKV2Restore(t *testing.T) {
	s, client := startSDKServer(t)
	s.Put("bkt", "k", osstest.Zeros(10), osstest.StorageClass("ColdArchive"))
	req := &ossv2.RestoreObjectRequest{Bucket: ossv2.Ptr("bkt"), Key: ossv2.Ptr("k"), RestoreRequest: &ossv2.RestoreRequest{
		Days: 2, JobParameters: &ossv2.JobParameters{Tier: ossv2.Ptr("Bulk")},
	}}
	r, err := client.RestoreObject(t.Context(), req)
	if err != nil || r.StatusCode != 202 || *r.RestorePriority != "Bulk" {
		t.Fatal(r, err)
	}
	_, err = client.RestoreObject(t.Context(), req)
	if refused := (*ossv2.ServiceError)(nil); !errors.As(err, &refused) || refused.StatusCode != 409 || refused.Code != "RestoreAlreadyInProgress" {
		t.Error(err)
	}
	head, err := client.HeadObject(t.Context(), &ossv2.HeadObjectRequest{Bucket: ossv2.Ptr("bkt"), Key: ossv2.Ptr("k")})
	if err != nil || *head.Restore != `ongoing-request="true"` {
		t.Error(head, err)
	}
}

// TestSDKV2Append checks that SDK v2 appends, with its check of the CRC-64.
func TestSDKV2Append(t *testing.T) {
	s, client := startSDKServer(t)
	f, err := client.AppendFile(t.Context(), "bkt", "log")
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"one", "two", "three"} {
		if _, err := f.Write([]byte(more)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readBody(t, io.NopCloser(io.NewSectionReader(s.Stat("bkt", "log").Content, 0, 100))); string(got) != "onetwothree" {
		t.Errorf("%q", got)
	}
}

const csePart = 100 << 10 // a multiple of 16, and the least that OSS takes

// TestEncryptedBySDKs checks that each SDK reads from the server what either has encrypted, whole and from any offset.
func TestEncryptedBySDKs(t *testing.T) {
	ctx := t.Context()
	s, client := startSDKServer(t)
	v1Client, err := s.Client(oss.AuthVersion(oss.AuthV4))
	if err != nil {
		t.Fatal(err)
	}
	w := newWriters(t, v1Client, client)
	v1, v2 := w.v1, w.v2

	plain := readBody(t, io.NopCloser(io.NewSectionReader(osstest.Random(1, 2*csePart+17), 0, 2*csePart+17)))
	for key, write := range map[string]func(key string) error{
		"v1 put": func(key string) error { return v1.PutObject(key, bytes.NewReader(plain)) },
		"v2 put": func(key string) error {
			_, err := v2.PutObject(ctx, &ossv2.PutObjectRequest{Bucket: ossv2.Ptr("bkt"), Key: ossv2.Ptr(key), Body: bytes.NewReader(plain)})
			return err
		},
		"v1 multipart": func(key string) error { return multipartV1(v1, key, plain) },
		"v2 multipart": func(key string) error { return multipartV2(ctx, v2, key, plain) },
	} {
		t.Run(key, func(t *testing.T) {
			if err := write(key); err != nil {
				t.Fatal(err)
			}
			o := s.Stat("bkt", key)
			if o == nil || o.Size() != int64(len(plain)) || s.Uploads("bkt") != 0 {
				t.Fatalf("%+v", o)
			}
			if stored := readBody(t, io.NopCloser(io.NewSectionReader(o.Content, 0, o.Size()))); bytes.Equal(stored, plain) {
				t.Error("it is stored as plaintext")
			}
			want := []string{"Key", "Start", "Cek-Alg", "Wrap-Alg", "Matdesc"}
			if strings.Contains(key, "multipart") {
				want = append(want, "Data-Size", "Part-Size")
			}
			for _, name := range want {
				if o.Header["X-Oss-Meta-Client-Side-Encryption-"+name] == "" {
					t.Errorf("no %s in %q", name, o.Header)
				}
			}
			for _, from := range []int{0, 16, 17, csePart - 1, csePart, csePart + 33} {
				for name, read := range map[string]func() (io.ReadCloser, error){
					"v1": func() (io.ReadCloser, error) { return v1.GetObject(key, oss.NormalizedRange(fmt.Sprintf("%d-", from))) },
					"v2": func() (io.ReadCloser, error) {
						r, err := v2.GetObject(ctx, &ossv2.GetObjectRequest{
							Bucket: ossv2.Ptr("bkt"), Key: ossv2.Ptr(key), Range: ossv2.Ptr(fmt.Sprintf("bytes=%d-", from)),
						})
						if err != nil {
							return nil, err
						}
						return r.Body, nil
					},
				} {
					body, err := read()
					if err != nil {
						t.Fatal(name, err)
					}
					if got := readBody(t, body); !bytes.Equal(got, plain[from:]) {
						t.Errorf("%s from %d: %d bytes, want %d", name, from, len(got), len(plain)-from)
					}
				}
			}
		})
	}
}

// TestEncryptedWithKMS checks that an object whose key SDK v1 has wrapped with KMS comes back.
func TestEncryptedWithKMS(t *testing.T) {
	s, _ := startSDKServer(t)
	client, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := osscrypto.CreateMasterAliKms(nil, "key-id", &kms.Client{Key: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := osscrypto.GetCryptoBucket(client, "bkt", osscrypto.CreateAesCtrCipher(cipher))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PutObject("k", strings.NewReader("plaintext")); err != nil {
		t.Fatal(err)
	}
	if got := s.Stat("bkt", "k").Header["X-Oss-Meta-Client-Side-Encryption-Wrap-Alg"]; got != "KMS/ALICLOUD" {
		t.Errorf("wrapped by %q", got)
	}
	body, err := b.GetObject("k")
	if err != nil {
		t.Fatal(err)
	}
	if got := readBody(t, body); string(got) != "plaintext" {
		t.Errorf("%q", got)
	}
	d, err := ossdl.New(client, ossdl.WithDecryption(cipher))
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Open(t.Context(), "bkt", "k")
	if err != nil {
		t.Fatal(err)
	}
	if got := readBody(t, r); string(got) != "plaintext" || !r.Result().Verified {
		t.Errorf("%q, %+v", got, r.Result())
	}
}

// TestDownloadsWhatSDKsEncrypted checks that ossdl decrypts what the encryption clients of both SDKs write, with the master key
// of either and with the key's PEM file: in parts, over a resume, as a range, in order, and as a prefix.
func TestDownloadsWhatSDKsEncrypted(t *testing.T) {
	ctx := t.Context()
	s, client := startSDKServer(t)
	plainClient, err := s.Client(oss.AuthVersion(oss.AuthV4))
	if err != nil {
		t.Fatal(err)
	}
	w := newWriters(t, plainClient, client)
	v1, v2 := w.v1, w.v2
	content := osstest.Random(1, 2*csePart+17)
	plain := readBody(t, io.NopCloser(io.NewSectionReader(content, 0, content.Size())))
	length := int64(len(plain))
	for key, write := range map[string]func(key string) error{
		"v1-put": func(key string) error { return v1.PutObject(key, bytes.NewReader(plain), oss.ContentLength(length)) },
		"v2-put": func(key string) error {
			_, err := v2.PutObject(ctx, &ossv2.PutObjectRequest{Bucket: ossv2.Ptr("bkt"), Key: ossv2.Ptr(key), Body: bytes.NewReader(plain), ContentLength: &length})
			return err
		},
		"v1-multipart": func(key string) error { return multipartV1(v1, key, plain) },
		"v2-multipart": func(key string) error { return multipartV2(ctx, v2, key, plain) },
	} {
		if err := write(key); err != nil {
			t.Fatal(key, err)
		}
	}
	s.Put("bkt", "plain", content)
	keys := []string{"plain", "v1-multipart", "v1-put", "v2-multipart", "v2-put"}
	pem, err := ossdl.ReadRSAKeys([]byte(w.private))
	if err != nil {
		t.Fatal(err)
	}
	for name, master := range map[string][]ossdl.Unwrapper{"v1": {w.v1Key}, "v2": {w.v2Key}, "PEM": pem} {
		d, err := ossdl.New(plainClient, ossdl.WithDecryption(master...), ossdl.WithPartSize(10_001), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			t.Run(name+" "+key, func(t *testing.T) { downloadEncrypted(t, s, d, key, plain) })
		}
		dir := t.TempDir()
		res, err := d.DownloadPrefix(ctx, "bkt", "", dir)
		if err != nil || res.Done != len(keys) || res.Encrypted != 0 || res.Unverified != 0 {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		for _, key := range keys {
			if got, err := os.ReadFile(filepath.Join(dir, key)); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: %d bytes, %v", name, key, len(got), err)
			}
		}
	}
	t.Run("another key", func(t *testing.T) {
		private, public := rsaKey(t)
		other, err := osscrypto.CreateMasterRsa(masterDesc, public, private)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ossdl.New(plainClient, ossdl.WithDecryption(other))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys[1:] {
			path := filepath.Join(t.TempDir(), "file")
			res, err := d.Download(ctx, "bkt", key, path)
			if !errors.Is(err, ossdl.ErrDecryption) || res.Requests != 1 || strings.Contains(err.Error(), private) {
				t.Errorf("%+v, %v", res, err)
			}
			if _, err := os.Lstat(path); err == nil {
				t.Error("there is a file")
			}
		}
	})
}

// downloadEncrypted downloads an object to a file, with an interruption, and as a Reader, and parts of it.
func downloadEncrypted(t *testing.T, s *osstest.Server, d *ossdl.Downloader, key string, plain []byte) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "file")
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Start > 100_000 {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	_, err := d.Download(ctx, "bkt", key, path, ossdl.WithConcurrency(1))
	s.ClearFaults()
	if err == nil {
		t.Fatal("the call that was to be interrupted was not")
	}
	res, err := d.Download(ctx, "bkt", key, path)
	if err != nil || !res.Verified || res.Encrypted || res.ResumedBytes == 0 || res.Requests < 5 {
		t.Errorf("%+v, %v", res, err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for _, off := range []int64{0, 1, 16, csePart - 1, csePart + 33} {
		r, err := d.Open(ctx, "bkt", key, ossdl.WithRange(off, -1))
		if err != nil {
			t.Fatal(err)
		}
		if got := readBody(t, r); !bytes.Equal(got, plain[off:]) {
			t.Errorf("from %d: %d bytes, want %d", off, len(got), len(plain)-int(off))
		}
	}
}

func multipartV1(b *osscrypto.CryptoBucket, key string, plain []byte) error {
	ctx := osscrypto.PartCryptoContext{DataSize: int64(len(plain)), PartSize: csePart}
	up, err := b.InitiateMultipartUpload(key, &ctx)
	if err != nil {
		return err
	}
	var parts []oss.UploadPart
	for data := range slices.Chunk(plain, csePart) {
		p, err := b.UploadPart(up, bytes.NewReader(data), int64(len(data)), len(parts)+1, ctx)
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	_, err = b.CompleteMultipartUpload(up, parts)
	return err
}

func multipartV2(ctx context.Context, c *ossv2.EncryptionClient, key string, plain []byte) error {
	_, err := c.NewUploader(func(o *ossv2.UploaderOptions) { o.PartSize = csePart }).UploadFrom(ctx,
		&ossv2.PutObjectRequest{Bucket: ossv2.Ptr("bkt"), Key: ossv2.Ptr(key)}, bytes.NewReader(plain))
	return err
}

// masterDesc describes master keys.
var masterDesc = map[string]string{"b": "2", "a": "1"}

// writers are the encryption clients of both SDKs, with one master key.
type writers struct {
	v1      *osscrypto.CryptoBucket
	v2      *ossv2.EncryptionClient
	v1Key   osscrypto.MasterCipher
	v2Key   cryptov2.MasterCipher
	private string // the key, in PEM
}

func newWriters(t *testing.T, v1Client *oss.Client, v2Client *ossv2.Client) (w writers) {
	t.Helper()
	var public string
	var err error
	w.private, public = rsaKey(t)
	if w.v1Key, err = osscrypto.CreateMasterRsa(masterDesc, public, w.private); err != nil {
		t.Fatal(err)
	}
	if w.v1, err = osscrypto.GetCryptoBucket(v1Client, "bkt", osscrypto.CreateAesCtrCipher(w.v1Key)); err != nil {
		t.Fatal(err)
	}
	if w.v2Key, err = cryptov2.CreateMasterRsa(masterDesc, public, w.private); err != nil {
		t.Fatal(err)
	}
	if w.v2, err = ossv2.NewEncryptionClient(v2Client, w.v2Key); err != nil {
		t.Fatal(err)
	}
	return w
}

func rsaKey(t *testing.T) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}))
}

func readBody(t *testing.T, r io.ReadCloser) []byte {
	t.Helper()
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
