// Command restore-job restores one share of the objects under a prefix, as a pod of a Kubernetes Indexed Job: job.yaml runs
// it. Together the pods restore the whole prefix, and each object is in the share of one pod. If a pod is killed, the Job
// starts it again, on any machine, and it does the rest of its share.
//
//	restore-job BUCKET PREFIX DIR    with JOB_COMPLETION_INDEX, which the Job sets, and SHARDS, its completions;
//	                                 OSS_ENDPOINT, OSS_REGION, OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, and
//	                                 OSS_SESSION_TOKEN for temporary credentials
//	restore-job -shard I/N BUCKET PREFIX DIR
//	                                 the same under any other scheduler that numbers its workers, from 0
//	restore-job -ranges FILE …       the share is a range of keys, and only that is listed; FILE is what
//	                                 ossget plan --json --shards N oss://BUCKET/PREFIX printed. Each pod would list
//	                                 the whole prefix otherwise
//	restore-job -inventory FOLDER …  nothing is listed: FOLDER has the files of an inventory of OSS, *.csv.gz, of which each
//	                                 pod takes its share. Keys without PREFIX are left out
//	restore-job                      a demonstration: four shards, of which one is killed, against a server in this process
//
// Exit codes: 0 the share is restored; 1 failed, start it again to continue; 2 wrong usage, starting it again does not help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/examples/internal/show"
)

func main() {
	// A pod is asked to end with SIGTERM, and killed some time later.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "restore-job:", err)
	var usage usageError
	if errors.As(err, &usage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// usageError is a mistake in the manifest: the next pod would fail as well.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	if len(args) == 0 || args[0] == "-demo" {
		return demo(ctx, out)
	}
	j, err := parse(args, getenv)
	if err != nil {
		return usageError{err}
	}
	client, err := j.client(getenv)
	if err != nil {
		return usageError{err}
	}
	// Every pod checks this, whatever its share is made of.
	if err := ossdl.WithShard(j.index, j.count).Check(); err != nil {
		return usageError{err}
	}
	download, err := j.share()
	if err != nil {
		return usageError{err}
	}
	d, err := ossdl.New(client)
	if err != nil {
		return usageError{err}
	}
	return j.restore(ctx, d, download, out)
}

// maxKey is the longest that a key of OSS may be, in bytes.
const maxKey = 1023

// job is what one pod has to do.
type job struct {
	index, count        int
	ranges, inventory   string // where the share is from; both "": it is found by hash
	bucket, prefix, dir string
}

func parse(args []string, getenv func(string) string) (j job, err error) {
	flags := flag.NewFlagSet("restore-job", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main reports, once
	shard := flags.String("shard", "", "")
	flags.StringVar(&j.ranges, "ranges", "", "")
	flags.StringVar(&j.inventory, "inventory", "", "")
	if err := flags.Parse(args); err != nil {
		return j, err
	}
	if flags.NArg() != 3 {
		return j, errors.New("usage: restore-job [-shard I/N] [-ranges FILE | -inventory FOLDER] BUCKET PREFIX DIR")
	}
	j.bucket, j.prefix, j.dir = flags.Arg(0), flags.Arg(1), flags.Arg(2)
	switch {
	case oss.CheckBucketName(j.bucket) != nil:
		return j, fmt.Errorf("BUCKET %q: expected 3 to 63 lower-case letters, digits and hyphens, without oss:// before them", j.bucket)
	case len(j.prefix) > maxKey || !utf8.ValidString(j.prefix):
		return j, fmt.Errorf("PREFIX %q: expected up to %d bytes of UTF-8", j.prefix, maxKey)
	case j.dir == "":
		return j, errors.New("DIR is empty: expected a folder, which need not exist")
	case j.ranges != "" && j.inventory != "":
		return j, errors.New("-ranges and -inventory exclude each other")
	}
	index, count, named := strings.Cut(*shard, "/")
	if *shard == "" {
		index, count, named = getenv("JOB_COMPLETION_INDEX"), getenv("SHARDS"), true
	}
	var err1, err2 error
	j.index, err1 = strconv.Atoi(index)
	j.count, err2 = strconv.Atoi(count)
	switch {
	case !named || *shard != "" && (err1 != nil || err2 != nil):
		return j, fmt.Errorf("-shard %q: expected I/N, for example 0/4", *shard)
	case err1 != nil:
		return j, fmt.Errorf("JOB_COMPLETION_INDEX %q: expected a number, as an Indexed Job sets it; or give -shard I/N", index)
	case err2 != nil:
		return j, fmt.Errorf("SHARDS %q: expected a number, the completions of the Job", count)
	}
	return j, nil
}

func (j job) client(getenv func(string) string) (*oss.Client, error) {
	return oss.New(getenv("OSS_ENDPOINT"), getenv("OSS_ACCESS_KEY_ID"), getenv("OSS_ACCESS_KEY_SECRET"),
		oss.SecurityToken(getenv("OSS_SESSION_TOKEN")), oss.AuthVersion(oss.AuthV4), oss.Region(getenv("OSS_REGION")),
		oss.HTTPClient(ossdl.HTTPClient()))
}

// restore restores the share, and reports the outcome in the log of the pod. What is in DIR already, of this shard or another
// one, stays there.
func (j job) restore(ctx context.Context, d *ossdl.Downloader, download downloadFunc, out io.Writer) error {
	began := time.Now()
	var last ossdl.Progress
	res, err := download(ctx, d, ossdl.WithProgress(func(p ossdl.Progress) { last = p }))
	if res == nil {
		return err
	}
	for _, f := range res.Failures {
		fmt.Fprintln(out, "failed:", f)
	}
	fmt.Fprintf(out, "shard %d/%d: %d files restored, %d were there already, %d failed; %s of %s kept from before; %.1f s\n",
		j.index, j.count, res.Done, res.Skipped, res.Failed, show.Bytes(last.Resumed), show.Bytes(last.Total), time.Since(began).Seconds())
	return err
}
