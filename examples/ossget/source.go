package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// source is where the bytes come from.
type source struct{ bucket, key string }

func (s source) String() string { return "oss://" + s.bucket + "/" + s.key }

// name is the last element of the key; "" where the key ends in a slash.
func (s source) name() string { return s.key[strings.LastIndexByte(s.key, '/')+1:] }

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)

// parseSource reads oss://bucket/key. The key is taken as it is: nothing in it is an escape.
func parseSource(s string) (source, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	switch {
	case ok && (scheme == "http" || scheme == "https"):
		return source{}, errors.New("URLs are not supported yet; wanted is oss://bucket/key")
	case !ok || scheme != "oss":
		return source{}, errors.New("wanted is oss://bucket/key")
	}
	bucket, key, _ := strings.Cut(rest, "/")
	if !bucketName.MatchString(bucket) {
		return source{}, fmt.Errorf("%q is no bucket: 3 to 63 of a-z, 0-9 and -, the first and the last none of -", bucket)
	}
	if key == "" {
		return source{}, errors.New("the key is missing; wanted is oss://bucket/key")
	}
	return source{bucket, key}, nil
}

// destination is the path of the file: dest itself, or the key's last element in it where it is a folder, or in the
// current folder where it is "".
func destination(s source, dest string) (string, error) {
	if dest == "-" {
		return "", errors.New("standard output is not supported yet; a file named - is ./-")
	}
	if dest != "" && !os.IsPathSeparator(dest[len(dest)-1]) {
		if info, err := os.Stat(dest); err != nil || !info.IsDir() {
			return dest, nil
		}
	}
	name := s.name()
	if name == "." || name != filepath.Base(name) || !filepath.IsLocal(name) || strings.Contains(name, "\x00") {
		return "", fmt.Errorf("the key's last element, %q, is no file name; name a file", name)
	}
	return filepath.Join(dest, name), nil
}
