// Package ossv2 downloads with ossdl in programs that use oss-go-sdk-v2, that is
// github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss. It is a module of its own, so that only those who import it download that SDK.
//
// [New] takes the configuration that oss.NewClient takes:
//
//	cfg := oss.LoadDefaultConfig().WithRegion("cn-hangzhou").
//		WithCredentialsProvider(credentials.NewEnvironmentVariableCredentialsProvider())
//	d, err := ossv2.New(cfg)
//	if err != nil {
//		return err
//	}
//	res, err := d.Download(ctx, "backups", "db.dump", "/data/db.dump")
//
// [Downloader.DownloadFile] has the signature of the method of oss.Downloader, for programs that move over.
//
// # Configuration
//
// Requests are made by ossdl's own client, with the settings of the configuration. A field that cannot be honored is an error
// that names it, before any request:
//
//   - Region, Endpoint, DisableSSL, UseInternalEndpoint, UseDualStackEndpoint, UseAccelerateEndpoint: the endpoint is the one
//     that oss.NewClient derives. The last three have no effect if Endpoint is set, and the first of them counts.
//   - UseCName, UsePathStyle, UseVirtualHostedAlias: how URLs are made.
//   - CredentialsProvider: it is asked for each request, with a context that does not end. Its error ends a call unless a later
//     attempt succeeds. With oss's AnonymousCredentialsProvider requests are not signed. A nil one is an error.
//   - SignatureVersion, AdditionalHeaders, CloudBoxId, EnableAutoDetectCloudBoxId: how requests are signed. Version 4 needs Region.
//   - HttpClient: only an *http.Client; it makes all requests. The fields that oss.NewClient ignores then are errors. Without it the
//     client is that of [ossdl.HTTPClient].
//   - ConnectTimeout, InsecureSkipVerify, ProxyHost, BindAddress: as in oss.NewClient. With BindAddress, or a ConnectTimeout
//     above 10 s, connections are not spread over the addresses of the endpoint.
//   - ProxyFromEnvironment: as in oss.NewClient, proxies of the environment are used only if it is true.
//   - ReadWriteTimeout: is given to [ossdl.WithStallTimeout].
//   - MaxConnections: limits connections and, if it is below [ossdl.AdaptiveConcurrency], requests in flight; see
//     [ossdl.WithConcurrency].
//   - DownloadBandwidthlimit: is given to [ossdl.WithRateLimit].
//   - RetryMaxAttempts, Retryer: give the attempts of an [ossdl.RetryPolicy]. A Retryer must be retry.NopRetryer, or
//     retry.NewStandard with no other option than MaxAttempts, whose delays are used.
//   - DefaultRequestHeaders: are given to [ossdl.WithRequestOptions]. That option, given to New or to a call, replaces them.
//   - UserAgent: is appended to the User-Agent, as in oss.NewClient.
//   - LogLevel, LogPrinter: get the log lines of ossdl; see [ossdl.WithLogger].
//   - AccountId: must be digits; nothing else depends on it in a download.
//
// Options given to New come after those that the configuration leads to, and replace them.
//
// EnabledRedirect is refused: a request with credentials is never redirected. UploadBandwidthlimit and DisableUploadCRC64Check
// concern uploads, and have no effect. DisableDownloadCRC64Check has none either, since every download is verified.
package ossv2

import (
	"errors"
	"fmt"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	ossv1 "github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

// New makes a Downloader from the configuration of a client of oss-go-sdk-v2. Changes to cfg have no effect afterwards, except that
// its CredentialsProvider is asked for each request. New makes no request. The package documentation says what becomes of
// each field of cfg.
func New(cfg *oss.Config, opts ...ossdl.Option) (*ossdl.Downloader, error) {
	t, err := translate(cfg)
	if err != nil {
		return nil, err
	}
	return ossdl.New(t.client, append(t.options, opts...)...)
}

// Client makes a client for [ossdl.WithFallback] from the configuration of a client of oss-go-sdk-v2, as [New] does. What an
// [ossdl.Option] carries is not part of a client: ReadWriteTimeout, MaxConnections, DownloadBandwidthlimit, retries, default
// headers and the logger are those of the Downloader.
func Client(cfg *oss.Config) (*ossv1.Client, error) {
	t, err := translate(cfg)
	if err != nil {
		return nil, err
	}
	return t.client, nil
}

// translated is a configuration as ossdl has it.
type translated struct {
	client  *ossv1.Client
	options []ossdl.Option
	headers []ossv1.Option // DefaultRequestHeaders, which are among the options, too
}

// translate makes a client and options from a configuration. Its error names the field that cannot be honored.
func translate(cfg *oss.Config) (*translated, error) {
	if cfg == nil {
		return nil, errors.New("ossv2: nil configuration")
	}
	t, err := translateFields(cfg)
	if err != nil {
		return nil, fmt.Errorf("ossv2: %w", err)
	}
	return t, nil
}

func translateFields(cfg *oss.Config) (*translated, error) {
	endpoint, err := endpointOf(cfg)
	if err != nil {
		return nil, err
	}
	signing, err := signatureOf(cfg, endpoint)
	if err != nil {
		return nil, err
	}
	http, err := httpClientOf(cfg)
	if err != nil {
		return nil, err
	}
	t := &translated{headers: defaultHeaders(cfg)}
	for _, read := range []func(*oss.Config) ([]ossdl.Option, error){stallOf, connectionsOf, rateOf, retriesOf, loggerOf} {
		opts, err := read(cfg)
		if err != nil {
			return nil, err
		}
		t.options = append(t.options, opts...)
	}
	if len(t.headers) > 0 {
		opt := ossdl.WithRequestOptions(t.headers...)
		if _, err := ossdl.New(nil, opt); err != nil {
			return nil, fmt.Errorf("Config.DefaultRequestHeaders: %w", err)
		}
		t.options = append(t.options, opt)
	}
	t.options = append(t.options, ossdl.WithHTTPClient(http)) // for URLs
	id := oss.ToString(cfg.AccountId)
	if id != "" && !oss.IsValidAccountId(id) {
		return nil, fmt.Errorf("Config.AccountId %q: only digits are allowed", id)
	}
	t.client, err = ossv1.New(endpoint.String(), "", "", append(signing,
		ossv1.HTTPClient(http),
		ossv1.UseCname(oss.ToBool(cfg.UseCName)),
		ossv1.ForcePathStyle(oss.ToBool(cfg.UsePathStyle)),
		userAgent(oss.ToString(cfg.UserAgent)),
	)...)
	return t, err
}

// userAgent appends to the User-Agent of the SDK's client.
func userAgent(suffix string) ossv1.ClientOption {
	return func(c *ossv1.Client) {
		if suffix != "" {
			c.Config.UserAgent += "/" + suffix
		}
	}
}
