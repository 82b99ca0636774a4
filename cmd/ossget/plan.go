package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ossdl/ossdl"
)

// planCommand returns the command that divides a prefix among workers.
func (c *command) planCommand() manual {
	shards := newGroup("Workers")
	store(shards, &c.shards, "shards", "N", fmt.Sprintf("find ranges for this many workers, 1 to %d (required)", ossdl.MaxRanges), parseShards)
	groups := []group{c.serviceGroup(), shards, c.lookTransferGroup(), c.planOutputGroup()}
	return subcommand(&cobra.Command{
		Use:   "plan --shards N [flags] oss://bucket/prefix/",
		Short: "find ranges of keys, one for each of many workers",
		RunE: func(cmd *cobra.Command, operands []string) (err error) {
			c.task = taskPlan
			switch {
			case len(operands) != 1:
				return errors.New(lsForm + " (ossget plan -h explains more)")
			case c.shards == 0:
				return errors.New("--shards N is required: the number of workers")
			}
			c.source.bucket, c.source.key, err = parseOSS(operands[0], lsForm)
			if err != nil {
				return fmt.Errorf("SOURCE %q: %w", operands[0], err)
			}
			return c.checkLook(cmd)
		},
	}, helpPage{planIntro, groups, lookOutro})
}

func (c *command) planOutputGroup() group {
	g := newGroup("Output")
	g.flags.BoolVar(&c.json, "json", false, "a JSON line for each range, with index, after, until and share, and one for the result")
	g.flags.AddFlagSet(pick("", c.outputGroup(), "quiet", "help").flags)
	return g
}

// planned is what plan has printed.
type planned struct {
	Bucket  string  `json:"bucket"`
	Prefix  string  `json:"prefix"`
	Ranges  int     `json:"ranges"`
	Seconds float64 `json:"seconds"`
	*Failure
}

// keyRange is the line of plan --json for one worker.
type keyRange struct {
	Index int     `json:"index"`
	After string  `json:"after"`
	Until string  `json:"until"`
	Share float64 `json:"share"`
}

// plan prints a line for each worker.
func (c command) plan(ctx context.Context, d *ossdl.Downloader, stdout io.Writer) (planned, error) {
	ranges, err := d.PlanRanges(ctx, c.source.bucket, c.source.key, c.shards, c.call...)
	if err != nil {
		return planned{}, err
	}
	out := &sink{w: stdout}
	lines := bufio.NewWriter(out)
	for i, r := range ranges {
		line := rangeFlags(r) + "\n"
		if c.json {
			line = oneJSON(keyRange{i, r.After, r.Until, r.Share})
		}
		if _, err := lines.WriteString(line); err != nil {
			return planned{}, out.explain(err)
		}
	}
	return planned{Ranges: len(ranges)}, out.explain(lines.Flush())
}

// rangeFlags returns the flags with which a worker downloads a range, for a shell.
func rangeFlags(r ossdl.KeyRange) string {
	flags := "--recursive"
	if r.After != "" {
		flags += " --start-after " + shellQuote(r.After)
	}
	if r.Until != "" {
		flags += " --until " + shellQuote(r.Until)
	}
	return flags
}

// shellQuote quotes a key for bash, ksh and zsh, on one line. Without control characters it is for every shell of POSIX.
func shellQuote(key string) string {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if !strings.ContainsFunc(key, control) {
		return "'" + strings.ReplaceAll(key, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(key) { // by bytes
		switch k := key[i]; {
		case k == '\'' || k == '\\':
			b.WriteByte('\\')
			b.WriteByte(k)
		case control(rune(k)):
			fmt.Fprintf(&b, `\%03o`, k)
		default:
			b.WriteByte(k)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

func parseShards(s string) (int, error) {
	n, err := parseCount(s)
	if err != nil || n < 1 || n > ossdl.MaxRanges {
		return 0, fmt.Errorf("it is a whole number, 1 to %d", ossdl.MaxRanges)
	}
	return n, nil
}

const planIntro = `ossget plan finds ranges of keys that together hold each key with the prefix once, in about
equal numbers, and prints a line for each: the flags with which a worker downloads its
range. It does not list the whole prefix, but asks for some thousand pages at most. A
small prefix gets fewer ranges than N if it has fewer keys.

  ossget plan --shards N [flags] oss://bucket/prefix/

Keys are quoted for bash, ksh and zsh; without control characters, for any shell:

  ossget plan --shards 8 oss://bucket/p/ > ranges
  eval "ossget $(sed -n 3p ranges) oss://bucket/p/ DIR"      # the third worker
`
