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
	"testing/synctest"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"
)

// TestOIDC checks that a pod's token is exchanged for the keys of the role at STS, and that the file is read anew each time.
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

// trust makes credentials-go, which copies the default transport, trust the server's certificate.
func trust(t *testing.T, certificate *x509.Certificate) {
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	transport := http.DefaultTransport.(*http.Transport)
	was := transport.TLSClientConfig
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	transport.DisableKeepAlives = true
	t.Cleanup(func() { transport.TLSClientConfig, transport.DisableKeepAlives = was, false })
}

// source is a provider that behaves as those of credentials-go do. Keys are cached until three minutes before their end, and
// each call returns an error while they cannot be renewed.
type source struct {
	n, asked int
	end      time.Time
	down     bool
}

func (s *source) GetProviderName() string { return "test" }

func (s *source) GetCredentials() (*providers.Credentials, error) {
	if s.n == 0 || time.Until(s.end) <= 3*time.Minute {
		if s.asked++; s.down {
			return nil, errors.New("connection refused")
		}
		s.n, s.end = s.n+1, time.Now().Add(time.Hour)
	}
	return &providers.Credentials{AccessKeyId: fmt.Sprint(s.n), AccessKeySecret: "secret", SecurityToken: "token"}, nil
}

// TestOutageBeforeTheEnd checks that an outage of the source shortly before the keys expire fails no request while they are
// good. Now and then the renewal is tried again. After the keys have expired its error is returned.
func TestOutageBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{down: true}
		p := &Provider{about: "test", from: s}
		ask := func(want string) {
			t.Helper()
			switch c, err := p.GetCredentialsE(); {
			case want == "" && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "connection refused")):
				t.Errorf("after %v: got %v, %v", time.Until(s.end), c, err)
			case want != "" && (err != nil || c.GetAccessKeyID() != want || c.GetSecurityToken() != "token"):
				t.Errorf("after %v: got %v, %v; want %s", time.Until(s.end), c, err, want)
			}
		}
		ask("") // there are none to fall back on
		s.down = false
		ask("1")
		time.Sleep(57*time.Minute - time.Second)
		ask("1")
		s.down, s.asked = true, 0
		for range 100 { // requests of a hundred seconds
			time.Sleep(time.Second)
			ask("1")
		}
		if s.asked < 15 || s.asked > 25 {
			t.Errorf("asked %d times in 100 s", s.asked)
		}
		s.down = false
		time.Sleep(pause)
		ask("2")

		time.Sleep(57*time.Minute - time.Second)
		ask("2")
		s.down = true
		for time.Until(s.end) > time.Second {
			time.Sleep(time.Second)
			if time.Since(p.good) < spare {
				ask("2")
			}
		}
		time.Sleep(2 * time.Second)
		ask("")
		s.down = false
		ask("3") // immediately
	})
}

// TestProviderIsSafeForConcurrentUse checks that many workers can use a provider of credentials-go, which itself allows one
// goroutine at a time. The race detector must find nothing.
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
