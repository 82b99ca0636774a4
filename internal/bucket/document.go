package bucket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// document reads XML, one token after the other. It accepts and refuses the same documents as encoding/xml does, but for two
// differences: names may have any characters beyond ASCII, and a token may have [tokenLimit] bytes. It is for listings: parsing
// them with encoding/xml took three quarters of the time of a listing.
//
// What its methods return is overwritten by the next token.
type document struct {
	in      io.Reader
	read    int    // bytes
	buf     []byte // buf[at:end] is read and not consumed yet; a token lies in it as a whole
	at, end int
	decoded []byte // text with references or line ends that are not as they stand in buf

	names []byte // of the open elements, as they are written, one after the other
	open  []int  // where in names each begins
}

func newDocument(in io.Reader) *document { return &document{in: in, buf: make([]byte, tokenLimit)} }

// token is the kind of a piece of a document.
type token uint8

const (
	noToken  token = iota // a comment, a processing instruction or a directive
	charData              // text or a CDATA section
	startTag
	endTag
	emptyTag // both at once
)

// next returns the next token: the text of character data, and the name of an element without its prefix. A document that ends
// is an error.
func (d *document) next() (kind token, text []byte, err error) {
	kind, text, err = d.token()
	if err != nil {
		err = fmt.Errorf("byte %d: %w", d.read-(d.end-d.at), err)
	}
	return kind, text, err
}

func (d *document) token() (kind token, text []byte, err error) {
	if c, err := d.byteAt(0); err != nil {
		return noToken, nil, err
	} else if c != '<' {
		n := bytes.IndexByte(d.buf[d.at:d.end], '<')
		if n < 0 {
			if n, err = d.find("<", 0); err != nil {
				return noToken, nil, err
			}
		}
		text, err = d.decode(d.consume(0, n, 0), inText)
		return charData, text, err
	}
	c, err := d.byteAt(1)
	if err != nil {
		return noToken, nil, err
	}
	switch c {
	case '/':
		text, err = d.endTag()
		return endTag, text, err
	case '?':
		return noToken, nil, d.instruction()
	case '!':
		return d.declaration()
	}
	return d.startTag()
}

// fill reads more, so that there is at least one byte more in buf[at:end].
func (d *document) fill() error {
	if d.end == len(d.buf) {
		if d.at == 0 {
			return errPageBounds
		}
		d.end = copy(d.buf, d.buf[d.at:d.end])
		d.at = 0
	}
	for range 100 {
		n, err := d.in.Read(d.buf[d.end:])
		d.end += n
		d.read += n
		switch {
		case n > 0: // the error, if any, comes again
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// byteAt returns the i-th byte that is not consumed yet.
func (d *document) byteAt(i int) (byte, error) {
	for i >= d.end-d.at {
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
	return d.buf[d.at+i], nil
}

// find returns where s is next, from the i-th byte on that is not consumed yet.
func (d *document) find(s string, i int) (int, error) {
	for {
		w := d.buf[d.at:d.end]
		if i < len(w) {
			if n := bytes.Index(w[i:], []byte(s)); n >= 0 {
				return i + n, nil
			}
			i = max(i, len(w)-len(s)+1)
		}
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
}

// consume returns the bytes from the i-th up to the j-th, and goes on behind them and skip more.
func (d *document) consume(i, j, skip int) []byte {
	b := d.buf[d.at+i : d.at+j]
	d.at += j + skip
	return b
}

// space returns the first position from the i-th byte on that is no white space.
func (d *document) space(i int) (int, error) {
	for ; ; i++ {
		switch c, err := d.byteAt(i); {
		case err != nil:
			return 0, err
		case c != ' ' && c != '\t' && c != '\r' && c != '\n':
			return i, nil
		}
	}
}

// nameByte holds the bytes of names.
var nameByte = func() (is [256]bool) {
	for c := range is {
		is[c] = c >= utf8.RuneSelf || 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("_:.-", byte(c)) >= 0
	}
	return is
}()

// name returns where the name ends that begins at the i-th byte.
func (d *document) name(i int) (end int, err error) {
	for end = i; ; {
		w := d.buf[d.at:d.end]
		for end < len(w) && nameByte[w[end]] {
			end++
		}
		if end < len(w) {
			break
		}
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
	name := d.buf[d.at+i : d.at+end]
	if len(name) == 0 {
		return 0, fmt.Errorf("%q is not the beginning of a name", d.buf[d.at+i])
	}
	if c := name[0]; '0' <= c && c <= '9' || c == '.' || c == '-' || !utf8.Valid(name) {
		return 0, fmt.Errorf("%.40q is not a name", name)
	}
	return end, nil
}

// qualifiedName is name for one that may have a prefix.
func (d *document) qualifiedName(i int) (end int, err error) {
	end, err = d.name(i)
	if err == nil && bytes.Count(d.buf[d.at+i:d.at+end], []byte(":")) > 1 {
		err = fmt.Errorf("%.40q is not a name", d.buf[d.at+i:d.at+end])
	}
	return end, err
}

// localName returns a name without its prefix.
func localName(name []byte) []byte {
	if i := bytes.IndexByte(name, ':'); i > 0 && i < len(name)-1 {
		return name[i+1:]
	}
	return name
}

func (d *document) startTag() (kind token, name []byte, err error) {
	if end := d.simpleName(); end > 0 { // as all are that OSS sends
		name = d.consume(1, end, 1)
		d.push(name)
		return startTag, name, nil
	}
	end, err := d.qualifiedName(1)
	if err != nil {
		return noToken, nil, err
	}
	kind, last := startTag, end
	for {
		if last, err = d.space(last); err != nil {
			return noToken, nil, err
		}
		c, _ := d.byteAt(last) // space has read it
		if c == '>' {
			break
		}
		if c == '/' {
			kind = emptyTag
			if c, err = d.byteAt(last + 1); err == nil && c != '>' {
				err = fmt.Errorf("%q follows the slash in a tag", c)
			}
			last++
			break
		}
		if last, err = d.attribute(last); err != nil {
			return noToken, nil, err
		}
	}
	if err != nil {
		return noToken, nil, err
	}
	name = d.consume(1, end, last-end+1)
	if kind == startTag {
		d.push(name)
	}
	return kind, localName(name), nil
}

// simpleName returns where the name ends of a start tag that has only a name, of letters; 0: it is not in the buffer, or has more.
func (d *document) simpleName() (end int) {
	w := d.buf[d.at:d.end]
	for i := 1; i < len(w); i++ {
		if c := w[i]; c == '>' && i > 1 {
			return i
		} else if c|0x20 < 'a' || c|0x20 > 'z' {
			break
		}
	}
	return 0
}

func (d *document) push(name []byte) {
	d.open = append(d.open, len(d.names))
	d.names = append(d.names, name...)
}

// pop ends the innermost element, and returns its name.
func (d *document) pop() (name []byte) {
	top := d.open[len(d.open)-1]
	name = d.names[top:]
	d.open, d.names = d.open[:len(d.open)-1], d.names[:top]
	return name
}

// attribute returns where the attribute ends that begins at the i-th byte. Its value only has to be well-formed.
func (d *document) attribute(i int) (end int, err error) {
	if i, err = d.qualifiedName(i); err != nil {
		return 0, err
	}
	if i, err = d.space(i); err != nil {
		return 0, err
	}
	if c, _ := d.byteAt(i); c != '=' { // space has read it
		return 0, fmt.Errorf("%q follows the name of an attribute", c)
	}
	if i, err = d.space(i + 1); err != nil {
		return 0, err
	}
	quote, _ := d.byteAt(i) // space has read it
	if quote != '"' && quote != '\'' {
		return 0, errors.New("the value of an attribute has no quotes")
	}
	if end, err = d.find(string(rune(quote)), i+1); err != nil {
		return 0, err
	}
	value := d.buf[d.at+i+1 : d.at+end]
	if bytes.IndexByte(value, '<') >= 0 {
		return 0, errors.New("the value of an attribute has an unescaped <")
	}
	_, err = d.decode(value, inQuotes)
	return end + 1, err
}

func (d *document) endTag() (name []byte, err error) {
	var want []byte
	if len(d.open) > 0 {
		want = d.names[d.open[len(d.open)-1]:]
	}
	w := d.buf[d.at:d.end]
	if end := 2 + len(want); end < len(w) && w[end] == '>' && len(want) > 0 && string(w[2:end]) == string(want) {
		d.consume(0, end, 1)
		return localName(d.pop()), nil
	}
	end, err := d.qualifiedName(2)
	if err != nil {
		return nil, err
	}
	last, err := d.space(end)
	if err != nil {
		return nil, err
	}
	if c, _ := d.byteAt(last); c != '>' { // space has read it
		return nil, fmt.Errorf("%q follows the name in an end tag", c)
	}
	switch name = d.consume(2, end, last-end+1); {
	case len(want) == 0:
		return nil, fmt.Errorf("</%.40s> ends nothing", name)
	case !bytes.Equal(name, want):
		return nil, fmt.Errorf("<%.40s> is ended by </%.40s>", want, name)
	}
	return localName(d.pop()), nil
}

// instruction skips a processing instruction. The one that begins a document may say that it is none that can be read.
func (d *document) instruction() error {
	end, err := d.name(2)
	if err != nil {
		return err
	}
	i, err := d.space(end)
	if err != nil {
		return err
	}
	last, err := d.find("?>", i)
	if err != nil {
		return err
	}
	target, content := d.buf[d.at+2:d.at+end], d.buf[d.at+i:d.at+last]
	if string(target) == "xml" {
		if v := parameter("version", string(content)); v != "" && v != "1.0" {
			return fmt.Errorf("version %.20q of XML is unknown", v)
		}
		if e := parameter("encoding", string(content)); e != "" && !strings.EqualFold(e, "utf-8") {
			return fmt.Errorf("encoding %.20q is unknown", e)
		}
	}
	d.consume(0, last, 2)
	return nil
}

// parameter returns the value of a parameter in a processing instruction, or "". It searches as encoding/xml does.
func parameter(name, content string) string {
	for {
		_, value, ok := strings.Cut(content, name+"=")
		if !ok || value == "" {
			return ""
		}
		if quote := value[0]; quote == '"' || quote == '\'' {
			value, _, ok = strings.Cut(value[1:], string(rune(quote)))
			if !ok {
				return ""
			}
			return value
		}
		content = value[1:]
	}
}

// declaration reads what begins with <!.
func (d *document) declaration() (kind token, text []byte, err error) {
	c, err := d.byteAt(2)
	if err != nil {
		return noToken, nil, err
	}
	switch c {
	case '-':
		return noToken, nil, d.comment()
	case '[':
		const begin = "<![CDATA["
		for i := range len(begin) {
			if c, err := d.byteAt(i); err != nil {
				return noToken, nil, err
			} else if c != begin[i] {
				return noToken, nil, errors.New("<![ begins no CDATA section")
			}
		}
		end, err := d.find("]]>", len(begin))
		if err != nil {
			return noToken, nil, err
		}
		text, err = d.decode(d.consume(len(begin), end, 3), inCDATA)
		return charData, text, err
	}
	return noToken, nil, d.directive()
}

// comment skips a comment.
func (d *document) comment() error {
	if c, err := d.byteAt(3); err != nil {
		return err
	} else if c != '-' {
		return errors.New("<!- begins no comment")
	}
	end, err := d.find("--", 4)
	if err != nil {
		return err
	}
	if c, err := d.byteAt(end + 2); err != nil {
		return err
	} else if c != '>' {
		return errors.New("a comment has -- in it")
	}
	d.consume(0, end, 3)
	return nil
}

// directive skips one, as <!DOCTYPE …>, with those that are nested in it. Angle brackets in quotes and comments do not count.
func (d *document) directive() error {
	var quote byte
	depth := 0
	for i := 3; ; i++ {
		c, err := d.byteAt(i)
		if err != nil {
			return err
		}
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>' && depth == 0:
			d.consume(0, i, 1)
			return nil
		case c == '>':
			depth--
		case c == '<':
			isComment, err := d.hasAt(i+1, "!--")
			if err != nil {
				return err
			}
			if !isComment {
				depth++
				continue
			}
			end, err := d.find("-->", i+4)
			if err != nil {
				return err
			}
			i = end + 2
		}
	}
}

// hasAt reports whether s is at the i-th byte.
func (d *document) hasAt(i int, s string) (bool, error) {
	for j := range len(s) {
		if c, err := d.byteAt(i + j); err != nil || c != s[j] {
			return false, err
		}
	}
	return true, nil
}

// where says what kind of text is decoded.
type where uint8

const (
	inText where = iota
	inQuotes
	inCDATA
)

// plain holds the bytes that stand for themselves wherever they are.
var plain = func() (is [256]bool) {
	for c := range is {
		is[c] = c >= ' ' && c < utf8.RuneSelf && c != '&' && c != ']' || c == '\t' || c == '\n'
	}
	return is
}()

// decode returns text with references resolved, and with each line end as \n.
func (d *document) decode(raw []byte, in where) ([]byte, error) {
	i := 0
	for i < len(raw) && plain[raw[i]] {
		i++
	}
	if i == len(raw) {
		return raw, nil
	}
	out, ascii := append(d.decoded[:0], raw[:i]...), true
	for i < len(raw) {
		switch c := raw[i]; {
		case plain[c]:
			out = append(out, c)
		case c == '&' && in != inCDATA:
			r, n := reference(raw[i:])
			if n == 0 {
				return nil, fmt.Errorf("%.12q is not a reference to a character", raw[i:])
			}
			out = utf8.AppendRune(out, r)
			ascii = ascii && allowed(r) && r < utf8.RuneSelf
			i += n - 1
		case c == ']' && in == inText && bytes.HasPrefix(raw[i:], []byte("]]>")):
			return nil, errors.New("]]> ends no CDATA section")
		case c == '\r':
			out = append(out, '\n')
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
		default:
			out = append(out, c)
			ascii = ascii && (c == '&' || c == ']')
		}
		i++
	}
	d.decoded = out
	if ascii {
		return out, nil
	}
	for rest := out; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 || !allowed(r) {
			return nil, fmt.Errorf("%.4q is not allowed", rest)
		}
		rest = rest[n:]
	}
	return out, nil
}

// allowed reports whether XML allows a character.
func allowed(r rune) bool {
	return r >= ' ' && r <= 0xd7ff || r == '\t' || r == '\n' || r == '\r' || r >= 0xe000 && r <= 0xfffd || r >= 0x10000
}

// reference returns the character that s refers to at its beginning, and the length of the reference; 0: it is none.
func reference(s []byte) (r rune, n int) {
	end := bytes.IndexByte(s, ';')
	if end < 0 {
		return 0, 0
	}
	switch string(s[1:end]) {
	case "lt":
		return '<', end + 1
	case "gt":
		return '>', end + 1
	case "amp":
		return '&', end + 1
	case "apos":
		return '\'', end + 1
	case "quot":
		return '"', end + 1
	}
	if end < 3 || s[1] != '#' {
		return 0, 0
	}
	digits, base := s[2:end], 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	c, err := strconv.ParseUint(string(digits), base, 64)
	if err != nil || c > unicode.MaxRune {
		return 0, 0
	}
	return rune(c), end + 1
}
