package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/examples/internal/hold"
	"github.com/ossdl/ossdl/examples/internal/show"
	"github.com/ossdl/ossdl/osstest"
)

const (
	bucket = "backups"
	prefix = "nightly/"
	rate   = 64 << 20 // bytes per second, of the server: so that there is a half-way
)

// demo is the other process: it holds the backup, kills the restore half-way, starts it again, and damages what was restored.
func demo(ctx context.Context, out io.Writer) (err error) {
	server, err := osstest.Start(osstest.WithRate(rate), osstest.WithThawTime(2*time.Second))
	if err != nil {
		return err
	}
	defer server.Close()
	total := fill(server)
	base, err := os.MkdirTemp("", "ossdl-backup-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	dir := filepath.Join(base, "restored")
	fmt.Fprintf(out, "The backup has %d objects, %s.\n\n", objects, show.Bytes(total))

	fmt.Fprintln(out, "1. A restore, killed half-way.")
	if err := killed(ctx, server, dir, out); err != nil {
		return err
	}
	files, err := check(server, dir)
	if err != nil {
		return err
	}
	if files < enough {
		return fmt.Errorf("%d files are left of %d", files, enough)
	}
	fmt.Fprintf(out, "   Killed. There are %d files, each whole. There is no manifest yet.\n\n", files)

	fmt.Fprintln(out, "2. The same command again.")
	if err := restored(ctx, server, dir, out); err != nil {
		return err
	}
	twice := server.Sent() - total
	fmt.Fprintf(out, "   All %d files are there, with the CRC-64 of their objects. Sent twice: %s.\n\n", objects, show.Bytes(twice))

	fmt.Fprintln(out, "3. The folder compared with its manifest, without the network: untouched, and damaged.")
	if err := verify(ctx, dir, out); err != nil {
		return err
	}
	if err := damage(dir); err != nil {
		return err
	}
	if err := verify(ctx, dir, out); !errors.Is(err, ossdl.ErrDifferent) {
		return fmt.Errorf("the damage was not found: %w", err)
	}
	fmt.Fprintln(out, "\n4. The same command once more, as a mirror.")
	if err := restored(ctx, server, dir, out, "-mirror"); err != nil {
		return err
	}
	if err := verify(ctx, dir, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "\n5. An older backup, most of which has been archived. Here, objects thaw in two seconds.")
	if err := thawed(ctx, server, filepath.Join(base, "older"), out); err != nil {
		return err
	}
	fmt.Fprintln(out, "\n6. Another backup, as it was yesterday. Since then one object was overwritten, one deleted and one added.")
	return yesterday(ctx, server, filepath.Join(base, "yesterday"), out)
}

// daily is the prefix of the backup whose objects have changed since yesterday.
const daily = "daily/"

// yesterday restores a backup as it was a day ago, and compares it with what was stored then.
func yesterday(ctx context.Context, server *osstest.Server, dir string, out io.Writer) error {
	when := time.Now().Add(-24 * time.Hour)
	then := osstest.LastModified(when.Add(-time.Hour))
	stored := map[string]uint64{}
	for i, name := range []string{"overwritten", "deleted", "untouched"} {
		stored[name] = server.Put(bucket, daily+name, osstest.Random(uint64(i), 10_000), then).CRC64()
	}
	server.Put(bucket, daily+"overwritten", osstest.Random(10, 5_000))
	server.Delete(bucket, daily+"deleted")
	server.Put(bucket, daily+"added", osstest.Random(11, 10_000))
	restore, err := child(ctx, server, daily, dir, out, "-as-of", when.Format(time.RFC3339))
	if err == nil {
		err = restore.Wait()
	}
	if err != nil {
		return err
	}
	table := crc64.MakeTable(crc64.ECMA)
	for name, want := range stored {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if crc64.Checksum(content, table) != want {
			return fmt.Errorf("%s is not what was stored yesterday", name)
		}
	}
	if n := count(dir); n != len(stored) {
		return fmt.Errorf("there are %d files, want %d", n, len(stored))
	}
	fmt.Fprintf(out, "   All %d files are there, as they were yesterday.\n", len(stored))
	return nil
}

// older is the prefix of the archived backup.
const older = "older/"

// thawed restores a backup of archived objects, interrupted and again, and compares how often their restores were asked for.
func thawed(ctx context.Context, server *osstest.Server, dir string, out io.Writer) error {
	classes := []string{"Standard", "Archive", "ColdArchive", "DeepColdArchive"}
	for i, class := range classes {
		server.Put(bucket, older+class, osstest.Random(uint64(i), 10_000), osstest.StorageClass(class))
	}
	first, err := child(ctx, server, older, dir, out, "-thaw")
	if err != nil {
		return err
	}
	asked := func() (n int) {
		for _, class := range classes {
			n += server.Restores(bucket, older+class)
		}
		return n
	}
	err = server.WaitFor(ctx, func() bool { return asked() == len(classes)-1 })
	err = errors.Join(err, first.Process.Kill())
	if first.Wait() == nil {
		err = errors.Join(err, errors.New("the restore ended before it could be killed"))
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "   Killed while objects thaw. The same command again:")
	again, err := child(ctx, server, older, dir, out, "-thaw")
	if err == nil {
		err = again.Wait()
	}
	if err != nil {
		return err
	}
	if n := asked(); n != len(classes)-1 {
		return fmt.Errorf("%d restores were asked for, want %d", n, len(classes)-1)
	}
	fmt.Fprintf(out, "   All %d files are there, and each archived object was asked for once.\n", count(dir))
	return nil
}

// killed kills a restore when enough files are there and half of the dump. Its end does not come, so the restore cannot end before.
func killed(ctx context.Context, server *osstest.Server, dir string, out io.Writer) error {
	hold.After(server, dump-64<<10, func(r *osstest.Request) bool { return strings.HasSuffix(r.Key, ".dump") })
	defer server.ClearFaults()
	restore, err := child(ctx, server, prefix, dir, out)
	if err != nil {
		return err
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for claimed(dir) < dump/2 || count(dir) < enough {
		select {
		case <-look.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), restore.Process.Kill(), restore.Wait())
		}
	}
	if err := restore.Process.Kill(); err != nil {
		return errors.Join(err, restore.Wait())
	}
	if restore.Wait() == nil {
		return errors.New("the restore ended before it could be killed")
	}
	return nil
}

// enough is how many files a restore has put in place when it is killed.
const enough = 50

// restored lets a restore run to its end, and compares the files with their objects.
func restored(ctx context.Context, server *osstest.Server, dir string, out io.Writer, flags ...string) error {
	restore, err := child(ctx, server, prefix, dir, out, flags...)
	if err == nil {
		err = restore.Wait()
	}
	if err != nil {
		return err
	}
	files, err := check(server, dir)
	if err == nil && files != objects {
		err = fmt.Errorf("there are %d files of %d", files, objects)
	}
	return err
}

// damage changes a byte of one file, removes another, and adds one.
func damage(dir string) error {
	file := filepath.Join(dir, "files", "03", "doc-003")
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "files", "a copy of mine"), content, 0o600); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, "files", "04", "doc-004"))
}

// There are one large dump and many small files.
const (
	objects = 101
	dump    = 96 << 20 // bytes
)

func fill(server *osstest.Server) (total int64) {
	server.CreateBucket(bucket, osstest.Versioned())
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
func child(ctx context.Context, server *osstest.Server, prefix, dir string, out io.Writer, flags ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append(flags, bucket, prefix, dir)...)
	cmd.Env = append(os.Environ(), "OSS_ENDPOINT="+server.Endpoint(), "OSS_REGION="+osstest.Region,
		"OSS_ACCESS_KEY_ID="+osstest.AccessKeyID, "OSS_ACCESS_KEY_SECRET="+osstest.AccessKeySecret)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, cmd.Start()
}

// count counts the files that are in place. Working files are in a folder of their own.
func count(dir string) (files int) {
	err := eachFile(dir, func(string) error { files++; return nil })
	if err != nil { // the restore has not made the folder yet
		return 0
	}
	return files
}

// claimed returns how many bytes the checkpoint of the dump says are there. It is replaced as the dump arrives.
func claimed(dir string) (bytes int64) {
	names, err := filepath.Glob(filepath.Join(dir, ".ossdl", "*.cp"))
	if err != nil {
		return 0
	}
	for _, name := range names {
		var checkpoint struct {
			Parts []struct{ Done int64 }
		}
		if text, err := os.ReadFile(name); err != nil || json.Unmarshal(text, &checkpoint) != nil {
			continue
		}
		for _, p := range checkpoint.Parts {
			bytes += p.Done
		}
	}
	return bytes
}

// check counts the files and compares each with its object.
func check(server *osstest.Server, dir string) (files int, err error) {
	table := crc64.MakeTable(crc64.ECMA)
	err = eachFile(dir, func(path string) error {
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

// eachFile calls fn for each file below a folder but the working files.
func eachFile(dir string, fn func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".ossdl":
			return filepath.SkipDir
		case entry.IsDir():
			return nil
		}
		return fn(path)
	})
}
