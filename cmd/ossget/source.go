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

// source is where the bytes come from; of a URL, the host and the path.
type source struct{ bucket, key string }

// name is the last element of the key; "" where the key ends in a slash.
func (s source) name() string { return s.key[strings.LastIndexByte(s.key, '/')+1:] }

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)

const (
	objectForm = "expected oss://bucket/key or an http(s) URL"
	prefixForm = "expected oss://bucket/prefix/, with the slash for one folder and nothing beside it"
	urlForm    = "expected http(s)://HOST[:PORT]/PATH[?QUERY], without user name, fragment and white space"
)

// parseSource reads oss://bucket/key. The key is taken as it is: nothing in it is an escape.
func parseSource(s string) (source, error) {
	bucket, key, err := parseOSS(s, objectForm)
	switch {
	case err != nil:
		return source{}, err
	case key == "":
		return source{}, errors.New("the key is missing; expected oss://bucket/key, or -recursive for all of the bucket")
	case strings.HasSuffix(key, "/"):
		return source{}, errors.New("a prefix needs -recursive; without it, oss://bucket/key is expected")
	case len(key) > maxKey || !utf8.ValidString(key):
		return source{}, fmt.Errorf("a key is 1 to %d bytes of UTF-8", maxKey)
	}
	return source{bucket, key}, nil
}

// parsePrefix reads oss://bucket/prefix/. An empty prefix is all of the bucket.
func parsePrefix(s string) (source, error) {
	if isURL(s) {
		return source{}, errors.New("a URL is of one object; with -recursive " + prefixForm)
	}
	bucket, prefix, err := parseOSS(s, "with -recursive "+prefixForm)
	switch {
	case err != nil:
		return source{}, err
	case len(prefix) > maxKey || !utf8.ValidString(prefix):
		return source{}, fmt.Errorf("a prefix is up to %d bytes of UTF-8", maxKey)
	}
	return source{bucket, prefix}, nil
}

// maxKey is the longest that a key of OSS may be, in bytes.
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

// parseURL reads an http(s) URL, as ossdl.DownloadURL wants it. Its errors say nothing of what is in it.
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

// harmless is a text as far as it may be shown on a terminal, in a log or a result: of a URL, which may be malformed in any
// way, no user name, password or query. As in the library's messages, what stands between :// and the last @ of all may be a
// password, and where that @ may as well be of a query nothing behind :// is shown. What is no URL, and has nothing that
// looks like a password or a query, comes back as it is.
func harmless(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	query := strings.IndexAny(s, "?#")
	switch {
	case scheme == "oss":
		return s // nothing in a key is a query
	case !ok && (userForm.MatchString(s) || query >= 0 && strings.Contains(s[query:], "=")), ok && !schemeForm.MatchString(scheme):
		return ""
	case !ok:
		return s
	}
	at := strings.LastIndexByte(rest, '@')
	switch query = strings.IndexAny(rest, "?#"); {
	case query >= 0 && at > query:
		rest = ""
	case query >= 0:
		rest = rest[at+1 : query]
	default:
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}

var (
	schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)
	userForm   = regexp.MustCompile(`(?s):.*@`) // USER:PASSWORD@HOST
)

// redact takes out of a message about the arguments what harmless takes out of them.
func redact(err error, args []string) error {
	text := err.Error()
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			_, arg, _ = strings.Cut(arg, "=")
		}
		if safe := harmless(arg); safe != arg {
			text = strings.ReplaceAll(text, strconv.Quote(arg), strconv.Quote(safe))
			text = strings.ReplaceAll(text, arg, safe)
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// stdoutName is the DEST that stands for standard output.
const stdoutName = "-"

// destination is the path of the file: dest itself, or the key's last element in it where it is a folder, or in the
// current folder where it is "".
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

// folder is the path of the folder that a prefix goes into. It need not exist.
func folder(dest string) (string, error) {
	if dest == "" {
		return ".", nil
	}
	if _, err := os.Stat(dest); err == nil && !isFolder(dest) {
		return "", fmt.Errorf("%q is no folder; -recursive needs one, which need not exist", dest)
	}
	return dest, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
