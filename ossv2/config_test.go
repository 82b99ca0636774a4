package ossv2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/retry"
	ossv1 "github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

var someKeys = credentials.NewStaticCredentialsProvider(osstest.AccessKeyID, osstest.AccessKeySecret)

// base is a configuration that is complete.
func base() *oss.Config {
	return oss.NewConfig().WithRegion("cn-hangzhou").WithCredentialsProvider(someKeys)
}

// transportOf returns the transport below a client that ossdl.HTTPClient has made.
func transportOf(t *testing.T, c *http.Client) *http.Transport {
	t.Helper()
	v := reflect.Indirect(reflect.ValueOf(c.Transport))
	if v.Kind() == reflect.Struct {
		if f := v.FieldByName("Transport"); f.IsValid() {
			return f.Interface().(*http.Transport)
		}
	}
	t.Fatalf("%T has no transport below it", c.Transport)
	return nil
}

// optionNames returns the names of options.
func optionNames(opts []ossdl.Option) (names []string) {
	for _, o := range opts {
		names = append(names, reflect.ValueOf(o).FieldByName("name").String())
	}
	return names
}

// hasOption checks that a configuration leads to an option.
func hasOption(name string) func(*testing.T, *translated) {
	return func(t *testing.T, got *translated) {
		t.Helper()
		if names := optionNames(got.options); !slices.Contains(names, name) {
			t.Errorf("options %v, want %s", names, name)
		}
	}
}

// likeBase checks that a field changes nothing.
func likeBase(t *testing.T, got *translated) {
	t.Helper()
	want, err := translate(base())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := *got.client.Config, *want.client.Config; a.Endpoint != b.Endpoint || a.IsCname != b.IsCname || a.IsPathStyle != b.IsPathStyle ||
		a.AuthVersion != b.AuthVersion || a.Region != b.Region || a.UserAgent != b.UserAgent || !slices.Equal(optionNames(got.options), optionNames(want.options)) {
		t.Errorf("client %+v with %v, want %+v with %v", a, optionNames(got.options), b, optionNames(want.options))
	}
}

func endpointIs(want string) func(*testing.T, *translated) {
	return func(t *testing.T, got *translated) {
		t.Helper()
		if e := got.client.Config.Endpoint; e != want {
			t.Errorf("endpoint %s, want %s", e, want)
		}
	}
}

// fieldCases say for each field of oss.Config what a value leads to: a check, or an error that names the field.
var fieldCases = map[string][]struct {
	set   func(*oss.Config)
	check func(*testing.T, *translated) // nil: refused
}{
	"Region": {
		{func(c *oss.Config) { c.WithRegion("cn-beijing") }, func(t *testing.T, got *translated) {
			if got.client.Config.Region != "cn-beijing" || got.client.Config.Endpoint != "https://oss-cn-beijing.aliyuncs.com" {
				t.Errorf("%+v", got.client.Config)
			}
		}},
		{func(c *oss.Config) { c.WithRegion("CN/x") }, nil},
		{func(c *oss.Config) { c.WithRegion("").WithEndpoint("oss.example.com") }, nil},
	},
	"Endpoint": {
		{func(c *oss.Config) { c.WithEndpoint("oss.example.com:8443/x") }, endpointIs("https://oss.example.com:8443")},
		{func(c *oss.Config) { c.WithEndpoint("HTTP://oss.example.com") }, endpointIs("http://oss.example.com")},
		{func(c *oss.Config) { c.WithEndpoint("ftp://oss.example.com") }, nil},
		{func(c *oss.Config) { c.WithEndpoint("https://") }, nil},
	},
	"RetryMaxAttempts": {
		{func(c *oss.Config) { c.WithRetryMaxAttempts(5) }, hasOption("WithRetry")},
		{func(c *oss.Config) { c.WithRetryMaxAttempts(0) }, nil},
	},
	"Retryer": {
		{func(c *oss.Config) { c.WithRetryer(retry.NopRetryer{}) }, hasOption("WithRetry")},
		{func(c *oss.Config) { c.WithRetryer(retry.NewStandard()) }, hasOption("WithRetry")},
		{func(c *oss.Config) {
			c.WithRetryer(retry.NewStandard(func(o *retry.RetryOptions) { o.MaxAttempts = 7 }))
		}, hasOption("WithRetry")},
		{func(c *oss.Config) {
			c.WithRetryer(retry.NewStandard(func(o *retry.RetryOptions) { o.MaxBackoff = time.Second }))
		}, nil},
		{func(c *oss.Config) { c.WithRetryer(struct{ retry.Retryer }{}) }, nil},
	},
	"HttpClient": {
		{func(c *oss.Config) { c.HttpClient = http.DefaultClient }, func(t *testing.T, got *translated) {
			if got.client.HTTPClient != http.DefaultClient {
				t.Errorf("another client: %v", got.client.HTTPClient)
			}
		}},
		{func(c *oss.Config) { c.WithHttpClient(nil) }, nil},
		{func(c *oss.Config) { c.HttpClient = struct{ oss.HTTPClient }{} }, nil},
	},
	"CredentialsProvider": {
		{func(c *oss.Config) { c.WithCredentialsProvider(credentials.NewAnonymousCredentialsProvider()) }, func(t *testing.T, got *translated) {
			if cred := got.client.Config.GetCredentials(); cred.GetAccessKeyID() != "" || cred.GetAccessKeySecret() != "" {
				t.Error("requests would be signed")
			}
		}},
		{func(c *oss.Config) {
			c.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("id", "secret", "token"))
		}, func(t *testing.T, got *translated) {
			if cred := got.client.Config.GetCredentials(); cred.GetAccessKeyID() != "id" || cred.GetAccessKeySecret() != "secret" || cred.GetSecurityToken() != "token" {
				t.Errorf("%+v", cred)
			}
		}},
		{func(c *oss.Config) { c.WithCredentialsProvider(nil) }, nil},
	},
	"UsePathStyle": {{func(c *oss.Config) { c.WithUsePathStyle(true) }, func(t *testing.T, got *translated) {
		if !got.client.Config.IsPathStyle {
			t.Error("no path style")
		}
	}}},
	"UseCName": {{func(c *oss.Config) { c.WithUseCName(true) }, func(t *testing.T, got *translated) {
		if !got.client.Config.IsCname {
			t.Error("no CNAME")
		}
	}}},
	"UseVirtualHostedAlias": {{func(c *oss.Config) { c.WithUseVirtualHostedAlias(true) }, likeBase}},
	"ConnectTimeout": {
		{func(c *oss.Config) { c.WithConnectTimeout(3 * time.Second) }, func(t *testing.T, got *translated) {
			if d := transportOf(t, got.client.HTTPClient).TLSHandshakeTimeout; d != 3*time.Second {
				t.Errorf("handshake within %v", d)
			}
		}},
		{func(c *oss.Config) { c.WithConnectTimeout(0) }, nil},
	},
	"ReadWriteTimeout": {
		{func(c *oss.Config) { c.WithReadWriteTimeout(7 * time.Second) }, hasOption("WithStallTimeout")},
		{func(c *oss.Config) { c.WithReadWriteTimeout(0) }, nil},
	},
	"MaxConnections": {
		{func(c *oss.Config) { c.WithMaxConnections(5) }, func(t *testing.T, got *translated) {
			hasOption("WithConcurrency")(t, got)
			if n := transportOf(t, got.client.HTTPClient).MaxConnsPerHost; n != 5 {
				t.Errorf("%d connections", n)
			}
		}},
		{func(c *oss.Config) { c.WithMaxConnections(100) }, likeBase},
		{func(c *oss.Config) { c.WithMaxConnections(-1) }, nil},
	},
	"InsecureSkipVerify": {{func(c *oss.Config) { c.WithInsecureSkipVerify(true) }, func(t *testing.T, got *translated) {
		if !transportOf(t, got.client.HTTPClient).TLSClientConfig.InsecureSkipVerify {
			t.Error("certificates are verified")
		}
	}}},
	"EnabledRedirect": {
		{func(c *oss.Config) { c.WithEnabledRedirect(false) }, likeBase},
		{func(c *oss.Config) { c.WithEnabledRedirect(true) }, nil},
	},
	"ProxyHost": {
		{func(c *oss.Config) { c.WithProxyHost("http://user:secret@proxy.test:3128") }, func(t *testing.T, got *translated) {
			if u := proxyFor(t, got); u == nil || u.Host != "proxy.test:3128" || u.User.String() != "user:secret" {
				t.Errorf("proxy %v", u)
			}
		}},
		{func(c *oss.Config) { c.WithProxyHost("proxy.test:3128") }, nil},
		{func(c *oss.Config) { c.WithProxyHost("ftp://user:secret@proxy.test") }, nil},
		{func(c *oss.Config) { c.WithProxyHost("http://user:secret@proxy.test:x") }, nil},
	},
	"ProxyFromEnvironment": {
		{func(c *oss.Config) { c.WithProxyFromEnvironment(true) }, func(t *testing.T, got *translated) {
			if transportOf(t, got.client.HTTPClient).Proxy == nil {
				t.Error("no proxy is looked for")
			}
		}},
		{func(c *oss.Config) { c.WithProxyFromEnvironment(false) }, func(t *testing.T, got *translated) {
			if transportOf(t, got.client.HTTPClient).Proxy != nil {
				t.Error("a proxy of the environment would be used")
			}
		}},
	},
	"UploadBandwidthlimit": {{func(c *oss.Config) { c.WithUploadBandwidthlimit(5) }, likeBase}},
	"DownloadBandwidthlimit": {
		{func(c *oss.Config) { c.WithDownloadBandwidthlimit(5) }, hasOption("WithRateLimit")},
		{func(c *oss.Config) { c.WithDownloadBandwidthlimit(0) }, nil},
	},
	"SignatureVersion": {
		{func(c *oss.Config) { c.WithSignatureVersion(oss.SignatureVersionV1) }, func(t *testing.T, got *translated) {
			if v := got.client.Config.AuthVersion; v != ossv1.AuthV1 {
				t.Errorf("version %v", v)
			}
		}},
		{func(c *oss.Config) { c.WithSignatureVersion(oss.SignatureVersionV4) }, likeBase},
		{func(c *oss.Config) { c.WithSignatureVersion(9) }, nil},
	},
	"LogLevel": {
		{func(c *oss.Config) { c.WithLogLevel(oss.LogInfo) }, hasOption("WithLogger")},
		{func(c *oss.Config) { c.WithLogLevel(oss.LogOff) }, likeBase},
	},
	"LogPrinter":            {{func(c *oss.Config) { c.WithLogPrinter(oss.LogPrinterFunc(func(...any) {})) }, likeBase}}, // the level is off
	"DisableSSL":            {{func(c *oss.Config) { c.WithDisableSSL(true) }, endpointIs("http://oss-cn-hangzhou.aliyuncs.com")}},
	"UseDualStackEndpoint":  {{func(c *oss.Config) { c.WithUseDualStackEndpoint(true) }, endpointIs("https://cn-hangzhou.oss.aliyuncs.com")}},
	"UseAccelerateEndpoint": {{func(c *oss.Config) { c.WithUseAccelerateEndpoint(true) }, endpointIs("https://oss-accelerate.aliyuncs.com")}},
	"UseInternalEndpoint":   {{func(c *oss.Config) { c.WithUseInternalEndpoint(true) }, endpointIs("https://oss-cn-hangzhou-internal.aliyuncs.com")}},

	"DisableUploadCRC64Check":   {{func(c *oss.Config) { c.WithDisableUploadCRC64Check(true) }, likeBase}},
	"DisableDownloadCRC64Check": {{func(c *oss.Config) { c.WithDisableDownloadCRC64Check(true) }, likeBase}},
	"AdditionalHeaders": {{func(c *oss.Config) { c.WithAdditionalHeaders([]string{"host"}) }, func(t *testing.T, got *translated) {
		if h := got.client.Config.AdditionalHeaders; !slices.Equal(h, []string{"host"}) {
			t.Errorf("%q", h)
		}
	}}},
	"DefaultRequestHeaders": {
		{func(c *oss.Config) {
			c.WithDefaultRequestHeaders(map[string]string{"x-oss-request-payer": "requester"})
		}, hasOption("WithRequestOptions")},
		{func(c *oss.Config) { c.WithDefaultRequestHeaders(map[string]string{"User-Agent": "x", "X-Empty": ""}) }, likeBase},
		{func(c *oss.Config) { c.WithDefaultRequestHeaders(map[string]string{"Range": "bytes=0-1"}) }, nil},
	},
	"UserAgent": {{func(c *oss.Config) { c.WithUserAgent("backup/1") }, func(t *testing.T, got *translated) {
		if a := got.client.Config.UserAgent; !strings.HasSuffix(a, "/backup/1") || !strings.HasPrefix(a, "aliyun-sdk-go/") {
			t.Errorf("User-Agent %q", a)
		}
	}}},
	"CloudBoxId": {{func(c *oss.Config) { c.WithCloudBoxId("cb-1") }, func(t *testing.T, got *translated) {
		if p, r := got.client.Config.GetSignProduct(), got.client.Config.GetSignRegion(); p != "oss-cloudbox" || r != "cb-1" {
			t.Errorf("signed for %s in %s", p, r)
		}
	}}},
	"EnableAutoDetectCloudBoxId": {
		{func(c *oss.Config) {
			c.WithEnableAutoDetectCloudBoxId(true).WithEndpoint("cb-2.cn-hangzhou.oss-cloudbox.aliyuncs.com")
		}, func(t *testing.T, got *translated) {
			if p, r := got.client.Config.GetSignProduct(), got.client.Config.GetSignRegion(); p != "oss-cloudbox" || r != "cb-2" {
				t.Errorf("signed for %s in %s", p, r)
			}
		}},
		{func(c *oss.Config) { c.WithEnableAutoDetectCloudBoxId(true) }, likeBase},
	},
	"AccountId": {
		{func(c *oss.Config) { c.WithAccountId("123") }, likeBase},
		{func(c *oss.Config) { c.WithAccountId("12x") }, nil},
	},
	"BindAddress": {
		{func(c *oss.Config) { c.WithBindAddress(net.IPv4(127, 0, 0, 1)) }, func(t *testing.T, got *translated) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := transportOf(t, got.client.HTTPClient).DialContext(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if a := c.LocalAddr().(*net.TCPAddr).IP; !a.Equal(net.IPv4(127, 0, 0, 1)) {
				t.Errorf("connected from %v", a)
			}
		}},
		{func(c *oss.Config) { c.WithBindAddress(net.IP{1, 2}) }, nil},
	},
}

func proxyFor(t *testing.T, got *translated) *url.URL {
	t.Helper()
	fn := transportOf(t, got.client.HTTPClient).Proxy
	if fn == nil {
		return nil
	}
	u, err := fn(&http.Request{URL: &url.URL{Scheme: "https", Host: "oss-cn-hangzhou.aliyuncs.com"}})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestConfigFields checks that each field of the SDK's configuration is honored or refused by name. It fails for a field that a
// newer SDK has added.
func TestConfigFields(t *testing.T) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[oss.Config]()) {
		cases := fieldCases[field.Name]
		if len(cases) == 0 {
			t.Errorf("nothing is known about the field %s", field.Name)
		}
		for i, c := range cases {
			t.Run(fmt.Sprintf("%s/%d", field.Name, i), func(t *testing.T) {
				cfg := base()
				c.set(cfg)
				got, err := translate(cfg)
				switch {
				case c.check == nil && (err == nil || !strings.HasPrefix(err.Error(), "ossv2: Config."+field.Name)):
					t.Errorf("error %v, want one that names the field", err)
				case c.check == nil && strings.Contains(err.Error(), "secret"):
					t.Errorf("error %v has a password", err)
				case c.check == nil:
				case err != nil:
					t.Error(err)
				default:
					c.check(t, got)
				}
			})
		}
	}
	for name := range fieldCases {
		if _, ok := reflect.TypeFor[oss.Config]().FieldByName(name); !ok {
			t.Errorf("the SDK has no field %s", name)
		}
	}
}

// TestFieldsWithoutEffect checks that a field that the SDK ignores beside HttpClient is refused by name.
func TestFieldsWithoutEffect(t *testing.T) {
	for name, set := range map[string]func(*oss.Config){
		"ConnectTimeout":         func(c *oss.Config) { c.WithConnectTimeout(time.Second) },
		"ReadWriteTimeout":       func(c *oss.Config) { c.WithReadWriteTimeout(time.Second) },
		"MaxConnections":         func(c *oss.Config) { c.WithMaxConnections(1) },
		"InsecureSkipVerify":     func(c *oss.Config) { c.WithInsecureSkipVerify(true) },
		"ProxyHost":              func(c *oss.Config) { c.WithProxyHost("http://proxy.test") },
		"ProxyFromEnvironment":   func(c *oss.Config) { c.WithProxyFromEnvironment(true) },
		"DownloadBandwidthlimit": func(c *oss.Config) { c.WithDownloadBandwidthlimit(1) },
		"BindAddress":            func(c *oss.Config) { c.WithBindAddress(net.IPv6loopback) },
	} {
		cfg := base().WithHttpClient(&http.Client{})
		set(cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "Config."+name+" has no effect") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(nil); err == nil {
		t.Error("no error for a nil configuration")
	}
}

// TestSameURLs checks that requests go to the URL that the SDK's client would ask.
func TestSameURLs(t *testing.T) {
	for i, set := range []func(*oss.Config){
		func(*oss.Config) {},
		func(c *oss.Config) { c.WithUseInternalEndpoint(true) },
		func(c *oss.Config) { c.WithUseInternalEndpoint(true).WithUseDualStackEndpoint(true) },
		func(c *oss.Config) { c.WithUseDualStackEndpoint(true).WithUseAccelerateEndpoint(true) },
		func(c *oss.Config) { c.WithUseAccelerateEndpoint(true).WithDisableSSL(true) },
		func(c *oss.Config) { c.WithEndpoint("files.example.com").WithUseCName(true) },
		func(c *oss.Config) { c.WithEndpoint("files.example.com").WithUseCName(true).WithUsePathStyle(true) },
		func(c *oss.Config) { c.WithEndpoint("oss.example.com:81").WithUsePathStyle(true).WithDisableSSL(true) },
		func(c *oss.Config) { c.WithEndpoint("https://oss.example.com").WithDisableSSL(true) },
		func(c *oss.Config) { c.WithEndpoint("http://127.0.0.1:81") },
		func(c *oss.Config) { c.WithEndpoint("http://[::1]:81").WithUseCName(true) },
		func(c *oss.Config) { c.WithEndpoint("oss.example.com").WithUseInternalEndpoint(true) },
		func(c *oss.Config) { c.WithUseVirtualHostedAlias(true) },
	} {
		cfg := base()
		set(cfg)
		presigned, err := oss.NewClient(cfg).Presign(t.Context(), &oss.GetObjectRequest{Bucket: oss.Ptr("bkt"), Key: oss.Ptr("a b/ü+%")})
		if err != nil {
			t.Fatal(err)
		}
		want, err := url.Parse(presigned.URL)
		if err != nil {
			t.Fatal(err)
		}
		client, err := Client(cfg)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		bucket, err := client.Bucket("bkt")
		if err != nil {
			t.Fatal(err)
		}
		signed, err := bucket.SignURL("a b/ü+%", ossv1.HTTPGet, 60)
		if err != nil {
			t.Fatal(err)
		}
		got, err := url.Parse(signed)
		if err != nil {
			t.Fatal(err)
		}
		if got.Scheme != want.Scheme || got.Host != want.Host || got.Path != want.Path {
			t.Errorf("%d: %s, the SDK has %s", i, got, want)
		}
	}
}

// server has a bucket "bkt" with the object "k".
func server(t *testing.T, opts ...osstest.Option) (*osstest.Server, *oss.Config) {
	t.Helper()
	s := osstest.NewServer(t, opts...)
	s.CreateBucket("bkt")
	s.Put("bkt", "k", osstest.Random(1, 100<<10))
	return s, oss.NewConfig().WithRegion(osstest.Region).WithEndpoint(s.Endpoint()).WithCredentialsProvider(someKeys)
}

// TestConfigOnTheWire checks what requests carry: signatures of both versions, the token, the headers and the User-Agent.
func TestConfigOnTheWire(t *testing.T) {
	for _, version := range []oss.SignatureVersionType{oss.SignatureVersionV1, oss.SignatureVersionV4} {
		s, cfg := server(t)
		s.AddToken("STS.id", "secret-of-it", "token-of-it", time.Now().Add(time.Hour))
		cfg.WithSignatureVersion(version).WithCredentialsProvider(credentials.NewStaticCredentialsProvider("STS.id", "secret-of-it", "token-of-it")).
			WithAdditionalHeaders([]string{"host", "x-mine"}).WithDefaultRequestHeaders(map[string]string{"X-Mine": "1"}).WithUserAgent("backup/1")
		d, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(t.TempDir(), "f")); err != nil {
			t.Fatal(err)
		}
		for _, r := range s.Requests() {
			signed := strings.Contains(r.Header.Get("Authorization"), "AdditionalHeaders=host;x-mine")
			if r.Header.Get("X-Mine") != "1" || r.Header.Get("X-Oss-Security-Token") != "token-of-it" || signed != (version == oss.SignatureVersionV4) ||
				!strings.Contains(r.Header.Get("User-Agent"), "/backup/1 ossdl/") {
				t.Errorf("version %v: %v", version, r.Header)
			}
		}
	}
}

// TestProviderIsAskedForEachRequest checks that each request has the credentials that the provider has then, and that its error is
// that of the call, without a request.
func TestProviderIsAskedForEachRequest(t *testing.T) {
	s, cfg := server(t)
	var asked atomic.Int64
	cfg.WithCredentialsProvider(credentials.CredentialsProviderFunc(func(context.Context) (credentials.Credentials, error) {
		id := fmt.Sprintf("id%d", asked.Add(1))
		s.AddUser(id, "secret")
		return credentials.Credentials{AccessKeyID: id, AccessKeySecret: "secret"}, nil
	}))
	d, err := New(cfg, ossdl.WithPartSize(20<<10))
	if err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 0 {
		t.Error("New has asked the provider")
	}
	if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(t.TempDir(), "f")); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range s.Requests() {
		ids[r.Header.Get("Authorization")[:strings.Index(r.Header.Get("Authorization"), "/")]] = true
	}
	if n := len(s.Requests()); n < 5 || len(ids) != n {
		t.Errorf("%d requests with %d access keys", n, len(ids))
	}

	s.ResetLog()
	errVault := errors.New("the vault is sealed")
	for _, c := range []struct {
		cred credentials.Credentials
		err  error
		want error
	}{
		{err: errVault, want: errVault},
		{want: errNoKey},
		{cred: credentials.Credentials{AccessKeyID: "only"}, want: errNoKey},
	} {
		cfg.WithCredentialsProvider(credentials.CredentialsProviderFunc(func(context.Context) (credentials.Credentials, error) { return c.cred, c.err }))
		d, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(t.TempDir(), "f")); !errors.Is(err, c.want) {
			t.Errorf("error %v, want %v", err, c.want)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests were made", n)
	}
}

// TestAnonymous checks that requests are not signed with the SDK's anonymous provider.
func TestAnonymous(t *testing.T) {
	s, cfg := server(t)
	s.CreateBucket("pub", osstest.PublicRead())
	s.Put("pub", "k", osstest.Random(1, 1000))
	d, err := New(cfg.WithRegion("").WithCredentialsProvider(credentials.NewAnonymousCredentialsProvider()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Download(t.Context(), "pub", "k", filepath.Join(t.TempDir(), "f")); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Requests() {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("signed: %s", a)
		}
	}
}

// TestRetrySettings checks how many requests a server gets that answers with 503 for ever.
func TestRetrySettings(t *testing.T) {
	for want, set := range map[int]func(*oss.Config){
		1: func(c *oss.Config) { c.WithRetryer(retry.NopRetryer{}).WithRetryMaxAttempts(4) },
		2: func(c *oss.Config) { c.WithRetryMaxAttempts(2) },
		3: func(c *oss.Config) { c.WithRetryer(retry.NewStandard()) },
	} {
		s, cfg := server(t)
		s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Error(503, "ServiceUnavailable") })
		set(cfg)
		d, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(t.TempDir(), "f")); err == nil {
			t.Error("no error")
		}
		if n := len(s.Requests()); n != want {
			t.Errorf("%d requests, want %d", n, want)
		}
	}
}

// TestTLSAndLog checks that certificates are verified unless the configuration says otherwise, and where log lines go.
func TestTLSAndLog(t *testing.T) {
	s, cfg := server(t, osstest.WithTLS())
	path := filepath.Join(t.TempDir(), "f")
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Download(t.Context(), "bkt", "k", path); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v, want an error about the certificate", err)
	}
	var printed atomic.Int64
	cfg.WithInsecureSkipVerify(true).WithLogLevel(oss.LogInfo).WithLogPrinter(oss.LogPrinterFunc(func(v ...any) {
		if line := fmt.Sprint(v...); strings.Contains(line, "retrying after failed request") && !strings.Contains(line, "\n") {
			printed.Add(1)
		}
	}))
	if d, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	s.Nth(0, osstest.Error(500, "InternalError"))
	if _, err := d.Download(t.Context(), "bkt", "k", path); err != nil {
		t.Error(err)
	}
	if printed.Load() != 1 {
		t.Errorf("%d lines about a retry", printed.Load())
	}
	if c, err := Client(cfg.WithInsecureSkipVerify(false).WithHttpClient(s.HTTPClient())); err != nil || c.HTTPClient != s.HTTPClient() {
		t.Errorf("%v, %v", c, err)
	}
	if d, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Download(t.Context(), "bkt", "k", path); err != nil {
		t.Error(err)
	}
}
