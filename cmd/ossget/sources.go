package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/lists"
)

// maxList is how long a list of sources and a checksum file may be, in bytes. They are kept in memory.
const maxList = 256 << 20

// sources are what a command with several sources downloads.
type sources struct {
	list    string // the file that they are in; "": they are operands
	lines   []int  // of each item: its line in the list, or the number of the operand
	items   []ossdl.Item
	buckets []string // that they are in
	urls    []string // hosts of URLs among them, with scheme and port
}

// readSources parses the operands of a command with several sources, and reads the list that they are in, if there is one.
func (c *command) readSources(ctx context.Context, operands []string) error {
	c.task, c.dest = taskSources, "."
	var entries []lists.Entry
	if c.inputFile == "" {
		for i, source := range operands[:len(operands)-1] {
			entries = append(entries, lists.Entry{Line: i + 1, Source: source})
		}
		operands = operands[len(operands)-1:]
	} else {
		text, err := readInput(ctx, c.inputFile, maxList)
		if err != nil {
			return fmt.Errorf("--input-file: %w", err)
		}
		c.sources.list = inputName(c.inputFile)
		if entries, err = lists.ReadSources(c.sources.list, text); err != nil {
			return err
		}
		if len(operands) > 1 {
			return errors.New("with --input-file the sources are in LIST: expected DIR and nothing else")
		}
	}
	if len(operands) > 0 {
		if err := c.checkFolder(operands[0]); err != nil {
			return err
		}
		c.dest = operands[0]
	}
	for _, e := range entries {
		if err := c.addSource(e); err != nil {
			return c.sources.at(e.Line, e.Source, err)
		}
	}
	if c.cname && len(c.sources.buckets) > 1 {
		return errors.New("--cname: the endpoint is bound to one bucket, and the sources are in several")
	}
	return nil
}

// checkFolder returns an error unless DIR is a folder, or can become one.
func (c *command) checkFolder(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case dir == "":
		return errors.New("DIR is empty; omit it for the current folder")
	case isURL(dir) || strings.HasPrefix(dir, "oss://"):
		return errors.New("the last operand is a source; several sources need a folder behind them")
	case dir == stdoutName:
		return fmt.Errorf("DIR -: standard output is for one object; write ./- for a folder named -")
	case err == nil && !info.IsDir():
		return fmt.Errorf("DIR %q is no folder; several sources need one", dir)
	case err != nil && c.inputFile == "" && !c.mkdir && !os.IsPathSeparator(dir[len(dir)-1]):
		return fmt.Errorf("DIR %q is missing; end it with a slash or give --mkdir, and it is made", dir)
	}
	return nil
}

// at says where a source was given.
func (s *sources) at(line int, source string, err error) error {
	if s.list != "" {
		return lists.Line(s.list, line, err)
	}
	return fmt.Errorf("SOURCE %q: %w", harmless(source), err)
}

// addSource adds the item of a line or an operand.
func (c *command) addSource(e lists.Entry) error {
	s := &c.sources
	from, err := parseAnySource(e.Source)
	if err != nil {
		return err
	}
	if isURL(e.Source) {
		if e.Version != "" {
			return errors.New("version is for oss://; that of a URL is in its query")
		}
		if host := hostOf(e.Source); !slices.Contains(s.urls, host) {
			s.urls = append(s.urls, host)
		}
	} else if !slices.Contains(s.buckets, from.bucket) {
		s.buckets = append(s.buckets, from.bucket)
	}
	name := e.Dest
	if name == "" || strings.HasSuffix(name, "/") {
		name += from.name()
		if err := lists.CheckName(from.name()); err != nil || strings.HasSuffix(name, "/") {
			return fmt.Errorf("the last element of the source, %q, is no file name; name a file", from.name())
		}
	}
	item := ossdl.Item{
		Source: e.Source, Path: filepath.Join(c.dest, filepath.FromSlash(name)), VersionID: e.Version, Size: e.Size, CRC64: e.CRC64, SHA256: e.SHA256,
	}
	if c.checksums != nil {
		sum, err := c.checksums.Of(path.Clean(name))
		switch {
		case err != nil && item.SHA256 == nil:
			return err
		case err == nil && item.SHA256 != nil && !bytes.Equal(sum, item.SHA256):
			return fmt.Errorf("sha256 is not the one that %s has", inputName(c.checksumFile))
		case err == nil:
			item.SHA256 = sum
		}
	}
	s.items, s.lines = append(s.items, item), append(s.lines, e.Line)
	return nil
}

// parseAnySource parses a source of a list.
func parseAnySource(s string) (source, error) {
	if isURL(s) {
		return parseURL(s)
	}
	return parseSource(s)
}

// hostOf returns the scheme, host and port of a URL.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "" // cannot happen: it was parsed before
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}

// readChecksums reads --checksum-file, and has a single file have its digest there.
func (c *command) readChecksums(ctx context.Context) error {
	if c.checksumFile == "" {
		return nil
	}
	text, err := readInput(ctx, c.checksumFile, maxList)
	if err != nil {
		return fmt.Errorf("--checksum-file: %w", err)
	}
	c.checksums, err = lists.ReadChecksums(inputName(c.checksumFile), text)
	return err
}

// checkSingle has a single file have the digest that --checksum-file has for its name.
func (c *command) checkSingle() error {
	if c.checksums == nil || c.task != taskFile && c.task != taskURL {
		return nil
	}
	sum, err := c.checksums.Of(filepath.Base(c.dest))
	if err != nil {
		return err
	}
	d, err := parseChecksum(fmt.Sprintf("sha256:%x", sum))
	if err == nil {
		c.call = append(c.call, d.option())
	}
	return err
}

// inputName is what messages call an input.
func inputName(file string) string {
	if file == stdoutName {
		return "standard input"
	}
	return file
}

// hasSeveral reports whether the operands are several sources and a folder.
func (c *command) hasSeveral(operands []string) bool {
	if c.inputFile != "" {
		return true
	}
	if len(operands) < 3 || c.recursive || c.verify || c.filesFrom != "" || c.urlFile != "" {
		return false
	}
	return strings.Contains(operands[1], "://") // otherwise there is one operand too many
}

// usesBuckets reports whether requests go to OSS with the credentials of the command.
func (c *command) usesBuckets() bool {
	switch c.task {
	case taskVerifyManifest:
		return false
	case taskSources:
		return len(c.sources.buckets) > 0
	}
	return c.url == ""
}

// usesURLs reports whether a source is a URL.
func (c *command) usesURLs() bool { return c.url != "" || len(c.sources.urls) > 0 }

// allBuckets are the buckets that requests go to.
func (c *command) allBuckets() []string {
	if c.task == taskSources {
		return c.sources.buckets
	}
	return []string{c.source.bucket}
}

// downloadSources downloads several sources. It reports the start once all of them were found well-formed.
func (c command) downloadSources(ctx context.Context, d *ossdl.Downloader, told *events, opts []ossdl.Option) (*ossdl.PrefixResult, error) {
	res, err := d.DownloadAll(ctx, c.sources.yield(func() { told.start(c) }), opts...)
	var bad *ossdl.ItemError
	if errors.As(err, &bad) {
		return nil, usageError{c.sources.at(c.sources.lines[bad.Index], c.sources.items[bad.Index].Source, bad.Err)}
	}
	return res, err
}

// yield yields the items, and calls done once all were accepted.
func (s *sources) yield(done func()) iter.Seq2[ossdl.Item, error] {
	return func(yield func(ossdl.Item, error) bool) {
		for _, item := range s.items {
			if !yield(item, nil) {
				return
			}
		}
		done()
	}
}

// sourcesName is the label of the sources in the metrics.
func (s *sources) sourcesName() string {
	if s.list != "" {
		return s.list
	}
	var names []string
	for _, item := range s.items {
		names = append(names, harmless(item.Source))
	}
	return strings.Join(names, " ")
}
