package main

import (
	"crypto/fips140"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"math"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ossdl/ossdl"
)

// parseMetadata reads a list of what a file gets from metadata.
func parseMetadata(s string) (m ossdl.Metadata, err error) {
	for what := range strings.SplitSeq(s, ",") {
		switch what {
		case "mtime":
			m |= ossdl.MetadataTime
		case "mode":
			m |= ossdl.MetadataMode
		case "owner":
			m |= ossdl.MetadataOwner
		default:
			return 0, errors.New("it must be mtime, mode or owner, or several of them, such as mtime,mode")
		}
	}
	return m, nil
}

var errSize = errors.New("a size is a whole number of bytes, or of KiB, MiB or GiB, for example 8MiB")

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	unit, ok := map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[s[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil || int64(n) > math.MaxInt64/unit {
		return 0, errSize
	}
	return int64(n) * unit, nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 30)
	if err != nil {
		return 0, errors.New("a count is a whole number, 0 or more")
	}
	return int(n), nil
}

func parseTime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("a time is a number with a unit, for example 500ms, 30s or 2m")
	}
	return d, nil
}

// byteRange is an offset and a length; -1: to the end.
type byteRange struct{ offset, length int64 }

func parseRange(s string) (byteRange, error) {
	offset, length, ok := strings.Cut(s, ":")
	r := byteRange{length: -1}
	var err1, err2 error
	r.offset, err1 = parseSize(offset)
	if length != "" && length != "-1" {
		r.length, err2 = parseSize(length)
	}
	switch {
	case !ok || err1 != nil || err2 != nil:
		return r, errors.New("a range is OFFSET:LENGTH in bytes, or with KiB, MiB or GiB, for example 1MiB:512; without LENGTH: to the end")
	case r.length == 0:
		return r, errors.New("a LENGTH is 1 or more; omit it for all to the end")
	case r.length > math.MaxInt64-r.offset:
		return r, errors.New("OFFSET and LENGTH are together more than 2^63-1")
	}
	return r, nil
}

func parseSHA256(s string) ([]byte, error) {
	sum, err := hex.DecodeString(s)
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("a SHA-256 is %d hexadecimal digits", 2*sha256.Size)
	}
	return sum, nil
}

// digest is what a file must have.
type digest struct {
	newHash func() hash.Hash
	want    []byte
}

func (d digest) option() ossdl.Option { return ossdl.WithChecksum(d.newHash, d.want) }

func parseChecksum(s string) (digest, error) {
	const form = "expected sha256:HEX, md5:HEX or crc64:NUMBER"
	algorithm, text, _ := strings.Cut(s, ":")
	switch algorithm {
	case "sha256", "md5":
		if algorithm == "md5" && fips140.Enforced() { // it would panic
			return digest{}, errors.New("GODEBUG=fips140=only does not allow md5; give a sha256 or a crc64")
		}
		newHash := map[string]func() hash.Hash{"sha256": sha256.New, "md5": md5.New}[algorithm]
		want, err := hex.DecodeString(text)
		if size := newHash().Size(); err != nil || len(want) != size {
			return digest{}, fmt.Errorf("%s; HEX has %d digits", form, 2*size)
		}
		return digest{newHash, want}, nil
	case "crc64":
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return digest{}, fmt.Errorf("%s; NUMBER is decimal, below 2^64", form)
		}
		newHash := func() hash.Hash { return crc64.New(crc64.MakeTable(crc64.ECMA)) }
		return digest{newHash, binary.BigEndian.AppendUint64(nil, n)}, nil
	}
	return digest{}, errors.New(form)
}

// jsonForm says what is printed as JSON.
type jsonForm struct{ json, events bool }

const jsonEvents = "events"

func parseJSON(s string) (jsonForm, error) {
	if s == jsonEvents {
		return jsonForm{true, true}, nil
	}
	json, err := strconv.ParseBool(s)
	if err != nil {
		return jsonForm{}, errors.New("expected " + jsonEvents + ", or no value")
	}
	return jsonForm{json: json}, nil
}

func parseETag(s string) (string, error) {
	if s == "" || strings.HasPrefix(s, "W/") || strings.ContainsAny(s, ",\r\n") {
		return "", errors.New("expected one strong ETag, as the service writes it; quotes may be omitted")
	}
	return s, nil
}

// parsePattern checks a pattern as path.Match does.
func parsePattern(s string) (string, error) {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return "", errors.New(`a pattern consists of characters, *, ?, [class] and \ before a literal character, for example *.gz`)
	}
	return s, nil
}

// share is one of count equal shares of a prefix, counted from 0.
type share struct{ index, count int }

func parseShard(s string) (share, error) {
	index, count, ok := strings.Cut(s, "/")
	i, err1 := parseCount(index)
	n, err2 := parseCount(count)
	if !ok || err1 != nil || err2 != nil || i >= n {
		return share{}, errors.New("a shard is I/N, with I from 0 to N-1, for example 0/4 to 3/4")
	}
	return share{i, n}, nil
}

func parseKey(s string) (string, error) {
	if s == "" || len(s) > maxKey || !utf8.ValidString(s) {
		return "", fmt.Errorf("a key is 1 to %d bytes of UTF-8; omit the flag for no bound", maxKey)
	}
	return s, nil
}

func parseText(s string) (string, error) {
	if s == "" {
		return "", errors.New("it is empty; omit the flag for the default")
	}
	return s, nil
}

func parsePartSize(s string) (int64, error) {
	n, err := parseSize(s)
	if err == nil && (n < ossdl.MinPartSize || n > ossdl.MaxPartSize) {
		err = errors.New("it must be 1 to 5GiB")
	}
	return n, err
}

func parseConcurrency(s string) (int, error) {
	n, err := parseCount(s)
	if err == nil && (n < 1 || n > ossdl.MaxConcurrency) {
		err = fmt.Errorf("it must be 1 to %d", ossdl.MaxConcurrency)
	}
	return n, err
}

func parseRate(s string) (int64, error) {
	n, err := parseSize(s)
	if err == nil && n < 1 {
		err = errors.New("it must be at least 1 byte per second; omit the flag for no limit")
	}
	return n, err
}

func parseStall(s string) (time.Duration, error) {
	d, err := parseTime(s)
	if err == nil && d < ossdl.MinStallTimeout {
		err = fmt.Errorf("it must be at least %v", ossdl.MinStallTimeout)
	}
	return d, err
}

// parseInstant parses a point in time.
func parseInstant(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		return t, errors.New("it must be a time as in RFC 3339, such as 2026-11-01T00:00:00Z or 2026-11-01T08:00:00+08:00")
	}
	return t, nil
}

func parseSpan(s string) (time.Duration, error) {
	d, err := parseTime(s)
	if err == nil && d <= 0 {
		err = errors.New("it must be more than 0; omit the flag for no limit")
	}
	return d, err
}

func anyText(s string) (string, error) { return s, nil }
