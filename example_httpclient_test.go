package ossdl_test

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"net/http"
	"net/url"
	"os"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

// A private endpoint behind a proxy, with a certificate from a CA of one's own.
func ExampleHTTPClient() {
	pem, err := os.ReadFile("/etc/ssl/own-ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal("own-ca.pem: no certificate")
	}
	proxy := &url.URL{Scheme: "http", Host: "proxy.example.com:3128"}
	hc := ossdl.HTTPClient(func(t *http.Transport) {
		t.Proxy = http.ProxyURL(proxy)
		t.TLSClientConfig = &tls.Config{RootCAs: roots}
	})

	client, err := oss.New("https://oss.example.com", os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.AuthVersion(oss.AuthV4), oss.Region("cn-hangzhou"), oss.HTTPClient(hc))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ossdl.New(client); err != nil {
		log.Fatal(err)
	}
}
