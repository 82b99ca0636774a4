package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ossdl/ossdl"
)

// usage is what -h prints.
var usage = fmt.Sprintf(`ossget downloads an object of Alibaba Cloud OSS to a file: whole and proved, or not
at all. Interrupted, killed or cut off, the same command continues where it was.

  ossget [flags] SOURCE [DEST]

  SOURCE  oss://bucket/key
  DEST    file or folder; default: the key's last element in the current folder

Where and who:
  -endpoint URL         for example https://oss-cn-hangzhou.aliyuncs.com; without a
                        scheme https (default: OSS_ENDPOINT)
  -region NAME          for V4 signatures, for example cn-hangzhou (default: OSS_REGION,
                        or read from the endpoint; where none is known, V1)
  -cname                the endpoint is a domain of your own, bound to the bucket
  Credentials are read from OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and, for temporary
  ones, OSS_SESSION_TOKEN. Without them requests are not signed. HTTP_PROXY, HTTPS_PROXY
  and NO_PROXY are honoured.

What:
  -range OFFSET:LENGTH  only these bytes; an empty LENGTH, or -1: to the end
  -version-id ID        this version (default: the current one)
  -if-match ETAG        only while the object has this ETag
  -sha256 HEX           the digest the file must have

How:
  -part-size SIZE       most that one request asks for, 1 to 5GiB (default: chosen
                        by the engine)
  -concurrency N        most requests in flight, 1 to %d (default: adaptive)
  -rate-limit SIZE      bytes per second read from the network (default: no limit)
  -retries N            further attempts in a row that bring nothing, before giving up;
                        0: none (default: 9)
  -stall-timeout TIME   a connection slower than 1 KiB/s for this long is replaced
                        (default: %v)

Checkpoint, kept until the file is there (default: DEST.cp):
  -checkpoint FILE      keep it in this file
  -checkpoint-dir DIR   keep it in this folder, under a name of its own
  -no-checkpoint        keep none; nothing is left behind on failure

Output:
  -json                 the result as one JSON line on standard output: path size etag
                        crc64 verified resumedBytes downloadedBytes requests retries
                        seconds; on failure also error code requestId
  -quiet                no progress; else a bar on a terminal and plain lines elsewhere,
                        on standard error
  -h                    this text

SIZE is a whole number of bytes, or of KiB, MiB or GiB: 1048576, 8MiB. TIME is a number
with a unit: 500ms, 30s, 2m. OFFSET and LENGTH are SIZEs.

Exit codes: 0 done
            1 failed; the same command later continues (network, in use, disk full,
              object changed, expired)
            2 wrong usage
            3 fails again as it is (no such object, access denied, archived, range
              refused, digest mismatch)
          130 interrupted; the same command continues
`, ossdl.MaxConcurrency, ossdl.DefaultStallTimeout)

// command is what the arguments and the environment ask for.
type command struct {
	source source
	dest   string

	endpoint, region        string
	endpointBy, regionBy    string // the flag or the variable that named them
	cname                   bool
	keyID, keySecret, token string

	shared, call              []ossdl.Option // for the Downloader, and for the one call
	json, quiet, noCheckpoint bool
}

// parse reads the command line. Nothing is asked of the network, and of the disk only whether DEST is a folder. With an
// error the command says no more than how to report it.
func parse(args []string, getenv func(string) string) (command, error) {
	c := command{
		endpoint:  getenv("OSS_ENDPOINT"),
		region:    getenv("OSS_REGION"),
		keyID:     getenv("OSS_ACCESS_KEY_ID"),
		keySecret: getenv("OSS_ACCESS_KEY_SECRET"),
		token:     getenv("OSS_SESSION_TOKEN"),

		endpointBy: "OSS_ENDPOINT",
		regionBy:   "OSS_REGION",
	}
	flags := flag.NewFlagSet("ossget", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run reports, once
	c.define(flags)
	operands, err := parseMixed(flags, args)
	if err == nil {
		err = c.combinations(flags)
	}
	if err == nil {
		err = c.operands(operands)
	}
	if err == nil {
		err = c.access()
	}
	if err != nil {
		json := slices.Contains(args, "-json") || slices.Contains(args, "--json") // maybe behind what stopped the parser
		return command{json: json}, err
	}
	return c, nil
}

// parseMixed takes flags before, between and after the operands, up to "--".
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

func (c *command) define(flags *flag.FlagSet) {
	flags.StringVar(&c.endpoint, "endpoint", c.endpoint, "")
	flags.StringVar(&c.region, "region", c.region, "")
	flags.BoolVar(&c.cname, "cname", false, "")
	flags.BoolVar(&c.json, "json", false, "")
	flags.BoolVar(&c.quiet, "quiet", false, "")

	shared := func(o ossdl.Option) { c.shared = append(c.shared, o) }
	call := func(o ossdl.Option) { c.call = append(c.call, o) }
	define(flags, "part-size", parseSize, func(n int64) error {
		if n < ossdl.MinPartSize || n > ossdl.MaxPartSize {
			return errors.New("allowed are 1 to 5GiB")
		}
		shared(ossdl.WithPartSize(n))
		return nil
	})
	define(flags, "rate-limit", parseSize, func(n int64) error {
		if n < 1 {
			return errors.New("at least 1 byte per second; leave the flag away for no limit")
		}
		shared(ossdl.WithRateLimit(n))
		return nil
	})
	define(flags, "concurrency", parseCount, func(n int) error {
		if n < 1 || n > ossdl.MaxConcurrency {
			return fmt.Errorf("allowed are 1 to %d", ossdl.MaxConcurrency)
		}
		shared(ossdl.WithConcurrency(n))
		return nil
	})
	define(flags, "retries", parseCount, func(n int) error {
		shared(ossdl.WithRetry(ossdl.RetryPolicy{Attempts: n + 1})) // the first attempt is none
		return nil
	})
	define(flags, "stall-timeout", parseTime, func(d time.Duration) error {
		if d < minStall {
			return fmt.Errorf("at least %v", minStall)
		}
		shared(ossdl.WithStallTimeout(d))
		return nil
	})
	define(flags, "range", parseRange, func(r byteRange) error {
		call(ossdl.WithRange(r.offset, r.length))
		return nil
	})
	define(flags, "sha256", parseSHA256, func(sum []byte) error {
		call(ossdl.WithChecksum(sha256.New, sum))
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
	define(flags, "checkpoint", parseText, func(path string) error {
		call(ossdl.WithCheckpoint(path))
		return nil
	})
	define(flags, "checkpoint-dir", parseText, func(dir string) error {
		call(ossdl.WithCheckpointDir(dir))
		return nil
	})
	flags.BoolVar(&c.noCheckpoint, "no-checkpoint", false, "")
	flags.Bool("recursive", false, "")
	for _, name := range []string{"include", "exclude", "shard"} {
		flags.String(name, "", "")
	}
}

// define adds a flag whose value is parsed and then taken. The flag package puts the value and the flag's name before
// the errors of both.
func define[T any](flags *flag.FlagSet, name string, parse func(string) (T, error), take func(T) error) {
	flags.Func(name, "", func(s string) error {
		v, err := parse(s)
		if err != nil {
			return err
		}
		return take(v)
	})
}

// operands takes SOURCE and DEST.
func (c *command) operands(args []string) (err error) {
	switch len(args) {
	case 0:
		return errors.New("SOURCE is missing; wanted is oss://bucket/key (ossget -h tells more)")
	case 1, 2:
	default:
		return fmt.Errorf("%q is one operand too many; wanted are SOURCE and DEST (ossget -h tells more)", args[2])
	}
	if c.source, err = parseSource(args[0]); err != nil {
		return fmt.Errorf("SOURCE %q: %w", args[0], err)
	}
	dest := ""
	if len(args) == 2 {
		if dest = args[1]; dest == "" {
			return errors.New("DEST is empty; leave it away for the current folder")
		}
	}
	if c.dest, err = destination(c.source, dest); err != nil {
		return fmt.Errorf("DEST: %w", err)
	}
	return nil
}

// combinations looks at which flags were given, and which together.
func (c *command) combinations(flags *flag.FlagSet) (err error) {
	var checkpoints []string
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "endpoint":
			c.endpointBy = "-endpoint"
		case "region":
			c.regionBy = "-region"
		case "recursive", "include", "exclude", "shard":
			err = fmt.Errorf("-%s: downloading a prefix is not supported yet", f.Name)
		case "checkpoint", "checkpoint-dir", "no-checkpoint":
			checkpoints = append(checkpoints, "-"+f.Name)
		}
	})
	if len(checkpoints) > 1 {
		return fmt.Errorf("%s exclude each other", strings.Join(checkpoints, " and "))
	}
	if c.noCheckpoint {
		c.shared = append(c.shared, ossdl.WithoutCheckpoint())
	}
	return err
}

// minStall is the least that ossdl.WithStallTimeout takes.
const minStall = 100 * time.Millisecond

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
		return r, errors.New("a LENGTH is 1 or more; leave it empty for all to the end")
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
		return "", errors.New("wanted is one strong ETag, as the service writes it; quotes may be left away")
	}
	return s, nil
}

func parseText(s string) (string, error) {
	if s == "" {
		return "", errors.New("empty; leave the flag away for the default")
	}
	return s, nil
}
