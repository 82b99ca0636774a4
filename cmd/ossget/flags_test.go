package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/ossdl/ossdl"
)

// env is an environment for tests.
type env map[string]string

func (e env) get(name string) string { return e[name] }

var testEnv = env{"OSS_ENDPOINT": "https://oss-cn-hangzhou.aliyuncs.com", "OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "secret"}

func TestUsageErrorsNameWhatIsWrongAndWhatIsAllowed(t *testing.T) {
	const src = "oss://bucket/key"
	for _, c := range []struct {
		args []string
		want []string // all of them in the message
	}{
		{nil, []string{"SOURCE", "oss://bucket/key"}},
		{[]string{src, "a", "b"}, []string{`"b"`, "SOURCE and DEST"}},
		{[]string{"bucket/key"}, []string{`SOURCE "bucket/key"`, "oss://bucket/key"}},
		{[]string{"s3://bucket/key"}, []string{"SOURCE", "oss://bucket/key"}},
		{[]string{"oss://bucket"}, []string{"SOURCE", "key is missing"}},
		{[]string{"oss://bucket/"}, []string{"SOURCE", "key is missing"}},
		{[]string{"oss:///key"}, []string{"SOURCE", "bucket", "3 to 63"}},
		{[]string{"oss://Bucket/key"}, []string{"SOURCE", "bucket", "a-z"}},
		{[]string{"oss://bucket/folder/"}, []string{`SOURCE "oss://bucket/folder/"`, "-recursive"}},
		{[]string{"oss://bucket/" + strings.Repeat("k", 1024)}, []string{"SOURCE", "1023 bytes"}},
		{[]string{"oss://bucket/" + strings.Repeat("k", 1024), "-"}, []string{"SOURCE", "1023 bytes"}},
		{[]string{"oss://bucket/\xff"}, []string{"SOURCE", "UTF-8"}},
		{[]string{"oss://bucket/\xff", "-"}, []string{"SOURCE", "UTF-8"}},
		{[]string{"oss://bucket/a/.."}, []string{"DEST", `".."`, "no file name"}},
		{[]string{src, ""}, []string{"DEST", "empty"}},
		{[]string{"-part-size", "8MB", src}, []string{"-part-size", `"8MB"`, "KiB, MiB or GiB"}},
		{[]string{"-part-size", "0", src}, []string{"-part-size", "1 to 5GiB"}},
		{[]string{"-part-size", "-1", src}, []string{"-part-size", "whole number"}},
		{[]string{"-part-size", "6GiB", src}, []string{"-part-size", "1 to 5GiB"}},
		{[]string{"-part-size", src}, []string{"-part-size"}},
		{[]string{"-concurrency", "0", src}, []string{"-concurrency", "1 to 256"}},
		{[]string{"-concurrency", "257", src}, []string{"-concurrency", "1 to 256"}},
		{[]string{"-concurrency", "many", src}, []string{"-concurrency", "whole number"}},
		{[]string{"-rate-limit", "0", src}, []string{"-rate-limit", "at least 1"}},
		{[]string{"-rate-limit", "10M", src}, []string{"-rate-limit", "KiB, MiB or GiB"}},
		{[]string{"-retries", "-1", src}, []string{"-retries", "0 or more"}},
		{[]string{"-stall-timeout", "30", src}, []string{"-stall-timeout", "30s"}},
		{[]string{"-stall-timeout", "1ms", src}, []string{"-stall-timeout", "100ms"}},
		{[]string{"-timeout", "0s", src}, []string{"-timeout", "more than 0"}},
		{[]string{"-range", "5", src}, []string{"-range", "OFFSET:LENGTH"}},
		{[]string{"-range", "-5:1", src}, []string{"-range", "OFFSET:LENGTH"}},
		{[]string{"-range", "5:-2", src}, []string{"-range", "OFFSET:LENGTH"}},
		{[]string{"-range", "5:0", src}, []string{"-range", "1 or more"}},
		{[]string{"-range", "1:9223372036854775807", src}, []string{"-range", "2^63-1"}},
		{[]string{"-sha256", "abc", src}, []string{"-sha256", "64 hexadecimal digits"}},
		{[]string{"-version-id", "", src}, []string{"-version-id", "empty"}},
		{[]string{"-if-match", `W/"x"`, src}, []string{"-if-match", "strong ETag"}},
		{[]string{"-checkpoint", "", src}, []string{"-checkpoint", "empty"}},
		{[]string{"-checkpoint", "a", "-no-checkpoint", src}, []string{"--checkpoint and --no-checkpoint"}},
		{[]string{"-checkpoint", "a", "-checkpoint-dir", "b", src}, []string{"--checkpoint and --checkpoint-dir"}},
		{[]string{"-shard=1/2", "oss://bucket/prefix/", "dir"}, []string{"-shard", "-recursive"}},
		{[]string{"-json=perhaps", src}, []string{"-json", `"perhaps"`}},
		{[]string{"-colour", src}, []string{"-colour"}},
		{[]string{"-endpoint", "ftp://oss-cn-hangzhou.aliyuncs.com", src}, []string{"-endpoint", "https://oss-cn-hangzhou.aliyuncs.com"}},
		{[]string{"-endpoint", "https://oss-cn-hangzhou.aliyuncs.com/bucket", src}, []string{"-endpoint", "expected a host"}},
		{[]string{"-endpoint", "https://bucket.oss-cn-hangzhou.aliyuncs.com", src}, []string{"-endpoint", "begins with the bucket", "-cname"}},
		{[]string{"-endpoint", "", src}, []string{"no endpoint", "OSS_ENDPOINT"}},
		{[]string{"-region", "oss-cn-hangzhou", src}, []string{"-region", "without oss-"}},
		{[]string{"-region", "Hangzhou!", src}, []string{"-region", "cn-hangzhou"}},
	} {
		_, err := parse(t.Context(), c.args, testEnv.get)
		if err == nil {
			t.Errorf("%q: accepted", c.args)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got %q, want it to name %q", c.args, err, want)
			}
		}
	}
	for want, e := range map[string]env{
		"OSS_ACCESS_KEY_SECRET":    {"OSS_ENDPOINT": "oss-cn-hangzhou.aliyuncs.com", "OSS_ACCESS_KEY_ID": "id"},
		`OSS_ENDPOINT "ftp://a.b"`: {"OSS_ENDPOINT": "ftp://a.b"},
		`OSS_REGION "Hangzhou"`:    {"OSS_ENDPOINT": "oss-cn-hangzhou.aliyuncs.com", "OSS_REGION": "Hangzhou"},
	} {
		if _, err := parse(t.Context(), []string{src}, e.get); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want it to name %s", e, err, want)
		}
	}
}

func TestFlagsMayStandBetweenAndAfterTheOperands(t *testing.T) {
	for _, args := range [][]string{
		{"-quiet", "-json", "oss://bucket/key", "file"},
		{"oss://bucket/key", "-quiet", "file", "-json"},
		{"--json", "oss://bucket/key", "file", "--quiet"},
		{"-json=true", "oss://bucket/key", "file", "--quiet=true"},
	} {
		c, err := parse(t.Context(), args, testEnv.get)
		if err != nil || c.source != (source{"bucket", "key"}) || c.dest != "file" || !c.json || !c.quiet {
			t.Errorf("%q: got %+v, %v", args, c, err)
		}
	}
	c, err := parse(t.Context(), []string{"-quiet", "--", "oss://bucket/key", "-json"}, testEnv.get)
	if err != nil || c.dest != "-json" || c.json {
		t.Errorf("after --: got %+v, %v", c, err)
	}
}

// TestHelp checks the help text: it has every flag, in lines that fit a terminal, and the defaults. The rest of the command line
// does not matter.
func TestHelp(t *testing.T) {
	help := helpText(t)
	for _, args := range [][]string{{"--help"}, {"-help"}, {"-json", "-h", "s3://bucket/key"}, {"help"}} {
		if c, err := parse(t.Context(), args, env{}.get); err != nil || c.text != help {
			t.Errorf("%q: got %q, %v", args, c.text, err)
		}
	}
	new(command).root().Flags().VisitAll(func(f *pflag.Flag) {
		if !regexp.MustCompile(`(?m)^  (    |-\w, )--` + f.Name + " ").MatchString(help) {
			t.Errorf("--%s: not described", f.Name)
		}
	})
	for line := range strings.Lines(help) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > helpColumns {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
	words := strings.Join(strings.Fields(help), " ")
	for _, want := range []string{
		fmt.Sprintf("0: none (default: %d)", ossdl.DefaultAttempts-1), fmt.Sprintf("(default: %v)", ossdl.DefaultStallTimeout),
		fmt.Sprintf("1 to %d (default: adaptive)", ossdl.MaxConcurrency),
	} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1, "1024": 1024, "1KiB": 1 << 10, "8MiB": 8 << 20, "5GiB": 5 << 30, "9223372036854775807": 1<<63 - 1,
		"8589934591GiB": 8589934591 << 30,
		"":              -1, "MiB": -1, "1 MiB": -1, "1mib": -1, "1MB": -1, "1M": -1, "1.5MiB": -1, "+1": -1, "-1": -1, "1KiBKiB": -1, "1B": -1,
		"9223372036854775808": -1, "8589934592GiB": -1, "0x10": -1, "1_000": -1,
	} {
		got, err := parseSize(s)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", s, got, want)
		}
	}
}

func TestRanges(t *testing.T) {
	for s, want := range map[string]byteRange{
		"0:1": {0, 1}, "5:": {5, -1}, "5:-1": {5, -1}, "1MiB:1KiB": {1 << 20, 1 << 10}, "0:9223372036854775807": {0, 1<<63 - 1},
	} {
		if got, err := parseRange(s); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"", "8MiB", "9223372036854775807", "1GiBGiB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err == nil && n < 0 {
			t.Errorf("%q: %d", s, n)
		}
		if r, err := parseRange(s + ":" + s); err == nil && (r.length < 1 || r.offset > r.offset+r.length) {
			t.Errorf("%q: %v", s, r)
		}
	})
}

func TestTimesAndDigests(t *testing.T) {
	if d, err := parseTime("1m30s"); err != nil || d != 90*time.Second {
		t.Errorf("got %v, %v", d, err)
	}
	if sum, err := parseSHA256(strings.Repeat("aB", sha256.Size)); err != nil || len(sum) != sha256.Size || sum[0] != 0xab {
		t.Errorf("got %x, %v", sum, err)
	}
}

func TestRegionIsReadFromTheEndpoint(t *testing.T) {
	for host, want := range map[string]string{
		"oss-cn-hangzhou.aliyuncs.com":             "cn-hangzhou",
		"oss-cn-hangzhou-internal.aliyuncs.com":    "cn-hangzhou",
		"OSS-CN-Hangzhou.aliyuncs.com":             "cn-hangzhou",
		"oss-us-west-1.aliyuncs.com":               "us-west-1",
		"oss-rg-china-mainland.aliyuncs.com":       "rg-china-mainland",
		"vpc100-oss-cn-beijing.aliyuncs.com":       "cn-beijing",
		"cn-hangzhou.oss.aliyuncs.com":             "cn-hangzhou",
		"cn-hangzhou-internal.oss.aliyuncs.com":    "cn-hangzhou",
		"oss-accelerate.aliyuncs.com":              "",
		"oss-accelerate-overseas.aliyuncs.com":     "",
		"oss-cn-hangzhou.aliyuncs.com.example.com": "",
		"files.example.com":                        "",
		"127.0.0.1":                                "",
	} {
		if got := regionOf(host); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}

func TestEndpointAndRegionComeFromFlagsBeforeTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		args             []string
		env              env
		endpoint, region string
	}{
		{nil, env{"OSS_ENDPOINT": "oss-cn-beijing.aliyuncs.com"}, "https://oss-cn-beijing.aliyuncs.com", "cn-beijing"},
		{nil, env{"OSS_ENDPOINT": "http://127.0.0.1:80/"}, "http://127.0.0.1:80", ""},
		{nil, env{"OSS_ENDPOINT": "https://files.example.com", "OSS_REGION": "cn-beijing"}, "https://files.example.com", "cn-beijing"},
		{[]string{"-region", "us-west-1", "-endpoint", "a.example.com"}, testEnv, "https://a.example.com", "us-west-1"},
		{[]string{"-region", "us-west-1"}, testEnv, "https://oss-cn-hangzhou.aliyuncs.com", "us-west-1"},
		{[]string{"-cname", "-endpoint", "bucket.example.com"}, testEnv, "https://bucket.example.com", ""},
	} {
		got, err := parse(t.Context(), append(c.args, "oss://bucket/key"), c.env.get)
		if err != nil || got.endpoint != c.endpoint || got.region != c.region {
			t.Errorf("%q, %v: got %q, %q, %v; want %q, %q", c.args, c.env, got.endpoint, got.region, err, c.endpoint, c.region)
		}
	}
}

func TestDestinationIsAFileOrAFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	s := source{"bucket", "folder/disk.img"}
	for dest, want := range map[string]string{
		"":                           "disk.img",
		dir:                          filepath.Join(dir, "disk.img"),
		file:                         file,
		filepath.Join(dir, "absent"): filepath.Join(dir, "absent"),
		dir + "/absent/":             filepath.Join(dir, "absent", "disk.img"),
		"./-":                        "./-",
	} {
		if got, err := destination(s, dest); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", dest, got, err, want)
		}
	}
	for _, key := range []string{"folder/", "..", "a/.", "nul\x00"} {
		if got, err := destination(source{"bucket", key}, dir); err == nil {
			t.Errorf("key %q: got %q", key, got)
		}
		if got, err := destination(source{"bucket", key}, file); err != nil || got != file {
			t.Errorf("key %q into a file: got %q, %v", key, got, err)
		}
	}
}
