package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestRestoreOnly checks that a prefix is restored in one command and downloaded in another one, and that each object is asked
// for once.
func TestRestoreOnly(t *testing.T) {
	const thaws = 3 * time.Hour
	s := newServer(t, osstest.WithThawTime(thaws))
	s.SetQuirks(osstest.AnyClock)
	putAll(s, "warm/", someFiles)
	for _, key := range []string{"p/a", "p/b"} {
		s.Put("bucket", key, osstest.Random(1, 1000), osstest.StorageClass("ColdArchive"))
	}
	dir := t.TempDir()
	restore := []string{"-json", "-recursive", "-restore", "2", "-restore-tier", "Bulk", "-restore-only", "oss://bucket/p/", dir}
	for i := range 2 {
		r := runHere(t.Context(), envOf(s), restore...)
		got := prefixLine(t, r)
		if r.exit != exitRestoring || got.Restoring != 2 || got.Done != 0 || got.Code != codeRestoring || !got.Retryable || !strings.Contains(r.stderr, "2 still thaw") {
			t.Errorf("run %d: %+v", i, r)
		}
		if asked := got.Restored; asked != 2-2*i {
			t.Errorf("run %d: asked for %d restores", i, asked)
		}
	}
	tree{}.isIn(t, dir)
	asked := 0
	for _, r := range s.Requests() {
		if r.Method == http.MethodPost {
			asked++
		}
	}
	if asked != 2 {
		t.Errorf("asked for %d restores, want one for each object", asked)
	}
	if r := runHere(t.Context(), envOf(s), "-recursive", "oss://bucket/p/", dir); r.exit != exitHopeless {
		t.Errorf("without -restore: %+v", r)
	}
	s.SetNow(func() time.Time { return time.Now().Add(thaws) })
	r := runHere(t.Context(), envOf(s), restore...)
	if got := prefixLine(t, r); r.exit != exitDone || got.Restoring != 0 {
		t.Errorf("all have thawed: %+v", r)
	}
	r = runHere(t.Context(), envOf(s), "-json", "-recursive", "-restore", "2", "oss://bucket/p/", dir)
	if got := prefixLine(t, r); r.exit != exitDone || got.Done != 2 || got.Restored != 0 {
		t.Errorf("download: %+v", r)
	}
}

// TestRestoreFlags checks that flags that are wrong cost no request.
func TestRestoreFlags(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 10))
	const days, tiers, key = "a number of days: 1 to 7 for class Archive, 1 to 365 for others", "it must be Expedited, Standard or Bulk", "an RSA private key in PEM"
	dir := t.TempDir()
	noKey := filepath.Join(dir, "no-key")
	if err := os.WriteFile(noKey, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxKeyFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	type bad struct{ name, value, form string }
	for _, c := range []bad{
		{"restore", "0", days}, {"restore", "366", days}, {"restore", "soon", days}, {"restore", "-1", days}, {"restore", "1.5", days}, {"restore", "", days},
		{"restore", "99999999999999999999", days}, {"restore-tier", "Slow", tiers}, {"restore-tier", "bulk", tiers}, {"restore-tier", "", tiers},
		{"decrypt-key", "/absent/key", key}, {"decrypt-key", "", key}, {"decrypt-key", dir, key}, {"decrypt-key", noKey, key}, {"decrypt-key", large, key},
	} {
		r := runHere(t.Context(), envOf(s), "--restore=1", "--"+c.name+"="+c.value, "oss://bucket/key")
		if what := fmt.Sprintf("invalid value %q for --%s: ", c.value, c.name); r.exit != exitUsage || !strings.Contains(r.stderr, what) || !strings.Contains(r.stderr, c.form) {
			t.Errorf("%+v, want %s%s", r, what, c.form)
		}
	}
	for flags, want := range map[string]string{
		"-restore-tier Bulk oss://bucket/key":            "--restore-tier requires --restore DAYS",
		"-restore-only -recursive oss://bucket/":         "--restore-only requires --restore DAYS",
		"-restore 1 -restore-only oss://bucket/key":      "--restore-only requires --recursive",
		"-restore 1 http://host.test/key":                "--restore does not apply to a URL",
		"-restore 1 -verify oss://bucket/":               "--restore does not apply to --verify",
		"-endpoint http://a.test,,x oss://bucket/key":    `--endpoint "": expected a host`,
		"-endpoint http://a.test,a/b oss://bucket/key":   `--endpoint "a/b": expected a host`,
		"-endpoint a.test,https://a.test oss://bucket/k": "given twice",
		"-endpoint a.test,bucket.b.test oss://bucket/k":  "begins with the bucket",
	} {
		if r := runHere(t.Context(), envOf(s), strings.Fields(flags)...); r.exit != exitUsage || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %s", flags, r, want)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// TestDecryptKey checks that an object is decrypted with the key of a file, and that another key is an error that shows neither.
func TestDecryptKey(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	keyFile := func(name string) (*rsa.PrivateKey, string) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return key, path
	}
	master, right := keyFile("right.pem")
	_, wrong := keyFile("wrong.pem")
	wrap := func(b []byte) string {
		//lint:ignore SA1019 that is how the SDKs wrap
		wrapped, err := rsa.EncryptPKCS1v15(rand.Reader, &master.PublicKey, b)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(wrapped)
	}
	key, start := make([]byte, 32), make([]byte, aes.BlockSize)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte(strings.Repeat("what nobody else may read\n", 1000))
	stored := make([]byte, len(plain))
	cipher.NewCTR(block, start).XORKeyStream(stored, plain)
	s.Put("bucket", "key", osstest.Bytes(stored),
		osstest.Meta("client-side-encryption-key", wrap(key)), osstest.Meta("client-side-encryption-start", wrap(start)),
		osstest.Meta("client-side-encryption-cek-alg", "AES/CTR/NoPadding"), osstest.Meta("client-side-encryption-wrap-alg", "RSA/NONE/PKCS1Padding"))
	path := filepath.Join(dir, "file")
	r := runHere(t.Context(), envOf(s), "-json", "-decrypt-key", wrong, "oss://bucket/key", path)
	if got := outcomeOf(t, r); r.exit != exitHopeless || got.Failure == nil || got.Code != codeDecryption || strings.Contains(r.stderr, string(plain[:20])) {
		t.Errorf("another key: %+v", r)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a file although the key is wrong")
	}
	r = runHere(t.Context(), envOf(s), "-json", "-decrypt-key", right, "oss://bucket/key", path)
	if got := outcomeOf(t, r); r.exit != exitDone || !got.Verified {
		t.Errorf("%+v", r)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != string(plain) {
		t.Errorf("%d bytes, %v; they are not those that were encrypted", len(content), err)
	}
}

// TestSeveralEndpoints checks that the second endpoint serves what the first one cannot.
func TestSeveralEndpoints(t *testing.T) {
	s := newServer(t)
	content := osstest.Random(1, 3000)
	s.Put("bucket", "key", content)
	e := envOf(s)
	path := filepath.Join(t.TempDir(), "file")
	r := runHere(t.Context(), e, "-json", "-endpoint", "http://127.0.0.1:1, "+e["OSS_ENDPOINT"], "oss://bucket/key", path)
	if got := outcomeOf(t, r); r.exit != exitDone || !got.Verified {
		t.Errorf("%+v", r)
	}
}
