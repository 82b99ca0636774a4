package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

const stsHost = "sts.aliyuncs.com"

// sts is the service that issues the keys of a pod's role. It has its real name, and processes reach it through a proxy.
type sts struct {
	proxy *httptest.Server
	roots string // PEM file

	mu    sync.Mutex
	keys  map[string]string // the answer to each token of a pod
	asked []string
}

func newSTS(t *testing.T) *sts {
	t.Helper()
	config, roots := authority(t, stsHost)
	s := &sts{keys: map[string]string{}, roots: roots}
	service := httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	service.TLS = config
	service.StartTLS()
	t.Cleanup(service.Close)
	s.proxy = tunnel(t, stsHost, service.Listener.Addr().String(), func(here net.Conn) io.ReadWriter { return here })
	return s
}

func (s *sts) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod := r.FormValue("OIDCToken")
	s.asked = append(s.asked, pod)
	if r.FormValue("Action") != "AssumeRoleWithOIDC" || s.keys[pod] == "" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"Code":"AuthenticationFail.OIDCToken.Expired","Message":%q}`, pod)
		return
	}
	fmt.Fprint(w, s.keys[pod])
}

// give makes the n-th keys of the role the answer to a pod's token, with a lifetime, and makes OSS accept them.
func (s *sts) give(server *osstest.Server, pod string, n int, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := time.Now().Add(d)
	server.AddToken(fmt.Sprintf("STS.role%d", n), fmt.Sprintf("role-secret-%d", n), token(n), end)
	s.keys[pod] = fmt.Sprintf(`{"Credentials":{"AccessKeyId":"STS.role%d","AccessKeySecret":"role-secret-%d","SecurityToken":%q,"Expiration":%q}}`,
		n, n, token(n), end.UTC().Format("2006-01-02T15:04:05Z"))
}

// TestRoleOfAPodIsRenewedInTheMiddle checks that a download completes although the keys of a pod's role expire in the middle
// of it. The token in the file has changed by then, and the same process sends the new one to STS.
func TestRoleOfAPodIsRenewedInTheMiddle(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a process takes its roots from SSL_CERT_FILE on Linux")
	}
	s, from := newServer(t), newSTS(t)
	content := osstest.Random(1, 20*mib)
	s.Put("bucket", "key", content)
	file := filepath.Join(t.TempDir(), "token")
	write := func(pod string) {
		// By a rename, as kubelet does it: the process must not read half of it.
		err := os.WriteFile(file+".new", []byte(pod), 0o600)
		if err == nil {
			err = os.Rename(file+".new", file)
		}
		if err != nil {
			t.Error(err)
		}
	}
	write("pod-token-1")
	from.give(s, "pod-token-1", 1, time.Minute) // credentials-go renews them in the last three minutes
	s.Nth(7, osstest.Inject().Before(func() {
		from.give(s, "pod-token-2", 2, time.Hour)
		write("pod-token-2")
		s.ExpireToken(token(1))
	}))
	e := place(s)
	for name, value := range map[string]string{
		"HTTPS_PROXY": from.proxy.URL, "https_proxy": from.proxy.URL, "NO_PROXY": "", "no_proxy": "", "SSL_CERT_FILE": from.roots, "HOME": t.TempDir(),
		"ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/reader", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "acs:ram::1:oidc-provider/ack",
		"ALIBABA_CLOUD_OIDC_TOKEN_FILE": file,
	} {
		e[name] = value
	}
	dir := t.TempDir()
	r := runAsProcess(t, e, "-credentials", "oidc", "-part-size", "1MiB", "-concurrency", "4", "-json", "oss://bucket/key", dir)
	if r.exit != 0 {
		t.Fatalf("%+v; STS was asked with %q", r, from.asked)
	}
	sameAs(t, filepath.Join(dir, "key"), content)
	onlyFile(t, dir, "key")
	answers := answersByToken(s)
	if answers["role-token-1: 206"] == 0 || answers["role-token-1: 403"] == 0 || answers["role-token-2: 206"] == 0 || len(answers) != 3 {
		t.Errorf("got answers %v", answers)
	}
	if n := len(from.asked); from.asked[0] != "pod-token-1" || from.asked[n-1] != "pod-token-2" || from.asked[n-2] == "pod-token-2" {
		t.Errorf("STS was asked with %q; its last keys are good for an hour", from.asked)
	}
	noSecret(t, r)
}
