package ossdl_test

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// testProxyWord is the password of a proxy.
const testProxyWord = "proxypassword"

// deadOptions are the SDK's options that have no effect beside oss.HTTPClient, by name.
func deadOptions() map[string]oss.ClientOption {
	return map[string]oss.ClientOption{
		"oss.Proxy":              oss.Proxy("http://127.0.0.1:1"),
		"oss.AuthProxy":          oss.AuthProxy("http://127.0.0.1:1", "user", testProxyWord),
		"oss.Timeout":            oss.Timeout(30, 60),
		"oss.MaxConns":           oss.MaxConns(100, 100, 1),
		"oss.InsecureSkipVerify": oss.InsecureSkipVerify(true),
		"oss.SetLocalAddr":       oss.SetLocalAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}),
		"oss.RedirectEnabled":    oss.RedirectEnabled(false),
	}
}

// TestNewRefusesDeadClientOptions checks that New names each option that would be ignored, and says what to do.
func TestNewRefusesDeadClientOptions(t *testing.T) {
	s := harness.NewServer(t)
	for name, option := range deadOptions() {
		for whose, hc := range map[string]*http.Client{"ours": tuned(t), "another": {}} {
			for place, options := range map[string][]oss.ClientOption{"before": {option, oss.HTTPClient(hc)}, "behind": {oss.HTTPClient(hc), option}} {
				client, err := s.Client(options...)
				if err != nil {
					t.Fatal(err)
				}
				d, err := ossdl.New(client)
				if d != nil || err == nil {
					t.Fatalf("%s %s oss.HTTPClient, %s: no error", name, place, whose)
				}
				text := err.Error()
				if !strings.HasPrefix(text, "ossdl: client option "+name+" has no effect beside oss.HTTPClient; leave it out and set ") ||
					!strings.Contains(text, "ossdl.HTTPClient(func(t *http.Transport)") && name != "oss.RedirectEnabled" || strings.Contains(text, testProxyWord) {
					t.Errorf("%s %s oss.HTTPClient, %s: %v", name, place, whose, err)
				}
			}
		}
		client, err := s.Client(option)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ossdl.New(client); err != nil {
			t.Errorf("%s without oss.HTTPClient: %v", name, err)
		}
	}
}

// TestNewTakesOtherClientOptions checks that options with an effect are no error beside oss.HTTPClient, nor are those that
// set what is the default anyway.
func TestNewTakesOtherClientOptions(t *testing.T) {
	s := harness.NewServer(t)
	for name, option := range map[string]oss.ClientOption{
		"none":                 oss.SecurityToken(""),
		"UseCname":             oss.UseCname(true),
		"ForcePathStyle":       oss.ForcePathStyle(true),
		"UserAgent":            oss.UserAgent("me"),
		"EnableCRC":            oss.EnableCRC(false),
		"EnableMD5":            oss.EnableMD5(true),
		"AuthVersion":          oss.AuthVersion(oss.AuthV4),
		"AdditionalHeaders":    oss.AdditionalHeaders([]string{"host"}),
		"SetLogLevel":          oss.SetLogLevel(oss.LogOff),
		"MaxConns, default":    oss.MaxConns(100, 100, 0),
		"InsecureSkipVerify":   oss.InsecureSkipVerify(false),
		"SetLocalAddr":         oss.SetLocalAddr(nil),
		"RedirectEnabled":      oss.RedirectEnabled(true),
		"CredentialsProvider":  oss.SetCredentialsProvider(nil),
		"VerifyObjectStrict":   oss.VerifyObjectStrict(false),
		"another region":       oss.Region("cn-beijing"),
		"another product":      oss.Product("oss-cloudbox"),
		"another cloud box":    oss.CloudBoxId("cb"),
		"MD5 threshold":        oss.MD5ThresholdCalcInMemory(1),
		"no logger of its own": oss.SetLogger(nil),
	} {
		client, err := s.Client(oss.HTTPClient(ossdl.HTTPClient()), option)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ossdl.New(client); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ossdl.New(nil); err != nil {
		t.Error(err)
	}
}

// TestDownloadFileWithDeadClientOptions checks that a program that moves over goes on as it was: with the SDK, too, these
// options do nothing beside oss.HTTPClient.
func TestDownloadFileWithDeadClientOptions(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	for name, option := range deadOptions() {
		client, err := s.Client(oss.HTTPClient(tuned(t)), option)
		if err != nil {
			t.Fatal(err)
		}
		bucket, err := client.Bucket("bkt")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "file")
		if err := bucket.DownloadFile("k", path, 1<<20); err != nil {
			t.Errorf("%s, the SDK: %v", name, err)
		}
		if err := ossdl.DownloadFile(bucket, "k", path, 1<<20); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		harness.CheckFile(t, path, content)
	}
}

// TestDownloadFileOverTheSDKsTransport checks that options of the client keep their effect where the SDK makes the
// transport.
func TestDownloadFileOverTheSDKsTransport(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	client, err := oss.New("http://oss.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.Proxy(s.Endpoint()), oss.Timeout(30, 60))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := ossdl.DownloadFile(bucket, "k", path, 1<<20); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	if host := s.Requests()[0].Host; host != "bkt.oss.test" {
		t.Errorf("the proxy was asked for %s", host)
	}
}
