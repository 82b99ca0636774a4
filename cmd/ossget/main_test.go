package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

const mib = 1 << 20

// TestMain runs ossget itself for the tests that need it as a process.
func TestMain(m *testing.M) {
	if os.Getenv("OSSGET_TEST_MAIN") != "" {
		if os.Getenv("OSSGET_TEST_METADATA") != "" {
			prepare = func(t *http.Transport) { t.DisableKeepAlives = true } // the proxy is the metadata service
		}
		main()
	}
	// In the background of a script, and under nohup, some signals are ignored, and would be by each command that is started here. One
	// that is caught is not.
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	os.Exit(m.Run())
}

// newServer returns a server with an empty bucket, "bucket". A fault that was planned and did not happen fails the test.
func newServer(t *testing.T, opts ...osstest.Option) *osstest.Server {
	t.Helper()
	s, err := osstest.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if unfired := s.Unfired(); len(unfired) > 0 && !t.Failed() {
			t.Errorf("never happened: %v", unfired)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.CreateBucket("bucket")
	return s
}

func envOf(s *osstest.Server) env {
	return env{
		"OSS_ENDPOINT": s.Endpoint(), "OSS_REGION": osstest.Region,
		"OSS_ACCESS_KEY_ID": osstest.AccessKeyID, "OSS_ACCESS_KEY_SECRET": osstest.AccessKeySecret,
	}
}

// ran is the visible outcome of a run of ossget.
type ran struct {
	exit           int
	stdout, stderr string
}

func runHere(ctx context.Context, e env, args ...string) ran {
	var stdout, stderr bytes.Buffer
	exit := run(ctx, args, e.get, &stdout, &stderr)
	return ran{exit, stdout.String(), stderr.String()}
}

// process is ossget as a process, not yet started.
func process(t *testing.T, e env, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), "OSSGET_TEST_MAIN=1")
	for name, value := range e {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// outcomeOf reads the line of -json.
func outcomeOf(t *testing.T, r ran) (line report) {
	t.Helper()
	if strings.Count(r.stdout, "\n") != 1 {
		t.Fatalf("not one line: %q (standard error %q)", r.stdout, r.stderr)
	}
	if err := json.Unmarshal([]byte(r.stdout), &line); err != nil {
		t.Fatalf("%q: %v", r.stdout, err)
	}
	return line
}

// sameAs checks the file at path against an object's content.
func sameAs(t *testing.T, path string, c osstest.Content) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, c.Size())
	if _, err := c.ReadAt(want, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, not the %d of the object", path, len(got), len(want))
	}
}

// onlyFile checks that dir contains nothing but the one name, or nothing at all if name is "".
func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != name {
		t.Errorf("left in the folder: %q, want %q", got, name)
	}
}

func TestDownload(t *testing.T) {
	s := newServer(t)
	for name, c := range map[string]osstest.Content{
		"empty":          osstest.Bytes(nil),
		"one":            osstest.Bytes([]byte("x")),
		"16 KiB":         osstest.Random(1, 16<<10),
		"20 MiB":         osstest.Random(2, 20*mib),
		"数据 +%2F?&#.tar": osstest.Random(3, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := s.Put("bucket", "folder/"+name, c)
			r := runHere(t.Context(), envOf(s), "-json", "oss://bucket/folder/"+name, dir)
			if r.exit != 0 {
				t.Fatalf("exit code %d: %s", r.exit, r.stderr)
			}
			if strings.ContainsAny(name, "?") && runtime.GOOS == "windows" {
				t.Skip("no file name there")
			}
			sameAs(t, filepath.Join(dir, name), c)
			onlyFile(t, dir, name)
			got := outcomeOf(t, r)
			if got.Path != filepath.Join(dir, name) || got.Size != c.Size() || got.ETag != o.ETag || !got.Verified ||
				got.CRC64 != fmt.Sprint(o.CRC64()) || got.DownloadedBytes < c.Size() || got.Failure != nil {
				t.Errorf("got %+v", got)
			}
			if !strings.Contains(r.stderr, "verified") || strings.ContainsAny(r.stderr, "\r\x1b") {
				t.Errorf("standard error: %q", r.stderr)
			}
		})
	}
}

func TestSmallObjectIsOneRequest(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 16<<10))
	if r := runHere(t.Context(), envOf(s), "oss://bucket/key", t.TempDir()); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	if all := s.Requests(); len(all) != 1 || all[0].Method != "GET" {
		t.Errorf("got %+v", all)
	}
}

func TestSignatures(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bucket", osstest.PublicRead())
	s.Put("bucket", "key", osstest.Random(1, 1000))
	s.AddToken("STS.id", "sts-secret", "sts-token", time.Now().Add(time.Hour))
	for _, c := range []struct {
		name   string
		change env
		prefix string
	}{
		{"V4 with a region", nil, "OSS4-HMAC-SHA256 "},
		{"V1 without", env{"OSS_REGION": ""}, "OSS " + osstest.AccessKeyID},
		{"V4 with a token", env{"OSS_ACCESS_KEY_ID": "STS.id", "OSS_ACCESS_KEY_SECRET": "sts-secret", "OSS_SESSION_TOKEN": "sts-token"},
			"OSS4-HMAC-SHA256 Credential=STS.id/"},
		{"none without credentials", env{"OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.ResetLog()
			e := envOf(s)
			for k, v := range c.change {
				e[k] = v
			}
			if r := runHere(t.Context(), e, "oss://bucket/key", t.TempDir()); r.exit != 0 {
				t.Fatalf("%+v", r)
			}
			for _, r := range s.Requests() {
				if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, c.prefix) || c.prefix == "" && got != "" {
					t.Errorf("Authorization: %q, want %q", got, c.prefix)
				}
			}
		})
	}
}

func TestFlagsReachTheWireAndTheFile(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 8*mib)
	o := s.Put("bucket", "key", c)
	whole := make([]byte, c.Size())
	_, _ = c.ReadAt(whole, 0) // io.EOF at its end
	sum := sha256.Sum256(whole)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")

	r := runHere(t.Context(), envOf(s), "-json", "-range", "1MiB:100", "oss://bucket/key", path)
	if got, _ := os.ReadFile(path); r.exit != 0 || !bytes.Equal(got, whole[mib:mib+100]) {
		t.Errorf("-range: %+v, %d bytes", r, len(got))
	}
	if got := s.Requests(); len(got) != 1 || got[0].Range != "bytes=1048576-1048675" {
		t.Errorf("-range: got %q", got[0].Range)
	}

	s.ResetLog()
	r = runHere(t.Context(), envOf(s), "-sha256", fmt.Sprintf("%x", sum), "-if-match", strings.Trim(o.ETag, `"`), "-part-size", "1MiB",
		"-concurrency", "3", "-retries", "0", "-stall-timeout", "10s", "-checkpoint-dir", filepath.Join(dir, "cp"), "-rate-limit", "1GiB",
		"oss://bucket/key", path)
	if r.exit != 0 {
		t.Errorf("%+v", r)
	}
	sameAs(t, path, c)
	for _, q := range s.Requests() {
		if q.Header.Get("If-Match") != o.ETag || q.End-q.Start > mib {
			t.Errorf("If-Match %q, Range %q", q.Header.Get("If-Match"), q.Range)
		}
	}
	if n := s.MaxInFlight(); n > 3 {
		t.Errorf("%d in flight, with -concurrency 3", n)
	}
}

func TestOutcomesOnTheWire(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("foreign", osstest.NotYours())
	s.Put("foreign", "key", osstest.Random(1, 1000))
	s.Put("bucket", "key", osstest.Random(1, 1000))
	s.Put("bucket", "frozen", osstest.Random(1, 1000), osstest.Archived(""))
	down := newServer(t)
	down.Down()

	for _, c := range []struct {
		name string
		env  env
		args []string
		exit int
		code string
	}{
		{"no object", nil, []string{"oss://bucket/absent"}, 3, "NotFound"},
		{"no bucket", nil, []string{"oss://absent/key"}, 3, "NotFound"},
		{"someone else's bucket", nil, []string{"oss://foreign/key"}, 3, "AccessDenied"},
		{"wrong secret", env{"OSS_ACCESS_KEY_SECRET": "wrong"}, []string{"oss://bucket/key"}, 3, "SignatureDoesNotMatch"},
		{"no credentials", env{"OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}, []string{"oss://bucket/key"}, 3, "AccessDenied"},
		{"archived", nil, []string{"oss://bucket/frozen"}, 3, "Archived"},
		{"range past the end", nil, []string{"-range", "2000:", "oss://bucket/key"}, 3, ""},
		{"wrong digest", nil, []string{"-sha256", strings.Repeat("00", 32), "oss://bucket/key"}, 3, "ChecksumMismatch"},
		{"another ETag", nil, []string{"-if-match", "AB", "oss://bucket/key"}, 1, ""},
		{"nobody listens", env{"OSS_ENDPOINT": down.Endpoint()}, []string{"-retries", "0", "oss://bucket/key"}, 1, "Failed"},
		{"usage", nil, []string{"-part-size", "8MB", "oss://bucket/key"}, 2, "Usage"},
		{"usage before -json", nil, []string{"-part-size", "8MB", "-json", "oss://bucket/key"}, 2, "Usage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.ResetLog()
			dir := t.TempDir()
			e := envOf(s)
			for k, v := range c.env {
				e[k] = v
			}
			r := runHere(t.Context(), e, append(append([]string{}, c.args...), filepath.Join(dir, "file"), "-json")...)
			got := outcomeOf(t, r)
			if r.exit != c.exit || got.Failure == nil || c.code != "" && got.Code != c.code {
				t.Fatalf("exit code %d, want %d; %s", r.exit, c.exit, r.stdout)
			}
			if c.exit == 2 && len(s.Requests()) > 0 {
				t.Error("a request was made")
			}
			if last := s.Requests(); len(last) > 0 && last[len(last)-1].Status >= 400 && got.RequestID != last[len(last)-1].RequestID {
				t.Errorf("request ID %q, want %q", got.RequestID, last[len(last)-1].RequestID)
			}
			if lines := strings.SplitAfter(r.stderr, "\n"); !strings.HasPrefix(lines[len(lines)-2], "ossget: ") || strings.Count(r.stderr, "ossget: ") != 1 {
				t.Errorf("not one clear line: %q", r.stderr)
			}
			if strings.Contains(r.stderr+r.stdout, osstest.AccessKeySecret) {
				t.Errorf("the secret is in the output: %+v", r)
			}
			if _, err := os.Stat(filepath.Join(dir, "file")); err == nil {
				t.Error("there is a file")
			}
		})
	}
}

func TestDestinationsThatCannotBe(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	r := runHere(t.Context(), envOf(s), "oss://bucket/key", filepath.Join(t.TempDir(), "absent", "file"))
	if r.exit != exitHopeless || !strings.Contains(r.stderr, "absent") || !strings.Contains(r.stderr, "-mkdir") || len(s.Requests()) > 0 {
		t.Errorf("%+v, %d requests", r, len(s.Requests()))
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	r = runHere(t.Context(), envOf(s), "-mkdir", "oss://bucket/key", filepath.Join(file, "file"))
	if r.exit != exitHopeless || strings.Contains(r.stderr, "-mkdir") || len(s.Requests()) > 0 {
		t.Errorf("below a file: %+v, %d requests", r, len(s.Requests()))
	}
}

// TestMkdir checks that -mkdir makes the folder of DEST with its parents, for objects and URLs, and that it changes nothing
// if the folder is there.
func TestMkdir(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 1000)
	s.Put("bucket", "key", c)
	raw, _ := signed(t, s, "key", 600)
	dir := t.TempDir()
	for _, args := range [][]string{
		{"oss://bucket/key", filepath.Join(dir, "a", "b", "file")},
		{"oss://bucket/key", filepath.Join(dir, "a", "b", "again")},
		{raw, filepath.Join(dir, "c", "file")},
	} {
		if r := runHere(t.Context(), envOf(s), append([]string{"-mkdir"}, args...)...); r.exit != 0 {
			t.Fatalf("%+v", r)
		}
		sameAs(t, args[1], c)
	}
	if r := runHere(t.Context(), envOf(s), "-mkdir", "oss://bucket/key", filepath.Join(dir, "d")+string(filepath.Separator)); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	sameAs(t, filepath.Join(dir, "d", "key"), c)
	if r := runHere(t.Context(), envOf(s), "-mkdir", "oss://bucket/key", "-"); r.exit != exitUsage || !strings.Contains(r.stderr, "-mkdir") {
		t.Errorf("to standard output: %+v", r)
	}
}

func TestSecondCommandOnOneDestination(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 4*mib)
	s.Put("bucket", "key", c)
	open := make(chan struct{})
	s.Nth(0, osstest.Inject().Gate(1000, open))
	path := filepath.Join(t.TempDir(), "file")

	first := process(t, envOf(s), "oss://bucket/key", path)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitFor(t.Context(), func() bool { return s.InFlight() > 0 }); err != nil {
		t.Fatal(err)
	}
	r := runHere(t.Context(), envOf(s), "-json", "oss://bucket/key", path)
	if got := outcomeOf(t, r); r.exit != 1 || got.Code != "InUse" {
		t.Errorf("second: %+v", r)
	}
	close(open)
	if err := first.Wait(); err != nil {
		t.Errorf("first: %v", err)
	}
	sameAs(t, path, c)
}

func TestQuietSaysNothingAndFailuresStillSpeak(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	if r := runHere(t.Context(), envOf(s), "-quiet", "oss://bucket/key", t.TempDir()); r != (ran{}) {
		t.Errorf("%+v", r)
	}
	if r := runHere(t.Context(), envOf(s), "-quiet", "oss://bucket/absent", t.TempDir()); r.exit != 3 || !strings.Contains(r.stderr, "absent") {
		t.Errorf("%+v", r)
	}
}

func TestDefaultDestinationIsTheCurrentFolder(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 1000)
	s.Put("bucket", "folder/key", c)
	t.Chdir(t.TempDir())
	if r := runHere(t.Context(), envOf(s), "oss://bucket/folder/key"); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	sameAs(t, "key", c)
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestResultThatCannotBeToldIsAFailure(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	var stderr bytes.Buffer
	exit := run(t.Context(), []string{"-json", "oss://bucket/key", t.TempDir()}, envOf(s).get, broken{}, &stderr)
	if exit != 1 || !strings.Contains(stderr.String(), "standard output") {
		t.Errorf("exit code %d: %s", exit, stderr.String())
	}
}

// TestProxyOfTheEnvironment checks downloads from hosts that only the proxy can resolve, with the bucket in the name and
// without. Loopback addresses would bypass the proxy.
func TestProxyOfTheEnvironment(t *testing.T) {
	s := newServer(t)
	s.CNAME("files.example.com", "bucket")
	c := osstest.Random(1, 3*mib)
	s.Put("bucket", "key", c)
	for _, host := range []struct {
		endpoint string
		flags    []string
		want     string
	}{
		{"http://oss-cn-hangzhou.aliyuncs.com", nil, "bucket.oss-cn-hangzhou.aliyuncs.com"}, // the region is in the name
		{"http://files.example.com", []string{"-cname", "-region", osstest.Region}, "files.example.com"},
	} {
		t.Run(host.want, func(t *testing.T) {
			s.ResetLog()
			var mu sync.Mutex
			seen := map[string]bool{}
			proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				mu.Lock()
				seen[r.In.URL.Host] = true
				mu.Unlock()
				r.Out.URL.Host = s.Addr() // the Host header stays
			}})
			defer proxy.Close()
			e := envOf(s)
			e["OSS_ENDPOINT"], e["OSS_REGION"] = host.endpoint, ""
			e["HTTP_PROXY"], e["http_proxy"], e["NO_PROXY"], e["no_proxy"] = proxy.URL, proxy.URL, "", ""
			path := filepath.Join(t.TempDir(), "file")
			cmd := process(t, e, append(host.flags, "-retries", "0", "oss://bucket/key", path)...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			sameAs(t, path, c)
			if !seen[host.want] || len(seen) != 1 {
				t.Errorf("the proxy saw %v", seen)
			}
			for _, r := range s.Requests() {
				if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, "OSS4-HMAC-SHA256 ") {
					t.Errorf("Authorization: %q", got)
				}
			}
		})
	}
}

// claims are the bytes that a checkpoint says are on disk.
type claims struct {
	Parts []struct{ Offset, Size, Done int64 }
}

func readClaims(path string) (c claims, total int64) {
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &c) != nil {
		return claims{}, 0 // not there yet
	}
	for _, p := range c.Parts {
		total += p.Done
	}
	return c, total
}

// fetchedAgain returns how many of the claimed bytes were sent nevertheless.
func (c claims) fetchedAgain(requests []osstest.Request) (n int64) {
	for _, r := range requests {
		for _, p := range c.Parts {
			n += max(0, min(p.Offset+p.Done, r.Start+r.Sent)-max(p.Offset, r.Start))
		}
	}
	return n
}

// half is a download that is stalled in the middle. Each of four requests has received 4 MiB of its 16, and a little more
// that fills no buffer of the command.
type half struct {
	server  *osstest.Server
	content osstest.Content
	open    chan struct{}
	path    string
}

const (
	halfSize = 64 * mib
	halfSent = 16*mib + 400_000
)

func newHalf(t *testing.T) half {
	h := half{newServer(t), osstest.Random(1, halfSize), make(chan struct{}), filepath.Join(t.TempDir(), "disk.img")}
	h.server.Put("bucket", "disk.img", h.content)
	h.server.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Gate(halfSent/4, h.open).Maybe() })
	return h
}

func (h half) args() []string {
	return []string{"-json", "-concurrency", "4", "-part-size", "16MiB", "oss://bucket/disk.img", h.path}
}

// finish runs the command again, on a server that does not stall, with one request at a time. So no request takes over from
// another, and the bytes downloaded are exactly those that were missing.
func (h half) finish(t *testing.T) (report, []osstest.Request) {
	t.Helper()
	close(h.open)
	h.server.ClearFaults()
	h.server.ResetLog()
	r := runHere(t.Context(), envOf(h.server), append([]string{"-json", "-concurrency", "1"}, h.args()[3:]...)...)
	if r.exit != 0 {
		t.Fatalf("again: %+v", r)
	}
	sameAs(t, h.path, h.content)
	onlyFile(t, filepath.Dir(h.path), "disk.img")
	return outcomeOf(t, r), h.server.Requests()
}

// waitUntil polls for a condition that only the files of another process show.
func waitUntil(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

func TestKilledCommandContinues(t *testing.T) {
	h := newHalf(t)
	cmd := process(t, envOf(h.server), h.args()...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "a checkpoint of the half that is there", func() bool {
		_, claimed := readClaims(filepath.Join(h.path+".cp", "checkpoint.json"))
		return claimed >= halfSent/2
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	kept, claimed := readClaims(filepath.Join(h.path+".cp", "checkpoint.json"))

	got, requests := h.finish(t)
	if got.ResumedBytes < claimed || got.DownloadedBytes != halfSize-got.ResumedBytes { // a recent save may claim more
		t.Errorf("claimed %d; resumed %d, downloaded %d of %d", claimed, got.ResumedBytes, got.DownloadedBytes, halfSize)
	}
	if n := kept.fetchedAgain(requests); n > 0 {
		t.Errorf("%d bytes that were kept were fetched again", n)
	}
}

func TestTerminatedCommandContinues(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent a signal there")
	}
	h := newHalf(t)
	cmd := process(t, envOf(h.server), h.args()...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the first answers", func() bool { return h.server.Stats().Sent >= halfSent })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code is checked below
	if code := cmd.ProcessState.ExitCode(); code != 143 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if got := outcomeOf(t, ran{stdout: stdout.String()}); got.Failure == nil || got.Code != "Interrupted" {
		t.Errorf("got %s", stdout.String())
	}
	if !strings.Contains(stderr.String(), "the same command continues") {
		t.Errorf("standard error: %q", stderr.String())
	}
	if strings.Contains(stderr.String(), "\r") {
		t.Errorf("a bar on what is no terminal: %q", stderr.String())
	}
	kept, claimed := readClaims(filepath.Join(h.path+".cp", "checkpoint.json"))
	got, requests := h.finish(t)
	if got.ResumedBytes != claimed || got.DownloadedBytes != halfSize-claimed {
		t.Errorf("claimed %d; resumed %d, downloaded %d of %d", claimed, got.ResumedBytes, got.DownloadedBytes, halfSize)
	}
	if n := kept.fetchedAgain(requests); n > 0 {
		t.Errorf("%d bytes that were kept were fetched again", n)
	}
}
