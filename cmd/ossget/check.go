package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ossdl/ossdl"
)

// fromFile returns the operands with SOURCE, which --url-file has.
func (c *command) fromFile(ctx context.Context, operands []string) ([]string, error) {
	if len(operands) > 1 {
		return nil, errors.New("with --url-file SOURCE is in FILE: expected DEST and nothing else")
	}
	var err error
	if c.url, err = readURL(ctx, c.urlFile); err != nil {
		return nil, fmt.Errorf("--url-file: %w", err)
	}
	return append([]string{c.url}, operands...), nil
}

// addHeaders adds the headers for a URL. Of those with one name, that of a flag comes before that of a file, and last the variable.
func (c *command) addHeaders(ctx context.Context) error {
	if !c.usesURLs() {
		return nil // the variable may be set for other commands
	}
	headers, err := parseHeaders("OSSGET_HEADER", c.headerText)
	if err == nil && c.headerFile != "" {
		var text []byte
		if text, err = readInput(ctx, c.headerFile, maxInput); err != nil {
			return fmt.Errorf("--header-file: %w", err)
		}
		var more []ossdl.Option
		more, err = parseHeaders(c.headerFile, string(text))
		headers = append(headers, more...)
	}
	headers = append(headers, c.headers...)
	if err == nil && len(headers) > 0 && len(c.sources.urls) > 1 {
		return fmt.Errorf("--header, --header-file and OSSGET_HEADER are for one host, and the URLs are of several: %s", strings.Join(c.sources.urls, " "))
	}
	c.call = append(c.call, headers...)
	return err
}

// operands parses SOURCE and DEST.
func (c *command) operands(args []string) (err error) {
	if c.verify && c.manifest != "" {
		return c.verifyOperands(args)
	}
	switch len(args) {
	case 0:
		return errors.New("SOURCE is missing; " + objectForm + " (ossget -h explains more)")
	case 1, 2:
	default:
		return fmt.Errorf("%q is one operand too many; expected SOURCE and DEST (ossget -h explains more)", args[2])
	}
	dest := ""
	if len(args) == 2 {
		dest = args[1]
		switch {
		case dest == "":
			return errors.New("DEST is empty; omit it for the current folder")
		case isURL(dest) || strings.HasPrefix(dest, "oss://"):
			return fmt.Errorf("DEST %q: expected a file, a folder or -; SOURCE comes first", dest)
		}
	}
	switch {
	case c.verify:
		c.task = taskVerify
		c.source, err = parsePrefix(args[0])
	case c.recursive:
		c.task = taskPrefix
		c.source, err = parsePrefix(args[0])
	case c.filesFrom != "":
		c.task = taskList
		c.source, err = parseBucket(args[0])
	case isURL(args[0]):
		c.task, c.url = taskURL, args[0]
		c.source, err = parseURL(args[0])
	default:
		c.source, err = parseSource(args[0])
	}
	if err != nil {
		return fmt.Errorf("SOURCE %q: %w", args[0], err)
	}
	switch {
	case dest == stdoutName && c.task.folder():
		return fmt.Errorf("DEST -: standard output is for oss://bucket/key or a URL, not for %s; write ./- for a folder named -", c.task)
	case dest == stdoutName:
		c.task, c.dest = taskStdout, stdoutName
	case c.task.folder():
		c.dest, err = folder(dest)
	default:
		c.dest, err = destination(c.source, dest)
	}
	if err != nil {
		return fmt.Errorf("DEST: %w", err)
	}
	return nil
}

// task is the kind of download. It decides which flags apply.
type task uint8

const (
	taskFile task = iota
	taskURL
	taskStdout // of an object or, if SOURCE is one, of a URL
	taskPrefix
	taskList
	taskSources
	taskVerify
	taskVerifyManifest
	taskLs
	taskStat
	taskPlan
)

func (t task) String() string {
	return [...]string{"an object", "a URL", "standard output", "a prefix", "a list of keys", "several sources", "--verify", "--verify with --manifest", "ls", "stat", "plan"}[t]
}

// word is the task in the events; url says whether SOURCE is a URL.
func (t task) word(url bool) string {
	switch {
	case t.verifies():
		return "verify"
	case t == taskPrefix:
		return "prefix"
	case t == taskList:
		return "list"
	case t == taskSources:
		return "sources"
	case url:
		return "url"
	}
	return "object"
}

// looks reports whether nothing is downloaded or compared.
func (t task) looks() bool { return t == taskLs || t == taskStat || t == taskPlan }

// many reports whether objects are downloaded to a folder.
func (t task) many() bool { return t == taskPrefix || t == taskList || t == taskSources }

// folder reports whether DEST is a folder.
func (t task) folder() bool { return t.many() || t.verifies() }

// verifies reports whether a folder is compared.
func (t task) verifies() bool { return t == taskVerify || t == taskVerifyManifest }

// foreign are the flags that do not apply to a task.
var foreign = [...][]string{
	taskURL:    {"endpoint", "region", "cname", "config", "credentials", "version-id", "as-of", "restore", "restore-tier", "restore-only"},
	taskStdout: {"checkpoint", "checkpoint-dir", "no-checkpoint", "mkdir", "update", "wait", "object-time", "metadata", "checksum-file"},
	taskPrefix: notForMany,
	taskList:   append([]string{"as-of"}, notForMany...),

	taskSources: {"range", "version-id", "as-of", "if-match", "sha256", "checksum", "checkpoint", "restore", "restore-tier", "restore-only", "manifest", "manifest-sha256"},

	taskPlan: nil, // it has no others, nor has stat

	taskVerify:         notForVerify,
	taskVerifyManifest: append([]string{"endpoint", "region", "cname", "config", "credentials", "rate-limit", "retries", "retry-for", "stall-timeout", "ca", "shard", "start-after", "until", "recursive", "metadata", "decrypt-key", "as-of"}, notForVerify...),
}

var notForMany = []string{"range", "version-id", "if-match", "sha256", "checksum", "checkpoint", "checkpoint-dir", "update", "wait", "object-time", "checksum-file"}

var notForVerify = append([]string{"restore", "restore-tier", "restore-only", "snapshot", "mkdir", "part-size", "no-checkpoint", "delete", "dry-run"}, notForMany...)

// applicable refuses flags that would have no effect.
func (c *command) applicable(flags *pflag.FlagSet) (err error) {
	tasks := []task{c.task}
	if c.url != "" {
		tasks = append(tasks, taskURL)
	}
	if !c.usesURLs() {
		for _, name := range []string{"header", "header-file"} {
			if flags.Changed(name) { // false, too, if there is none
				return fmt.Errorf("--%s is for a URL; omit it", name)
			}
		}
	}
	flags.Visit(func(f *pflag.Flag) {
		for _, task := range tasks {
			if err != nil || !slices.Contains(foreign[task], f.Name) {
				continue
			}
			err = fmt.Errorf("--%s does not apply to %s; omit it", f.Name, task)
		}
	})
	return err
}

// readsOnce returns an error if several flags read standard input.
func (c *command) readsOnce() error {
	by := ""
	for _, f := range []struct{ name, file string }{
		{"--input-file", c.inputFile}, {"--url-file", c.urlFile}, {"--checksum-file", c.checksumFile}, {"--header-file", c.headerFile},
	} {
		switch {
		case f.file != stdoutName:
		case by != "":
			return fmt.Errorf("%s - and %s - exclude each other: standard input is read once", by, f.name)
		default:
			by = f.name
		}
	}
	return nil
}

// combinations checks which flags were given, and which of them together.
func (c *command) combinations(flags *pflag.FlagSet) (err error) {
	var checkpoints []string
	given := map[string]bool{}
	flags.Visit(func(f *pflag.Flag) {
		given[f.Name] = true
		switch f.Name {
		case "endpoint":
			c.endpointBy = "--endpoint"
		case "region":
			c.regionBy = "--region"
		case "start-after", "until":
			if !c.recursive && !c.verify && c.task != taskLs {
				err = fmt.Errorf("--%s requires --recursive and oss://bucket/prefix/", f.Name)
			}
		case "delete":
			if !c.recursive {
				err = fmt.Errorf("--%s requires --recursive and oss://bucket/prefix/", f.Name)
			}
		case "include", "exclude", "shard", "dry-run":
			if !c.recursive && !c.verify && c.filesFrom == "" && c.task != taskLs {
				err = fmt.Errorf("--%s requires --recursive and oss://bucket/prefix/, or --files-from", f.Name)
			}
		case "null":
			if c.filesFrom == "" {
				err = errors.New("-0 requires --files-from")
			}
		case "files-from":
			if c.recursive {
				err = errors.New("--files-from and --recursive exclude each other")
			}
		case "input-file":
			if c.recursive || c.verify || c.filesFrom != "" || c.urlFile != "" {
				err = errors.New("--input-file excludes --recursive, --files-from, --verify and --url-file")
			}
		case "url-file":
			if c.recursive || c.verify || c.filesFrom != "" {
				err = errors.New("--url-file is for one object: it excludes --recursive, --files-from and --verify")
			}
		case "retries", "retry-for":
			c.shared = append(c.shared, ossdl.WithRetry(c.retry)) // twice the same, if both are given
		case "checkpoint", "checkpoint-dir", "no-checkpoint":
			checkpoints = append(checkpoints, "--"+f.Name)
		}
	})
	if given["sha256"] && given["checksum"] {
		return errors.New("--sha256 and --checksum exclude each other")
	}
	if given["checksum-file"] && (given["sha256"] || given["checksum"]) {
		return errors.New("--checksum-file and --checksum exclude each other")
	}
	if given["as-of"] && given["version-id"] {
		return errors.New("--as-of and --version-id exclude each other")
	}
	if err := c.readsOnce(); err != nil {
		return err
	}
	if c.metrics != "" {
		if folder := filepath.Dir(c.metrics); !isFolder(folder) {
			return fmt.Errorf("--metrics: %q is no folder", folder)
		}
	}
	for _, part := range []string{"shard", "start-after", "until"} {
		if given["delete"] && given[part] {
			return fmt.Errorf("--delete and --%s exclude each other: a part of the keys does not know the others", part)
		}
	}
	if c.after != "" || c.until != "" {
		if c.until != "" && c.until <= c.after {
			return fmt.Errorf("no key comes after --start-after %q and not after --until %q", c.after, c.until)
		}
		c.call = append(c.call, ossdl.WithKeyRange(c.after, c.until))
	}
	if len(checkpoints) > 1 {
		return fmt.Errorf("%s exclude each other", strings.Join(checkpoints, " and "))
	}
	if err == nil {
		err = c.checkManifest()
	}
	if err == nil {
		err = c.checkRestore(flags)
	}
	if c.snapshot {
		c.call = append(c.call, ossdl.WithSnapshot())
	}
	if c.update {
		c.call = append(c.call, ossdl.WithIfChanged())
	}
	if c.wait > 0 {
		c.call = append(c.call, ossdl.WithWait(c.wait))
	}
	if c.objectTime {
		c.call = append(c.call, ossdl.WithObjectTime())
	}
	if c.noCheckpoint {
		c.shared = append(c.shared, ossdl.WithoutCheckpoint())
	}
	return err
}
