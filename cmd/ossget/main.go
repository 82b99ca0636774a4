// Command ossget downloads an object of Alibaba Cloud OSS, a URL, or all objects below a prefix to files. A file appears once
// it is complete and verified. If the command is interrupted or fails, run it again to resume. It can also write an object
// or a URL to standard output, in order; that is verified at the end.
//
//	go install github.com/ossdl/ossdl/cmd/ossget@latest
//	ossget [flags] SOURCE [DEST]
//
// Run ossget -h for the flags, the environment and the exit codes, and ossget -version for the installed version.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar"
	"github.com/ossdl/ossdl/cmd/ossget/internal/credentials"
)

func main() {
	// Only credentials-go uses it. It makes a pool of connections for each request and closes none.
	http.DefaultTransport.(*http.Transport).DisableKeepAlives = true
	ctx, stop := signal.NotifyContext(context.Background(), signals()...)
	// After the first signal the default action applies again, so a second Ctrl-C ends the process immediately.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// signals are those that interrupt a download. A SIGINT that the parent has ignored stays ignored: a shell ignores it for a
// job in the background.
func signals() []os.Signal {
	if signal.Ignored(os.Interrupt) {
		return []os.Signal{syscall.SIGTERM}
	}
	return []os.Signal{os.Interrupt, syscall.SIGTERM}
}

// run executes the command and returns its exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	defer holdBrokenPipe()()
	c, err := parse(args, getenv)
	if errors.Is(err, flag.ErrHelp) {
		return write(stdout, stderr, usage)
	}
	if c.version {
		return write(stdout, stderr, version())
	}
	var o outcome
	if err != nil {
		o = outcome{err: usageError{err}}
	} else {
		o = c.download(ctx, stdout, stderr)
	}
	o.print(stderr, c.quiet)
	code := o.exitCode()
	if !c.json {
		return code
	}
	if c.task == taskStdout {
		stdout = stderr // standard output is for the object alone
	}
	if untold := write(stdout, stderr, o.json()); code == exitDone {
		return untold
	}
	return code
}

// write prints the output that the caller requested. If that fails, the command has failed.
func write(stdout, stderr io.Writer, s string) int {
	if _, err := io.WriteString(stdout, s); isBrokenPipe(err) {
		return exitBrokenPipe
	} else if err != nil {
		fmt.Fprintln(stderr, "ossget: standard output:", err)
		return exitFailed
	}
	return exitDone
}

// download runs the download and shows its progress.
func (c command) download(ctx context.Context, stdout, stderr io.Writer) outcome {
	o := outcome{task: c.task, path: c.dest}
	interrupt := ctx
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, timeoutError{c.timeout})
		defer cancel()
	}
	d, err := c.downloader()
	if err != nil {
		if o.err = err; !errors.Is(err, credentials.ErrUnavailable) {
			o.err = usageError{err}
		}
		return o
	}
	if c.quiet {
		stderr = io.Discard
	}
	b := bar.New(stderr, c.title())
	opts := append(c.call, ossdl.WithProgress(func(p ossdl.Progress) {
		for i := range p.Objects {
			p.Objects[i].Key = strings.TrimPrefix(p.Objects[i].Key, c.source.key) // all of them have it, and so does the title
		}
		b.Update(p)
	}))
	began := time.Now()
	switch c.task {
	case taskFile:
		o.result, o.err = d.Download(ctx, c.source.bucket, c.source.key, c.dest, opts...)
	case taskURL:
		o.result, o.err = d.DownloadURL(ctx, c.url, c.dest, opts...)
	case taskStdout:
		o.result, o.err = c.stream(ctx, d, stdout, opts)
	case taskPrefix:
		o.prefix, o.err = d.DownloadPrefix(ctx, c.source.bucket, c.source.key, c.dest, opts...)
	}
	took := time.Since(began)
	o.seconds = took.Seconds()
	b.Close()
	last := b.Latest()
	if c.task == taskStdout && o.result == nil && last.Requests > 0 {
		o.result = &ossdl.Result{Path: c.dest, Requests: last.Requests, Retries: last.Retries, Duration: took}
	}
	o.anew = c.task == taskStdout || c.noCheckpoint || errors.Is(o.err, ossdl.ErrObjectChanged) || errors.Is(o.err, ossdl.ErrChecksum)
	if o.err != nil && !o.anew {
		o.kept = last.Done
	}
	o.interrupted = o.err != nil && interrupt.Err() != nil
	return o
}

// timeoutError ends a download that takes longer than -timeout allows.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string { return fmt.Sprintf("not done after %v (-timeout)", e.after) }

// Is lets it count as the end of a context's time.
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// downloader returns a Downloader. It has a client of the SDK unless the source is a URL, which includes its own
// authorization.
func (c command) downloader() (*ossdl.Downloader, error) {
	if c.url != "" {
		return ossdl.New(nil, c.shared...)
	}
	if err := c.who.answers(); err != nil {
		return nil, err
	}
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	return ossdl.New(client, c.shared...)
}

// title returns the name under which the progress is shown.
func (c command) title() string {
	if c.task == taskPrefix {
		return path.Base(c.source.bucket + "/" + c.source.key)
	}
	return c.source.name()
}
