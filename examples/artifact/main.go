// Command artifact fetches a build artifact, a .tar.gz in OSS whose SHA-256 is pinned, and unpacks it while it comes. The
// folder appears once every byte was right, or not at all.
//
//	artifact BUCKET KEY SHA256 DIR    with OSS_ENDPOINT, OSS_REGION, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET
//	artifact                          a demonstration, against a server in this process
package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "artifact:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] == "-demo" {
		return demo(ctx, out)
	}
	if len(args) != 4 {
		return errors.New("usage: artifact BUCKET KEY SHA256 DIR")
	}
	digest, err := hex.DecodeString(args[2])
	if err != nil {
		return fmt.Errorf("SHA-256 %q: %w", args[2], err)
	}
	client, err := oss.New(os.Getenv("OSS_ENDPOINT"), os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.AuthVersion(oss.AuthV4), oss.Region(os.Getenv("OSS_REGION")), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		return err
	}
	return install(ctx, client, args[0], args[1], digest, args[3], out)
}

// install unpacks into a folder next to dir, and renames that to dir once the artifact is verified.
func install(ctx context.Context, client *oss.Client, bucket, key string, digest []byte, dir string, out io.Writer) (err error) {
	d, err := ossdl.New(client)
	if err != nil {
		return err
	}
	r, err := d.Open(ctx, bucket, key, ossdl.WithChecksum(sha256.New, digest))
	if err != nil {
		return err
	}
	defer r.Close()
	dir = filepath.Clean(dir) // without the slash of "app/", or the other folder would be inside it
	staging, err := os.MkdirTemp(filepath.Dir(dir), ".artifact-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	files, err := unpack(r, staging)
	if err != nil {
		return err
	}
	// What was unpacked so far is not verified, and tar does not read beyond its own end mark. The digest is verified at the
	// last byte of the object.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(staging, 0o755), os.Rename(staging, dir)); err != nil {
		return err
	}
	res := r.Result()
	fmt.Fprintf(out, "%s: %d files out of %d bytes, in %d requests and %.1f s; the SHA-256 is as pinned\n",
		dir, files, res.Size, res.Requests, res.Duration.Seconds())
	return nil
}

// unpack writes folders and plain files below dir; no name leads out of it.
func unpack(r io.Reader, dir string) (files int, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	gz, err := gzip.NewReader(r)
	if err != nil {
		return 0, err
	}
	for archive := tar.NewReader(gz); ; {
		h, err := archive.Next()
		switch {
		case err == io.EOF:
			return files, nil
		case err != nil:
			return files, err
		case h.Typeflag == tar.TypeXGlobalHeader: // git archive begins with one: the commit, and nothing to unpack
		case h.Typeflag == tar.TypeDir:
			err = root.MkdirAll(h.Name, 0o755)
		case h.Typeflag == tar.TypeReg:
			files++
			err = write(root, h, archive)
		default:
			err = errors.New("neither a folder nor a plain file")
		}
		if err != nil {
			return files, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func write(root *os.Root, h *tar.Header, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(h.Name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
