package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/ossdl/ossdl/examples/internal/hold"
	"github.com/ossdl/ossdl/examples/internal/show"
	"github.com/ossdl/ossdl/osstest"
)

const (
	bucket  = "backups"
	prefix  = "nightly/"
	shards  = 4
	objects = 240
	dump    = 12 << 20 // bytes of each of the large ones
	rate    = 64 << 20 // bytes per second, of the server: so that there is a half-way
)

// demo is the cluster: it holds the backup, starts four pods, kills one half-way and starts it again.
func demo(ctx context.Context, to io.Writer) (err error) {
	out := &shared{to: to}
	server, err := osstest.Start(osstest.WithRate(rate))
	if err != nil {
		return err
	}
	defer server.Close()
	total := fill(server)
	dir, err := os.MkdirTemp("", "ossdl-restore-job-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	fmt.Fprintf(out, "1. The backup has %d objects, %s. %d pods restore it; the first is killed half-way.\n", objects, show.Bytes(total), shards)
	holdDumps(server)
	var pods [shards]*exec.Cmd
	for i := range pods {
		if pods[i], err = pod(ctx, server, i, dir, out); err != nil {
			return err
		}
		defer func() { // for the case that this function fails; otherwise both do nothing
			_ = pods[i].Process.Kill()
			_ = pods[i].Wait()
		}()
	}
	if err := server.WaitFor(ctx, func() bool { return fetched(server)[name(0)] >= total/shards/2 }); err != nil {
		return err
	}
	if err := pods[0].Process.Kill(); err != nil {
		return err
	}
	if pods[0].Wait() == nil {
		return errors.New("the first pod ended before it could be killed")
	}
	server.ClearFaults()
	for _, p := range pods[1:] {
		if err := p.Wait(); err != nil {
			return err
		}
	}
	files, err := check(server, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   The others have ended. There are %d files, each whole.\n\n", files)

	fmt.Fprintln(out, "2. The first pod again.")
	again, err := pod(ctx, server, 0, dir, out)
	if err == nil {
		err = again.Wait()
	}
	if err != nil {
		return err
	}
	if files, err = check(server, dir); err != nil {
		return err
	}
	if files != objects {
		return fmt.Errorf("there are %d files of %d", files, objects)
	}
	if err := onePodEach(server); err != nil {
		return err
	}
	fmt.Fprintf(out, "   All %d files are there, with the CRC-64 of their objects, each fetched by one pod. Sent twice: %s.\n",
		files, show.Bytes(sent(server)-total))
	return nil
}

// holdDumps keeps the ends of the large objects from the first pod, so that it cannot end before it is killed.
func holdDumps(server *osstest.Server) {
	hold.After(server, dump/4*3, func(r *osstest.Request) bool { return by(r) == name(0) && strings.HasSuffix(r.Key, ".dump") })
}

// shared is what the pods and the cluster write to, one at a time.
type shared struct {
	mu sync.Mutex
	to io.Writer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to.Write(b)
}

// fill stores a few large objects and many small ones.
func fill(server *osstest.Server) (total int64) {
	server.CreateBucket(bucket)
	for i := range objects {
		size := int64(1_000 * (i + 1))
		if i < 8 {
			size = dump
		}
		server.Put(bucket, key(i), osstest.Random(uint64(i), size))
		total += size
	}
	for i := range shards {
		server.AddUser(name(i), name(i)+"-secret")
	}
	return total
}

func key(i int) string {
	if i < 8 {
		return fmt.Sprintf("%stables/%d.dump", prefix, i)
	}
	return fmt.Sprintf("%sfiles/%02d/doc-%03d", prefix, i%10, i)
}

// name is the access key of a pod, by which the log of the server shows whose request it was.
func name(pod int) string { return "pod-" + strconv.Itoa(pod) }

// pod starts this program as the Job would.
func pod(ctx context.Context, server *osstest.Server, index int, dir string, out io.Writer) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, bucket, prefix, dir)
	cmd.Env = append(os.Environ(), "JOB_COMPLETION_INDEX="+strconv.Itoa(index), "SHARDS="+strconv.Itoa(shards),
		"OSS_ENDPOINT="+server.Endpoint(), "OSS_REGION="+osstest.Region,
		"OSS_ACCESS_KEY_ID="+name(index), "OSS_ACCESS_KEY_SECRET="+name(index)+"-secret")
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, cmd.Start()
}

// by is the pod that made a request.
func by(r *osstest.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	pod, _, _ := strings.Cut(credential, "/")
	return pod
}

// fetched are the bytes of objects that each pod was sent.
func fetched(server *osstest.Server) map[string]int64 {
	sent := map[string]int64{}
	for _, r := range server.Requests() {
		if r.Key != "" {
			sent[by(&r)] += r.Sent
		}
	}
	return sent
}

// sent are the bytes of objects that all pods were sent.
func sent(server *osstest.Server) (sum int64) {
	for _, n := range fetched(server) {
		sum += n
	}
	return sum
}

// onePodEach looks in the log of the server for who fetched which object.
func onePodEach(server *osstest.Server) error {
	owner := map[string]string{}
	for _, r := range server.Requests() {
		if r.Key == "" || r.Method != http.MethodGet {
			continue
		}
		if pod, known := owner[r.Key]; known && pod != by(&r) {
			return fmt.Errorf("%s was fetched by %s and by %s", r.Key, pod, by(&r))
		}
		owner[r.Key] = by(&r)
	}
	if len(owner) != objects {
		return fmt.Errorf("%d objects of %d were fetched", len(owner), objects)
	}
	return nil
}

// check counts the files and compares each with its object. Working files are in a folder of their own.
func check(server *osstest.Server, dir string) (files int, err error) {
	table := crc64.MakeTable(crc64.ECMA)
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".ossdl":
			return filepath.SkipDir
		case entry.IsDir():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(dir)+"/")
		if o := server.Stat(bucket, prefix+name); o == nil || crc64.Checksum(content, table) != o.CRC64() {
			return fmt.Errorf("%s is not what was stored", name)
		}
		files++
		return nil
	})
	return files, err
}
