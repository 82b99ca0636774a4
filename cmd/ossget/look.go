package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar"
)

// lsCommand returns the command that lists a prefix.
func (c *command) lsCommand() manual {
	keys := pick("Keys", c.manyGroup(), "include", "exclude", "shard", "start-after", "until")
	keys.flags.AddFlagSet(pick("", c.objectGroup(), "as-of").flags)
	groups := []group{c.serviceGroup(), keys, c.lookTransferGroup(), c.lookOutputGroup()}
	return subcommand(&cobra.Command{
		Use:   "ls [flags] oss://bucket/prefix/",
		Short: "list the objects whose keys begin with a prefix",
		RunE: func(cmd *cobra.Command, operands []string) (err error) {
			c.task = taskLs
			if len(operands) != 1 {
				return errors.New(lsForm + " (ossget ls -h explains more)")
			}
			c.source.bucket, c.source.key, err = parseOSS(operands[0], lsForm)
			if err != nil {
				return fmt.Errorf("SOURCE %q: %w", operands[0], err)
			}
			return c.checkLook(cmd)
		},
	}, helpPage{lsIntro, groups, lookOutro})
}

const lsForm = "expected oss://bucket/prefix/"

// statCommand returns the command that describes an object.
func (c *command) statCommand() manual {
	groups := []group{
		c.serviceGroup(), pick("One object", c.objectGroup(), "version-id", "as-of"), c.urlGroup(), c.lookTransferGroup(), c.lookOutputGroup(),
	}
	return subcommand(&cobra.Command{
		Use:   "stat [flags] SOURCE [DEST]",
		Short: "describe an object, and what a download of it would find",
		RunE: func(cmd *cobra.Command, operands []string) (err error) {
			ctx, cancel := c.within(cmd.Context())
			defer cancel()
			if c.urlFile != "" {
				if operands, err = c.fromFile(ctx, operands); err != nil {
					return err
				}
			}
			if err := c.operands(operands); err != nil {
				return err
			}
			if c.task == taskStdout {
				return errors.New("DEST -: standard output is for what stat prints")
			}
			c.task = taskStat
			if err := c.addHeaders(ctx); err != nil {
				return err
			}
			return c.checkLook(cmd)
		},
	}, helpPage{statIntro, groups, lookOutro})
}

// checkLook checks the flags of ls and stat.
func (c *command) checkLook(cmd *cobra.Command) error {
	err := c.combinations(cmd.Flags())
	if err == nil {
		err = c.applicable(cmd.Flags())
	}
	if err == nil && c.url == "" {
		err = c.access()
	}
	return err
}

// subcommand completes a subcommand with the flags of its help text.
func subcommand(cmd *cobra.Command, p helpPage) manual {
	cmd.DisableFlagsInUseLine = true
	cmd.ValidArgsFunction = completeOperand
	for _, g := range p.groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	completeFlags(cmd)
	help(cmd, p)
	return manual{cmd, p}
}

// pick returns a group with some flags of another.
func pick(title string, from group, names ...string) group {
	g := newGroup(title)
	for _, name := range names {
		g.flags.AddFlag(from.flags.Lookup(name))
	}
	return g
}

func (c *command) lookTransferGroup() group {
	return pick("Requests", c.transferGroup(), "retries", "retry-for", "stall-timeout", "timeout", "ca")
}

func (c *command) lookOutputGroup() group {
	g := newGroup("Output")
	g.flags.BoolVar(&c.json, "json", false, "a JSON line for each object, and one for the result")
	g.flags.AddFlagSet(pick("", c.outputGroup(), "quiet", "help").flags)
	return g
}

// look lists a prefix, divides it among workers, or describes an object.
func (c command) look(ctx context.Context, stdout io.Writer) outcome {
	o := c.newOutcome()
	interrupt := ctx
	ctx, cancel := c.within(ctx)
	defer cancel()
	d, err := c.downloader(ctx)
	if err != nil {
		return o.without(ctx, interrupt, err)
	}
	began := time.Now()
	switch c.task {
	case taskLs:
		o.listed, o.err = c.list(ctx, d, stdout)
	case taskPlan:
		o.planned, o.err = c.plan(ctx, d, stdout)
	default:
		o.err = c.describe(ctx, d, stdout)
	}
	o.result = new(ossdl.Result) // a request was made: the error is not about this machine
	o.result.Bucket, o.result.Key, o.result.Path = o.bucket, o.key, o.path
	o.seconds = time.Since(began).Seconds()
	o.interrupted, o.signal = o.err != nil && interrupt.Err() != nil, signalOf(interrupt)
	return o
}

// listing is what ls has printed.
type listing struct {
	Bucket  string  `json:"bucket"`
	Prefix  string  `json:"prefix"`
	Objects int     `json:"objects"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	*Failure
}

// list prints a line for each object.
func (c command) list(ctx context.Context, d *ossdl.Downloader, stdout io.Writer) (listing, error) {
	all := listing{Bucket: c.source.bucket, Prefix: c.source.key}
	out := &sink{w: stdout}
	lines := bufio.NewWriter(out)
	for i, err := range d.List(ctx, c.source.bucket, c.source.key, c.call...) {
		if err != nil {
			lines.Flush() // its error is in the sink
			return all, out.explain(err)
		}
		line := lsLine(i)
		if c.json {
			line = oneJSON(objectOf(&i))
		}
		if _, err := lines.WriteString(line); err != nil {
			return all, out.explain(err)
		}
		all.Objects++
		all.Bytes += i.Size
	}
	return all, out.explain(lines.Flush())
}

// lsLine describes an object of a listing: time, size, storage class with the state of a restore, and key.
func lsLine(i ossdl.ObjectInfo) string {
	class := i.StorageClass
	if i.ArchiveState != "" {
		class += " " + string(i.ArchiveState)
	}
	return fmt.Sprintf("%s %14d  %-24s  %s\n", i.LastModified.UTC().Format("2006-01-02T15:04:05Z"), i.Size, class, bar.Printable(i.Key))
}

// What a download would do, as stat says it.
const (
	wouldSkip     = "skip" // with --update
	wouldResume   = "resume"
	wouldDownload = "download"
	wouldWait     = "wait"    // another call is writing the file
	wouldRestore  = "restore" // the object must be restored first
)

// object is an object in the lines of --json.
type object struct {
	*ossdl.ObjectInfo
	CRC64    string `json:"crc64,omitempty"`    // decimal, if it is known
	HasCRC64 *bool  `json:"hasCrc64,omitempty"` // always nil: a name less
}

func objectOf(i *ossdl.ObjectInfo) object {
	o := object{ObjectInfo: i}
	if i.HasCRC64 {
		o.CRC64 = strconv.FormatUint(i.CRC64, 10)
	}
	return o
}

// described is the line of stat --json.
type described struct {
	object
	Local *ossdl.LocalInfo `json:"local"`
	Would string           `json:"would"`
}

// describe prints what is known of an object, and of the path that it would be downloaded to.
func (c command) describe(ctx context.Context, d *ossdl.Downloader, stdout io.Writer) error {
	var i *ossdl.ObjectInfo
	var err error
	if c.url != "" {
		i, err = d.StatURL(ctx, c.url, c.call...)
	} else {
		i, err = d.Stat(ctx, c.source.bucket, c.source.key, c.call...)
	}
	if err != nil {
		return err
	}
	local, err := i.Local(ctx, c.dest)
	if err != nil {
		return err
	}
	about := described{objectOf(i), local, would(i, local)}
	out := &sink{w: stdout}
	text := about.text(c.sourceName())
	if c.json {
		text = oneJSON(about)
	}
	_, err = io.WriteString(out, text)
	return out.explain(err)
}

// would says what a download would do.
func would(i *ossdl.ObjectInfo, l *ossdl.LocalInfo) string {
	switch {
	case l.Holder != "":
		return wouldWait
	case l.Same:
		return wouldSkip
	case i.ArchiveState == ossdl.ArchiveFrozen || i.ArchiveState == ossdl.ArchiveThawing:
		return wouldRestore
	case l.KeptBytes > 0:
		return wouldResume
	}
	return wouldDownload
}

// text describes an object for people, a line for each thing that is known.
func (d described) text(source string) string {
	var b strings.Builder
	add := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", name, bar.Printable(fmt.Sprintf(format, args...)))
	}
	known := func(name, value string) {
		if value != "" {
			add(name, "%s", value)
		}
	}
	add("source", "%s", source)
	if d.Size >= 0 {
		add("size", "%d (%s)", d.Size, bar.Bytes(d.Size))
	}
	known("class", strings.TrimSpace(d.StorageClass+" "+string(d.ArchiveState)))
	known("thawed until", timeText(d.ThawedUntil))
	known("modified", timeText(d.LastModified))
	known("version", d.VersionID)
	known("etag", d.ETag)
	known("crc64", d.CRC64)
	if d.Encrypted {
		add("encrypted", "by its writer")
	}
	l := d.Local
	switch {
	case !l.Exists:
		add("file", "%s: not there", l.Path)
	case l.Same:
		add("file", "%s: the same", l.Path)
	case l.Size == d.Size && !d.ObjectInfo.HasCRC64:
		add("file", "%s: of the same size, but not of the same time; there is no CRC-64 to compare with", l.Path)
	default:
		add("file", "%s: differs (%s)", l.Path, bar.Bytes(l.Size))
	}
	if l.KeptBytes > 0 {
		add("kept", "%s of an interrupted download", bar.Bytes(l.KeptBytes))
	}
	if l.Holder != "" {
		add("in use", "by %s", l.Holder)
	}
	add("would", "%s", d.Would)
	return b.String()
}

// timeText is a time in UTC; "" if it is not known.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

const lsIntro = `ossget ls lists the objects whose keys begin with a prefix, in the order of their keys:
time, size, storage class, and key.

  ossget ls [flags] oss://bucket/prefix/
`

const statIntro = `ossget stat describes an object without downloading it: size, storage class, state of a
restore, version, CRC-64; and what a download of it to DEST would find and do: skip (with
--update), resume, download, wait for another command that is writing the file, or restore.

  ossget stat [flags] SOURCE [DEST]

SOURCE and DEST are those of ossget: oss://bucket/key or a URL, and a file or a folder.
`

const lookOutro = `
The exit codes are those of ossget; ossget -h lists them.
`
