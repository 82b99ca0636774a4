// Bench compares ossdl with the two official SDKs, aria2c and a bare loop.
//
// The clients take turns. Each run has a server process of its own and a client process of its own, and what counts is
// measured inside the client, so the start of a process is in no number. README.md explains rows and options.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

func main() {
	if code, ok := childMain(os.Args, os.Stdin, os.Stdout); ok {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	pattern string
	n       int
	size    int64
	quick   bool
	peers   string
	json    bool
	write   string
	profile string
	dir     string
	rtt     time.Duration
	million bool
	sign    string
	budget  time.Duration
	guard   bool
	plot    string
}

func parse(args []string, errw io.Writer) (*config, error) {
	c := new(config)
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errw)
	f.StringVar(&c.pattern, "run", "", "only the scenarios whose name matches this `regexp`")
	f.IntVar(&c.n, "n", 5, "interleaved `rounds`")
	size := f.String("size", "", "`size` of the objects that are larger than a megabyte, such as 256MiB, instead of each scenario's own")
	f.BoolVar(&c.quick, "quick", false, "tiny sizes and one round: shows that it works, not how fast")
	f.StringVar(&c.peers, "peers", strings.Join([]string{bareClient, sdkClient, sdkV2Client, aria2Client}, ","), "`clients` to run beside ossdl")
	f.BoolVar(&c.json, "json", false, "print one JSON document instead of tables")
	f.StringVar(&c.write, "write", "warm", "the pair that the goals of the processor rows are about: `warm` or fresh files")
	f.StringVar(&c.profile, "cpuprofile", "", "write CPU profiles of ossdl's runs to `FILE`.SCENARIO.CLIENT.ROUND")
	f.StringVar(&c.dir, "dir", "", "`folder` for the files; default /dev/shm if it is writable, else the system's")
	f.BoolVar(&c.million, "parts-million", false, "with parts-million, which takes minutes; without it that scenario runs only if -run has its name, or with -quick")
	f.StringVar(&c.sign, "sign", "v1", "ossdl's signatures: `v1`, the default of the SDK it works on, or v4")
	f.DurationVar(&c.rtt, "rtt", 0, "latency of the scenarios that have one, instead of 30 ms")
	f.DurationVar(&c.budget, "budget", 12*time.Second, "time in a scenario after which a client that no goal compares with has no more rounds")
	f.StringVar(&c.plot, "plot", "", "draw figures of some of the scenarios into this `folder`, in place of the tables")
	f.BoolVar(&c.guard, "guard", false, "compare counts with their pinned values, in place of the scenarios: fails if one has grown by more than a tenth")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case c.n < 1:
		err = errors.New("-n must be at least 1")
	case c.write != "warm" && c.write != "fresh":
		err = fmt.Errorf("-write is warm or fresh, not %q", c.write)
	case c.sign != "v1" && c.sign != "v4":
		err = fmt.Errorf("-sign is v1 or v4, not %q", c.sign)
	case *size != "":
		c.size, err = parseSize(*size)
	}
	if err != nil {
		return nil, err
	}
	if c.profile != "" {
		c.profile, err = filepath.Abs(c.profile)
	}
	return c, err
}

// parseSize reads a number of bytes with an optional KiB, MiB or GiB.
func parseSize(s string) (int64, error) {
	var n int64
	var unit string
	if k, _ := fmt.Sscanf(s, "%d%s", &n, &unit); k == 0 || n < 1 {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	factor, ok := map[string]int64{"": 1, "KiB": kib, "MiB": mib, "GiB": gib}[unit]
	if !ok {
		return 0, fmt.Errorf("%q is not a size: units are KiB, MiB and GiB", s)
	}
	return n * factor, nil
}

// document is what -json prints.
type document struct {
	Header   []string  `json:"header"`
	Results  []result  `json:"results"`
	Verdicts []verdict `json:"verdicts"`
}

func run(ctx context.Context, args []string, out, errw io.Writer) (err error) {
	c, err := parse(args, errw)
	if err != nil {
		return err
	}
	chosen, err := c.choose()
	if err != nil {
		return err
	}
	b := &bench{n: c.n, budget: c.budget, write: c.write, v4: c.sign == "v4", profile: c.profile, log: errw}
	var absent bool
	for p := range strings.SplitSeq(c.peers, ",") {
		p = strings.TrimSpace(p)
		if p == "" {
			continue
		}
		if _, err := newFetch(p); err != nil {
			return err
		}
		if p == aria2Client && !haveAria2() {
			absent = true
			continue
		}
		b.peers = append(b.peers, p)
	}
	if b.dir, err = makeDir(c.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if c.plot != "" {
		return b.plot(ctx, c.plot, c.quick, out)
	}
	if c.guard {
		return b.guard(ctx, pins(), out)
	}

	doc := document{Header: header(b, absent)}
	if !c.json {
		for _, l := range doc.Header {
			fmt.Fprintln(out, l)
		}
	}
	wrongs := 0
	for _, s := range chosen {
		if inMemory(b.dir) {
			s.inMemory()
		}
		results, err := b.run(ctx, s)
		if err != nil {
			return err
		}
		for _, r := range results {
			if r.Wrong != "" {
				wrongs++
			}
		}
		t := newTable(s, c.write, results)
		doc.Results = append(doc.Results, results...)
		doc.Verdicts = append(doc.Verdicts, t.verdicts()...)
		if !c.json {
			if err := t.print(out); err != nil {
				return err
			}
		}
	}
	if c.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "\t")
		if err := e.Encode(doc); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(out, "\ngoals (load", loadAverage()+")")
		for _, v := range doc.Verdicts {
			fmt.Fprintf(out, "  %-14s %v\n", v.Scenario, v)
		}
	}
	if wrongs > 0 {
		return fmt.Errorf("%d runs said they were done and made a wrong file", wrongs)
	}
	return nil
}

// choose returns the scenarios that the flags name, as the flags change them.
func (c *config) choose() ([]*scenario, error) {
	pattern, err := regexp.Compile(c.pattern)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	var chosen []*scenario
	for _, s := range scenarios() {
		if !pattern.MatchString(s.name) || s.slow && !c.million && !c.quick && !strings.Contains(c.pattern, "million") {
			continue
		}
		if s.asked && c.pattern == "" && !c.quick {
			continue
		}
		if c.size > 0 && s.size > mib {
			s.size = c.size
		}
		if c.rtt > 0 && s.server.Latency > 0 {
			s.server.Latency = c.rtt
		}
		if c.quick {
			s.quick()
		}
		chosen = append(chosen, s)
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-run %q: no scenario has such a name", c.pattern)
	}
	return chosen, nil
}

// makeDir makes a folder for this run alone: in memory, if possible.
func makeDir(parent string) (string, error) {
	if parent != "" {
		return os.MkdirTemp(parent, "ossdl-bench-")
	}
	if dir, err := os.MkdirTemp("/dev/shm", "ossdl-bench-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp("", "ossdl-bench-")
}

// inMemory reports whether the files in a folder are known to be in memory.
func inMemory(dir string) bool { return strings.HasPrefix(dir, "/dev/shm/") }

// header says on what and with what this was measured.
func header(b *bench, noAria2 bool) []string {
	lines := []string{
		fmt.Sprintf("%s %s/%s, %d processors (%s), load %s", runtime.Version(), runtime.GOOS, runtime.GOARCH,
			runtime.NumCPU(), procLine("/proc/cpuinfo", "model name"), loadAverage()),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "github.com/aliyun/aliyun-oss-go-sdk":
				lines = append(lines, sdkClient+": "+d.Path+" "+d.Version)
			case "github.com/aliyun/alibabacloud-oss-go-sdk-v2":
				lines = append(lines, sdkV2Client+": "+d.Path+" "+d.Version)
			}
		}
	}
	switch {
	case noAria2:
		lines = append(lines, "aria2: skipped, aria2c is not installed")
	case haveAria2():
		if v, err := exec.Command("aria2c", "--version").Output(); err == nil {
			first, _, _ := strings.Cut(string(v), "\n")
			lines = append(lines, "aria2: "+first)
		}
	}
	place := "files in " + filepath.Dir(b.dir)
	if inMemory(b.dir) {
		place += " (in memory)"
	}
	return append(lines,
		place+"; the processor rows' goals compare the pair that writes into "+map[string]string{
			"warm":  "a warm file, ossdl by DownloadTo",
			"fresh": "fresh files, ossdl by Download",
		}[b.write],
		fmt.Sprintf("medians of up to %d interleaved runs; wall, CPU and memory of the client's process alone", b.n),
	)
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not known"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// procLine is the value of a line NAME : VALUE of a file.
func procLine(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "kind not known"
	}
	for l := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "kind not known"
}
