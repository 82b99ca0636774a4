// Package lists reads the files that say what ossget is to download and what the files must be: lists of sources, and checksum
// files as sha256sum writes them. It knows no bucket and makes no request. Its invariant: what it returns was read to the end and
// is well-formed, and no name in it leads out of a folder. Its errors name file and line, and quote no URL.
package lists

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Entry is a line of a list of sources.
type Entry struct {
	Line    int // counted from 1
	Source  string
	Dest    string // relative, slash-separated; "": not given. One that ends in a slash is a folder
	SHA256  []byte // nil: not given
	CRC64   uint64 // 0: not given, or the file is empty; then it has a SHA256
	Size    int64  // bytes; 0: the same
	Version string // "": not given
	empty   bool   // size or crc64 is 0, as of an empty file
}

// maxLine is the length of the longest line, in bytes. Signed URLs have some hundred.
const maxLine = 64 << 10

// Line is an error in a line of a file.
func Line(name string, line int, err error) error {
	return fmt.Errorf("%s, line %d: %w", name, line, err)
}

// lines calls fn for each line of text that is neither empty nor a comment, without its end. A line may end in CR LF, and the first may
// begin with a byte order mark.
func lines(name string, text []byte, fn func(line int, text string) error) error {
	n := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\ufeff"))) {
		n++
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		var err error
		switch {
		case len(line) > maxLine:
			err = fmt.Errorf("it has more than %d bytes", maxLine)
		case !utf8.Valid(line):
			err = errors.New("it is not UTF-8")
		case bytes.IndexByte(line, 0) >= 0:
			err = errors.New("it has a NUL")
		case len(bytes.TrimSpace(line)) > 0 && line[0] != '#':
			err = fn(n, string(line))
		}
		if err != nil {
			return Line(name, n, err)
		}
	}
	return nil
}

// entryForm is what a line of a list may be.
const entryForm = "expected SOURCE [DEST] [sha256=HEX] [crc64=NUMBER] [size=BYTES] [version=ID], or a JSON object with these names in lower case (source, dest and so on)"

// ReadSources reads a list of sources. name is that of the list, for errors. Lines that are empty or begin with # are skipped.
func ReadSources(name string, text []byte) (entries []Entry, err error) {
	err = lines(name, text, func(n int, line string) error {
		var e Entry
		var err error
		if strings.HasPrefix(line, "{") {
			e, err = parseObject(line)
		} else {
			e, err = parseWords(line)
		}
		e.Line = n
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// parseWords parses a line of words. The first is the source, whatever is in it.
func parseWords(line string) (e Entry, err error) {
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	given := map[string]bool{}
	for i, word := range words {
		name, value, isField := strings.Cut(word, "=")
		switch {
		case i == 0:
			name, value = "source", word
		case isField && isWord(name):
		case i == 1:
			name, value = "dest", word
		default:
			return e, errors.New(entryForm + "; a name with spaces needs JSON")
		}
		if given[name] {
			return e, fmt.Errorf("%s is given twice", name)
		}
		given[name] = true
		if i > 0 && (name == "source" || name == "dest" && value != word) {
			return e, errors.New(entryForm)
		}
		if err := e.set(name, value); err != nil {
			return e, err
		}
	}
	return e, e.check()
}

// isWord reports whether s can be the name of a field.
func isWord(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// parseObject parses a line of JSON. Package json alone would take names in any case, and the last of several.
func parseObject(line string) (e Entry, err error) {
	d := json.NewDecoder(strings.NewReader(line))
	malformed := func() (Entry, error) { return e, errors.New("malformed JSON; " + entryForm) }
	if _, err := d.Token(); err != nil {
		return malformed()
	}
	given := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return malformed()
		}
		key, _ := name.(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return malformed()
		}
		if !slices.Contains(names, key) {
			return e, unknown(key)
		}
		if given[key] {
			return e, fmt.Errorf("%s is given twice", key)
		}
		given[key] = true
		value, err := valueOf(key, raw)
		if err == nil {
			err = e.set(key, value)
		}
		if err != nil {
			return e, err
		}
	}
	if _, err := d.Token(); err != nil {
		return malformed()
	}
	if _, err := d.Token(); err != io.EOF {
		return malformed()
	}
	return e, e.check()
}

// valueOf returns the text of a value in JSON: of a string, or of a number where one is meant.
func valueOf(key string, raw json.RawMessage) (string, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err == nil && raw[0] == '"' {
		return text, nil
	}
	var number json.Number
	if err := json.Unmarshal(raw, &number); err == nil && (key == "size" || key == "crc64") && raw[0] != 'n' {
		return number.String(), nil
	}
	if key == "size" || key == "crc64" {
		return "", fmt.Errorf("%s: expected a number, or a string with one", key)
	}
	return "", fmt.Errorf("%s: expected a string", key)
}

// set sets a field.
func (e *Entry) set(name, value string) (err error) {
	switch name {
	case "source":
		e.Source = value
	case "dest":
		e.Dest = value
		if strings.Contains(value, "://") { // not quoted: it may be a signed URL
			return errors.New("DEST is a source; expected one on each line")
		}
		if err = CheckName(value); err != nil {
			err = fmt.Errorf("DEST %q: %w", value, err)
		}
	case "sha256":
		e.SHA256, err = parseSHA256(value)
	case "crc64":
		if e.CRC64, err = strconv.ParseUint(value, 10, 64); err != nil || value[0] == '+' {
			err = errors.New("crc64: expected a decimal number below 2^64")
		}
		e.empty = e.empty || e.CRC64 == 0
	case "size":
		if e.Size, err = strconv.ParseInt(value, 10, 64); err != nil || e.Size < 0 || value[0] == '+' {
			err = errors.New("size: expected a number of bytes")
		}
		e.empty = e.empty || e.Size == 0
	case "version":
		if e.Version = value; value == "" {
			err = errors.New("version: it is empty; omit it for the current one")
		}
	default:
		err = unknown(name)
	}
	return err
}

// names are those of the fields.
var names = []string{"source", "dest", "sha256", "crc64", "size", "version"}

// unknown is the error of a name that is none of names. It is quoted only if it cannot be a part of a URL with a secret.
func unknown(name string) error {
	const longest = 30
	if !isWord(name) || len(name) > longest {
		return errors.New("a name is unknown; " + entryForm)
	}
	return fmt.Errorf("%q is none of the names; %s", name, entryForm)
}

func parseSHA256(s string) ([]byte, error) {
	const size = 32
	sum, err := hex.DecodeString(s)
	if err != nil || len(sum) != size {
		return nil, fmt.Errorf("sha256: expected %d hexadecimal digits", 2*size)
	}
	return sum, nil
}

// check returns an error if a field is missing, or if what is said of the file contradicts itself. An empty file has the digest of
// one: a size and a CRC-64 of 0 would mean that they are not known.
func (e *Entry) check() error {
	none := sha256.Sum256(nil)
	switch {
	case e.Source == "":
		return errors.New("the source is missing; " + entryForm)
	case !e.empty:
	case e.Size != 0 || e.CRC64 != 0:
		return errors.New("size and crc64 contradict each other: 0 is that of an empty file")
	case e.SHA256 != nil && !bytes.Equal(e.SHA256, none[:]):
		return errors.New("sha256 is not that of an empty file, and size or crc64 is")
	default:
		e.SHA256 = none[:]
	}
	return nil
}

// CheckName returns an error unless name is one of a file or, if it ends in a slash, a folder below another folder, on any system.
func CheckName(name string) error {
	const form = "expected a name below the folder, with slashes"
	switch {
	case name == "":
		return errors.New("it is empty; omit it for the last element of the source")
	case strings.ContainsRune(name, 0):
		return errors.New("it has a NUL; " + form)
	case name[0] == '/' || name[0] == '\\':
		return errors.New("it is absolute; " + form)
	case len(name) > 1 && name[1] == ':' && isWord(name[:1]):
		return errors.New("it begins with a drive; " + form)
	}
	for element := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '/' || r == '\\' }) {
		if element == ".." {
			return errors.New(`it has ".."; ` + form)
		}
	}
	if path.Clean(name) == "." && !strings.HasSuffix(name, "/") {
		return errors.New("it is the folder itself; " + form)
	}
	if runtime.GOOS == "windows" && windowsShortens(name) {
		return errors.New("Windows drops a dot or space at the end of a name; " + form)
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return errors.New("it is no name on this system; " + form)
	}
	return nil
}

// windowsShortens reports whether an element of a name ends in a dot or space. Windows drops these: the file would be that of another
// name, and an element that is dots and spaces could lead out of the folder.
func windowsShortens(name string) bool {
	for element := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '/' || r == '\\' }) {
		if element != "." && (strings.HasSuffix(element, ".") || strings.HasSuffix(element, " ")) {
			return true
		}
	}
	return false
}

// Checksums are the SHA-256 digests of a checksum file, by name.
type Checksums struct {
	name   string
	byName map[string][]byte
}

// checksumForm is what a line of a checksum file may be.
const checksumForm = "expected what sha256sum writes: 64 hexadecimal digits, a space, a space or *, and the name"

// ReadChecksums reads a checksum file as sha256sum writes it, in text or binary mode. A line that begins with a backslash has a name with
// escapes. Lines that are empty or begin with # are skipped.
func ReadChecksums(name string, text []byte) (*Checksums, error) {
	c := &Checksums{name, map[string][]byte{}}
	err := lines(name, text, func(_ int, line string) error {
		line, escaped := strings.CutPrefix(line, `\`)
		const digits = 64
		if len(line) < digits+3 || line[digits] != ' ' || line[digits+1] != ' ' && line[digits+1] != '*' {
			return errors.New(checksumForm)
		}
		sum, err := parseSHA256(line[:digits])
		if err != nil {
			return errors.New(checksumForm)
		}
		file := line[digits+2:]
		if escaped {
			if file, err = unescape(file); err != nil {
				return err
			}
		}
		file = path.Clean(file)
		if other := c.byName[file]; other != nil && !bytes.Equal(other, sum) {
			return fmt.Errorf("another line has another digest for %q", file)
		}
		c.byName[file] = sum
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// unescape undoes what sha256sum does to a name with a backslash, a line feed or a carriage return.
func unescape(name string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			b.WriteByte(name[i])
			continue
		}
		if i++; i == len(name) {
			return "", errors.New(`the name ends in a backslash; expected \\, \n or \r`)
		}
		switch name[i] {
		case '\\':
			b.WriteByte('\\')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		default:
			return "", errors.New(`the name has an unknown escape; expected \\, \n or \r`)
		}
	}
	return b.String(), nil
}

// Of returns the digest of the file with a name, slash-separated, as it is in the checksum file but for a leading ./.
func (c *Checksums) Of(name string) ([]byte, error) {
	if sum := c.byName[path.Clean(name)]; sum != nil {
		return sum, nil
	}
	return nil, fmt.Errorf("%s has no line for %q", c.name, name)
}
