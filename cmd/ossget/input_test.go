package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestHeaders checks where headers for a URL come from, and which comes first; that no other host gets them; and that no output
// shows them.
func TestHeaders(t *testing.T) {
	const secret = "glpat-very-secret"
	content := all(t, osstest.Random(1, 1000))
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Private-Token") != "" || r.Header.Get("X-More") != "" {
			t.Errorf("the store was asked with %v", r.Header)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer store.Close()
	var mu sync.Mutex
	var more string
	ci := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		more = r.Header.Get("X-More")
		if r.Header.Get("Private-Token") != secret {
			http.Error(w, "got "+r.Header.Get("Private-Token"), http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, store.URL, http.StatusFound)
	}))
	defer ci.Close()
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte("\ufeffPRIVATE-TOKEN: "+secret+"\r\n\r\nX-More: file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := env{"OSSGET_HEADER": "Private-Token: another-secret\nX-More: variable"}
	for _, c := range []struct {
		name string
		env  env
		args []string
		exit int
		more string
	}{
		{"flag", env{}, []string{"--header", "PRIVATE-TOKEN: " + secret}, exitDone, ""},
		{"variable", env{"OSSGET_HEADER": "private-token:" + secret}, nil, exitDone, ""},
		{"file", env{}, []string{"-header-file", file}, exitDone, "file"},
		{"file before variable", wrong, []string{"-header-file", file}, exitDone, "file"},
		{"flag before file", wrong, []string{"--header=X-More: flag", "--header-file", file}, exitDone, "flag"},
		{"variable and flag", wrong, []string{"--header", "Private-Token: " + secret}, exitDone, "variable"},
		{"none", env{}, nil, exitHopeless, ""},
		{"wrong", wrong, nil, exitHopeless, "variable"},
	} {
		path := filepath.Join(t.TempDir(), "file")
		r := runHere(t.Context(), c.env, append(c.args, "-json", ci.URL+"/artifact", path)...)
		mu.Lock()
		if r.exit != c.exit || more != c.more || strings.Contains(r.stdout+r.stderr, "secret") {
			t.Errorf("%s: %+v, X-More: %q", c.name, r, more)
		}
		mu.Unlock()
		if got, _ := os.ReadFile(path); c.exit == exitDone && !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes", c.name, len(got))
		}
	}
	malformed := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(malformed, []byte("A: b\nvery secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  env
		args []string
		want string
	}{
		{env{}, []string{"--header", "very secret", ci.URL + "/k"}, "--header: expected 'NAME: VALUE'"},
		{env{}, []string{"--header", "very secret: very secret", ci.URL + "/k"}, "--header: WithHeader: a header's name"},
		{env{}, []string{"--header", "Range: bytes=very-secret", ci.URL + "/k"}, "--header: WithHeader: the header Range"},
		{env{}, []string{"--header", "X:", ci.URL + "/k"}, "--header: WithHeader: the header X has no value"},
		{env{}, []string{"--header-file", malformed, ci.URL + "/k"}, "line 2: expected 'NAME: VALUE'"},
		{env{}, []string{"--header-file", malformed + "x", ci.URL + "/k"}, "--header-file: open "},
		{env{"OSSGET_HEADER": "very secret"}, []string{ci.URL + "/k"}, "OSSGET_HEADER, line 1: expected 'NAME: VALUE'"},
		{testEnv, []string{"--header", "X: very-secret", "oss://bucket/key"}, "--header is for a URL"},
		{testEnv, []string{"--header-file", file, "-recursive", "oss://bucket/p/"}, "--header-file is for a URL"},
	} {
		r := runHere(t.Context(), c.env, append(c.args, t.TempDir())...)
		if r.exit != exitUsage || !strings.Contains(r.stderr, c.want) || strings.Contains(r.stderr, "very") {
			t.Errorf("%q: %+v, want %q", c.args, r, c.want)
		}
	}
	if _, err := parse(t.Context(), []string{"oss://bucket/key"}, func(name string) string {
		return map[string]string{"OSS_ENDPOINT": "oss-cn-hangzhou.aliyuncs.com", "OSSGET_HEADER": "not a header"}[name]
	}); err != nil {
		t.Errorf("OSSGET_HEADER is for URLs only: %v", err)
	}
}

// TestURLFile checks that the URL comes from a file or standard input, and that what the file has is not shown.
func TestURLFile(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 1000)
	s.Put("bucket", "key", c)
	raw, query := signed(t, s, "key", 600)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	path := filepath.Join(dir, "file")
	r := runHere(t.Context(), env{}, "-url-file", write("url", "\ufeff"+raw+"\r\n"), path)
	if r.exit != exitDone {
		t.Fatalf("%+v", r)
	}
	sameAs(t, path, c)
	silent(t, r, query)

	cmd := process(t, env{}, "--url-file", "-", "-")
	cmd.Stdin = strings.NewReader(raw + "\n")
	if out, err := cmd.Output(); err != nil || !bytes.Equal(out, all(t, c)) {
		t.Errorf("standard input: %v, %d bytes", err, len(out))
	}

	for name, c := range map[string]struct{ text, want string }{
		"empty": {"\n", "one URL"}, "two": {raw + "\n" + raw, "one URL"}, "object": {"oss://bucket/key", "not a URL"}, "word": {"Signature=verySecret", "not a URL"},
		"password": {"https://user:verySecret@host.invalid/k", "without user name"}, "fragment": {"https://host.invalid/k?Signature=verySecret#", "fragment"},
		"folder": {"https://host.invalid/?Signature=verySecret", "no file name"}, "long": {strings.Repeat("x", maxInput+1), "longer than"},
	} {
		r := runHere(t.Context(), env{}, "-url-file", write(name, c.text))
		if r.exit != exitUsage || !strings.Contains(r.stderr, c.want) || strings.Contains(r.stderr, "very") {
			t.Errorf("%s: %+v", name, r)
		}
		silent(t, r, query)
	}
	for _, args := range [][]string{
		{"-url-file", filepath.Join(dir, "absent")}, {"-url-file", filepath.Join(dir, "url"), "file", "more"}, {"-url-file", filepath.Join(dir, "url"), "-recursive"},
		{"-url-file", "-", "-header-file", "-"}, {"-url-file", filepath.Join(dir, "url"), "-version-id", "x"},
	} {
		if r := runHere(t.Context(), env{}, args...); r.exit != exitUsage {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

// TestTimeoutWhileReading checks that --timeout also ends a command that waits for standard input.
func TestTimeoutWhileReading(t *testing.T) {
	in, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer keep.Close()
	stdin := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = stdin }()
	for _, args := range [][]string{{"-url-file", "-"}, {"stat", "-url-file", "-"}, {"-i", "-"}, {"-checksum-file", "-", "oss://bucket/key"}} {
		r := runHere(t.Context(), env{}, append(args, "-json", "-timeout", "1ms")...)
		if r.exit != exitFailed || !strings.Contains(r.stdout, `"code":"Timeout"`) || !strings.Contains(r.stderr, "not done after 1ms (--timeout)") {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

// TestInterruptedWhileReading checks that Ctrl-C ends a command that waits for standard input.
func TestInterruptedWhileReading(t *testing.T) {
	in, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer keep.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stdin := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = stdin }()
	cancel(signalError{os.Interrupt})
	if r := runHere(ctx, env{}, "-json", "-url-file", "-"); r.exit != exitInterrupted || !strings.Contains(r.stdout, `"code":"Interrupted"`) {
		t.Errorf("%+v", r)
	}
}

// TestCA checks that the certificates of a file are trusted, for URLs and for buckets, and no others.
func TestCA(t *testing.T) {
	content := all(t, osstest.Random(1, 1000))
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("X-Oss-Request-Id", "1")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	web.StartTLS()
	defer web.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	e := env{"OSS_ENDPOINT": web.URL}
	for _, args := range [][]string{{web.URL + "/key"}, {"-credentials", "none", "-cname", "oss://bucket/key"}} {
		path := filepath.Join(dir, "file")
		if r := runHere(t.Context(), e, append(args, path, "-ca", ca, "-retries", "0")...); r.exit != exitDone {
			t.Errorf("%q: %+v", args, r)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, content) {
			t.Errorf("%q: %d bytes", args, len(got))
		}
		if r := runHere(t.Context(), e, append(args, path, "-retries", "0")...); r.exit == exitDone || !strings.Contains(r.stderr, "--ca") {
			t.Errorf("%q, without: %+v", args, r)
		}
	}
	for name, want := range map[string]string{os.DevNull: "no certificate", filepath.Join(dir, "absent"): "absent"} {
		if r := runHere(t.Context(), e, "-ca", name, "oss://bucket/key", dir); r.exit != exitUsage || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestChecksums checks digests of all kinds.
func TestChecksums(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 3*mib)
	o := s.Put("bucket", "key", c)
	content := all(t, c)
	for _, sum := range []string{
		fmt.Sprintf("sha256:%x", sha256.Sum256(content)), fmt.Sprintf("sha256:%X", sha256.Sum256(content)),
		fmt.Sprintf("md5:%x", md5.Sum(content)), fmt.Sprintf("crc64:%d", o.CRC64()),
	} {
		path := filepath.Join(t.TempDir(), "file")
		if r := runHere(t.Context(), envOf(s), "-checksum", sum, "oss://bucket/key", path); r.exit != exitDone {
			t.Errorf("%s: %+v", sum, r)
		}
		sameAs(t, path, c)
	}
	for _, sum := range []string{"sha256:" + strings.Repeat("0", 64), "md5:" + strings.Repeat("0", 32), "crc64:0"} {
		path := filepath.Join(t.TempDir(), "file")
		if r := runHere(t.Context(), envOf(s), "-json", "-checksum", sum, "oss://bucket/key", path); r.exit != exitHopeless || !strings.Contains(r.stdout, "ChecksumMismatch") {
			t.Errorf("%s: %+v", sum, r)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: there is a file", sum)
		}
	}
	for _, sum := range []string{"", "sha256", "sha256:", "sha256:00", "md5:" + strings.Repeat("0", 64), "crc64:-1", "crc64:18446744073709551616", "crc64:0x1", "sha1:00", strings.Repeat("0", 64)} {
		if r := runHere(t.Context(), envOf(s), "-checksum", sum, "oss://bucket/key", t.TempDir()); r.exit != exitUsage || !strings.Contains(r.stderr, "sha256:HEX, md5:HEX or crc64:NUMBER") {
			t.Errorf("%s: %+v", sum, r)
		}
	}
	if r := runHere(t.Context(), envOf(s), "-checksum", "crc64:1", "-sha256", strings.Repeat("0", 64), "oss://bucket/key"); r.exit != exitUsage {
		t.Errorf("both: %+v", r)
	}
}

// TestChecksumUnderFIPS checks that a digest which the process may not compute is wrong usage, and no panic, and that requests
// without credentials are made.
func TestChecksumUnderFIPS(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 1000)
	s.CreateBucket("public", osstest.PublicRead())
	s.Put("public", "key", c)
	content := all(t, c)
	for sum, exit := range map[string]int{fmt.Sprintf("md5:%x", md5.Sum(content)): exitUsage, fmt.Sprintf("sha256:%x", sha256.Sum256(content)): exitDone} {
		cmd := process(t, envOf(s), "-credentials", "none", "-checksum", sum, "oss://public/key", filepath.Join(t.TempDir(), "file"))
		cmd.Env = append(cmd.Env, "GODEBUG=fips140=only")
		said, _ := cmd.CombinedOutput() // the exit code says how
		if got := cmd.ProcessState.ExitCode(); got != exit || strings.Contains(string(said), "goroutine") || exit == exitUsage && !strings.Contains(string(said), "fips140=only") {
			t.Errorf("%s: exit code %d\n%s", sum, got, said)
		}
	}
}

// TestRetryFor checks that a time without progress ends the command, and that there is no limit to the attempts before.
func TestRetryFor(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	refuse := func(*osstest.Request) *osstest.Fault { return osstest.Inject().Error(500, "InternalError") }
	s.OnRequest(refuse)
	r := runHere(t.Context(), envOf(s), "-json", "-retry-for", "1ns", "oss://bucket/key", t.TempDir())
	if n := len(s.Requests()); r.exit != exitFailed || n > 2 {
		t.Errorf("%+v after %d requests", r, n)
	}
	s.ResetLog()
	r = runHere(t.Context(), envOf(s), "-json", "-retry-for", "1h", "-retries", "1", "oss://bucket/key", t.TempDir())
	if n := len(s.Requests()); r.exit != exitFailed || n != 2 {
		t.Errorf("with -retries: %+v after %d requests", r, n)
	}
	if r := runHere(t.Context(), envOf(s), "-retry-for", "0s", "oss://bucket/key"); r.exit != exitUsage {
		t.Errorf("%+v", r)
	}
	c, err := parse(t.Context(), []string{"-retry-for", "30m", "oss://bucket/key"}, testEnv.get)
	if err != nil || c.retry.MaxElapsed != 30*time.Minute || c.retry.Attempts != 0 {
		t.Errorf("got %+v, %v", c.retry, err)
	}
}
