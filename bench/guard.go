package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// tolerance is how far beyond its pinned value a figure may be.
const tolerance = 1.1

// pin is a count that must not grow.
type pin struct {
	what   string
	pinned float64
	count  func(ctx context.Context, b *bench) (float64, error)
}

// errAbsent says that a count needs a tool that is not installed.
var errAbsent = errors.New("not installed")

// guard counts what each pin is about, and returns an error if a figure has grown beyond its tolerance.
func (b *bench) guard(ctx context.Context, pins []pin, out io.Writer) error {
	var grown []string
	for _, p := range pins {
		got, err := p.count(ctx, b)
		if errors.Is(err, errAbsent) {
			fmt.Fprintf(out, "SKIPPED: %s: %v\n", p.what, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.what, err)
		}
		word := ""
		switch {
		case math.IsNaN(got) || got > p.pinned*tolerance:
			word = "  GROWN"
			grown = append(grown, p.what)
		case got*tolerance < p.pinned:
			word = "  less: pin it lower"
		}
		fmt.Fprintf(out, "%10s  pinned %10s  %s%s\n", number(got), number(p.pinned), p.what, word)
	}
	if len(grown) > 0 {
		return fmt.Errorf("more than a tenth beyond its pinned value in pins.go: %s", strings.Join(grown, "; "))
	}
	return nil
}

// counted runs a client once in the scenario, without garbage collections, whose number depends on time.
func (b *bench) counted(ctx context.Context, s *scenario, e entry) (r result, err error) {
	s.counted = true
	if e.warm {
		if err := b.warmUp(s.size); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, os.Remove(b.warmFile())) }()
	}
	r, err = b.runOnce(ctx, s, e, 0, time.Minute)
	switch {
	case err != nil:
	case r.Err != "":
		err = errors.New(r.Err)
	case r.TimedOut:
		err = errLimit
	case r.Wrong != "":
		err = errors.New("done, and the file is wrong: " + r.Wrong)
	}
	return r, err
}

// each is how much more of something each step in size costs: the difference of two runs, so the start of a run is in neither.
func (b *bench) each(ctx context.Context, e entry, few, many *scenario, steps int, of func(*result) float64) (float64, error) {
	less, err := b.counted(ctx, few, e)
	if err != nil {
		return 0, err
	}
	more, err := b.counted(ctx, many, e)
	return (of(&more) - of(&less)) / float64(steps), err
}

// oneByOne is an object in parts of one size over one connection: the number of requests is known, whatever the machine does
// besides.
func oneByOne(parts int, size int64) *scenario {
	return &scenario{
		name: "guard", size: int64(parts) * size, objects: 1, conns: 1, parts: map[string]int64{ossdlClient: size},
	}
}

// smallOnes are objects of 16 KiB. The number of connections is given, since a number that is found out depends on time.
func smallOnes(n int) *scenario {
	return &scenario{name: "guard", size: 16 * kib, objects: n, conns: 8}
}

func mallocs(r *result) float64   { return float64(r.Mallocs) }
func allocated(r *result) float64 { return float64(r.Allocated) }
func oursOf(r *result) float64    { return float64(r.Ours) }
func requests(r *result) float64  { return float64(r.Requests) }

// requestsOf counts the requests of one run.
func requestsOf(client string, s *scenario) func(context.Context, *bench) (float64, error) {
	return func(ctx context.Context, b *bench) (float64, error) {
		r, err := b.counted(ctx, s, entry{client: client})
		return requests(&r), err
	}
}

// eachPart is what a part of 1 KiB costs.
func eachPart(of func(*result) float64) func(context.Context, *bench) (float64, error) {
	const few, more = 500, 2000
	return func(ctx context.Context, b *bench) (float64, error) {
		return b.each(ctx, entry{client: ossdlClient}, oneByOne(few, kib), oneByOne(few+more, kib), more, of)
	}
}

// eachSmallObject is what an object of a prefix costs.
func eachSmallObject(of func(*result) float64) func(context.Context, *bench) (float64, error) {
	const few, more = 200, 600
	return func(ctx context.Context, b *bench) (float64, error) {
		return b.each(ctx, entry{client: prefixClient}, smallOnes(few), smallOnes(few+more), more, of)
	}
}

// eachRead is the number of whole allocations that a read of 256 KiB costs, within one answer. What the inspections of the
// requests allocate, ten times a second, is far below one a read.
func eachRead(ctx context.Context, b *bench) (float64, error) {
	const few, more = 64 * mib, 128 * mib
	each, err := b.each(ctx, entry{client: ossdlClient, warm: true}, oneByOne(1, few), oneByOne(1, few+more), more/bareRead, mallocs)
	return math.Trunc(each), err
}

// sentAgainAfterResets is the bytes that are sent again, as a share of the object in percent.
func sentAgainAfterResets(ctx context.Context, b *bench) (float64, error) {
	s := oneByOne(8, 8*mib)
	s.server = serverConfig{ResetMin: 1 * mib, ResetMax: 6 * mib}
	r, err := b.counted(ctx, s, entry{client: ossdlClient})
	return 100 * (float64(r.Sent)/float64(r.Size) - 1), err
}

const (
	stalledAt  = 24 * mib        // bytes of the answer after which nothing more comes
	stillAfter = 3 * time.Second // without a change a checkpoint has all that it will have
	mostStill  = 30 * time.Second
)

// sentAgainAfterKill is the KiB that are sent again after a kill. It hits a download that waits for more bytes, and whose
// checkpoint does not change any more. So it depends on what a checkpoint holds, and not on how fast the machine is.
func sentAgainAfterKill(ctx context.Context, b *bench) (kibs float64, err error) {
	const size = 32 * mib
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	srv, err := osstest.New(osstest.WithoutLog())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, srv.Close()) }()
	srv.CreateBucket(bucketName)
	content := osstest.Random(1, size)
	o := srv.Put(bucketName, "killed", content)
	srv.Nth(0, osstest.Inject().StallAfter(stalledAt))
	s := oneByOne(1, size)
	j, err := b.job(s, entry{client: ossdlClient}, 0, dir, &serverInfo{Endpoint: srv.Endpoint(), Keys: []string{"killed"}})
	if err != nil {
		return 0, err
	}
	p, err := startChild("client")
	if err != nil {
		return 0, err
	}
	var ready string
	err = errors.Join(p.send(j), p.receive(&ready))
	if err == nil {
		err = untilStill(ctx, srv, dir)
	}
	p.kill()
	if err != nil {
		return 0, p.explain(err)
	}
	var r result
	if _, err := r.child(ctx, j, 0); err != nil {
		return 0, err
	}
	if r.Err != "" {
		return 0, errors.New(r.Err)
	}
	bad, err := wrong(j.Paths, size, []uint64{o.CRC64()}, func(int) osstest.Content { return content })
	if err == nil && bad != "" {
		err = errors.New("done, and the file is wrong: " + bad)
	}
	if err != nil {
		return 0, err
	}
	return float64(srv.Stats().Sent-size) / kib, nil
}

// untilStill returns once the server has sent all that it will send, and the files below dir have not changed for stillAfter.
func untilStill(ctx context.Context, srv *osstest.Server, dir string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	begun, since, last := time.Now(), time.Now(), ""
	for {
		if state := stateOf(dir); state != last || srv.Stats().Sent < stalledAt {
			since, last = time.Now(), state
		}
		switch {
		case time.Since(since) > stillAfter:
			return nil
		case time.Since(begun) > mostStill:
			return fmt.Errorf("%d bytes sent, and the files still change", srv.Stats().Sent)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stateOf is the names, sizes and times of the files below dir.
func stateOf(dir string) string {
	var all strings.Builder
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was there a moment ago
		}
		if info, err := d.Info(); err == nil {
			fmt.Fprintln(&all, path, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return all.String()
}

// systemCalls is how many system calls ossget makes for each small object, besides those by which a Go program waits.
func systemCalls(ctx context.Context, b *bench) (float64, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return 0, fmt.Errorf("strace is %w", errAbsent)
	}
	cmd := exec.CommandContext(ctx, "go", "run", "github.com/ossdl/ossdl/bench/syscalls", "-n", "400", "-dir", b.dir)
	cmd.Stderr = b.log
	table, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(table)) {
		if value, ok := strings.CutPrefix(line, "without waiting"); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("strace has counted nothing: %s", table)
}
