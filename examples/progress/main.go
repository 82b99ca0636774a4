// Command progress downloads an object and draws a bar of its own: what an earlier run left, what came since, the speed and
// the time left.
//
//	progress BUCKET KEY PATH    with OSS_ENDPOINT, OSS_REGION, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET
//	progress                    a demonstration: a download that is interrupted, against a server in this process
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
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
		fmt.Fprintln(os.Stderr, "progress:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] == "-demo" {
		return demo(ctx, out)
	}
	if len(args) != 3 {
		return errors.New("usage: progress BUCKET KEY PATH")
	}
	client, err := oss.New(os.Getenv("OSS_ENDPOINT"), os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.AuthVersion(oss.AuthV4), oss.Region(os.Getenv("OSS_REGION")), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		return err
	}
	return download(ctx, client, args[0], args[1], args[2], out)
}

func download(ctx context.Context, client *oss.Client, bucket, key, path string, out io.Writer) error {
	d, err := ossdl.New(client)
	if err != nil {
		return err
	}
	b := newBar(out)
	_, err = d.Download(ctx, bucket, key, path, ossdl.WithProgress(b.draw))
	b.end()
	return err
}

// bar redraws one line on a terminal. Elsewhere it writes a line for each tenth.
type bar struct {
	out      io.Writer
	terminal bool
	tenth    int64 // that was written last; -1: none
}

func newBar(out io.Writer) *bar {
	return &bar{out: out, terminal: show.IsTerminal(out), tenth: -1}
}

// draw is called at most ten times a second, by one goroutine at a time, and once after the outcome is settled.
func (b *bar) draw(p ossdl.Progress) {
	if p.Total == 0 {
		return // no answer yet
	}
	if b.terminal {
		fmt.Fprintf(b.out, "\r%s", line(p))
	} else if tenth := p.Done * 10 / p.Total; tenth != b.tenth {
		b.tenth = tenth
		fmt.Fprintln(b.out, line(p))
	}
}

func (b *bar) end() {
	if b.terminal {
		fmt.Fprintln(b.out)
	}
}

const width = 40

// line draws what was kept as # and what was fetched as =.
func line(p ossdl.Progress) string {
	cells := func(n int64) int { return int(n * width / p.Total) }
	kept, done := cells(min(p.Resumed, p.Done)), cells(p.Done)
	left := "    ?"
	if p.Remaining >= 0 {
		left = fmt.Sprintf("%5v", p.Remaining.Round(time.Second))
	}
	return fmt.Sprintf("[%s%s%s] %3d%% %6.1f MiB/s %s left", strings.Repeat("#", kept), strings.Repeat("=", done-kept),
		strings.Repeat(" ", width-done), p.Done*100/p.Total, p.BytesPerSecond/(1<<20), left)
}
