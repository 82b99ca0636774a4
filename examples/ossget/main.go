// Command ossget downloads an object of Alibaba Cloud OSS to a file: whole and proved, or not at all. Interrupted, killed
// or cut off, the same command continues where it was.
//
//	ossget [flags] SOURCE [DEST]
//
// Run ossget -h for the flags, the environment and the exit codes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/examples/internal/bar"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), signals()...)
	// After the first signal its default action is back: the second Ctrl-C ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// signals are those that interrupt a download. A SIGINT that the parent has ignored, as a shell does for a job in the
// background, stays so.
func signals() []os.Signal {
	if signal.Ignored(os.Interrupt) {
		return []os.Signal{syscall.SIGTERM}
	}
	return []os.Signal{os.Interrupt, syscall.SIGTERM}
}

// run is the whole command. It returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	c, err := parse(args, getenv)
	if errors.Is(err, flag.ErrHelp) {
		return write(stdout, stderr, usage)
	}
	var o outcome
	if err != nil {
		o = outcome{err: usageError{err}}
	} else {
		o = c.download(ctx, stderr)
	}
	if !c.quiet || o.err != nil {
		fmt.Fprintln(stderr, o.line())
	}
	if code := o.exitCode(); !c.json {
		return code
	} else {
		return max(code, write(stdout, stderr, o.json()))
	}
}

// write prints what the caller asked for. If that cannot be had, the command has failed.
func write(stdout, stderr io.Writer, s string) int {
	if _, err := io.WriteString(stdout, s); err != nil {
		fmt.Fprintln(stderr, "ossget: standard output:", err)
		return exitFailed
	}
	return exitDone
}

// download does the job and shows its progress.
func (c command) download(ctx context.Context, stderr io.Writer) outcome {
	o := outcome{source: c.source, path: c.dest}
	client, err := c.client()
	if err != nil {
		o.err = usageError{err}
		return o
	}
	d, err := ossdl.New(client, c.shared...)
	if err != nil {
		o.err = usageError{err}
		return o
	}
	if c.quiet {
		stderr = io.Discard
	}
	b := bar.New(stderr, c.source.name())
	o.result, o.err = d.Download(ctx, c.source.bucket, c.source.key, c.dest, append(c.call, ossdl.WithProgress(b.Update))...)
	b.Close()
	if o.err != nil && !c.noCheckpoint {
		o.kept = b.Latest().Done
	}
	o.interrupted = o.err != nil && ctx.Err() != nil
	return o
}
