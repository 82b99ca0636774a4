// Command backup restores the objects under a prefix into a folder. If it is killed, the same command continues.
//
//	backup BUCKET PREFIX DIR    with OSS_ENDPOINT, OSS_REGION, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET
//	backup                      a demonstration: a restore that is killed half-way, against a server in this process
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
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
	if len(args) != 3 {
		return errors.New("usage: backup BUCKET PREFIX DIR")
	}
	client, err := oss.New(os.Getenv("OSS_ENDPOINT"), os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.AuthVersion(oss.AuthV4), oss.Region(os.Getenv("OSS_REGION")), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		return err
	}
	return restore(ctx, client, args[0], args[1], args[2], out)
}

// restore reports what was there already, what was downloaded, and which objects failed. Those do not stop the others.
func restore(ctx context.Context, client *oss.Client, bucket, prefix, dir string, out io.Writer) error {
	d, err := ossdl.New(client)
	if err != nil {
		return err
	}
	began := time.Now()
	var last ossdl.Progress
	res, err := d.DownloadPrefix(ctx, bucket, prefix, dir, ossdl.WithProgress(func(p ossdl.Progress) { last = p }))
	if res == nil {
		return err
	}
	for _, f := range res.Failures {
		fmt.Fprintln(out, "failed:", f)
	}
	fmt.Fprintf(out, "%d files restored, %d were there already, %d failed; %s of %s kept from before; %.1f s\n",
		res.Done, res.Skipped, res.Failed, show.Bytes(last.Resumed), show.Bytes(last.Total), time.Since(began).Seconds())
	return err
}
