package weburl

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// ownHeaders are decided by this package, the engine or net/http.
var ownHeaders = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
	"If-Unmodified-Since", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Range", "Te", "Trailer", "Transfer-Encoding",
	"Upgrade", "User-Agent",
}

// CheckHeader returns the canonical form of a header's name, or why the header cannot be sent. The error does not have the value,
// nor a name that is none: it may be a value.
func CheckHeader(name, value string) (string, error) {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isTokenChar(r) }) {
		return "", errors.New("a header's name consists of letters, digits and hyphens, for example Authorization")
	}
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case slices.Contains(ownHeaders, canonical):
		return "", fmt.Errorf("the header %s is not for the caller to set", canonical)
	case strings.TrimSpace(value) == "":
		return "", fmt.Errorf("the header %s has no value", canonical)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "", fmt.Errorf("the value of the header %s has a control character", canonical)
	}
	return canonical, nil
}

// isTokenChar reports whether a character may be part of a header's name (RFC 9110, section 5.6.2).
func isTokenChar(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
