package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

const (
	size = 64 << 20 // bytes
	rate = 40 << 20 // bytes per second, of the server: so that there is something to see
)

// demo interrupts a download half-way, so that the second bar has two shades.
func demo(ctx context.Context, out io.Writer) (err error) {
	server, err := osstest.Start(osstest.WithRate(rate))
	if err != nil {
		return err
	}
	defer server.Close()
	server.CreateBucket("backups")
	server.Put("backups", "disk.img", osstest.Random(1, size))
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
	dir, err := os.MkdirTemp("", "ossdl-progress-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "disk.img")

	half, interrupt := context.WithCancel(ctx)
	defer interrupt()
	go func() {
		if server.WaitFor(half, func() bool { return server.Sent() > size/2 }) == nil {
			interrupt()
		}
	}()
	if err := download(half, client, "backups", "disk.img", path, out); !errors.Is(err, context.Canceled) || ctx.Err() != nil {
		return errors.Join(err, errors.New("the download was to be interrupted half-way"))
	}
	fmt.Fprintln(out, "Interrupted. The same call again:")
	return download(ctx, client, "backups", "disk.img", path, out)
}
