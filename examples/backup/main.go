// Command backup restores the objects under a prefix into a folder, and writes a manifest beside it, DIR.manifest. If it is
// killed, the same command continues. With the manifest it finds out later, without the network, whether the folder is as it was
// restored.
//
//	backup BUCKET PREFIX DIR            with OSS_ENDPOINT, OSS_REGION, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET
//	backup -mirror BUCKET PREFIX DIR    the same, and deletes files that the backup does not have, 100 at most
//	backup -thaw BUCKET PREFIX DIR      the same, and restores archived objects first, which costs money
//	backup -as-of TIME BUCKET PREFIX DIR    what was there at a time, such as 2026-11-01T00:00:00Z, in a bucket with versions
//	backup -verify DIR                  compares DIR with its manifest
//	backup                              a demonstration: a restore that is killed half-way, against a server in this process
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/examples/internal/show"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "backup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] == "-demo" {
		return demo(ctx, out)
	}
	if len(args) == 2 && args[0] == "-verify" {
		return verify(ctx, args[1], out)
	}
	var opts []ossdl.Option
	switch args[0] {
	case "-mirror":
		args, opts = args[1:], append(opts, ossdl.WithDelete(mostDeleted))
	case "-as-of":
		if len(args) < 2 {
			break
		}
		when, err := time.Parse(time.RFC3339, args[1])
		if err != nil {
			return fmt.Errorf("-as-of: %w", err)
		}
		args, opts = args[2:], append(opts, ossdl.WithAsOf(when))
	case "-thaw":
		args, opts = args[1:], append(opts, ossdl.WithRestore(ossdl.RestorePolicy{Days: 2, PollMin: time.Second}))
	}
	if len(args) != 3 {
		return errors.New("usage: backup [-mirror | -thaw | -as-of TIME] BUCKET PREFIX DIR, or backup -verify DIR")
	}
	client, err := oss.New(os.Getenv("OSS_ENDPOINT"), os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.AuthVersion(oss.AuthV4), oss.Region(os.Getenv("OSS_REGION")), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		return err
	}
	return restore(ctx, client, args[0], args[1], args[2], out, opts...)
}

// mostDeleted limits what a mirror may delete. If there is more, something else is wrong, and nothing is deleted.
const mostDeleted = 100

// restore reports what was there already, what was downloaded, and which objects failed. Those do not stop the others.
func restore(ctx context.Context, client *oss.Client, bucket, prefix, dir string, out io.Writer, opts ...ossdl.Option) error {
	d, err := ossdl.New(client)
	if err != nil {
		return err
	}
	began := time.Now()
	var last ossdl.Progress
	opts = append(opts, ossdl.WithManifest(manifestOf(dir)), ossdl.WithProgress(func(p ossdl.Progress) { last = p }))
	res, err := d.DownloadPrefix(ctx, bucket, prefix, dir, opts...)
	if res == nil {
		return err
	}
	for _, f := range res.Failures {
		fmt.Fprintln(out, "failed:", f)
	}
	fmt.Fprintf(out, "%d files restored, %d were there already, %d failed; %s of %s kept from before; %.1f s\n",
		res.Done, res.Skipped, res.Failed, show.Bytes(last.Resumed), show.Bytes(last.Total), time.Since(began).Seconds())
	if res.Restored > 0 {
		fmt.Fprintf(out, "%d of them were archived, and their restore was asked for\n", res.Restored)
	}
	if res.Deleted > 0 {
		fmt.Fprintf(out, "%d files deleted that the backup does not have\n", res.Deleted)
	}
	return err
}

// manifestOf names the manifest of a folder. It is beside the folder: in it, a key could have its name.
func manifestOf(dir string) string { return filepath.Clean(dir) + ".manifest" }

// verify compares a folder with its manifest. It needs no client.
func verify(ctx context.Context, dir string, out io.Writer) error {
	d, err := ossdl.New(nil)
	if err != nil {
		return err
	}
	res, err := d.VerifyManifest(ctx, manifestOf(dir), dir, ossdl.WithDifference(func(d ossdl.Difference) {
		fmt.Fprintln(out, strings.TrimSpace(fmt.Sprintf("%s: %s %s", d.Kind, d.Name, d.Reason)))
	}))
	if err == nil || errors.Is(err, ossdl.ErrDifferent) {
		fmt.Fprintf(out, "%d files are as they were restored; %d are missing, %d differ, %d are extra\n", res.Same, res.Missing, res.Differing, res.Extra)
	}
	return err
}
