// Package credentials finds credentials for OSS other than fixed keys. It adapts github.com/aliyun/credentials-go to the
// SDK, and reads the configuration file of ossutil.
//
// No error contains a key, a token or a line of a file. The errors of credentials-go do, for example a whole profile file
// that is malformed. So only those parts of its texts are kept that are known to be harmless.
package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"github.com/aliyun/credentials-go/credentials/providers"
)

// ErrUnavailable is the error of a Provider that could not get any credentials.
var ErrUnavailable = errors.New("no credentials")

// Provider supplies the SDK with the current credentials. The first request within three minutes of their end renews
// temporary ones. If a renewal fails, credentials that are still good are used, and the next attempt is some seconds later.
// It is safe for concurrent use.
type Provider struct {
	about string // the source, and what it needs

	mu     sync.Mutex // credentials-go allows one goroutine at a time
	from   providers.CredentialsProvider
	last   keys      // the last ones returned
	good   time.Time // when they were last known to be good; zero if never
	failed time.Time // when a renewal failed since; zero if none did
}

const (
	// spare is how long before their end credentials-go begins to renew keys. Keys that it returned were good for at least
	// that long, so they can be used for that long after.
	spare = 3 * time.Minute
	// pause is the minimum time between renewals that fail. Each may wait for its time-outs, and all requests wait with it.
	pause = 5 * time.Second
)

// metadataHost is the address of the metadata service of ECS. It is link-local: what answers behind a proxy is another
// instance, or the proxy itself, and either would learn the keys of the role.
const metadataHost = "100.100.100.200"

// Prepare changes the transport that credentials-go makes its own of, [http.DefaultTransport], before the first provider is
// asked. The metadata service is never asked through a proxy. Connections are not kept: credentials-go makes a pool for each
// question and closes none.
func Prepare(t *http.Transport) {
	t.DisableKeepAlives = true
	proxy := t.Proxy
	if proxy == nil {
		return
	}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Hostname() == metadataHost {
			return nil, nil
		}
		return proxy(r)
	}
}

// Trust makes credentials-go accept the certificates of roots. It changes the transport that Prepare has changed, before the first
// question.
func Trust(t *http.Transport, roots *x509.CertPool) {
	t.TLSClientConfig = &tls.Config{RootCAs: roots}
}

var _ oss.CredentialsProviderE = (*Provider)(nil)

// FromEnvironment uses ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and ALIBABA_CLOUD_SECURITY_TOKEN.
func FromEnvironment() (*Provider, error) {
	p, err := providers.NewEnvironmentVariableCredentialsProviderBuilder().Build()
	return provider("the environment (ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET must be set)", p, err)
}

// FromProfile uses the profile ALIBABA_CLOUD_PROFILE, or the default one, of the file ALIBABA_CLOUD_CREDENTIALS_FILE or
// ~/.alibabacloud/credentials. If neither file exists, it uses the current profile of the Alibaba Cloud CLI, in
// ~/.aliyun/config.json. If a profile names a role, STS supplies the keys.
func FromProfile() (*Provider, error) {
	file := os.Getenv("ALIBABA_CLOUD_CREDENTIALS_FILE")
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		file = filepath.Join(home, ".alibabacloud", "credentials")
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			p, err := providers.NewCLIProfileCredentialsProviderBuilder().Build()
			return provider(fmt.Sprintf("a profile (there is no %s, and %s must have it)", file, filepath.Join(home, ".aliyun", "config.json")), p, err)
		}
	}
	p, err := providers.NewProfileCredentialsProviderBuilder().Build()
	return provider("the profile file "+file, p, err)
}

// FromECS uses the RAM role of the ECS instance, from its metadata service at 100.100.100.200. ALIBABA_CLOUD_ECS_METADATA
// names the role if there are several.
func FromECS() (*Provider, error) {
	p, err := providers.NewECSRAMRoleCredentialsProviderBuilder().Build()
	return provider("the metadata service of ECS (100.100.100.200, which a role must be attached for)", p, err)
}

// oidcVariables are set in a pod whose service account has a RAM role.
var oidcVariables = []string{"ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE"}

// FromOIDC uses the RAM role of a pod's service account. STS exchanges the token in the file, which is read each time, for
// keys.
func FromOIDC() (*Provider, error) {
	for _, name := range oidcVariables {
		if os.Getenv(name) == "" {
			return nil, fmt.Errorf("%s is not set; a pod with a RAM role has %s", name, strings.Join(oidcVariables, ", "))
		}
	}
	return fromOIDC("")
}

// fromOIDC uses STS at the endpoint; "" means that of the service.
func fromOIDC(endpoint string) (*Provider, error) {
	p, err := providers.NewOIDCCredentialsProviderBuilder().WithSTSEndpoint(endpoint).Build()
	return provider("STS, for the OIDC token of the pod", p, err)
}

// FromChain uses the first of these sources that has credentials, in the order of credentials-go: environment, OIDC, the
// CLI's profile, the profile file, ECS, and the URL in ALIBABA_CLOUD_CREDENTIALS_URI.
func FromChain() (*Provider, error) {
	return provider("the chain of environment, OIDC, profiles and ECS", providers.NewDefaultCredentialsProvider(), nil)
}

func provider(about string, p providers.CredentialsProvider, err error) (*Provider, error) {
	if err != nil {
		return nil, fmt.Errorf("%w from %s%s", ErrUnavailable, about, harmless(err))
	}
	return &Provider{about: about, from: p}, nil
}

// GetCredentialsE returns the current credentials. Its error is ErrUnavailable.
func (p *Provider) GetCredentialsE() (oss.Credentials, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stillGood() && !p.failed.IsZero() && time.Since(p.failed) < pause {
		return p.last, nil
	}
	asked := time.Now()
	c, err := p.from.GetCredentials()
	switch {
	case err == nil:
		p.last, p.good, p.failed = keys{c.AccessKeyId, c.AccessKeySecret, c.SecurityToken}, asked, time.Time{}
	case !p.stillGood():
		return nil, fmt.Errorf("%w from %s%s", ErrUnavailable, p.about, harmless(err))
	default:
		p.failed = time.Now()
	}
	return p.last, nil
}

// stillGood reports whether the last credentials can still be used.
func (p *Provider) stillGood() bool { return !p.good.IsZero() && time.Since(p.good) < spare }

// GetCredentials is for callers in the SDK that expect no error. If there is one, it returns empty keys.
func (p *Provider) GetCredentials() oss.Credentials {
	if c, err := p.GetCredentialsE(); err == nil {
		return c
	}
	return keys{}
}

type keys struct{ id, secret, token string }

func (k keys) GetAccessKeyID() string     { return k.id }
func (k keys) GetAccessKeySecret() string { return k.secret }
func (k keys) GetSecurityToken() string   { return k.token }

// String prevents the keys from being printed.
func (k keys) String() string   { return "credentials" }
func (k keys) GoString() string { return "credentials" }

// telling matches the parts of an error of credentials-go that may be shown: why there was no answer, its status, and the
// service's code.
var telling = regexp.MustCompile(`connection refused|connection reset|no such host|network is unreachable|no route to host|` +
	`i/o timeout|deadline exceeded|Client\.Timeout|certificate|no such file or directory|permission denied|is disabled|` +
	`httpStatus: [1-5]\d\d\b|100\.100\.100\.200\S* [1-5]\d\d\b|"Code"\s*:\s*"[A-Za-z0-9.]{1,64}"`)

func harmless(err error) string {
	found := telling.FindAllString(err.Error(), 8)
	slices.Sort(found)
	if found = slices.Compact(found); len(found) == 0 {
		return ""
	}
	return ": " + strings.Join(found, ", ")
}
