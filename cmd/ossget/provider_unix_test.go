//go:build unix

package main

import (
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestInterruptedWhileKeysAreAsked checks that Ctrl-C ends the command at once while whoever has the keys does not answer.
func TestInterruptedWhileKeysAreAsked(t *testing.T) {
	silent := listen(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("pod"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), built(t), "-endpoint", "https://oss.test", "-credentials", "oidc", "oss://bkt/key", filepath.Join(t.TempDir(), "file"))
	cmd.Env = append(os.Environ(), "HTTPS_PROXY=http://"+silent.Addr().String(), "https_proxy=http://"+silent.Addr().String(), "NO_PROXY=", "no_proxy=",
		"ALIBABA_CLOUD_ROLE_ARN=acs:ram::1:role/reader", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN=acs:ram::1:oidc-provider/ack", "ALIBABA_CLOUD_OIDC_TOKEN_FILE="+token)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(said.String(), "ossget: interrupted") {
		t.Errorf("exit code %d: %s", code, said.String())
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v to end", took)
	}
}

// TestTimeoutWhileKeysAreAsked checks that -timeout also ends the command while whoever has the keys does not answer.
func TestTimeoutWhileKeysAreAsked(t *testing.T) {
	silent := "http://" + listen(t).Addr().String()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("pod"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := env{
		"HTTPS_PROXY": silent, "https_proxy": silent, "NO_PROXY": "", "no_proxy": "", "ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/reader",
		"ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "acs:ram::1:oidc-provider/ack", "ALIBABA_CLOUD_OIDC_TOKEN_FILE": token,
	}
	r := runAsProcess(t, e, "-json", "-timeout", "100ms", "-endpoint", "https://oss.test", "-credentials", "oidc", "oss://bkt/key", filepath.Join(t.TempDir(), "file"))
	if r.exit != exitFailed || !strings.Contains(r.stdout, `"code":"Timeout"`) || !strings.Contains(r.stderr, "not done after 100ms (--timeout)") {
		t.Errorf("%+v", r)
	}
}

// TestMetadataIsAskedDirectly checks that no request for the keys of an ECS instance reaches the proxy of the environment.
func TestMetadataIsAskedDirectly(t *testing.T) {
	for _, from := range []string{"ecs", "chain"} {
		proxy := listen(t)
		asked := make(chan string, 100)
		go func() {
			for {
				conn, err := proxy.Accept()
				if err != nil {
					close(asked)
					return
				}
				b := make([]byte, 1000)
				n, _ := conn.Read(b)
				asked <- string(b[:n])
				conn.Close()
			}
		}()
		cmd := exec.CommandContext(t.Context(), built(t), "-endpoint", "https://oss.test", "-credentials", from, "oss://bkt/key", filepath.Join(t.TempDir(), "file"))
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "HTTP_PROXY=http://"+proxy.Addr().String(), "http_proxy=http://"+proxy.Addr().String(), "NO_PROXY=", "no_proxy=")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended: // nobody is at the address
		case <-time.After(3 * time.Second): // or nothing comes back from there
			_ = cmd.Process.Kill()
			<-ended
		}
		proxy.Close()
		for request := range asked {
			t.Errorf("-credentials %s: the proxy got %q", from, request)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestExitCodeOfTheSignal checks that each signal ends the command with the code that shells have for it, and that
// the same command then resumes.
func TestExitCodeOfTheSignal(t *testing.T) {
	for s, want := range map[syscall.Signal]int{syscall.SIGHUP: 129, syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		server := newServer(t)
		server.Put("bucket", "key", osstest.Random(1, 20*mib))
		if signal.Ignored(s) { // as under nohup, and so it is ignored by what is started here
			t.Logf("%v is ignored by the tests", s)
			continue
		}
		open := make(chan struct{})
		server.OnRequest(func(r *osstest.Request) *osstest.Fault { // so that it cannot end by itself
			if r.End <= 18*mib {
				return nil
			}
			return osstest.Inject().Gate(max(0, 18*mib-r.Start), open).Maybe()
		})
		path := filepath.Join(t.TempDir(), "file")
		cmd := process(t, envOf(server), "-json", "oss://bucket/key", path)
		var said strings.Builder
		cmd.Stdout = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the first answers", func() bool { return server.Stats().Sent >= halfSent })
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the exit code says it
		close(open)
		if code := cmd.ProcessState.ExitCode(); code != want || !strings.Contains(said.String(), `"code":"Interrupted"`) {
			t.Errorf("%v: exit code %d, want %d: %s", s, code, want, said.String())
		}
		server.ClearFaults()
		if r := runHere(t.Context(), envOf(server), "-json", "oss://bucket/key", path); r.exit != 0 || strings.Contains(r.stdout, `"resumedBytes":0`) {
			t.Errorf("%v: the next command: %+v", s, r)
		}
	}
}
