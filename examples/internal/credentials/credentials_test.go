package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// In a pod, STS is asked for the role with the token in the file, as it is then: what the file says changes, too.
func TestOIDC(t *testing.T) {
	life, status := time.Minute, http.StatusOK
	var got []string
	sts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, strings.Join([]string{r.FormValue("Action"), r.FormValue("RoleArn"), r.FormValue("OIDCProviderArn"), r.FormValue("OIDCToken")}, " "))
		if status != http.StatusOK {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"Code":"AuthenticationFail.OIDCToken.Expired","Message":%q}`, r.FormValue("OIDCToken"))
			return
		}
		fmt.Fprintf(w, `{"Credentials":{"AccessKeyId":"STS.%d","AccessKeySecret":"secret","SecurityToken":"token","Expiration":%q}}`,
			len(got), time.Now().Add(life).UTC().Format("2006-01-02T15:04:05Z"))
	}))
	defer sts.Close()
	trust(t, sts.Certificate())
	file := filepath.Join(t.TempDir(), "token")
	t.Setenv("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/reader")
	t.Setenv("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ack")
	t.Setenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file)
	p, err := fromOIDC(strings.TrimPrefix(sts.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(token, want string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := p.GetCredentialsE()
		if err != nil || c.GetAccessKeyID() != want || c.GetAccessKeySecret() != "secret" || c.GetSecurityToken() != "token" {
			t.Errorf("got %v, %v; want %s", c, err, want)
		}
	}
	ask("pod-token-1", "STS.1")
	life = time.Hour
	ask("pod-token-2", "STS.2")
	ask("pod-token-3", "STS.2") // good for an hour
	const before = "AssumeRoleWithOIDC acs:ram::1:role/reader acs:ram::1:oidc-provider/ack pod-token-"
	if len(got) != 2 || got[0] != before+"1" || got[1] != before+"2" {
		t.Errorf("STS was asked %q", got)
	}

	status = http.StatusBadRequest
	if p, err = fromOIDC(strings.TrimPrefix(sts.URL, "https://")); err != nil {
		t.Fatal(err)
	}
	_, err = p.GetCredentialsE()
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), `"Code":"AuthenticationFail.OIDCToken.Expired"`) || strings.Contains(err.Error(), "pod-token") {
		t.Errorf("got %v", err)
	}
	if c := p.GetCredentials(); c.GetAccessKeyID() != "" {
		t.Errorf("got %v without credentials", c)
	}
}

// trust lets credentials-go, which copies the default transport, believe the server.
func trust(t *testing.T, certificate *x509.Certificate) {
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	transport := http.DefaultTransport.(*http.Transport)
	was := transport.TLSClientConfig
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	transport.DisableKeepAlives = true
	t.Cleanup(func() { transport.TLSClientConfig, transport.DisableKeepAlives = was, false })
}

// Many workers ask at once what credentials-go has for one goroutine at a time; -race tells.
func TestProviderIsSafeForConcurrentUse(t *testing.T) {
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
	p, err := FromChain()
	if err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			if c, err := p.GetCredentialsE(); err != nil || c.GetAccessKeyID() != "id" {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
	workers.Wait()
}

func TestCredentialsDoNotPrintThemselves(t *testing.T) {
	k := keys{"id", "secret-1", "token-1"}
	if s := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Contains(s, "-1") {
		t.Error(s)
	}
}
