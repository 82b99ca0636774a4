package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/osstest"
)

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	err := run(t.Context(), nil, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 files out of", "the SHA-256 is as pinned", "app/VERSION is 1.2.3", "checksum mismatch", "Nothing of it is there."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestRun checks the program itself, with its arguments and environment.
func TestRun(t *testing.T) {
	server := osstest.NewServer(t)
	server.CreateBucket("builds")
	t.Setenv("OSS_ENDPOINT", server.Endpoint())
	t.Setenv("OSS_REGION", osstest.Region)
	t.Setenv("OSS_ACCESS_KEY_ID", osstest.AccessKeyID)
	t.Setenv("OSS_ACCESS_KEY_SECRET", osstest.AccessKeySecret)

	archive, err := pack("bin/app", "text", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, b []byte) (digest string) {
		server.Put("builds", key, osstest.Bytes(b))
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	good := put("good", archive)
	git := put("git", packed(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "3f2a"}},
		tar.Header{Typeflag: tar.TypeDir, Name: "app/", Mode: 0o755}, tar.Header{Typeflag: tar.TypeReg, Name: "app/empty", Mode: 0o644}))
	for _, c := range []struct{ name, key, digest, want string }{
		{"good", "good", good, ""},
		{"of git archive", "git", git, ""},
		{"no such object", "none", good, "object not found"},
		{"other digest", "good", put("other", []byte("other")), "checksum mismatch"},
		{"no digest", "good", "xyz", "SHA-256"},
		{"short digest", "good", "ab", "the digest has 1 byte, the hash makes 32"},
		{"no archive", "other", put("other", []byte("other")), "EOF"},
		{"out of the folder", "evil", put("evil", packed(t, tar.Header{Typeflag: tar.TypeReg, Name: "../evil"})), "../evil"},
		{"link", "link", put("link", packed(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc"})), "neither a folder"},
	} {
		dir := t.TempDir()
		var out strings.Builder
		err := run(t.Context(), []string{"builds", c.key, c.digest, filepath.Join(dir, "app")}, &out)
		if err == nil {
			err = run(t.Context(), []string{"builds", c.key, c.digest, filepath.Join(dir, "slash") + "/"}, &out)
		}
		left, _ := os.ReadDir(dir)
		switch {
		case c.want == "" && (err != nil || len(left) != 2 || left[0].Name() != "app" || left[1].Name() != "slash"):
			t.Errorf("%s: %v, %v", c.name, err, left)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || len(left) > 0):
			t.Errorf("%s: %v, want %q; left behind: %v", c.name, err, c.want, left)
		}
	}
	if err := run(t.Context(), []string{"builds"}, nil); err == nil || !strings.Contains(err.Error(), "usage") {
		t.Error(err)
	}
}

// packed returns an archive of entries without content.
func packed(t *testing.T, headers ...tar.Header) []byte {
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{w.Close(), gz.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
