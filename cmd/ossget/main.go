// Command ossget downloads an object of Alibaba Cloud OSS, a URL, or all objects below a prefix to files. A file appears once
// it is complete and verified. If the command is interrupted or fails, run it again to resume. It can also write an object
// or a URL to standard output, in order; that is verified at the end.
//
//	go install github.com/ossdl/ossdl/cmd/ossget@latest
//	ossget [flags] SOURCE... [DEST]
//
// Run ossget -h for the flags, the environment and the exit codes, and ossget --version for the installed version.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar"
	"github.com/ossdl/ossdl/cmd/ossget/internal/credentials"
)

// prepare is replaced by tests, whose metadata service is a proxy.
var prepare = credentials.Prepare

func main() {
	prepare(http.DefaultTransport.(*http.Transport)) // only credentials-go uses it
	log.SetOutput(io.Discard)                        // net/http logs there what a server sends without a request
	cobra.MousetrapHelpText = ""                     // on Windows cobra would wait if it took the desktop for the parent
	ctx := interruptible()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// interruptible returns a context that ends with the first signal. After that the default action applies again, so a second
// Ctrl-C ends the process immediately.
func interruptible() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, signals()...)
	go func() {
		s := <-caught
		signal.Stop(caught)
		cancel(signalError{s})
	}()
	return ctx
}

// signalError is the cause with which a signal ends the context of the command.
type signalError struct{ signal os.Signal }

func (e signalError) Error() string { return e.signal.String() }

func (e signalError) Is(target error) bool { return target == context.Canceled }

// signals are those that interrupt a download. SIGHUP means that the terminal is gone. A signal that the parent has ignored
// stays ignored: a shell ignores SIGINT for a job in the background, and nohup ignores SIGHUP.
func signals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
}

// run executes the command and returns its exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	defer holdBrokenPipe()()
	c, err := parse(ctx, args, getenv)
	if c.text != "" {
		return write(stdout, stderr, c.text)
	}
	reports := stdout
	if c.task == taskStdout {
		reports = stderr // standard output is for the object alone
	}
	var o outcome
	var late timeoutError
	switch {
	case errors.As(err, &late): // while it waited for standard input
		o = outcome{err: err}
	case errors.Is(err, context.Canceled): // the same
		o = outcome{err: err, interrupted: true, signal: signalOf(ctx)}
	case err != nil:
		o = outcome{err: usageError{err}}
	case c.task.looks():
		o = c.look(ctx, stdout)
	default:
		o = c.download(ctx, stdout, stderr, reports)
	}
	o.print(stderr, c.quiet)
	code := o.exitCode()
	if c.metrics != "" && code != exitUsage {
		if err := writeMetrics(c.metrics, c.metricsOf(o)); err != nil {
			fmt.Fprintln(stderr, "ossget: --metrics:", err)
			code = max(code, exitFailed)
		}
	}
	if !c.json {
		return code
	}
	line := o.json()
	if c.events {
		line = o.event()
	}
	if untold := write(reports, stderr, line); code == exitDone {
		return untold
	}
	return code
}

// write prints the output that the caller requested. If that fails, the command has failed.
func write(stdout, stderr io.Writer, s string) int {
	_, err := io.WriteString(stdout, s)
	if err == nil && stdout != stderr {
		err = closeOutput(stdout)
	}
	if isBrokenPipe(err) {
		return exitBrokenPipe
	} else if err != nil {
		fmt.Fprintln(stderr, "ossget: standard output:", err)
		return exitFailed
	}
	return exitDone
}

// download runs the download and shows its progress. What happens is reported to reports, if that is asked for.
func (c command) download(ctx context.Context, stdout, stderr, reports io.Writer) outcome {
	o := c.newOutcome()
	interrupt := ctx
	ctx, cancel := c.within(ctx)
	defer cancel()
	d, err := c.downloader(ctx)
	if err != nil {
		return o.without(ctx, interrupt, err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if c.quiet || c.dryRun {
		stderr = io.Discard
	}
	b := bar.New(stderr, c.title())
	var told *events
	if c.events {
		told = newEvents(c, reports, stop)
	}
	opts, end := c.reporting(b, told, stdout, stop, &o.final)
	o.noFolder = c.missingFolder()
	if c.task != taskSources {
		told.start(c)
	}
	began := time.Now()
	switch c.task {
	case taskFile:
		o.result, o.err = d.Download(ctx, c.source.bucket, c.source.key, c.dest, opts...)
	case taskURL:
		o.result, o.err = d.DownloadURL(ctx, c.url, c.dest, opts...)
	case taskStdout:
		o.result, o.err = c.stream(ctx, d, stdout, opts)
	case taskSources:
		o.prefix, o.err = c.downloadSources(ctx, d, told, opts)
	case taskList:
		o.prefix, o.err = c.downloadList(ctx, d, opts)
	case taskVerify, taskVerifyManifest:
		o.compared, o.err = c.compare(ctx, d, stdout, told, opts)
	case taskPrefix:
		o.prefix, o.err = d.DownloadPrefix(ctx, c.source.bucket, c.source.key, c.dest, opts...)
	}
	o.err = end(o.err)
	if o.result != nil {
		o.noFolder = "" // it was there after all
	}
	took := time.Since(began)
	o.seconds = took.Seconds()
	b.Close()
	last := b.Latest()
	if c.task == taskStdout && o.result == nil && last.Requests > 0 {
		o.result = &ossdl.Result{Path: c.dest, Bucket: o.bucket, Key: o.key, Requests: last.Requests, Retries: last.Retries, Duration: took}
	}
	o.anew = c.task == taskStdout || c.task.verifies() || c.noCheckpoint || errors.Is(o.err, ossdl.ErrObjectChanged) || errors.Is(o.err, ossdl.ErrChecksum)
	if o.err != nil && !o.anew {
		o.kept = last.Done
	}
	o.interrupted, o.signal = o.err != nil && interrupt.Err() != nil, signalOf(interrupt)
	if !c.task.folder() {
		told.only(o)
		o.err = told.end(o.err)
	}
	return o
}

// reporting returns the options of the call, among them those that report what happens, and what turns the error of the call into
// the one to report. The call ends if nobody reads what a dry run or the events say. The objects whose failures are final are counted.
func (c command) reporting(b *bar.Bar, told *events, stdout io.Writer, stop context.CancelCauseFunc, final *int) (opts []ossdl.Option, end func(error) error) {
	opts = append(c.call, ossdl.WithProgress(func(p ossdl.Progress) {
		for i := range p.Objects {
			p.Objects[i].Key = strings.TrimPrefix(p.Objects[i].Key, c.source.key) // all of them have it, and so does the title
		}
		b.Update(p)
		told.update(p)
	}))
	if c.task == taskSources || c.mkdir && !c.task.many() { // the others of these make it anyway
		opts = append(opts, ossdl.WithMkdirAll())
	}
	if c.dryRun {
		opts = append(opts, ossdl.WithDryRun())
	}
	object := func(ossdl.ObjectResult) {}
	end = func(err error) error { return err }
	switch {
	case told != nil:
		opts = append(opts, ossdl.WithLogger(slog.New(noticer{events: told})))
		object, end = told.object, told.end
	case c.dryRun:
		p := newPlan(stdout, c.json, stop)
		object, end = p.add, p.end
	}
	if c.task.many() {
		opts = append(opts, ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
			if r.Err != nil && isFinal(r.Err) {
				*final++
			}
			object(r)
		}))
	}
	return opts, end
}

// newOutcome returns the outcome of a command that has not done anything yet.
func (c command) newOutcome() outcome {
	return outcome{task: c.task, path: c.dest, bucket: c.source.bucket, key: c.source.key, dryRun: c.dryRun, about: c.circumstances()}
}

// within returns a context that ends with --timeout.
func (c command) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithDeadlineCause(ctx, c.began.Add(c.timeout), timeoutError{c.timeout})
}

// without is the outcome if there is no Downloader because of err.
func (o outcome) without(ctx, interrupt context.Context, err error) outcome {
	ended := ctx.Err() != nil && errors.Is(err, ctx.Err())
	o.interrupted, o.signal = ended && interrupt.Err() != nil, signalOf(interrupt)
	if o.err = err; !ended && !errors.Is(err, credentials.ErrUnavailable) {
		o.err = usageError{err}
	}
	return o
}

// timeoutError ends a download that takes longer than --timeout allows.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string { return fmt.Sprintf("not done after %v (--timeout)", e.after) }

// Is lets it count as the end of a context's time.
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// missingFolder returns the folder of DEST if it is missing and --mkdir would have made it.
func (c command) missingFolder() string {
	if c.mkdir || c.task != taskFile && c.task != taskURL {
		return ""
	}
	folder := filepath.Dir(c.dest)
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return folder
	}
	return ""
}

// signalOf is the signal that ended a context; nil if none did.
func signalOf(ctx context.Context) os.Signal {
	var by signalError
	if errors.As(context.Cause(ctx), &by) {
		return by.signal
	}
	return nil
}

// downloader returns a Downloader. It has a client of the SDK unless all sources are URLs, which include their own
// authorization, and one for the comparison with a manifest has none.
func (c command) downloader(ctx context.Context) (*ossdl.Downloader, error) {
	over := c.httpClient()
	if c.usesURLs() {
		c.shared = append(c.shared, ossdl.WithHTTPClient(over))
	}
	if !c.usesBuckets() {
		return ossdl.New(nil, c.shared...)
	}
	if c.roots != nil && c.who.provider != nil {
		credentials.Trust(http.DefaultTransport.(*http.Transport), c.roots)
	}
	if err := c.who.answers(ctx); err != nil {
		return nil, err
	}
	clients, err := c.clients(over)
	if err != nil {
		return nil, err
	}
	if len(clients) > 1 {
		c.shared = append(c.shared, ossdl.WithFallback(clients[1:]...))
	}
	return ossdl.New(clients[0], c.shared...)
}

// title returns the name under which the progress is shown.
func (c command) title() string {
	if c.task == taskVerifyManifest {
		return filepath.Base(c.dest)
	}
	if c.task == taskSources {
		return fmt.Sprintf("%d files", len(c.sources.items))
	}
	if c.task.folder() {
		return path.Base(c.source.bucket + "/" + c.source.key)
	}
	return c.source.name()
}
