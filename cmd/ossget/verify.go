package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar"
)

// verifyOperands parses the operand of --verify with --manifest.
func (c *command) verifyOperands(args []string) (err error) {
	c.task = taskVerifyManifest
	switch {
	case len(args) == 0:
		c.dest = "."
	case len(args) > 1 || strings.HasPrefix(args[0], "oss://") || isURL(args[0]):
		return errors.New("with --manifest, --verify compares a folder with FILE alone: the only operand is the folder")
	default:
		c.dest, err = folder(args[0])
	}
	return err
}

// checkManifest checks which flags are given with --manifest and --verify.
func (c *command) checkManifest() error {
	switch {
	case c.verify && c.filesFrom != "":
		return errors.New("--verify and --files-from exclude each other")
	case c.verify && c.manifestSHA256:
		return errors.New("--manifest-sha256 does not apply to --verify: a SHA-256 in the manifest is always compared")
	case c.verify:
		return nil
	case c.manifestSHA256 && c.manifest == "":
		return errors.New("--manifest-sha256 requires --manifest")
	case c.manifest != "" && !c.recursive && c.filesFrom == "":
		return errors.New("--manifest requires --recursive, --files-from or --verify")
	case c.manifest != "" && c.dryRun:
		return errors.New("--manifest and --dry-run exclude each other: a dry run writes nothing")
	case c.manifest != "":
		c.call = append(c.call, ossdl.WithManifest(c.manifest))
	}
	if c.manifestSHA256 {
		c.call = append(c.call, ossdl.WithManifestSHA256())
	}
	return nil
}

// compare compares the folder, and prints a line for each difference.
func (c command) compare(ctx context.Context, d *ossdl.Downloader, stdout io.Writer, told *events, opts []ossdl.Option) (*ossdl.VerifyResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var failed atomic.Pointer[error]
	opts = append(opts, ossdl.WithDifference(func(d ossdl.Difference) {
		if told != nil {
			told.print(eventDifference, d)
			return
		}
		out := &sink{w: stdout}
		if _, err := io.WriteString(out, c.differenceLine(d)); err != nil {
			err = out.explain(nil)
			failed.CompareAndSwap(nil, &err)
			cancel(err)
		}
	}))
	var res *ossdl.VerifyResult
	var err error
	if c.task == taskVerify {
		res, err = d.VerifyPrefix(ctx, c.source.bucket, c.source.key, c.dest, opts...)
	} else {
		res, err = d.VerifyManifest(ctx, c.manifest, c.dest, opts...)
	}
	if e := failed.Load(); e != nil {
		return res, *e // differences that nobody saw must not count as told
	}
	if c.json { // there is one more line
		return res, err
	}
	out := &sink{err: closeOutput(stdout)}
	if lost := out.explain(nil); lost != nil {
		return res, lost
	}
	return res, err
}

// differenceLine returns the line for a difference.
func (c command) differenceLine(d ossdl.Difference) string {
	if c.json {
		return oneJSON(d)
	}
	name := d.Name
	if name == "" {
		name = d.Key
	}
	line := string(d.Kind) + " " + name
	if d.Reason != "" {
		line += ": " + d.Reason
	}
	return bar.Printable(line) + "\n"
}

// verifyKind is kind for a comparison: a folder that differs, differs again; anything else may be found out later.
func (o outcome) verifyKind() (word string, exit int) {
	if errors.Is(o.err, ossdl.ErrDifferent) {
		return codeDifferent, exitHopeless
	}
	word, _ = o.kindOf(o.err)
	return word, exitFailed
}

// verifyLine summarizes a comparison.
func (o outcome) verifyLine() string {
	r := o.compared
	s := fmt.Sprintf("%s: %d same, %d missing, %d differing, %d extra; %s read in %s", o.path, r.Same, r.Missing, r.Differing, r.Extra,
		bar.Bytes(r.Bytes), time.Duration(o.seconds*float64(time.Second)).Round(time.Millisecond))
	if o.seconds > 0 && r.Bytes > 0 {
		s += fmt.Sprintf(" (%s/s)", bar.Bytes(int64(float64(r.Bytes)/o.seconds)))
	}
	if r.Requests > 0 {
		s += requestsMade(r.Requests, r.Retries)
	}
	if r.Unverified > 0 {
		s += fmt.Sprintf("; %d compared by size and time alone: there is no CRC-64", r.Unverified)
	}
	if r.Failed > 0 {
		s += fmt.Sprintf("; %d could not be compared", r.Failed)
	}
	switch {
	case o.err == nil:
		return s
	case o.wasInterrupted():
		return "interrupted; " + s
	case errors.Is(o.err, ossdl.ErrDifferent):
		return s + "; the folder differs"
	}
	return oneLine(o.err) + "; " + s
}

// verifyReport is the last line of --json for a comparison.
type verifyReport struct {
	Path       string       `json:"path"`
	Same       int          `json:"same"`
	Unverified int          `json:"unverified"` // of same, those without a CRC-64 to compare with
	Missing    int          `json:"missing"`
	Differing  int          `json:"differing"`
	Extra      int          `json:"extra"`
	Failed     int          `json:"failed"`
	Bytes      int64        `json:"bytes"` // read from files
	Requests   int          `json:"requests"`
	Retries    int          `json:"retries"`
	Seconds    float64      `json:"seconds"`
	Failures   []keyFailure `json:"failures"` // the first ones only
	*Failure
}

func (o outcome) verifyReport() verifyReport {
	r := verifyReport{Path: o.path, Seconds: o.seconds, Failures: []keyFailure{}, Failure: o.failure()}
	v := o.compared
	if v == nil {
		return r
	}
	r.Same, r.Unverified, r.Missing, r.Differing, r.Extra, r.Failed = v.Same, v.Unverified, v.Missing, v.Differing, v.Extra, v.Failed
	r.Bytes, r.Requests, r.Retries = v.Bytes, v.Requests, v.Retries
	for _, f := range v.Failures {
		r.Failures = append(r.Failures, keyFailure{f.Key, *o.failureOf(f.Err)})
	}
	return r
}
