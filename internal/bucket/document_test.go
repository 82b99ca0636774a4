package bucket

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// parseByXML is parsePage by encoding/xml, which the document is compared with.
func parseByXML(in io.Reader) (page listPage, err error) {
	d := xml.NewDecoder(in)
	var path []string // of the open elements
	var text []byte   // of the innermost
	for {
		token, err := d.Token()
		if err != nil {
			return listPage{}, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			name := token.Name.Local
			if len(path) == 0 && name != "ListBucketResult" {
				return listPage{}, fmt.Errorf("its root is <%.20s>", name)
			}
			if path, text = append(path, name), nil; len(path) > maxDepth {
				return listPage{}, errPageBounds
			}
			if len(path) == 2 && name == "Contents" {
				page.contents = append(page.contents, Entry{})
			}
		case xml.CharData:
			if len(path) == 2 || len(path) == 3 {
				text = append(text, token...)
			}
		case xml.EndElement:
			if err := takeByXML(&page, path, string(text)); err != nil {
				return listPage{}, err
			}
			if path, text = path[:len(path)-1], nil; len(path) == 0 {
				return page, nil
			}
		}
	}
}

func takeByXML(p *listPage, path []string, text string) (err error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case len(path) == 2:
		switch path[1] {
		case "EncodingType":
			p.encoding = text
		case "IsTruncated":
			p.truncated = false
			if trimmed != "" {
				p.truncated, err = strconv.ParseBool(trimmed)
			}
		case "NextContinuationToken":
			p.next = text
		}
	case len(path) == 3 && path[1] == "Contents":
		e := &p.contents[len(p.contents)-1]
		switch path[2] {
		case "Key":
			e.Key = text
		case "Type":
			e.Symlink, e.Appendable = strings.EqualFold(text, "Symlink"), strings.EqualFold(text, "Appendable")
		case "ETag":
			e.ETag = text
		case "Size":
			e.Size = 0
			if trimmed != "" {
				e.Size, err = strconv.ParseInt(trimmed, 10, 64)
			}
		case "LastModified":
			err = e.Modified.UnmarshalText([]byte(text))
		}
	}
	return err
}

// checkAgainstXML compares what a document and encoding/xml make of the same bytes. The document has a buffer of window bytes.
func checkAgainstXML(t *testing.T, doc []byte, window int) {
	want, wantErr := parseByXML(bytes.NewReader(doc))
	got, err := parsePage(&document{in: iotest.HalfReader(bytes.NewReader(doc)), buf: make([]byte, window)}, false)
	switch {
	case errors.Is(err, errPageBounds) && window < len(doc):
		return
	case wantErr != nil && strings.Contains(wantErr.Error(), "invalid XML name") && bytes.ContainsFunc(doc, func(r rune) bool { return r > '~' }):
		return // the document does not know which letters are allowed
	case (err == nil) != (wantErr == nil):
		t.Fatalf("%q: %v, and encoding/xml says: %v", doc, err, wantErr)
	case err != nil:
		return
	}
	if got.encoding != want.encoding || got.truncated != want.truncated || got.next != want.next || !reflect.DeepEqual(got.contents, want.contents) {
		t.Fatalf("%q: %+v\nencoding/xml says: %+v", doc, got, want)
	}
}

// documentPieces are what documents are made of: what OSS sends, what XML allows, and what it refuses.
var documentPieces = strings.Split(`<ListBucketResult>|</ListBucketResult>|<Contents>|</Contents>|<Contents/>|<Key>|</Key>|a/b|&lt;&gt;&amp;&apos;&quot;|&#34;|&#x4a;|&#xD800;
|&#0;|&#;|&#x;|&#99999999999999999999;|&#1114112;|&nbsp;|&|;|<Size>|</Size>| 12 |-1|x|<LastModified>|</LastModified>|2026-01-02T03:04:05.000Z|2026-02-29T03:04:05.000Z
|2026-01-02T03:04:05+08:00|2026-13-02T03:04:05.000Z|2026-01-02T24:04:05.000Z|2026-1-02T03:04:05.000Z|<Type>|</Type>|Symlink|aPPendable|<ETag>|</ETag>|"5B3C"|<IsTruncated>|</IsTruncated>|true|FALSE
|<NextContinuationToken>|</NextContinuationToken>|<EncodingType>|</EncodingType>|url|<Owner><ID>1</ID></Owner>|<x:Key>|</x:Key>|<x:y:z>|<:a>|</:a>|<a:>|</a:>|<a b="c" d='&lt;'>|</a >|<a b=c>
|<a b>|<a b="<">|<a b="]]>"/>|<a	
b = "1"c="2" />|<a/ >|<!-- a > b -->|<!---->|<!-->|<!-- -- -->|<!-- --->|<!- -->|<![CDATA[ a<b&c ]]]>|]]>|<![CDATA[]]>|<![CDATA|<?xml version="1.0" encoding="UTF-8"?>|<?xml version="1.1"?>
|<?xml encoding='latin1'?>|<?xml encoding= encoding="utf-8"?>|<?xml?>|<?a ?b?>|<? a?>|<!DOCTYPE a [<!ENTITY b "c>">]>|<!DOCTYPE <!-- > --> >|<!a '>' <!- > >|<!>>|<1>|<-a>|<a.b-c_1/>|é|<é/>|`+
	"\xff|<a\xff/>|\x00|\x7f|\ufffe|\r\n|\r|]]&#62;|<|>|/|  |]|-|?|!|=|\"|'", "|")

// TestDocument checks that a document of any pieces is parsed as by encoding/xml, at any bounds of its reads.
func TestDocument(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	parsed := 0
	for range 20000 {
		doc := []byte("<ListBucketResult><Contents><Key>")
		if random.IntN(2) == 0 {
			doc = nil
		}
		for range random.IntN(12) {
			piece := documentPieces[random.IntN(len(documentPieces))]
			doc = append(doc, piece...)
			if name, ok := strings.CutPrefix(piece, "<"); ok && random.IntN(2) == 0 { // often what it begins is ended
				doc = append(doc, "7</"+name...)
			}
		}
		if random.IntN(4) > 0 {
			doc = append(doc, "</Key></Contents></ListBucketResult>"...)
		}
		checkAgainstXML(t, doc, 40+random.IntN(200))
		if _, err := parsePage(newDocument(bytes.NewReader(doc)), false); err == nil {
			parsed++
		}
	}
	if parsed < 100 {
		t.Errorf("%d documents were well-formed", parsed)
	}
}

// FuzzDocument checks that a page is parsed as by encoding/xml.
func FuzzDocument(f *testing.F) {
	for i, piece := range documentPieces {
		f.Add([]byte("<ListBucketResult><Contents><Key>k</Key>"+piece+"</Contents></ListBucketResult>"), byte(i))
		f.Add([]byte("<ListBucketResult><Contents><Key>"+piece+"</Key><Size>7</Size></Contents></ListBucketResult>"), byte(i))
	}
	f.Fuzz(func(t *testing.T, doc []byte, window byte) { checkAgainstXML(t, doc, 40+int(window)) })
}

// TestDocumentSaysWhere checks that an error names the place in the page.
func TestDocumentSaysWhere(t *testing.T) {
	for doc, want := range map[string]string{
		"<ListBucketResult></Contents>":             "byte 29: <ListBucketResult> is ended by </Contents>",
		"<ListBucketResult><Contents><Key>a</Key":   "byte 34: unexpected EOF",
		"<ListBucketResult><Contents><Key>a&b</Key": `byte 36: "&b" is not a reference to a character`,
	} {
		if _, err := parsePage(newDocument(strings.NewReader(doc)), false); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
}

// TestUnescape checks that keys are unescaped as by net/url.
func TestUnescape(t *testing.T) {
	var k keeper
	for _, s := range []string{"", "a", "a%2Fb%2fc", "a+b%2B", "%", "%2", "%2g", "%g2", "a%", "%E4%B8%AD%20", "%00%ff", strings.Repeat("%41", 5000)} {
		got, err := k.unescape(s)
		want, wantErr := url.QueryUnescape(s)
		if got != want || !reflect.DeepEqual(err, wantErr) {
			t.Errorf("%.30q: %.30q, %v; want %.30q, %v", s, got, err, want, wantErr)
		}
	}
}

// BenchmarkPage parses a page of a thousand keys.
func BenchmarkPage(b *testing.B) {
	var doc bytes.Buffer
	doc.WriteString("<ListBucketResult><EncodingType>url</EncodingType>")
	for i := range maxKeys {
		fmt.Fprintf(&doc, "<Contents><Key>folder%%2F%08d</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"+
			"<ETag>&#34;5B3C1A2E053D763E1B002CC607C5A0FE&#34;</ETag><Type>Normal</Type><Size>344606</Size><StorageClass>Standard</StorageClass></Contents>", i)
	}
	doc.WriteString("</ListBucketResult>")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := readPage(pageOf(doc.Bytes()), Cursor{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/maxKeys, "ns/key")
}
