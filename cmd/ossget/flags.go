package main

import (
	"crypto/sha256"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/ossdl/ossdl"
)

// group is a part of the help text: flags that belong together, and what is to be said before and after them.
type group struct {
	title, intro, outro string
	flags               *pflag.FlagSet
}

func newGroup(title string) group {
	g := group{title: title, flags: pflag.NewFlagSet(title, pflag.ContinueOnError)}
	g.flags.SortFlags = false // the help text has them in the order of their definitions
	return g
}

// value is a flag with a function that parses its text and one that takes the result.
type value[T any] struct {
	kind, text string
	parse      func(string) (T, error)
	take       func(T) error
}

var _ pflag.Value = (*value[int])(nil)

// Set implements [pflag.Value]. pflag adds the name of the flag to its error, see flagError.
func (v *value[T]) Set(s string) error {
	parsed, err := v.parse(s)
	if err == nil {
		err = v.take(parsed)
	}
	v.text = s
	return err
}

func (v *value[T]) String() string { return v.text }

// Type is what the help text calls the value.
func (v *value[T]) Type() string { return v.kind }

// define adds a flag with a value. kind is what the help text calls the value.
func define[T any](g group, name, kind, usage string, parse func(string) (T, error), take func(T) error) {
	g.flags.Var(&value[T]{kind: kind, parse: parse, take: take}, name, usage)
}

// store adds a flag whose value is stored in a variable.
func store[T any](g group, variable *T, name, kind, usage string, parse func(string) (T, error)) {
	define(g, name, kind, usage, parse, func(v T) error {
		*variable = v
		return nil
	})
}

// option adds a flag whose value becomes an option.
func option[T any](g group, options *[]ossdl.Option, name, kind, usage string, parse func(string) (T, error), of func(T) ossdl.Option) {
	define(g, name, kind, usage, parse, func(v T) error {
		*options = append(*options, of(v))
		return nil
	})
}

// groups returns all flags of a download, in the groups of the help text.
func (c *command) groups() []group {
	return []group{c.serviceGroup(), c.objectGroup(), c.urlGroup(), c.sourcesGroup(), c.manyGroup(), c.verifyGroup(), c.archiveGroup(), c.transferGroup(), c.checkpointGroup(), c.outputGroup()}
}

// serviceGroup has the flags that say where the bucket is, and who asks.
func (c *command) serviceGroup() group {
	g := newGroup("Service and credentials")
	store(g, &c.endpoint, "endpoint", "URL", "for example https://oss-cn-hangzhou.aliyuncs.com; https if there is no scheme. After a comma, others for the same bucket, to which requests go while the first one fails (default: OSS_ENDPOINT)", anyText)
	store(g, &c.region, "region", "NAME", "for V4 signatures, for example cn-hangzhou (default: OSS_REGION, or read from the endpoint; if it is unknown, V1 is used)", anyText)
	g.flags.BoolVar(&c.cname, "cname", false, "the endpoint is a custom domain, bound to the bucket")
	store(g, &c.who.config, "config", "FILE", "configuration file of ossutil. It supplies endpoint, region and keys that neither a flag nor the environment gives (default: ~/.ossutilconfig, if it and HOME exist)", parseText)
	store(g, &c.who.from, "credentials", "WHICH", "where the keys come from, see below (default: auto)", parseIdentity)
	g.outro = credentialsHelp
	return g
}

// objectGroup has the flags for one object.
func (c *command) objectGroup() group {
	g := newGroup("One object")
	option(g, &c.call, "range", "OFFSET:LENGTH", "only these bytes; an empty LENGTH, or -1, means to the end", parseRange,
		func(r byteRange) ossdl.Option { return ossdl.WithRange(r.offset, r.length) })
	option(g, &c.call, "version-id", "ID", "this version (default: the current one)", parseText, ossdl.WithVersionID)
	option(g, &c.call, "as-of", "TIME", "the version that was current at this time (default: the current one), such as 2026-11-01T00:00:00Z. The bucket must have versions. Also for a prefix", parseInstant, ossdl.WithAsOf)
	option(g, &c.call, "if-match", "ETAG", "only while the object has this ETag; otherwise exit code 1", parseETag, ossdl.WithIfMatch)
	option(g, &c.call, "checksum", "ALGORITHM:DIGEST", "the digest that the file must have: sha256:HEX, md5:HEX or crc64:NUMBER, in decimal as OSS and --json write it", parseChecksum, digest.option)
	option(g, &c.call, "sha256", "HEX", "the same as --checksum sha256:HEX", parseSHA256,
		func(sum []byte) ossdl.Option { return digest{sha256.New, sum}.option() })
	store(g, &c.checksumFile, "checksum-file", "FILE", "what sha256sum has written, such as SHA256SUMS: the file must have the digest that FILE has for its name; of several sources each must, for its name below DIR. - reads standard input", parseText)
	g.flags.BoolVar(&c.snapshot, "snapshot", false, "of an object to which something is appended meanwhile, the bytes that it had at the beginning; otherwise it counts as changed. Also for a prefix or a list")
	return g
}

// urlGroup has the flags for a URL.
func (c *command) urlGroup() group {
	g := newGroup("A URL")
	store(g, &c.urlFile, "url-file", "FILE", "instead of SOURCE: the URL is in FILE, or on standard input if that is -. Others cannot see it among the processes", parseText)
	option(g, &c.headers, "header", "'NAME: VALUE'", "a header of each request, such as Authorization, PRIVATE-TOKEN or Referer; may be given several times. Others can see it among the processes, unlike OSSGET_HEADER, which has one or more such lines. No other host gets it, also after a redirect", parseHeader,
		func(o ossdl.Option) ossdl.Option { return o })
	store(g, &c.headerFile, "header-file", "FILE", "the same, from the lines of FILE; - reads standard input", parseText)
	return g
}

// sourcesGroup has the flag for several sources.
func (c *command) sourcesGroup() group {
	g := newGroup("Several sources")
	store(g, &c.inputFile, "input-file", "LIST", "instead of SOURCE: the sources are in LIST, one a line: SOURCE [DEST] [sha256=HEX] [crc64=NUMBER] [size=BYTES] [version=ID], or a JSON object with source, dest and so on. DEST is below DIR, the only operand (default: the current folder). - reads standard input. Lines that are empty or begin with # are skipped", parseText)
	g.flags.Lookup("input-file").Shorthand = "i"
	g.outro = sourcesHelp
	return g
}

// manyGroup has the flags for a prefix or a list.
func (c *command) manyGroup() group {
	g := newGroup("A prefix, or a list of keys")
	g.flags.BoolVar(&c.recursive, "recursive", false, "all objects whose keys begin with what follows oss://bucket/, into the folder DEST. For one folder end it with a slash: oss://bucket/sub also matches sub2/a and sub.txt. The local name is the key without the prefix up to its last slash. A file that has the size and time of its object is skipped")
	option(g, &c.call, "include", "PATTERN", "only keys whose local name matches, or its last element if the pattern has no slash. *, ? and [class] do not match a slash. May be given several times", parsePattern,
		func(p string) ossdl.Option { return ossdl.WithInclude(p) })
	option(g, &c.call, "exclude", "PATTERN", "no keys that match, even if --include matches; may be given several times", parsePattern,
		func(p string) ossdl.Option { return ossdl.WithExclude(p) })
	option(g, &c.call, "shard", "I/N", "one of N shares of the keys, counted from 0. Together 0/4 to 3/4 cover all keys; a key is always in the same share", parseShard,
		func(s share) ossdl.Option { return ossdl.WithShard(s.index, s.count) })
	store(g, &c.after, "start-after", "KEY", "with --recursive: only keys that come after this one, in the order of their bytes. It is a whole key, and need not exist. Others are not listed", parseKey)
	store(g, &c.until, "until", "KEY", "with --recursive: only keys up to this one, it included", parseKey)
	store(g, &c.filesFrom, "files-from", "FILE", "instead of --recursive, with oss://bucket/ as SOURCE: the objects whose whole keys FILE has, one a line, into the folder DEST. The local name is the key. - reads standard input. Empty lines are skipped, and a CR at the end of a line is no part of a key", parseText)
	g.flags.BoolVarP(&c.nul, "null", "0", false, "keys in FILE end in a NUL instead of a line feed")
	g.flags.BoolVar(&c.dryRun, "dry-run", false, "print on standard output what would be downloaded, skipped and deleted, a line each, and do nothing; with --json a JSON line each, before that of the result")
	option(g, &c.call, "delete", "N", "with --recursive: afterwards delete the files in DEST that no key has, unless some object failed, N at most. If there are more, none is deleted. What --include and --exclude leave out stays, and so do links. Not with --shard, --start-after and --until", parseCount, ossdl.WithDelete)
	store(g, &c.manifest, "manifest", "FILE", "write a line of JSON for each object that is in place: name key size etag version crc64 lastModified. FILE must be outside DEST; it is replaced when the command ends", parseText)
	g.flags.BoolVar(&c.manifestSHA256, "manifest-sha256", false, "with the sha256 of each file")
	return g
}

// verifyGroup has the flag that compares.
func (c *command) verifyGroup() group {
	g := newGroup("Comparing instead of downloading")
	g.flags.BoolVar(&c.verify, "verify", false, "compare the folder DEST with oss://bucket/prefix/, by size and CRC-64, or by size and time if an object has none; with --manifest FILE the folder, the only operand, with FILE, without the network")
	g.outro = verifyHelp
	return g
}

// transferGroup has the flags that say how to download.
func (c *command) transferGroup() group {
	g := newGroup("How to download")
	g.flags.BoolVar(&c.mkdir, "mkdir", false, "make the folder of DEST, with its parents, if it is missing; --recursive and --files-from always do")
	g.flags.BoolVar(&c.objectTime, "object-time", false, "the file gets the time of the object; with --recursive and --files-from it always does")
	g.flags.BoolVar(&c.update, "update", false, "download nothing if the file is there: with --checksum if it has that digest, without a request; otherwise if it has the CRC-64 of the object, or its size and time if it has no CRC-64. --json says skipped")
	store(g, &c.wait, "wait", "TIME", "wait up to TIME for another command that writes the file, and take what it brings if that is the same object (default: fail)", parseSpan)
	option(g, &c.call, "metadata", "WHAT", "the file gets what rclone or ossfs has kept in the object's metadata: mtime, mode and, for root, owner, for example mtime,mode", parseMetadata, ossdl.WithMetadata)
	option(g, &c.shared, "part-size", "SIZE", "one request asks for at most this much, 1 to 5GiB (default: chosen by ossget)", parsePartSize, ossdl.WithPartSize)
	option(g, &c.shared, "concurrency", "N", fmt.Sprintf("requests in flight at most, 1 to %d (default: adaptive)", ossdl.MaxConcurrency), parseConcurrency, ossdl.WithConcurrency)
	option(g, &c.shared, "rate-limit", "SIZE", "bytes per second read from the network (default: no limit)", parseRate, ossdl.WithRateLimit)
	define(g, "retries", "N", fmt.Sprintf("further attempts in a row without progress before giving up; 0: none (default: %d)", ossdl.DefaultAttempts-1), parseCount, func(n int) error {
		c.retry.Attempts = n + 1 // the first attempt is no retry
		return nil
	})
	store(g, &c.retry.MaxElapsed, "retry-for", "TIME", "give up once there was no progress for this long, however many attempts that takes; together with --retries whichever comes first", parseSpan)
	option(g, &c.shared, "stall-timeout", "TIME", fmt.Sprintf("replace a connection that is slower than 1 KiB/s for this long (default: %v)", ossdl.DefaultStallTimeout), parseStall, ossdl.WithStallTimeout)
	store(g, &c.timeout, "timeout", "TIME", "fail with exit code 1 if it is not done after this long; the same command resumes (default: no limit)", parseSpan)
	store(g, &c.roots, "ca", "FILE", "certificates in PEM that are trusted besides those of the system, for example of the proxy in HTTPS_PROXY", readRoots)
	return g
}

// checkpointGroup has the flags that say what is kept for another run.
func (c *command) checkpointGroup() group {
	g := newGroup("Checkpoint")
	g.intro = checkpointHelp
	option(g, &c.call, "checkpoint", "FILE", "keep it in this file", parseText, ossdl.WithCheckpoint)
	option(g, &c.call, "checkpoint-dir", "DIR", "keep it in this folder, under a name of its own", parseText, ossdl.WithCheckpointDir)
	g.flags.BoolVar(&c.noCheckpoint, "no-checkpoint", false, "keep none; a failed download leaves nothing")
	return g
}

// outputGroup has the flags that say what is printed.
func (c *command) outputGroup() group {
	g := newGroup("Output")
	define(g, "json", "bool", "the result as one JSON line on standard output. If DEST is -, it is the last line on standard error. With --json=events also a line for each thing that happens, and for progress once a second; the result is the last one", parseJSON, func(form jsonForm) error {
		c.json, c.events = form.json, form.events
		return nil
	})
	g.flags.Lookup("json").NoOptDefVal = "true"
	store(g, &c.metrics, "metrics", "FILE", "at the end write figures of the run to FILE, as the textfile collector of Prometheus reads them", parseText)
	g.flags.BoolVar(&c.quiet, "quiet", false, "no progress. Otherwise there is a bar on a terminal, and plain lines elsewhere, on standard error. With --recursive it shows the total; a terminal also shows up to eight objects in flight")
	g.flags.Bool("version", false, "print the version, the commit and the version of Go")
	g.flags.BoolP("help", "h", false, "print this text")
	g.outro = outputHelp
	return g
}
