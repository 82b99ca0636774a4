package weburl

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAddressExpiry checks when a URL of either signature version expires.
func TestAddressExpiry(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	unix := strconv.FormatInt(at.Unix(), 10)
	for query, want := range map[string]time.Time{
		"OSSAccessKeyId=a&Signature=s&Expires=" + unix:                                               at,
		"OSSAccessKeyId=a&Signature=s":                                                               {},
		"OSSAccessKeyId=a&Signature=s&Expires=x":                                                     {},
		"OSSAccessKeyId=a&Signature=s&Expires=-1":                                                    {},
		"OSSAccessKeyId=a&Signature=s&Expires=9223372036854775807":                                   {},
		"x-oss-signature=s&x-oss-date=20260301T110000Z&x-oss-expires=3600":                           at,
		"x-oss-signature=s&x-oss-date=2026&x-oss-expires=3600":                                       {},
		"x-oss-signature=s&x-oss-date=20260301T110000Z":                                              {},
		"x-oss-signature=s&x-oss-date=20260301T110000Z&x-oss-expires=99999999999":                    at.Add(-time.Hour + 7*24*time.Hour),
		"x-oss-signature=s&x-oss-signature-version=OSS2&x-oss-access-key-id=a&x-oss-expires=" + unix: at,
		"Expires=" + unix: {}, // any site's own parameter
	} {
		a, err := Parse("http://h/k?" + query)
		if err != nil || !a.expires.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", query, a.expires, err, want)
		}
		if a.signed == strings.HasPrefix(query, "Expires") {
			t.Errorf("%s: signed %v", query, a.signed)
		}
	}
}

// TestAddressString checks the name of a URL: without its query, with the host in lower case and no default port.
func TestAddressString(t *testing.T) {
	for raw, want := range map[string]string{
		"HTTP://Example.COM:80/a%20b":    "http://example.com/a%20b",
		"https://example.com:443?x":      "https://example.com/",
		"https://example.com:80/":        "https://example.com:80/",
		"http://[::1]:8080/k?versionId=": "http://[::1]:8080/k",
	} {
		a, err := Parse(raw)
		if err != nil || a.String() != want {
			t.Errorf("%s: %v, %v", raw, a, err)
		}
	}
}
