package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// source is a bucket and a key; for a URL, the host and the path.
type source struct{ bucket, key string }

// name returns the last element of the key, or "" if the key ends in a slash.
func (s source) name() string { return s.key[strings.LastIndexByte(s.key, '/')+1:] }

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)

const (
	objectForm = "expected oss://bucket/key or an http(s) URL"
	prefixForm = "expected oss://bucket/prefix/, ending in a slash to match one folder only"
	urlForm    = "expected http(s)://HOST[:PORT]/PATH[?QUERY], without user name, fragment and white space"
)

// parseSource parses oss://bucket/key. The key is used literally: nothing in it is an escape.
func parseSource(s string) (source, error) {
	bucket, key, err := parseOSS(s, objectForm)
	switch {
	case err != nil:
		return source{}, err
	case key == "":
		return source{}, errors.New("the key is missing; expected oss://bucket/key, or --recursive for the whole bucket")
	case strings.HasSuffix(key, "/"):
		return source{}, errors.New("a prefix needs --recursive; without it, oss://bucket/key is expected")
	case len(key) > maxKey || !utf8.ValidString(key):
		return source{}, fmt.Errorf("a key is 1 to %d bytes of UTF-8", maxKey)
	}
	return source{bucket, key}, nil
}

// parsePrefix parses oss://bucket/prefix/. An empty prefix means the whole bucket.
func parsePrefix(s string) (source, error) {
	if isURL(s) {
		return source{}, errors.New("a URL is of one object; with --recursive " + prefixForm)
	}
	bucket, prefix, err := parseOSS(s, "with --recursive "+prefixForm)
	switch {
	case err != nil:
		return source{}, err
	case len(prefix) > maxKey || !utf8.ValidString(prefix):
		return source{}, fmt.Errorf("a prefix is up to %d bytes of UTF-8", maxKey)
	}
	return source{bucket, prefix}, nil
}

// parseBucket parses oss://bucket/ for a list of keys.
func parseBucket(s string) (source, error) {
	const form = "with --files-from expected oss://bucket/"
	bucket, key, err := parseOSS(s, form)
	if err == nil && key != "" {
		err = errors.New(form + "; the list has whole keys")
	}
	return source{bucket: bucket}, err
}

// maxKey is the maximum length of a key of OSS, in bytes.
const maxKey = 1023

func parseOSS(s, form string) (bucket, key string, err error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme != "oss" {
		return "", "", errors.New(form)
	}
	bucket, key, _ = strings.Cut(rest, "/")
	if !bucketName.MatchString(bucket) {
		return "", "", fmt.Errorf("%q is not a bucket name: 3 to 63 of a-z, 0-9 and -, neither beginning nor ending with -", bucket)
	}
	return bucket, key, nil
}

func isURL(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// parseURL parses an http(s) URL for ossdl.DownloadURL. Its errors quote nothing from the URL.
func parseURL(s string) (source, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.User != nil, u.Hostname() == "", strings.Contains(s, "#"),
		strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return source{}, errors.New(urlForm)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return source{}, errors.New(urlForm + "; a PORT is 1 to 65535")
		}
	}
	return source{u.Host, u.Path}, nil
}

// harmless removes from an argument what a message must not show. The query of a URL is cut off, even if the URL is malformed.
// An argument that may contain a password is replaced by "", since its end is unknown in a malformed URL.
func harmless(s string) string {
	if strings.HasPrefix(s, "oss://") {
		return s // a key has neither
	}
	if password.MatchString(s) {
		return ""
	}
	query := strings.IndexAny(s, "?#")
	if query >= 0 && (strings.Contains(s, "://") || strings.Contains(s[query:], "=")) {
		return s[:query]
	}
	return s
}

// password matches SCHEME://TOKEN@HOST and USER:PASSWORD@HOST.
var password = regexp.MustCompile(`(?s):.*@`)

// redact removes from a message about the arguments what harmless removes from the arguments.
func redact(err error, args []string) error {
	text := err.Error()
	hide := func(arg string) {
		if safe := harmless(arg); safe != arg {
			text = strings.ReplaceAll(text, strconv.Quote(arg), strconv.Quote(safe))
			text = strings.ReplaceAll(text, arg, safe)
		}
	}
	for _, arg := range args {
		hide(arg) // it may be a value, even if it begins with a dash
		if _, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "-") {
			hide(value)
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// stdoutName is the DEST that means standard output.
const stdoutName = "-"

// destination returns the path of the file. That is dest itself; if dest is a folder, the key's last element in it; if dest
// is "", the key's last element in the current folder.
func destination(s source, dest string) (string, error) {
	if dest != "" && !os.IsPathSeparator(dest[len(dest)-1]) && !isFolder(dest) {
		return dest, nil
	}
	name := s.name()
	if name == "." || name != filepath.Base(name) || !filepath.IsLocal(name) || strings.Contains(name, "\x00") {
		return "", fmt.Errorf("the last element of SOURCE, %q, is no file name; name a file", name)
	}
	return filepath.Join(dest, name), nil
}

// folder returns the path of the folder for the objects of a prefix. It need not exist.
func folder(dest string) (string, error) {
	if dest == "" {
		return ".", nil
	}
	if _, err := os.Stat(dest); err == nil && !isFolder(dest) {
		return "", fmt.Errorf("%q is no folder; --recursive needs one, which need not exist", dest)
	}
	return dest, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
