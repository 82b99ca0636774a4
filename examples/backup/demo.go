package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ossdl/ossdl/examples/internal/hold"
	"github.com/ossdl/ossdl/examples/internal/show"
	"github.com/ossdl/ossdl/osstest"
)

const (
	bucket = "backups"
	prefix = "nightly/"
	rate   = 64 << 20 // bytes per second, of the server: so that there is a half-way
)

// demo is the other process: it holds the backup, kills the restore half-way and starts it again.
func demo(ctx context.Context, out io.Writer) (err error) {
	server, err := osstest.Start(osstest.WithRate(rate))
	if err != nil {
		return err
	}
	defer server.Close()
	total := fill(server)
	dir, err := os.MkdirTemp("", "ossdl-backup-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintf(out, "The backup has %d objects, %s.\n\n", objects, show.Bytes(total))

	fmt.Fprintln(out, "1. A restore, killed half-way.")
	hold.After(server, dump/4*3, func(r *osstest.Request) bool { return strings.HasSuffix(r.Key, ".dump") })
	first, err := child(ctx, server, dir, out)
	if err != nil {
		return err
	}
	if err := server.WaitFor(ctx, func() bool { return server.Sent() >= total/2 }); err != nil {
		return errors.Join(err, first.Process.Kill(), first.Wait())
	}
	if err := first.Process.Kill(); err != nil {
		return errors.Join(err, first.Wait())
	}
	if first.Wait() == nil {
		return errors.New("the restore ended before it could be killed")
	}
	server.ClearFaults()
	files, err := check(server, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   Killed. There are %d files, each whole.\n\n", files)

	fmt.Fprintln(out, "2. The same command again.")
	second, err := child(ctx, server, dir, out)
	if err == nil {
		err = second.Wait()
	}
	if err != nil {
		return err
	}
	if files, err = check(server, dir); err != nil {
		return err
	}
	if files != objects {
		return fmt.Errorf("there are %d files of %d", files, objects)
	}
	twice := server.Sent() - total
	fmt.Fprintf(out, "   All %d files are there, with the CRC-64 of their objects. Sent twice: %s.\n", files, show.Bytes(twice))
	return nil
}

// There are one large dump and many small files.
const (
	objects = 101
	dump    = 96 << 20 // bytes
)

func fill(server *osstest.Server) (total int64) {
	server.CreateBucket(bucket)
	for i := range objects {
		key, size := fmt.Sprintf("%sfiles/%02d/doc-%03d", prefix, i%10, i), int64(2_000*(i+1))
		if i == 0 {
			key, size = prefix+"db.dump", dump
		}
		server.Put(bucket, key, osstest.Random(uint64(i), size))
		total += size
	}
	return total
}

// child starts this program as its user would.
func child(ctx context.Context, server *osstest.Server, dir string, out io.Writer) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, bucket, prefix, dir)
	cmd.Env = append(os.Environ(), "OSS_ENDPOINT="+server.Endpoint(), "OSS_REGION="+osstest.Region,
		"OSS_ACCESS_KEY_ID="+osstest.AccessKeyID, "OSS_ACCESS_KEY_SECRET="+osstest.AccessKeySecret)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, cmd.Start()
}

// check counts the files and compares each with its object. Working files are in a folder of their own.
func check(server *osstest.Server, dir string) (files int, err error) {
	table := crc64.MakeTable(crc64.ECMA)
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".ossdl":
			return filepath.SkipDir
		case entry.IsDir():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(dir)+"/")
		if o := server.Stat(bucket, prefix+name); o == nil || crc64.Checksum(content, table) != o.CRC64() {
			return fmt.Errorf("%s is not what was stored", name)
		}
		files++
		return nil
	})
	return files, err
}
