package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

// access checks and completes the endpoint, the region and the credentials.
func (c *command) access() error {
	if err := c.identify(); err != nil {
		return err
	}
	if c.endpoint == "" {
		return errors.New("no endpoint: give --endpoint, set OSS_ENDPOINT or add one to ~/.ossutilconfig, for example https://oss-cn-hangzhou.aliyuncs.com")
	}
	for text := range strings.SplitSeq(c.endpoint, ",") {
		text = strings.TrimSpace(text)
		u, err := parseEndpoint(text)
		if err != nil {
			return fmt.Errorf("%s %q: %w", c.endpointBy, text, err)
		}
		for _, bucket := range c.allBuckets() {
			if !c.cname && strings.HasPrefix(u.Hostname(), bucket+".") {
				return fmt.Errorf("%s %q begins with the bucket: omit that, or give --cname if that is a domain of your own", c.endpointBy, text)
			}
		}
		if slices.Contains(c.endpoints, u.String()) {
			return fmt.Errorf("%s %q: it is given twice", c.endpointBy, text)
		}
		c.endpoints = append(c.endpoints, u.String())
		if c.region == "" {
			c.region = regionOf(u.Hostname())
		}
	}
	c.endpoint = strings.Join(c.endpoints, ",")
	if f := c.who.file; c.region == "" && f != nil && f.Region != "" {
		c.region, c.regionBy = f.Region, f.RegionAt+": region"
	}
	if c.region != "" && (!regionName.MatchString(c.region) || strings.HasPrefix(c.region, "oss-")) {
		return fmt.Errorf("%s %q: expected the name without oss-, for example cn-hangzhou", c.regionBy, c.region)
	}
	return nil
}

var regionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func parseEndpoint(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s // the SDK would use http, and send the objects and the access key ID in the clear
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("expected a host, for example https://oss-cn-hangzhou.aliyuncs.com")
	}
	u.Path = ""
	return u, nil
}

// The hosts of regions: public, internal and in a VPC; and dual-stack.
var regionHosts = []*regexp.Regexp{
	regexp.MustCompile(`^(?:vpc100-)?oss-([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com$`),
	regexp.MustCompile(`^([a-z0-9-]+?)(?:-internal)?\.oss\.aliyuncs\.com$`),
}

// regionOf returns the region in the host's name, or "". The acceleration endpoints belong to no region.
func regionOf(host string) string {
	for _, re := range regionHosts {
		if m := re.FindStringSubmatch(strings.ToLower(host)); m != nil && !strings.HasPrefix(m[1], "accelerate") {
			return m[1]
		}
	}
	return ""
}

// clients returns a client for each endpoint. They sign with V4 if the region is known, otherwise with V1, and not at all
// without an access key. Requests go over an HTTP client, the library's, which honours the proxies of the environment.
func (c *command) clients(over *http.Client) ([]*oss.Client, error) {
	options := []oss.ClientOption{oss.HTTPClient(over)}
	if c.region != "" {
		options = append(options, oss.Region(c.region), oss.AuthVersion(oss.AuthV4))
	}
	if c.token != "" {
		options = append(options, oss.SecurityToken(c.token))
	}
	if c.who.provider != nil {
		options = append(options, oss.SetCredentialsProvider(c.who.provider)) // called for each request
	}
	if c.cname {
		options = append(options, oss.UseCname(true))
	}
	var all []*oss.Client
	for _, endpoint := range c.endpoints {
		client, err := oss.New(endpoint, c.keyID, c.keySecret, options...)
		if err != nil {
			return nil, err
		}
		all = append(all, client)
	}
	return all, nil
}

// httpClient returns the library's client, which trusts the certificates of --ca as well.
func (c *command) httpClient() *http.Client {
	return ossdl.HTTPClient(func(t *http.Transport) {
		if c.roots != nil {
			t.TLSClientConfig = &tls.Config{RootCAs: c.roots}
		}
	})
}
