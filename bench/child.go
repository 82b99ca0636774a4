package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"
)

// childArg as the first argument makes this program a child: a server, one run of a client, or a busy process.
const childArg = "ossdl-bench-child"

// childMain runs the part that the arguments name and returns its exit code. It reports false if they name none.
func childMain(args []string, in io.Reader, out io.Writer) (code int, ok bool) {
	if len(args) < 3 || args[1] != childArg {
		return 0, false
	}
	var err error
	switch args[2] {
	case "server":
		err = serveChild(in, out)
	case "client":
		err = clientChild(in, out)
	case "busy":
		err = busyChild(in, out)
	default:
		err = fmt.Errorf("no such part: %q", args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// job is one download, or one after another of several objects, by one client.
type job struct {
	Client     string
	Endpoint   string // http://127.0.0.1:1234
	CAFile     string // of the server's certificate; "": plain HTTP
	Bucket     string
	Keys       []string
	Paths      []string // where the objects go, one path for each key
	Size       int64    // of each object, for the bare loop, which does not ask
	Warm       bool     // Paths[0] is there with its full size, and is written over
	Conns      int      // 0: the client's own choice
	PartSize   int64    // 0: the same
	Scratch    string   // folder for the other files of a client
	Dir        string   // folder of Paths
	Include    string   // the names to download of a whole bucket; "": all
	Done       int      // how many objects of a whole bucket are to be downloaded
	Skipped    int      // and how many are there
	V4         bool     // ossdl signs with V4
	CPUProfile string   // of ossdl; "": none
	First      []byte   // what the first object begins with, if the moment is looked for at which a file does
	Counted    bool     // its allocations are counted, and no garbage is collected

	AccessKeyID, AccessKeySecret string
}

// report is what a client's child says about its run.
type report struct {
	Seconds float64 // of the job alone, like CPU
	CPU     float64 // user and system seconds
	Peak    int64   // most resident memory, bytes
	Err     string  // "": done

	// From the start of the job, seconds, if it was looked for; 0: it was not found.
	First float64

	// If they are counted: what is allocated, its bytes, and what of it the library allocates.
	Mallocs, Allocated, Ours int64
}

// started is the line a client's child writes when the measured part begins.
const started = "started"

// clientChild does one job: its description comes from in, as JSON.
func clientChild(in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return err
	}
	fetch, err := newFetch(j.Client)
	if err != nil {
		return err
	}
	if err := j.trust(); err != nil {
		return err
	}
	if j.CPUProfile != "" {
		f, err := os.Create(j.CPUProfile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	runtime.GC()
	allocated := func(*report) {}
	if j.Counted {
		allocated = countAllocations()
	}
	answer := json.NewEncoder(out)
	if err := answer.Encode(started); err != nil {
		return err
	}
	cpu, start := cpuSeconds(), time.Now()
	first := j.lookForFirst(start)
	err = fetch(context.Background(), &j)
	r := report{Seconds: time.Since(start).Seconds(), CPU: cpuSeconds() - cpu, Peak: peakMemory(os.Getpid())}
	r.First = first().Seconds()
	allocated(&r)
	if p := (*outside)(nil); errors.As(err, &p) {
		r.Peak, err = p.peak, p.err
	}
	if err != nil {
		r.Err = err.Error()
	}
	return answer.Encode(r)
}

// outside is the outcome of a client that is a program of its own: its memory is not this process's.
type outside struct {
	peak int64
	err  error
}

func (o *outside) Error() string { return fmt.Sprint(o.err) }

// process is a child of this program.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *tail
}

// startChild runs this program again as the named part, in a process group of its own.
func startChild(part string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(exe, childArg, part), stderr: new(tail)}
	p.cmd.Stderr = p.stderr
	p.cmd.Env = append(os.Environ(), useFallbackRoots)
	ownGroup(p.cmd)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(stdout)
	return p, p.cmd.Start()
}

// send writes one value as a line of JSON.
func (p *process) send(v any) error { return json.NewEncoder(p.in).Encode(v) }

// receive reads one line into v.
func (p *process) receive(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// wait lets the child come to its end.
func (p *process) wait() error { return p.explain(p.cmd.Wait()) }

// kill ends the child and what it has started as kill -9 does, and waits for it.
func (p *process) kill() {
	killGroup(p.cmd)
	_ = p.cmd.Wait() // the error is that it was killed
}

// explain adds to an error what the child, which has ended, said on standard error.
func (p *process) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("child %s: %w: %s", p.cmd.Args[2], err, p.stderr)
}

// tail keeps the last few KiB written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - 4<<10; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
