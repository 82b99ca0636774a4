package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// demo installs an artifact, and then meets one that was swapped for another.
func demo(ctx context.Context, out io.Writer) (err error) {
	server, err := osstest.Start()
	if err != nil {
		return err
	}
	defer server.Close()
	server.CreateBucket("builds")
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
	dir, err := os.MkdirTemp("", "ossdl-artifact-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	archive, err := pack("app/VERSION", "1.2.3\n", 12<<20)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(archive)
	server.Put("builds", "app.tar.gz", osstest.Bytes(archive))
	fmt.Fprintln(out, "1. The artifact as it was built.")
	good := filepath.Join(dir, "good")
	if err := install(ctx, client, "builds", "app.tar.gz", digest[:], good, out); err != nil {
		return err
	}
	version, err := os.ReadFile(filepath.Join(good, "app", "VERSION"))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   app/VERSION is %s\n", version)

	if archive, err = pack("app/VERSION", "6.6.6\n", 12<<20); err != nil {
		return err
	}
	server.Put("builds", "app.tar.gz", osstest.Bytes(archive))
	fmt.Fprintln(out, "2. Another one under the same name.")
	bad := filepath.Join(dir, "bad")
	if err := install(ctx, client, "builds", "app.tar.gz", digest[:], bad, out); !errors.Is(err, ossdl.ErrChecksum) {
		return fmt.Errorf("the swapped artifact was not noticed: %v", err)
	} else {
		fmt.Fprintln(out, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(left) != 1 {
		return fmt.Errorf("the swapped artifact left something: %v", left)
	}
	fmt.Fprintln(out, "   Nothing of it is there.")
	return nil
}

// pack makes an archive of a small file and a large one.
func pack(name, text string, size int64) ([]byte, error) {
	var b bytes.Buffer
	gz, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(gz)
	for _, f := range []struct {
		name    string
		content io.Reader
		size    int64
	}{
		{name, bytes.NewReader([]byte(text)), int64(len(text))},
		{"app/data/model.bin", io.NewSectionReader(osstest.Random(1, size), 0, size), size},
	} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: f.size}); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, f.content); err != nil {
			return nil, err
		}
	}
	err = errors.Join(w.Close(), gz.Close())
	return b.Bytes(), err
}
