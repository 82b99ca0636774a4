// Package checkpoints reads and writes the checkpoint files of downloads by their format alone. It shares no code with the
// library, so that the tests which use it also pin the format. It must not import the library: the library's own tests use it.
package checkpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/ossdl/ossdl/internal/crc64"
)

const (
	// Format is the first field of every checkpoint.
	Format = "ossdl checkpoint"
	// Mode is the mode of a checkpoint, less the umask.
	Mode fs.FileMode = 0o666
	// ReadLimit is the size of the largest checkpoint that the library reads, in bytes.
	ReadLimit = 1 << 20
)

// Document is a checkpoint of format version 1. The order of the fields is theirs in the file.
type Document struct {
	Format       string  `json:"format"`
	Version      int     `json:"version"`
	URL          bool    `json:"url,omitempty"` // Bucket and Key are host and path of a URL
	Bucket       string  `json:"bucket"`
	Key          string  `json:"key"`
	VersionID    string  `json:"versionId"`
	ETag         string  `json:"etag"`
	LastModified string  `json:"lastModified,omitempty"`
	Size         int64   `json:"size"` // of the object
	Range        *Range  `json:"range,omitempty"`
	CRC64        *uint64 `json:"crc64,string,omitempty"` // of the object, as the service says
	Encryption   string  `json:"encryption,omitempty"`   // names how the object is encrypted, if the data is decrypted
	Path         string  `json:"path"`                   // of the file, relative to the folder of the checkpoint
	Parts        []Part  `json:"parts"`
}

// Range is the part of the object that the download is of.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"` // -1: to the end
}

// Part claims that the first Done bytes of a part have this CRC-64. Offset is that in the file.
type Part struct {
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Done   int64  `json:"done"`
	CRC64  uint64 `json:"crc64,string"`
}

// Span is what the part claims.
func (p Part) Span() Span { return Span{p.Offset, p.Offset + p.Done} }

// Span is the bytes from Off to before End.
type Span struct{ Off, End int64 }

// Len returns how many bytes there are.
func (s Span) Len() int64 { return s.End - s.Off }

// Total returns how many bytes all spans have together.
func Total(spans []Span) (bytes int64) {
	for _, s := range spans {
		bytes += s.Len()
	}
	return bytes
}

// Decode reads a document that a run may have written. Anything else is an error: a name that the format does not have, a
// claim outside the download, one that overlaps another.
func Decode(data []byte) (*Document, error) {
	d := new(Document)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(d); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("more behind the document: %w", err)
	}
	return d, d.check()
}

func (d *Document) check() error {
	if d.Format != Format || d.Version != 1 || len(d.Parts) == 0 {
		return fmt.Errorf("format %q, version %d, %d parts", d.Format, d.Version, len(d.Parts))
	}
	end, length := int64(0), d.Length()
	for _, p := range d.Parts {
		if p.Offset < end || p.Done < 1 || p.Done > p.Size || p.Offset+p.Size > length {
			return fmt.Errorf("part %+v of %d bytes, after one that ends at %d", p, length, end)
		}
		end = p.Offset + p.Size
	}
	return nil
}

// Length returns how many bytes the download has.
func (d *Document) Length() int64 {
	switch {
	case d.Range == nil:
		return d.Size
	case d.Range.Length < 0:
		return d.Size - d.Range.Offset
	}
	return d.Range.Length
}

// Spans are what the document claims.
func (d *Document) Spans() (spans []Span) {
	for _, p := range d.Parts {
		spans = append(spans, p.Span())
	}
	return spans
}

// Complete reports whether the document claims every byte.
func (d *Document) Complete() bool { return Total(d.Spans()) == d.Length() }

// Claim makes the document claim these spans of content, truly, and nothing else.
func (d *Document) Claim(content []byte, spans ...Span) {
	d.Parts = nil
	for _, s := range spans {
		d.Parts = append(d.Parts, Part{s.Off, s.Len(), s.Len(), crc64.Update(0, content[s.Off:s.End])})
	}
}

// Encode returns the document as a run writes it.
func (d *Document) Encode() ([]byte, error) {
	data, err := json.Marshal(d)
	return append(data, '\n'), err
}

// Read returns the document that a run has left in the file name. It also holds the bytes against the format.
func Read(t testing.TB, name string) *Document {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Decode(data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if again, err := d.Encode(); err != nil || !bytes.Equal(again, data) {
		t.Fatalf("%s is not of the format: %v\n%s%s", name, err, data, again)
	}
	return d
}

// Write replaces the file name by the document.
func Write(t testing.TB, name string, d *Document) {
	t.Helper()
	data, err := d.Encode()
	if err = errors.Join(err, os.WriteFile(name, data, Mode)); err != nil {
		t.Fatal(err)
	}
}
