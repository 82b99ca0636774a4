package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

// circumstances are what a hint must know about the command.
type circumstances struct {
	url      bool // all sources are URLs
	several  bool // there are several sources
	headers  bool // there are headers for it
	unsigned bool // requests are not signed
	chosen   bool // because --credentials says so
	token    bool // the keys have a token, which is not renewed

	endpointBy string // where the endpoint comes from
}

func (c command) circumstances() circumstances {
	url := !c.usesBuckets() && c.usesURLs()
	return circumstances{
		url: url, several: c.task == taskSources, headers: len(c.headers) > 0 || c.headerFile != "" || c.headerText != "",
		unsigned: !url && c.keyID == "" && c.who.provider == nil, chosen: c.who.from == "none",
		token: !url && c.token != "", endpointBy: c.endpointBy,
	}
}

// hint says what helps against the error: a flag, a variable or what to do. "": nothing that the error does not say.
func (o outcome) hint() string {
	if o.err == nil || o.wasInterrupted() {
		return ""
	}
	var usage usageError
	if errors.As(o.err, &usage) {
		return "" // it names what is wrong
	}
	for _, find := range []func(error) string{o.hintOfNetwork, o.hintOfCause, o.hintOfAnswer} {
		if hint := find(o.err); hint != "" {
			return hint
		}
	}
	return ""
}

// hintOfCause is for errors that the library names.
func (o outcome) hintOfCause(err error) string {
	switch {
	case errors.Is(err, ossdl.ErrInUse):
		return "run it again once the other command has ended, or wait for that with --wait"
	case errors.Is(err, ossdl.ErrArchived):
		if o.about.url {
			return "restore it first"
		}
		if o.about.several {
			return "ossget --restore DAYS for it alone restores it first, which costs money"
		}
		return "--restore DAYS restores it first, which costs money; ossget stat shows how far that is"
	case !errors.Is(err, ossdl.ErrExpired):
		return ""
	case o.about.url:
		return "the same command with a new URL resumes"
	case o.about.token:
		return "the same command with new keys resumes: set OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN, or give --credentials for keys that are renewed"
	}
	return ""
}

// endpointName matches what an answer may suggest as an endpoint.
var endpointName = regexp.MustCompile(`^[a-z0-9.-]{1,100}$`)

// hintOfAnswer is for answers of the server.
func (o outcome) hintOfAnswer(err error) string {
	var answer oss.ServiceError
	if !errors.As(err, &answer) {
		return ""
	}
	refused := answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusUnauthorized
	switch {
	case endpointName.MatchString(answer.Endpoint):
		return "give --endpoint https://" + answer.Endpoint + ", or set OSS_ENDPOINT to it"
	case strings.Contains(answer.Message, "signing region"):
		return "--region or OSS_REGION is not that of the bucket"
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return "a proxy asks for user and password: HTTP_PROXY=http://USER:PASSWORD@HOST:PORT"
	case answer.Code == "SignatureDoesNotMatch":
		return "the access key secret is wrong: OSS_ACCESS_KEY_SECRET, or that of --credentials"
	case answer.Code == "InvalidAccessKeyId":
		return "the access key ID is wrong: OSS_ACCESS_KEY_ID, or that of --credentials"
	case o.about.url && refused && !o.about.headers:
		return "if the server wants a token, give it with OSSGET_HEADER or --header-file"
	case o.about.unsigned && refused && o.about.chosen:
		return "--credentials none leaves requests unsigned"
	case o.about.unsigned && refused:
		return "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or give --credentials or --config"
	}
	return ""
}

// hintOfNetwork is for connections that were not made.
func (o outcome) hintOfNetwork(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var other x509.HostnameError
	var certificate *tls.CertificateVerificationError
	where := o.about.endpointBy
	if o.about.url {
		where = "the URL"
	}
	viaProxy := errors.As(err, &op) && op.Op == "proxyconnect"
	switch {
	case viaProxy:
		return "the proxy cannot be reached: check HTTPS_PROXY and HTTP_PROXY, or add the host to NO_PROXY"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "check the name in " + where + "; behind a proxy set HTTPS_PROXY"
	case errors.As(err, &unknown):
		return "--ca FILE trusts the authority of the server or of a proxy, too"
	case errors.As(err, &other), errors.As(err, &certificate):
		return "check the name in " + where + ", and whether a proxy answers in its place"
	}
	return ""
}

// hinted adds the hint to a message.
func (o outcome) hinted(message string) string {
	if hint := o.hint(); hint != "" {
		return message + "; " + hint
	}
	return message
}
