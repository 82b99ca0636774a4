package ossdl

import (
	"context"
	"fmt"
	"net/http"

	"github.com/ossdl/ossdl/internal/callers"
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/transport"
	"github.com/ossdl/ossdl/internal/weburl"
)

// DownloadURL downloads the object of a URL to the file path. It is like [Downloader.Download] in everything that is not
// mentioned here.
//
// # URLs
//
// A URL has the form http(s)://HOST[:PORT]/PATH[?QUERY], without user name and fragment. It is a signed GET URL of OSS (V1 or
// V4), or any other that a web server answers without further credentials. If the server does not support ranges, a single
// request fetches everything. Only the headers Range, If-Match, Accept-Encoding, User-Agent and those of [WithHeader] are sent,
// since others could invalidate the signature.
//
// Result.Bucket and Result.Key are host and path. The query is in no file, error or log line, except for the version.
//
// # Resuming
//
// An object is identified by host, path, version (versionId in the query) and ETag. Without a strong ETag, Last-Modified takes
// its place. So another URL of the same object resumes what an earlier one left.
//
// If nothing identifies the object (no ETag, Last-Modified or CRC-64), it is fetched in one stream, and nothing is kept for a
// later call. If what an earlier call left has an identity and the answer has none, the answer is retried and then an error.
//
// # Expired URLs
//
// When the date of a signed URL has passed, or the server says that it has expired, [WithURLRefresh] is asked for a new one.
// All requests wait for that. The new URL may have another host or path, but must lead to the same object. Without a refresh
// the call fails with [ErrExpired]; to resume, repeat it with a new URL.
//
// A URL that was signed with a temporary key is treated the same once the key has expired, whatever date the URL names.
//
// # Redirects
//
// Redirects are followed, even to other hosts. A signed URL must lead to an answer of OSS: one with a request ID, a
// Content-Length and something that identifies the object. Anything else, such as the sign-in page of a network, is retried
// and then an error; neither path nor partial file change.
//
// # Objects of unknown length
//
// A web server that is not OSS may send an object in chunks, without Content-Length. It is fetched in one stream, and is
// complete once the last chunk has come. A stream that breaks starts over, and nothing is kept for a later call. If the end of
// the body is that of the connection, the answer is an error, since nothing would show whether the body is complete.
//
// # Processed objects
//
// With x-oss-process in the query, the answer is made from the object but is not the object. It is fetched as a whole, in one
// stream without conditions. The service's CRC-64 does not apply to it, so Result.Verified depends on [WithChecksum].
//
// A stream that breaks starts over. What is already written stays if the answer has the same size and ETag; without a strong
// ETag, the same size and Last-Modified. Nothing is kept for a later call, so checkpoint options have no effect. [WithRange]
// and [WithIfMatch] are errors.
//
// # Errors
//
// The errors are those of [Downloader.Download]. A malformed URL is an error before any request.
func (d *Downloader) DownloadURL(ctx context.Context, signedURL, path string, opts ...Option) (*Result, error) {
	c, err := d.urlCall(inDownloadURL, signedURL, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %w", err)
	}
	if err := c.comparable(); err != nil {
		return nil, fmt.Errorf("ossdl: download %s: %w", c.src, err)
	}
	return c.downloadToFile(ctx, path)
}

// OpenURL returns a [Reader] of the object of a URL, or of the part of it that [WithRange] asks for. The Reader is that of
// [Downloader.Open]; the URL is used as by [Downloader.DownloadURL].
//
// The options are those of Open, with two differences. [WithURLRefresh], [WithHTTPClient] and [WithHeader] apply as well. [WithVersionID] and
// [WithRequestOptions] do not, since version and parameters are in the URL.
//
// If a web server does not say the length of the object, [Reader.Size] is -1 until everything is fetched.
//
// OpenURL waits for the first answer and returns the errors that come instead: those that [Downloader.Download] names. Later
// errors come from Read, after the bytes before them. When ctx is done before the end, Read returns its error immediately. Nothing
// is kept between calls: after [ErrExpired] a new call starts over. The Reader must be closed.
func (d *Downloader) OpenURL(ctx context.Context, signedURL string, opts ...Option) (*Reader, error) {
	c, err := d.urlCall(inOpenURL, signedURL, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: open %w", err)
	}
	return c.openReader(ctx)
}

// urlCall makes a call for the object of a URL. Its errors begin with the URL, as far as it can be shown.
func (d *Downloader) urlCall(where entryPoints, signedURL string, opts []Option) (*call, error) {
	addr, err := weburl.Parse(signedURL)
	if err != nil {
		return nil, err
	}
	cfg, err := d.settings(where, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	if addr.Processed() {
		switch {
		case cfg.object.asked != nil:
			return nil, fmt.Errorf("%s: WithRange does not apply to a URL with x-oss-process", addr)
		case cfg.object.ifMatch != "":
			return nil, fmt.Errorf("%s: WithIfMatch does not apply to a URL with x-oss-process", addr)
		}
	}
	return d.urlCallIn(d.newLane(cfg.concurrency, cfg.rateLimit), d.clientForURLs(&cfg), addr, cfg, &callers.Panics{}), nil
}

// urlCallIn makes one of several calls for objects of URLs that share a lane, a client and a record of panics.
func (d *Downloader) urlCallIn(lane *slots.Lane, client *http.Client, addr *weburl.Address, cfg settings, p *callers.Panics) *call {
	if addr.Processed() {
		cfg.keys = nil
	}
	src := weburl.NewSource(client, userAgent, addr, cfg.headers, p.Refresh(cfg.refresh))
	c := d.newCallIn(lane, src, cfg, p)
	c.versionID = addr.Version()
	c.oneStream = addr.Processed()
	return c
}

// CloseIdleConnections closes the connections that [Downloader.DownloadURL] and [Downloader.OpenURL] keep for later calls.
// It leaves alone those of the SDK's client and of a client given with [WithHTTPClient].
func (d *Downloader) CloseIdleConnections() { d.urlClient().CloseIdleConnections() }

// clientForURLs returns the client for URLs: the one that the caller gave, with the rules for redirects, or the one that all
// calls share.
func (d *Downloader) clientForURLs(cfg *settings) *http.Client {
	if cfg.httpClient == nil {
		return d.urlClient()
	}
	return transport.WithRedirectRules(cfg.httpClient)
}
