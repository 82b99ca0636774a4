package ossv2

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"
	ossv1 "github.com/aliyun/aliyun-oss-go-sdk/oss"
)

var withScheme = regexp.MustCompile("^[^:]+://")

// endpointOf returns the endpoint that oss.NewClient derives from a configuration, as a URL of scheme and host.
func endpointOf(cfg *oss.Config) (*url.URL, error) {
	scheme := "https"
	if oss.ToBool(cfg.DisableSSL) {
		scheme = "http"
	}
	given, region := oss.ToString(cfg.Endpoint), oss.ToString(cfg.Region)
	if given == "" {
		if !oss.IsValidRegion(region) {
			return nil, fmt.Errorf("Config.Region %q is not made of lower-case letters, digits and hyphens, and Config.Endpoint is empty: give one of them", region)
		}
		return &url.URL{Scheme: scheme, Host: hostOf(cfg, region)}, nil
	}
	if !withScheme.MatchString(given) {
		given = scheme + "://" + given
	}
	u, err := url.Parse(given)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("Config.Endpoint is not a host, with or without http:// or https:// before it")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// hostOf returns the host of a region. Of several choices the first counts, as in oss.NewClient.
func hostOf(cfg *oss.Config, region string) string {
	switch {
	case oss.ToBool(cfg.UseInternalEndpoint):
		return "oss-" + region + "-internal.aliyuncs.com"
	case oss.ToBool(cfg.UseDualStackEndpoint):
		return region + ".oss.aliyuncs.com"
	case oss.ToBool(cfg.UseAccelerateEndpoint):
		return "oss-accelerate.aliyuncs.com"
	}
	return "oss-" + region + ".aliyuncs.com"
}

// signatureOf returns how requests to an endpoint are signed.
func signatureOf(cfg *oss.Config, endpoint *url.URL) ([]ossv1.ClientOption, error) {
	region, box := oss.ToString(cfg.Region), cloudBox(cfg, endpoint)
	opts := []ossv1.ClientOption{
		ossv1.Region(region), ossv1.CloudBoxId(box), ossv1.AdditionalHeaders(slices.Clone(cfg.AdditionalHeaders)),
	}
	version := ossv1.AuthV4
	if cfg.SignatureVersion != nil {
		switch *cfg.SignatureVersion {
		case oss.SignatureVersionV1:
			version = ossv1.AuthV1
		case oss.SignatureVersionV4:
		default:
			return nil, fmt.Errorf("Config.SignatureVersion %d: SignatureVersionV1 and SignatureVersionV4 are allowed", *cfg.SignatureVersion)
		}
	}
	opts = append(opts, ossv1.AuthVersion(version))
	switch p := cfg.CredentialsProvider.(type) {
	case nil:
		return nil, errors.New("Config.CredentialsProvider is nil; for unsigned requests give credentials.NewAnonymousCredentialsProvider()")
	case *credentials.AnonymousCredentialsProvider:
		return opts, nil // the client has an empty access key
	default:
		if version == ossv1.AuthV4 && region == "" && box == "" {
			return nil, errors.New("Config.Region is empty; signatures of version 4 need it")
		}
		return append(opts, ossv1.SetCredentialsProvider(provider{p})), nil
	}
}

// cloudBox returns the ID of the cloud box that an endpoint is of, if the configuration names or asks for one; or "".
func cloudBox(cfg *oss.Config, endpoint *url.URL) string {
	if cfg.CloudBoxId != nil {
		return *cfg.CloudBoxId
	}
	if !oss.ToBool(cfg.EnableAutoDetectCloudBoxId) {
		return ""
	}
	host := endpoint.Host
	labels := strings.Split(host, ".") // cb-ID, region, oss-cloudbox or oss-cloudbox-control, aliyuncs, com
	ofBox := strings.HasSuffix(host, ".oss-cloudbox.aliyuncs.com") || strings.HasSuffix(host, ".oss-cloudbox-control.aliyuncs.com")
	if !ofBox || len(labels) != 5 || !strings.HasPrefix(host, "cb-") {
		return ""
	}
	return labels[0]
}

// provider is a credentials provider of oss-go-sdk-v2 for the client of the older SDK.
type provider struct {
	of credentials.CredentialsProvider
}

var _ ossv1.CredentialsProviderE = provider{}

var errNoKey = errors.New("it returned an empty access key or secret; for unsigned requests give credentials.NewAnonymousCredentialsProvider()")

// GetCredentialsE asks the provider. The older SDK has no context for that. A call that ends meanwhile does not wait for the
// answer: ossdl leaves the question behind.
func (p provider) GetCredentialsE() (ossv1.Credentials, error) {
	c, err := p.of.GetCredentials(context.Background())
	if err == nil && !c.HasKeys() {
		err = errNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("Config.CredentialsProvider: %w", err)
	}
	return keys(c), nil
}

// GetCredentials is not called where GetCredentialsE is known.
func (p provider) GetCredentials() ossv1.Credentials {
	c, err := p.GetCredentialsE()
	if err != nil {
		return keys{}
	}
	return c
}

// keys are credentials of oss-go-sdk-v2 for the client of the older SDK.
type keys credentials.Credentials

func (k keys) GetAccessKeyID() string     { return k.AccessKeyID }
func (k keys) GetAccessKeySecret() string { return k.AccessKeySecret }
func (k keys) GetSecurityToken() string   { return k.SecurityToken }
