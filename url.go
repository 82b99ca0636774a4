package ossdl

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
)

// DownloadURL downloads the object of a URL to the file path, with all that [Downloader.Download] promises. The URL is a
// signed GET URL of OSS (V1 or V4), or any other that a web server answers without further credentials. If the server does
// not support ranges, a single request is used. Only Range, If-Match, Accept-Encoding and User-Agent are sent, since other
// headers could break the signature.
//
// # URLs
//
// A URL has the form http(s)://HOST[:PORT]/PATH[?QUERY]. One with a user name or a fragment is refused.
//
// The object is known by host, path, version (versionId in the query) and ETag, or Last-Modified if there is no strong
// ETag. So another URL of the same object resumes what the first one left. Result.Bucket and Result.Key are host and path.
// The rest of the query is in no file, error or log line.
//
// # Expired URLs
//
// A signed URL has expired if its own date is past or the server says so. It is then replaced by the one that
// [WithURLRefresh] returns, which is called once while all requests wait. The new URL may have another host or path, but must
// lead to the same object. Without a refresh the call fails with [ErrExpired], and the same call with a new URL resumes. The
// same applies to a URL that was signed with a temporary key, once its token has ended, whatever date the URL names.
//
// # Redirects
//
// Redirects are followed, also to other hosts. What a signed URL leads to must be an answer of OSS, with a request ID and
// something that identifies the object. Anything else, such as the sign-in page of a network, is retried and then an error;
// neither path nor partial file change. An answer without Content-Length is an error too, since nothing could tell whether
// its body is complete.
//
// # Processed objects
//
// With x-oss-process in the query, the answer is made of the object and is not the object. All of it is requested, in one
// stream and without conditions. The service's CRC-64 is not that of the answer, so Result.Verified depends on
// [WithChecksum]. A stream that breaks starts again. What has been written stays if the answer has the same size and ETag,
// or Last-Modified if there is no strong ETag. A later call starts over. Checkpoint options have no effect; [WithRange] and
// [WithIfMatch] are refused.
//
// # Errors
//
// The errors are those of [Downloader.Download]. DownloadURL returns promptly when ctx is done.
func (d *Downloader) DownloadURL(ctx context.Context, signedURL, path string, opts ...Option) (*Result, error) {
	c, err := d.urlCall(inDownloadURL, signedURL, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %w", err)
	}
	return c.toFile(ctx, path)
}

// OpenURL returns a reader of the object of a URL, or of the part of it that [WithRange] asks for. It reads in order, within
// [WithReadAhead] bytes of memory, and verifies at the last Read, as [Downloader.Open] does. The URL is one that
// [Downloader.DownloadURL] takes, and is sent, refreshed and named in the same way. Nothing is kept between calls: after
// [ErrExpired] a new call starts over.
//
// The options are those of Open, with [WithURLRefresh] and [WithHTTPClient] in addition. [WithVersionID] and
// [WithRequestOptions] do not apply, since version and parameters are in the URL.
//
// A malformed URL, or an option that does not apply, is an error before any request. OpenURL waits for the first answer and
// returns the errors that come instead of it, which are those of [Downloader.Download]. Later errors come from Read, after
// the bytes before them. When ctx is done before the end, Read returns its error at once. The Reader must be closed.
func (d *Downloader) OpenURL(ctx context.Context, signedURL string, opts ...Option) (*Reader, error) {
	c, err := d.urlCall(inOpenURL, signedURL, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: open %w", err)
	}
	return c.toReader(ctx)
}

// urlCall makes a call for the object of a URL. Its errors begin with the safe form of the URL, if it has one.
func (d *Downloader) urlCall(where entrances, signedURL string, opts []Option) (*call, error) {
	addr, err := parseAddress(signedURL)
	if err != nil {
		return nil, err
	}
	cfg, err := d.cfg.with(where, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	cfg.versionID = addr.version()
	if addr.processed() {
		switch {
		case cfg.window != nil:
			return nil, fmt.Errorf("%s: WithRange does not apply to a URL with x-oss-process", addr)
		case cfg.ifMatch != "":
			return nil, fmt.Errorf("%s: WithIfMatch does not apply to a URL with x-oss-process", addr)
		}
		cfg.checkpoint, cfg.cpDir, cfg.noCheckpoint = "", "", true
		cfg.oneStream = true
	}
	return d.newCall(newURLSource(d.webClient(&cfg), userAgent, addr, cfg.refresh), cfg), nil
}

// CloseIdleConnections closes the connections that [Downloader.DownloadURL] and [Downloader.OpenURL] keep for later calls.
// It leaves alone those of the SDK's client and of a client given with [WithHTTPClient].
func (d *Downloader) CloseIdleConnections() { d.web().CloseIdleConnections() }

// webClient returns the client for URLs: the caller's, with our rules for redirects, or the one that all calls share.
func (d *Downloader) webClient(cfg *settings) *http.Client {
	if cfg.httpClient == nil {
		return d.web()
	}
	return withRedirectRules(cfg.httpClient)
}

// userAgent names the library in requests that the SDK does not make.
var userAgent = "ossdl (" + runtime.GOOS + "/" + runtime.GOARCH + "; " + runtime.Version() + ")"
