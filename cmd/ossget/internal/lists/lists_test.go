package lists

import (
	"bytes"
	"encoding/hex"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hexB = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
)

func sum(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// TestReadSources checks what lines mean.
func TestReadSources(t *testing.T) {
	text := "\ufeffoss://b/k\r\n" +
		"# a comment\n" +
		"\n  \n" +
		"oss://b/k?a=b\tsub/name  sha256=" + hexA + " crc64=18446744073709551615 size=5 version=v=1\n" +
		"https://h/p?x=1&size=2 size=3 ./a=b/\n" +
		"https://h/p?x=1&size=2 ./a=b/ size=3\n" +
		`{"source":"oss://b/a key","dest":"a name","sha256":"` + hexB + `","crc64":"7","size":9,"version":"v"}` + "\n" +
		`{"crc64":18446744073709551615,"source":"oss://b/k"}`
	want := []Entry{
		{Line: 1, Source: "oss://b/k"},
		{Line: 5, Source: "oss://b/k?a=b", Dest: "sub/name", SHA256: sum(hexA), CRC64: 1<<64 - 1, Size: 5, Version: "v=1"},
		{Line: 7, Source: "https://h/p?x=1&size=2", Dest: "./a=b/", Size: 3},
		{Line: 8, Source: "oss://b/a key", Dest: "a name", SHA256: sum(hexB), CRC64: 7, Size: 9, Version: "v"},
		{Line: 9, Source: "oss://b/k", CRC64: 1<<64 - 1},
	}
	before, after, _ := strings.Cut(text, "https://h/p?x=1&size=2 size=3 ./a=b/\n")
	if got, err := ReadSources("list", []byte(before+"\n"+after)); err == nil {
		want[2].Line, want[3].Line, want[4].Line = 7, 8, 9
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n\t%+v\nwant\n\t%+v", got, want)
		}
	} else {
		t.Error(err)
	}
	if _, err := ReadSources("list", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "list, line 6: ") {
		t.Errorf("DEST behind a field: %v", err)
	}
}

// TestReadSourcesEmptyFile checks that a size or CRC-64 of 0 demands an empty file, and is not taken for one that is not known.
func TestReadSourcesEmptyFile(t *testing.T) {
	const none = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, line := range []string{
		"oss://b/k size=0", "oss://b/k crc64=0", "oss://b/k size=00 crc64=0", "oss://b/k size=0 sha256=" + none, "oss://b/k sha256=" + none + " size=0",
		`{"source":"oss://b/k","size":0}`, `{"source":"oss://b/k","crc64":"0"}`,
	} {
		entries, err := ReadSources("list", []byte(line))
		if err != nil || len(entries) != 1 || !bytes.Equal(entries[0].SHA256, sum(none)) {
			t.Errorf("%s: %+v, %v", line, entries, err)
		}
	}
}

// TestReadSourcesMalformed checks that a malformed line is an error with its number, and with what is allowed.
func TestReadSourcesMalformed(t *testing.T) {
	for line, says := range map[string]string{
		"oss://b/k a b":                           "needs JSON",
		"oss://b/k a size=1 b":                    "needs JSON",
		"oss://b/k md5=abc":                       `"md5" is none of the names`,
		"oss://b/k SHA256=" + hexA:                `"SHA256" is none of the names`,
		"oss://b/k dest=a":                        "expected SOURCE",
		"oss://b/k source=a":                      "given twice",
		"oss://b/k size=1 size=1":                 "size is given twice",
		"oss://b/k sha256=" + hexA[1:]:            "64 hexadecimal digits",
		"oss://b/k sha256=":                       "64 hexadecimal digits",
		"oss://b/k crc64=0x1":                     "decimal number",
		"oss://b/k crc64=-1":                      "decimal number",
		"oss://b/k crc64=+1":                      "decimal number",
		"oss://b/k crc64=":                        "decimal number",
		"oss://b/k crc64=18446744073709551616":    "decimal number",
		"oss://b/k size=-1":                       "number of bytes",
		"oss://b/k size=1KiB":                     "number of bytes",
		"oss://b/k size=0 sha256=" + hexA:         "not that of an empty file",
		"oss://b/k sha256=" + hexA + " crc64=0":   "not that of an empty file",
		"oss://b/k size=0 crc64=1":                "contradict each other",
		"oss://b/k size=1 crc64=0":                "contradict each other",
		"oss://b/k version=":                      "version: it is empty",
		"oss://b/k ../a":                          `".."`,
		"oss://b/k a/../../b":                     `".."`,
		`oss://b/k a\..\..\b`:                     `".."`,
		"oss://b/k ..":                            `".."`,
		"oss://b/k .":                             "the folder itself",
		"oss://b/k a/..":                          `".."`,
		"oss://b/k ./.":                           "the folder itself",
		"oss://b/k /etc/passwd":                   "absolute",
		`oss://b/k \\server\share`:                "absolute",
		`oss://b/k C:\a`:                          "a drive",
		"oss://b/k c:a":                           "a drive",
		"oss://b/k a\x00b":                        "NUL",
		"oss://b/k \xff":                          "not UTF-8",
		"oss://b/" + strings.Repeat("k", maxLine): "more than 65536 bytes",
		`{}`:                                              "the source is missing",
		`{"dest":"a"}`:                                    "the source is missing",
		`{"source":"oss://b/k"`:                           "malformed JSON",
		`{"source":"oss://b/k",}`:                         "malformed JSON",
		`{"source":"oss://b/k"} x`:                        "malformed JSON",
		`{"source":"oss://b/k"}{}`:                        "malformed JSON",
		`{"source":}`:                                     "malformed JSON",
		`{"Source":"oss://b/k"}`:                          `"Source" is none of the names`,
		`{"source":"oss://b/k","SIZE":1}`:                 `"SIZE" is none of the names`,
		`{"source":"oss://b/k","source":"oss://b/l"}`:     "source is given twice",
		`{"source":1}`:                                    "expected a string",
		`{"source":null}`:                                 "expected a string",
		`{"source":"oss://b/k","size":null}`:              "expected a number",
		`{"source":"oss://b/k","size":1.5}`:               "number of bytes",
		`{"source":"oss://b/k","size":[1]}`:               "expected a number",
		`{"source":"oss://b/k","dest":""}`:                "it is empty",
		`{"source":"oss://b/k","dest":"a\u0000b"}`:        "NUL",
		`{"source":"oss://b/k","dest":"../a"}`:            `".."`,
		`{"source":"oss://b/k","sha256":"` + hexA + `0"}`: "64 hexadecimal digits",
	} {
		got, err := ReadSources("list", []byte("oss://b/a\n\n"+line+"\noss://b/z\n"))
		if err == nil || got != nil || !strings.HasPrefix(err.Error(), "list, line 3: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%.80q: %v, %v; want an error that says %s", line, got, err, says)
		}
	}
}

// TestWindowsShortens checks which names are those of other files on Windows.
func TestWindowsShortens(t *testing.T) {
	for name, want := range map[string]bool{
		"a": false, "a.b": false, "./a": false, "a/./b": false, ".a": false, "a b": false, "a/": false,
		"a.": true, "a ": true, "a./b": true, `a \b`: true, "...": true, "a/.. /b": true, "a./": true,
	} {
		if got := windowsShortens(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}

// TestMalformedLineIsNotQuoted checks that an error shows nothing of a URL.
func TestMalformedLineIsNotQuoted(t *testing.T) {
	for _, line := range []string{"https://h/p?Signature=SECRET a b", "https://h/p?Signature=SECRET size=x", "oss://b/k https://h/p?Signature=SECRET", `{"source":"https://h/p?Signature=SECRET"`, `{"source":"https://h/p?Signature=SECRET","size":"x"}`,
		`{"https://h/p?Signature=SECRET":""}`, "oss://b/k a " + strings.Repeat("SECRET", 10) + "=="} {
		if _, err := ReadSources("list", []byte(line)); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestReadChecksums checks which digests a file has.
func TestReadChecksums(t *testing.T) {
	text := "# made by sha256sum\n" +
		hexA + "  a\r\n" +
		hexB + " *./sub/b c\n\n" +
		`\` + hexA + `  back\\slash\nand\rmore` + "\n" +
		hexB + "  *star\n" +
		hexB + `  plain\name` + "\n" +
		hexA + "  a\n"
	c, err := ReadChecksums("SUMS", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a": hexA, "./a": hexA, "sub/b c": hexB, "back\\slash\nand\rmore": hexA, "*star": hexB, `plain\name`: hexB,
	} {
		if got, err := c.Of(name); err != nil || !bytes.Equal(got, sum(want)) {
			t.Errorf("%q: %x, %v", name, got, err)
		}
	}
	for _, name := range []string{"b c", "A", "", "star"} {
		if _, err := c.Of(name); err == nil || !strings.Contains(err.Error(), "SUMS has no line for") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestReadChecksumsMalformed checks that a malformed line is an error with its number.
func TestReadChecksumsMalformed(t *testing.T) {
	for line, says := range map[string]string{
		"a":                    "what sha256sum writes",
		hexA:                   "what sha256sum writes",
		hexA + "  ":            "what sha256sum writes",
		hexA + " a":            "what sha256sum writes",
		hexA + "\t a":          "what sha256sum writes",
		hexA + " +a":           "what sha256sum writes",
		hexA[2:] + "  a":       "what sha256sum writes",
		hexA + "aa  a":         "what sha256sum writes",
		"g" + hexA[1:] + "  a": "what sha256sum writes",
		" " + hexA + "  a":     "what sha256sum writes",
		"SHA256 (a) = " + hexA: "what sha256sum writes",
		`\` + hexA + `  a\`:    "ends in a backslash",
		`\` + hexA + `  a\t`:   "unknown escape",
		hexA + "  a\x00b":      "NUL",
		hexB + "  first":       "another digest",
		hexB + " *./first":     "another digest",
		hexA + "  \xff":        "not UTF-8",
	} {
		c, err := ReadChecksums("SUMS", []byte(hexA+"  first\n"+line+"\n"))
		if err == nil || c != nil || !strings.HasPrefix(err.Error(), "SUMS, line 2: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v; want an error that says %s", line, err, says)
		}
	}
}

// FuzzReadSources checks that a list is refused with a line, or that each of its entries has a source and stays in the folder.
func FuzzReadSources(f *testing.F) {
	for _, s := range []string{"oss://b/k a size=1\n", `{"source":"oss://b/k","dest":"a/b","crc64":"1"}`, "\ufeffx\r\n\r\n# y\nz ..\n", "{\"source\":\"a\",\"dest\":\"..\\\\b\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := ReadSources("list", text)
		if err != nil {
			if entries != nil || !strings.HasPrefix(err.Error(), "list, line ") {
				t.Fatalf("%v, %v", entries, err)
			}
			return
		}
		last := 0
		for _, e := range entries {
			at := filepath.Join("folder", filepath.FromSlash(e.Dest))
			if e.Source == "" || e.Line <= last || e.Size < 0 || e.SHA256 != nil && len(e.SHA256) != 32 || at != "folder" && !strings.HasPrefix(at, "folder"+string(filepath.Separator)) {
				t.Fatalf("%+v", e)
			}
			last = e.Line
		}
	})
}

// FuzzReadChecksums checks that a checksum file is refused with a line, or has a digest for each of its names.
func FuzzReadChecksums(f *testing.F) {
	for _, s := range []string{hexA + "  a\n", `\` + hexB + ` *a\\b` + "\n", "#\n\n" + hexA + "  a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ReadChecksums("SUMS", text)
		if err != nil {
			if c != nil || !strings.HasPrefix(err.Error(), "SUMS, line ") {
				t.Fatal(err)
			}
			return
		}
		for name := range c.byName {
			if sum, err := c.Of(name); err != nil || len(sum) != 32 {
				t.Fatalf("%q: %x, %v", name, sum, err)
			}
		}
	})
}
