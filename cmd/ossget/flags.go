package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ossdl/ossdl"
)

// usage is what -h prints.
var usage = fmt.Sprintf(`ossget downloads an object of Alibaba Cloud OSS to a file. The file appears once it is
complete and verified. If ossget is interrupted or fails, run the same command again to
resume.

  ossget [flags] SOURCE [DEST]

  SOURCE  oss://bucket/key, an http(s) URL (signed or public), oss://bucket/prefix/ with
          -recursive, or oss://bucket/ with -files-from
  DEST    file or folder; default: the key's last element in the current folder. With
          -recursive and -files-from: a folder, which need not exist; default: the
          current folder. - writes to standard output, in order. For a file named -
          give ./-
  With -verify -manifest the folder is the only operand.

A URL needs no credentials; -version-id and the flags of "Service and credentials" do
not apply to it. Put it in quotes, since & has a meaning in a shell. Its query is never
shown.

Service and credentials:
  -endpoint URL         for example https://oss-cn-hangzhou.aliyuncs.com; https if there
                        is no scheme (default: OSS_ENDPOINT)
  -region NAME          for V4 signatures, for example cn-hangzhou (default: OSS_REGION,
                        or read from the endpoint; if it is unknown, V1 is used)
  -cname                the endpoint is a custom domain, bound to the bucket
  -config FILE          configuration file of ossutil. It supplies endpoint, region and
                        keys that neither a flag nor the environment gives (default:
                        ~/.ossutilconfig, if it exists)
  -credentials WHICH    where the keys come from (default: auto):
      auto     OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and, for temporary keys,
               OSS_SESSION_TOKEN; otherwise the configuration file; otherwise requests
               are not signed. No service is asked for keys
      env      the same variables; otherwise ALIBABA_CLOUD_ACCESS_KEY_ID,
               ALIBABA_CLOUD_ACCESS_KEY_SECRET and ALIBABA_CLOUD_SECURITY_TOKEN
      config   the configuration file, even if the variables are set
      profile  ALIBABA_CLOUD_CREDENTIALS_FILE, ~/.alibabacloud/credentials or, of the
               Alibaba Cloud CLI, ~/.aliyun/config.json. ALIBABA_CLOUD_PROFILE chooses
               the profile
      ecs      the role of the ECS instance, from http://100.100.100.200
      oidc     the role of the pod, from STS, for ALIBABA_CLOUD_OIDC_TOKEN_FILE
      chain    the first of these that has keys: environment (ALIBABA_CLOUD_...), oidc,
               profiles, ecs
      none     requests are not signed
  Temporary keys of profile, ecs, oidc and chain are renewed during the download. Those
  of the variables and of the configuration file (OSS_SESSION_TOKEN, stsToken) are not:
  when they expire the command fails. Run it again with new keys to resume.
  Proxies come from HTTP_PROXY, HTTPS_PROXY and NO_PROXY, also for oidc. The address of
  ecs is never asked through a proxy.

What to download:
  -range OFFSET:LENGTH  only these bytes; an empty LENGTH, or -1, means to the end
  -version-id ID        this version (default: the current one)
  -if-match ETAG        only while the object has this ETag; otherwise exit code 1
  -growing              of an object to which something is appended meanwhile, the bytes
                        that it had at the beginning; otherwise it counts as changed
  -sha256 HEX           the digest that the file must have
  All flags above but -growing are for one object, those below for a prefix or a list;
  -start-after, -until and -delete for a prefix only:
  -recursive            all objects whose keys begin with what follows oss://bucket/,
                        into the folder DEST. For one folder end it with a slash:
                        oss://bucket/sub also matches sub2/a and sub.txt. The local
                        name is the key without the prefix up to its last slash. A file
                        that has the size and time of its object is skipped
  -include PATTERN      only keys whose local name matches, or its last element if the
                        pattern has no slash. *, ? and [class] do not match a slash. May
                        be given several times
  -exclude PATTERN      no keys that match, even if -include matches; may be given
                        several times
  -shard I/N            one of N shares of the keys, counted from 0. Together 0/4 to 3/4
                        cover all keys; a key is always in the same share
  -start-after KEY      only keys that come after this one, in the order of their bytes.
                        It is a whole key, and need not exist. Others are not listed
  -until KEY            only keys up to this one, it included
  -files-from FILE      instead of -recursive, with oss://bucket/ as SOURCE: the objects
                        whose whole keys FILE has, one a line, into the folder DEST. The
                        local name is the key. - reads standard input. Empty lines are
                        skipped, and a CR at the end of a line is no part of a key
  -0                    keys in FILE end in a NUL instead of a line feed
  -dry-run              with -recursive or -files-from: print on standard output what
                        would be downloaded, skipped and deleted, a line each, and do
                        nothing; with -json a JSON line each, before that of the result
  -delete N             with -recursive: afterwards delete the files in DEST that no key
                        has, unless some object failed, N at most. If there are more,
                        none is deleted. What -include and -exclude leave out stays, and
                        so do links. Not with -shard, -start-after and -until
  -manifest FILE        with -recursive or -files-from: write a line of JSON for each
                        object that is in place: name key size etag version crc64
                        lastModified. FILE must be outside DEST; it is replaced when the
                        command ends
  -manifest-sha256      with the sha256 of each file

What to compare, instead of downloading. A line for each difference on standard output
says missing, differing or extra, and the name; nothing is fetched or written:
  -verify               the folder DEST with oss://bucket/prefix/, by size and CRC-64, or
                        by size and time if an object has none
  -verify -manifest FILE
                        the folder, the only operand, with FILE: without the network
  -include and -exclude apply; without -manifest -shard, -start-after and -until, too.

How to download:
  -mkdir                make the folder of DEST, with its parents, if it is missing;
                        -recursive and -files-from always do
  -object-time          the file gets the time of the object; with -recursive and
                        -files-from it always does
  -metadata WHAT        the file gets what rclone or ossfs has kept in the object's
                        metadata: mtime, mode, or mtime,mode
  -part-size SIZE       one request asks for at most this much, 1 to 5GiB (default:
                        chosen by ossget)
  -concurrency N        requests in flight at most, 1 to %d (default: adaptive)
  -rate-limit SIZE      bytes per second read from the network (default: no limit)
  -retries N            further attempts in a row without progress before giving up;
                        0: none (default: %d)
  -stall-timeout TIME   replace a connection that is slower than 1 KiB/s for this long
                        (default: %v)
  -timeout TIME         fail with exit code 1 if it is not done after this long; the same
                        command resumes (default: no limit)

Checkpoint, removed once the file is complete (default: in DEST.cp; with -recursive and
-files-from always in DEST/.ossdl; none for standard output):
  -checkpoint FILE      keep it in this file
  -checkpoint-dir DIR   keep it in this folder, under a name of its own
  -no-checkpoint        keep none; a failed download leaves nothing

Output:
  -json                 the result as one JSON line on standard output: path size etag
                        crc64 verified durable encrypted resumedBytes downloadedBytes
                        requests retries seconds; on failure also error code requestId.
                        With -recursive and -files-from: path done skipped failed bytes
                        notDurable encrypted unverified resumedBytes downloadedBytes
                        requests retries deleted dryRun seconds failures; failures lists
                        key error code requestId of at most 1000 objects. With -verify:
                        a line with kind key name path reason for each difference, then
                        path same unverified missing differing extra failed bytes
                        requests retries seconds failures.
                        If DEST is -, it is the last line on standard error
  -quiet                no progress. Otherwise there is a bar on a terminal, and plain
                        lines elsewhere, on standard error. With -recursive it shows the
                        total; a terminal also shows up to eight objects in flight
  -version              print the version, the commit and the version of Go
  -h                    print this text

SIZE is a whole number of bytes, or of KiB, MiB or GiB: 1048576, 8MiB. TIME is a number
with a unit: 500ms, 30s, 2m. OFFSET and LENGTH are SIZEs.

Exit codes:
    0  done
    1  failed. The same command resumes (network, destination in use, disk full, expired;
       with -recursive and -files-from: some object failed), or starts over (object
       changed; with -if-match it fails until the object has that ETag again). It fails
       again while there are more files without a key than -delete N allows
    2  wrong usage
    3  the same command will fail again: no such object, access denied, archived, range
       outside the object, wrong digest, file too large for its file system; with
       -recursive and -files-from: every object that failed would fail again, or a line
       of the list is no key; before any request: DEST or the checkpoint cannot be
       written or replaced; -verify found a difference. If -verify could not find out
       whether there is one, the code is 1
  129  interrupted by SIGHUP: the terminal is gone; the same command resumes
  130  interrupted by Ctrl-C; the same command resumes
  143  interrupted by SIGTERM; the same command resumes
  141  the reader of standard output is gone; no message is printed
With -no-checkpoint, and to standard output, the same command always starts over. What
was written to standard output is verified only if the command ends with exit code 0.
`, ossdl.MaxConcurrency, ossdl.DefaultAttempts-1, ossdl.DefaultStallTimeout)

// command is what the arguments and the environment request.
type command struct {
	task   task
	source source
	url    string // SOURCE if it is a URL; only the library gets it with its query
	dest   string

	endpoint, region        string
	endpointBy, regionBy    string // the flag or the variable that set them
	cname                   bool
	keyID, keySecret, token string
	who                     identity

	shared, call              []ossdl.Option // for the Downloader, and for the call
	json, quiet, noCheckpoint bool
	recursive, version, mkdir bool
	filesFrom                 string        // the list of keys; stdoutName: standard input
	nul                       bool          // keys in it end in a NUL
	dryRun                    bool          // print what would be done
	after, until              string        // the range of keys; "": no bound
	objectTime                bool          // give the file the object's time
	manifest                  string        // the file to write, or to compare with; "": none
	manifestSHA256            bool          // with a SHA-256 of each file
	verify                    bool          // compare and fetch nothing
	growing                   bool          // accept what is appended to an object meanwhile
	timeout                   time.Duration // of the whole command; 0: none
}

// parse reads the command line. It makes no request. On the disk it only checks whether DEST is a folder and reads the
// configuration file. If it returns an error, the command is only good for reporting that error.
func parse(args []string, getenv func(string) string) (command, error) {
	c := command{
		endpoint:  getenv("OSS_ENDPOINT"),
		region:    getenv("OSS_REGION"),
		keyID:     getenv("OSS_ACCESS_KEY_ID"),
		keySecret: getenv("OSS_ACCESS_KEY_SECRET"),
		token:     getenv("OSS_SESSION_TOKEN"),
		who:       identity{home: homeOf(getenv)},

		endpointBy: "OSS_ENDPOINT",
		regionBy:   "OSS_REGION",
	}
	flags := flag.NewFlagSet("ossget", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run reports the error, once
	c.define(flags)
	operands, err := parseMixed(flags, args)
	if err == nil && c.version {
		return command{version: true}, nil
	}
	if err == nil {
		err = c.combinations(flags)
	}
	if err == nil {
		err = c.operands(operands)
	}
	if err == nil {
		err = c.applicable(flags)
	}
	if err == nil && c.url == "" && c.task != taskVerifyManifest {
		err = c.access()
	}
	if err != nil {
		err = redact(err, append(slices.Clone(args), c.endpoint))
		json := slices.Contains(args, "-json") || slices.Contains(args, "--json") // it may come after the argument that stopped the parser
		return command{json: json}, err
	}
	return c, nil
}

// parseMixed accepts flags before, between and after the operands, up to "--".
func parseMixed(flags *flag.FlagSet, args []string) (operands []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if len(rest) == 0 {
			return operands, nil
		}
		if read := len(args) - len(rest); read > 0 && args[read-1] == "--" {
			return append(operands, rest...), nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

// define adds all flags, in the groups of the help text.
func (c *command) define(flags *flag.FlagSet) {
	c.defineService(flags)
	c.defineSelection(flags)
	c.defineTransfer(flags)
	c.defineCheckpoint(flags)
	c.defineOutput(flags)
}

// defineService adds the flags of "Service and credentials".
func (c *command) defineService(flags *flag.FlagSet) {
	flags.StringVar(&c.endpoint, "endpoint", c.endpoint, "")
	flags.StringVar(&c.region, "region", c.region, "")
	flags.BoolVar(&c.cname, "cname", false, "")
	define(flags, "config", parseText, func(path string) error {
		c.who.config = path
		return nil
	})
	define(flags, "credentials", parseIdentity, func(from string) error {
		c.who.from = from
		return nil
	})
}

// defineSelection adds the flags of "What to download".
func (c *command) defineSelection(flags *flag.FlagSet) {
	call := func(o ossdl.Option) { c.call = append(c.call, o) }
	define(flags, "range", parseRange, func(r byteRange) error {
		call(ossdl.WithRange(r.offset, r.length))
		return nil
	})
	define(flags, "version-id", parseText, func(id string) error {
		call(ossdl.WithVersionID(id))
		return nil
	})
	define(flags, "if-match", parseETag, func(etag string) error {
		call(ossdl.WithIfMatch(etag))
		return nil
	})
	define(flags, "sha256", parseSHA256, func(sum []byte) error {
		call(ossdl.WithChecksum(sha256.New, sum))
		return nil
	})
	flags.BoolVar(&c.recursive, "recursive", false, "")
	flags.BoolVar(&c.mkdir, "mkdir", false, "")
	flags.BoolVar(&c.objectTime, "object-time", false, "")
	define(flags, "metadata", parseMetadata, func(m ossdl.Metadata) error {
		call(ossdl.WithMetadata(m))
		return nil
	})
	define(flags, "include", parsePattern, func(pattern string) error {
		call(ossdl.WithInclude(pattern))
		return nil
	})
	define(flags, "exclude", parsePattern, func(pattern string) error {
		call(ossdl.WithExclude(pattern))
		return nil
	})
	define(flags, "shard", parseShard, func(s share) error {
		call(ossdl.WithShard(s.index, s.count))
		return nil
	})
	define(flags, "start-after", parseKey, func(key string) error {
		c.after = key
		return nil
	})
	define(flags, "until", parseKey, func(key string) error {
		c.until = key
		return nil
	})
	define(flags, "files-from", parseText, func(path string) error {
		c.filesFrom = path
		return nil
	})
	flags.BoolVar(&c.nul, "0", false, "")
	flags.BoolVar(&c.dryRun, "dry-run", false, "")
	define(flags, "delete", parseCount, func(most int) error {
		call(ossdl.WithDelete(most))
		return nil
	})
	flags.BoolVar(&c.growing, "growing", false, "")
	define(flags, "manifest", parseText, func(path string) error {
		c.manifest = path
		return nil
	})
	flags.BoolVar(&c.manifestSHA256, "manifest-sha256", false, "")
	flags.BoolVar(&c.verify, "verify", false, "")
}

// defineTransfer adds the flags of "How to download".
func (c *command) defineTransfer(flags *flag.FlagSet) {
	shared := func(o ossdl.Option) { c.shared = append(c.shared, o) }
	define(flags, "part-size", parseSize, func(n int64) error {
		if n < ossdl.MinPartSize || n > ossdl.MaxPartSize {
			return errors.New("it must be 1 to 5GiB")
		}
		shared(ossdl.WithPartSize(n))
		return nil
	})
	define(flags, "concurrency", parseCount, func(n int) error {
		if n < 1 || n > ossdl.MaxConcurrency {
			return fmt.Errorf("it must be 1 to %d", ossdl.MaxConcurrency)
		}
		shared(ossdl.WithConcurrency(n))
		return nil
	})
	define(flags, "rate-limit", parseSize, func(n int64) error {
		if n < 1 {
			return errors.New("it must be at least 1 byte per second; omit the flag for no limit")
		}
		shared(ossdl.WithRateLimit(n))
		return nil
	})
	define(flags, "retries", parseCount, func(n int) error {
		shared(ossdl.WithRetry(ossdl.RetryPolicy{Attempts: n + 1})) // the first attempt is no retry
		return nil
	})
	define(flags, "stall-timeout", parseTime, func(d time.Duration) error {
		if d < ossdl.MinStallTimeout {
			return fmt.Errorf("it must be at least %v", ossdl.MinStallTimeout)
		}
		shared(ossdl.WithStallTimeout(d))
		return nil
	})
	define(flags, "timeout", parseTime, func(d time.Duration) error {
		if d <= 0 {
			return errors.New("it must be more than 0; omit the flag for no limit")
		}
		c.timeout = d
		return nil
	})
}

// defineCheckpoint adds the flags of "Checkpoint".
func (c *command) defineCheckpoint(flags *flag.FlagSet) {
	call := func(o ossdl.Option) { c.call = append(c.call, o) }
	define(flags, "checkpoint", parseText, func(path string) error {
		call(ossdl.WithCheckpoint(path))
		return nil
	})
	define(flags, "checkpoint-dir", parseText, func(dir string) error {
		call(ossdl.WithCheckpointDir(dir))
		return nil
	})
	flags.BoolVar(&c.noCheckpoint, "no-checkpoint", false, "")
}

// defineOutput adds the flags of "Output".
func (c *command) defineOutput(flags *flag.FlagSet) {
	flags.BoolVar(&c.json, "json", false, "")
	flags.BoolVar(&c.quiet, "quiet", false, "")
	flags.BoolVar(&c.version, "version", false, "")
}

// define adds a flag with a function that parses the value and one that stores it. The flag package prefixes the errors of
// both with the value and the flag's name.
func define[T any](flags *flag.FlagSet, name string, parse func(string) (T, error), take func(T) error) {
	flags.Func(name, "", func(s string) error {
		v, err := parse(s)
		if err != nil {
			return err
		}
		return take(v)
	})
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
	taskVerify
	taskVerifyManifest
)

func (t task) String() string {
	return [...]string{"an object", "a URL", "standard output", "a prefix", "a list of keys", "-verify", "-verify with -manifest"}[t]
}

// many reports whether objects are downloaded to a folder.
func (t task) many() bool { return t == taskPrefix || t == taskList }

// folder reports whether DEST is a folder.
func (t task) folder() bool { return t.many() || t.verifies() }

// verifies reports whether a folder is compared.
func (t task) verifies() bool { return t == taskVerify || t == taskVerifyManifest }

// foreign are the flags that do not apply to a task.
var foreign = [...][]string{
	taskURL:    {"endpoint", "region", "cname", "config", "credentials", "version-id"},
	taskStdout: {"checkpoint", "checkpoint-dir", "no-checkpoint", "mkdir", "object-time", "metadata"},
	taskPrefix: notForMany,
	taskList:   notForMany,

	taskVerify:         notForVerify,
	taskVerifyManifest: append([]string{"endpoint", "region", "cname", "config", "credentials", "rate-limit", "retries", "stall-timeout", "shard", "start-after", "until", "recursive", "metadata"}, notForVerify...),
}

var notForMany = []string{"range", "version-id", "if-match", "sha256", "checkpoint", "checkpoint-dir", "object-time"}

var notForVerify = append([]string{"growing", "mkdir", "part-size", "no-checkpoint", "delete", "dry-run"}, notForMany...)

// applicable refuses flags that would have no effect.
func (c *command) applicable(flags *flag.FlagSet) (err error) {
	tasks := []task{c.task}
	if c.url != "" {
		tasks = append(tasks, taskURL)
	}
	flags.Visit(func(f *flag.Flag) {
		for _, task := range tasks {
			if err != nil || !slices.Contains(foreign[task], f.Name) {
				continue
			}
			err = fmt.Errorf("-%s does not apply to %s; omit it", f.Name, task)
		}
	})
	return err
}

// combinations checks which flags were given, and which of them together.
func (c *command) combinations(flags *flag.FlagSet) (err error) {
	var checkpoints []string
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) {
		given[f.Name] = true
		switch f.Name {
		case "endpoint":
			c.endpointBy = "-endpoint"
		case "region":
			c.regionBy = "-region"
		case "start-after", "until":
			if !c.recursive && !c.verify {
				err = fmt.Errorf("-%s requires -recursive and oss://bucket/prefix/", f.Name)
			}
		case "delete":
			if !c.recursive {
				err = fmt.Errorf("-%s requires -recursive and oss://bucket/prefix/", f.Name)
			}
		case "include", "exclude", "shard", "dry-run":
			if !c.recursive && !c.verify && c.filesFrom == "" {
				err = fmt.Errorf("-%s requires -recursive and oss://bucket/prefix/, or -files-from", f.Name)
			}
		case "0":
			if c.filesFrom == "" {
				err = errors.New("-0 requires -files-from")
			}
		case "files-from":
			if c.recursive {
				err = errors.New("-files-from and -recursive exclude each other")
			}
		case "checkpoint", "checkpoint-dir", "no-checkpoint":
			checkpoints = append(checkpoints, "-"+f.Name)
		}
	})
	for _, part := range []string{"shard", "start-after", "until"} {
		if given["delete"] && given[part] {
			return fmt.Errorf("-delete and -%s exclude each other: a part of the keys does not know the others", part)
		}
	}
	if c.after != "" || c.until != "" {
		if c.until != "" && c.until <= c.after {
			return fmt.Errorf("no key comes after -start-after %q and not after -until %q", c.after, c.until)
		}
		c.call = append(c.call, ossdl.WithKeyRange(c.after, c.until))
	}
	if len(checkpoints) > 1 {
		return fmt.Errorf("%s exclude each other", strings.Join(checkpoints, " and "))
	}
	if err == nil {
		err = c.checkManifest()
	}
	if c.growing {
		c.call = append(c.call, ossdl.WithGrowing())
	}
	if c.objectTime {
		c.call = append(c.call, ossdl.WithObjectTime())
	}
	if c.noCheckpoint {
		c.shared = append(c.shared, ossdl.WithoutCheckpoint())
	}
	return err
}

// parseMetadata reads a list of what a file gets from metadata.
func parseMetadata(s string) (m ossdl.Metadata, err error) {
	for what := range strings.SplitSeq(s, ",") {
		switch what {
		case "mtime":
			m |= ossdl.MetadataTime
		case "mode":
			m |= ossdl.MetadataMode
		default:
			return 0, errors.New("it must be mtime, mode, or mtime,mode")
		}
	}
	return m, nil
}

var errSize = errors.New("a size is a whole number of bytes, or of KiB, MiB or GiB, for example 8MiB")

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	unit, ok := map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[s[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil || int64(n) > math.MaxInt64/unit {
		return 0, errSize
	}
	return int64(n) * unit, nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 30)
	if err != nil {
		return 0, errors.New("a count is a whole number, 0 or more")
	}
	return int(n), nil
}

func parseTime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("a time is a number with a unit, for example 500ms, 30s or 2m")
	}
	return d, nil
}

// byteRange is an offset and a length; -1: to the end.
type byteRange struct{ offset, length int64 }

func parseRange(s string) (byteRange, error) {
	offset, length, ok := strings.Cut(s, ":")
	r := byteRange{length: -1}
	var err1, err2 error
	r.offset, err1 = parseSize(offset)
	if length != "" && length != "-1" {
		r.length, err2 = parseSize(length)
	}
	switch {
	case !ok || err1 != nil || err2 != nil:
		return r, errors.New("a range is OFFSET:LENGTH in bytes, or with KiB, MiB or GiB, for example 1MiB:512; without LENGTH: to the end")
	case r.length == 0:
		return r, errors.New("a LENGTH is 1 or more; omit it for all to the end")
	case r.length > math.MaxInt64-r.offset:
		return r, errors.New("OFFSET and LENGTH are together more than 2^63-1")
	}
	return r, nil
}

func parseSHA256(s string) ([]byte, error) {
	sum, err := hex.DecodeString(s)
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("a SHA-256 is %d hexadecimal digits", 2*sha256.Size)
	}
	return sum, nil
}

func parseETag(s string) (string, error) {
	if s == "" || strings.HasPrefix(s, "W/") || strings.ContainsAny(s, ",\r\n") {
		return "", errors.New("expected one strong ETag, as the service writes it; quotes may be omitted")
	}
	return s, nil
}

// parsePattern checks a pattern as path.Match does.
func parsePattern(s string) (string, error) {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return "", errors.New(`a pattern consists of characters, *, ?, [class] and \ before a literal character, for example *.gz`)
	}
	return s, nil
}

// share is one of count equal shares of a prefix, counted from 0.
type share struct{ index, count int }

func parseShard(s string) (share, error) {
	index, count, ok := strings.Cut(s, "/")
	i, err1 := parseCount(index)
	n, err2 := parseCount(count)
	if !ok || err1 != nil || err2 != nil || i >= n {
		return share{}, errors.New("a shard is I/N, with I from 0 to N-1, for example 0/4 to 3/4")
	}
	return share{i, n}, nil
}

func parseKey(s string) (string, error) {
	if s == "" || len(s) > maxKey || !utf8.ValidString(s) {
		return "", fmt.Errorf("a key is 1 to %d bytes of UTF-8; omit the flag for no bound", maxKey)
	}
	return s, nil
}

func parseText(s string) (string, error) {
	if s == "" {
		return "", errors.New("it is empty; omit the flag for the default")
	}
	return s, nil
}
