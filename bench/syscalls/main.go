// Command syscalls counts the system calls that ossget makes for each small object: with strace, as the difference of two runs
// with different numbers of objects, so that the start and the end of a run are not counted. Run it with -h for its flags.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ossdl/ossdl/internal/osstest"
)

const (
	bucketName = "bench"
	perFolder  = 500
	served     = "serve" // the first argument of the process that is the server
)

type settings struct {
	objects, size int
	dir, ossget   string
	flags         []string
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == served {
		if err := serve(os.Args[2], os.Args[3]); err != nil {
			fail(err)
		}
		return
	}
	var s settings
	flag.IntVar(&s.objects, "n", 2000, "objects by which the two runs differ")
	flag.IntVar(&s.size, "size", 16<<10, "bytes of each")
	flag.StringVar(&s.dir, "dir", "", "folder for the files, on the file system that matters (default: the system's temporary one)")
	flag.StringVar(&s.ossget, "ossget", "", "the program to look at (default: it is built)")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: syscalls [flags] [further flags of ossget]")
		flag.PrintDefaults()
	}
	flag.Parse()
	s.flags = flag.Args()
	if _, err := exec.LookPath("strace"); err != nil {
		fmt.Println("skipped: strace is not installed")
		return
	}
	if err := run(context.Background(), &s, os.Stdout); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "syscalls:", err)
	os.Exit(1)
}

// run counts and prints the table.
func run(ctx context.Context, s *settings, out io.Writer) (err error) {
	work, err := os.MkdirTemp(s.dir, "ossdl-syscalls-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if s.ossget == "" {
		s.ossget = filepath.Join(work, "ossget")
		build := exec.CommandContext(ctx, "go", "build", "-o", s.ossget, "github.com/ossdl/ossdl/cmd/ossget") // #nosec G204
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build of ossget: %w", err)
		}
	}
	endpoint, stop, err := startServer(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	few, err := count(ctx, s, work, endpoint, "few")
	if err != nil {
		return err
	}
	many, err := count(ctx, s, work, endpoint, "many")
	if err != nil {
		return err
	}
	report(out, s, few, many)
	return nil
}

// count is how often ossget makes each system call for the objects of the prefix.
func count(ctx context.Context, s *settings, work, endpoint, prefix string) (map[string]int, error) {
	summary, dest := filepath.Join(work, prefix+".strace"), filepath.Join(work, prefix)
	args := slices.Concat(
		[]string{"-f", "-c", "-o", summary, s.ossget, "-recursive", "-quiet", "-endpoint", endpoint, "-credentials", "env"},
		s.flags, []string{"oss://" + bucketName + "/" + prefix + "/", dest})
	cmd := exec.CommandContext(ctx, "strace", args...) // #nosec G204
	cmd.Env = append(os.Environ(), "OSS_ACCESS_KEY_ID="+osstest.AccessKeyID, "OSS_ACCESS_KEY_SECRET="+osstest.AccessKeySecret)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", prefix, err)
	}
	if want, got := s.objectsOf(prefix), filesIn(dest); got != want {
		return nil, fmt.Errorf("%s: %d files, want %d", prefix, got, want)
	}
	f, err := os.Open(summary) // #nosec G304
	if err != nil {
		return nil, err
	}
	calls, err := parse(f)
	return calls, errors.Join(err, f.Close())
}

// objectsOf is how many objects the prefix has.
func (s *settings) objectsOf(prefix string) int {
	if prefix == "few" {
		return s.objects / 2
	}
	return s.objects + s.objects/2
}

func filesIn(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return nil
	})
	return n
}

// parse reads the table of strace -c: % time, seconds, microseconds a call, calls, errors if there were any, name.
func parse(r io.Reader) (map[string]int, error) {
	calls := map[string]int{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 5 || f[len(f)-1] == "total" {
			continue
		}
		n, err := strconv.Atoi(f[3])
		if err != nil {
			continue
		}
		name := f[len(f)-1]
		if failed, err := strconv.Atoi(f[4]); err == nil && name == "read" {
			calls[tooEarly] += failed
			n -= failed
		}
		calls[name] += n
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(calls) == 0 {
		return nil, errors.New("strace counted nothing; may it trace here?")
	}
	return calls, nil
}

// tooEarly are the reads from a connection on which nothing has come yet, before the thread waits for it.
const tooEarly = "read too early"

// ofRuntime are the calls by which the threads of a Go program wait for work and for each other. Their number depends on how long
// the run takes, which strace makes much longer.
var ofRuntime = []string{tooEarly, "nanosleep", "futex", "epoll_pwait", "sched_yield", "madvise", "tgkill", "rt_sigreturn", "getpid"}

// report prints what one object more costs, the most frequent call first. What is below a hundredth is summed up.
func report(out io.Writer, s *settings, few, many map[string]int) {
	type row struct {
		name string
		each float64
	}
	var rows []row
	var total, rest, waiting float64
	for name := range many {
		each := float64(many[name]-few[name]) / float64(s.objects)
		total += each
		if slices.Contains(ofRuntime, name) {
			waiting += each
		}
		if each < 0.01 {
			rest += each
			continue
		}
		rows = append(rows, row{name, each})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(b.each, a.each), strings.Compare(a.name, b.name)) })
	fmt.Fprintf(out, "%d objects more, of %d bytes, %d in a folder: system calls for each\n\n", s.objects, s.size, perFolder)
	rows = append(rows, row{"others", rest}, row{"total", total}, row{"of it Go runtime", waiting}, row{"without waiting", total - waiting})
	for _, r := range rows {
		fmt.Fprintf(out, "%-18s %8.2f\n", r.name, r.each)
	}
}

// startServer starts the server in a process of its own, which is not counted.
func startServer(ctx context.Context, s *settings) (endpoint string, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, served, strconv.Itoa(s.objects), strconv.Itoa(s.size)) // #nosec G204
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	endpoint, err = bufio.NewReader(out).ReadString('\n')
	stop = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return strings.TrimSpace(endpoint), stop, nil
}

// serve is the server: it prints its endpoint and ends with its standard input.
func serve(objects, size string) error {
	n, err := strconv.Atoi(objects)
	if err != nil {
		return err
	}
	bytes, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	srv, err := osstest.New(osstest.WithoutLog())
	if err != nil {
		return err
	}
	srv.CreateBucket(bucketName)
	s := settings{objects: n}
	for _, prefix := range []string{"few", "many"} {
		for i := range s.objectsOf(prefix) {
			key := fmt.Sprintf("%s/folder-%03d/object-%06d", prefix, i/perFolder, i)
			srv.Put(bucketName, key, osstest.Random(uint64(i), int64(bytes))) // #nosec G115
		}
	}
	fmt.Println(srv.Endpoint())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, srv.Close())
}
