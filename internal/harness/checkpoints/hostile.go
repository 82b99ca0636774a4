package checkpoints

import (
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/osstest"
)

// Honest is the checkpoint of a true run, as it is in its file. Its object has HonestContent, and it claims HonestBytes.
const (
	Honest = `{"format":"ossdl checkpoint","version":1,"bucket":"bkt","key":"k","versionId":"","etag":"\"C96228F16CA7382C\"",` +
		`"lastModified":"2001-09-09T01:46:40Z","size":20580,"crc64":"14511205966716287020","path":"../file","parts":[` +
		`{"offset":0,"size":8000,"done":8000,"crc64":"13641423820761933214"},` +
		`{"offset":8000,"size":4000,"done":4000,"crc64":"9526840850765454949"}]}`
	HonestBytes = 12000
	HonestSize  = 20<<10 + 100
)

// HonestContent is the object of Honest.
func HonestContent(t testing.TB) []byte {
	t.Helper()
	content := make([]byte, HonestSize)
	if _, err := osstest.Random(1, HonestSize).ReadAt(content, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return content
}

// Hostile returns checkpoints that no run wrote, by what is wrong with them. They are of the honest one's object and path as
// far as they can be.
func Hostile(t testing.TB) map[string][]byte {
	t.Helper()
	content := HonestContent(t)
	docs := map[string][]byte{}
	for name, edit := range map[string]func(c *Document){
		"honest":                  func(c *Document) {},
		"ETag of two lines":       func(c *Document) { c.ETag = "\"A\"\r\nX-Injected: 1" },
		"ETag with a zero byte":   func(c *Document) { c.ETag = "\"A\x00\"" },
		"ETag of half a megabyte": func(c *Document) { c.ETag = `"` + strings.Repeat("A", 500_000) + `"` },
		"ETag without quotes":     func(c *Document) { c.ETag = "*" },
		"weak ETag":               func(c *Document) { c.ETag = "W/" + c.ETag },
		"no ETag":                 func(c *Document) { c.ETag = "" },
		"version of two lines":    func(c *Document) { c.VersionID = "a\r\nb" },
		"odd date":                func(c *Document) { c.LastModified = "99999999999-13-45T99:99:99Z" },
		"another date":            func(c *Document) { c.LastModified = "2030-01-01T00:00:00Z" },
		"the largest size":        func(c *Document) { c.Size = math.MaxInt64 },
		"the largest claim": func(c *Document) {
			c.Size, c.Parts = math.MaxInt64, []Part{{0, math.MaxInt64, math.MaxInt64, 1}}
		},
		"a size of one":                func(c *Document) { c.Size, c.Parts = 1, []Part{{0, 1, 1, 1}} },
		"claims all":                   func(c *Document) { c.Parts = []Part{{0, HonestSize, HonestSize, *c.CRC64}} },
		"claims the end":               func(c *Document) { c.Parts = []Part{{HonestSize - 1, 1, 1, 7}} },
		"false sums":                   func(c *Document) { c.Parts[0].CRC64++ },
		"the object's sum is false":    func(c *Document) { *c.CRC64++ },
		"encrypted":                    func(c *Document) { c.Encryption = strings.Repeat("0", 32) },
		"encrypted, half a megabyte":   func(c *Document) { c.Encryption = strings.Repeat("\x1b[2J", 125_000) },
		"a path above":                 func(c *Document) { c.Path = "../../../../etc/passwd" },
		"an absolute path":             func(c *Document) { c.Path = "/cps/x" },
		"the checkpoint's own name":    func(c *Document) { c.Path = "checkpoint.json" },
		"another key":                  func(c *Document) { c.Key = "../k" },
		"a URL's":                      func(c *Document) { c.URL = true },
		"a range of nothing":           func(c *Document) { c.Range = &Range{0, 0} },
		"a range beyond":               func(c *Document) { c.Range = &Range{math.MaxInt64, math.MaxInt64} },
		"a negative range":             func(c *Document) { c.Range = &Range{-5, -1} },
		"negative numbers":             func(c *Document) { c.Size, c.Parts = -1, []Part{{-1, -1, -1, 0}} },
		"sums of numbers overflow":     func(c *Document) { c.Parts = []Part{{math.MaxInt64, math.MaxInt64, math.MaxInt64, 0}} },
		"no parts":                     func(c *Document) { c.Parts = nil },
		"thousands of parts, all true": func(c *Document) { c.Parts = everyByte(content, HonestSize/2, func(crc uint64) uint64 { return crc }) },
		"thousands of parts, all false": func(c *Document) {
			c.Parts = everyByte(content, HonestSize/2, func(crc uint64) uint64 { return crc + 1 })
		},
		"parts upside down": func(c *Document) { c.Parts = []Part{{100, 10, 10, 0}, {0, 10, 10, 0}} },
	} {
		c, err := Decode([]byte(Honest))
		if err != nil {
			t.Fatal(err)
		}
		edit(c)
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		docs[name] = data
	}
	for name, doc := range map[string]string{
		"numbers of many digits": strings.Replace(Honest, `"offset":`, `"offset":`+strings.Repeat("9", 100_000), 1),
		"an exponent":            strings.Replace(Honest, `"size":`, `"size":1e400,"size":`, 1),
		"twice the same name":    strings.Replace(Honest, `"size":`, `"size":5,"size":`, 1),
		"deep":                   `{"format":"ossdl checkpoint","version":` + strings.Repeat("[", 100_000),
		"deep inside":            strings.Replace(Honest, `"bucket":`, `"x":`+strings.Repeat(`{"x":`, 100_000)+`1`+strings.Repeat("}", 100_000)+`,"bucket":`, 1),
		"cut off":                Honest[:len(Honest)/2],
		"zeros":                  strings.Repeat("\x00", 1000),
		"empty":                  "",
		"no JSON":                `{"format":"ossdl checkpoint","version":` + "\xff\xfe\x00",
		"a list":                 `{"format":"ossdl checkpoint","version":[]}`,
		"parts by a number":      `{"format":"ossdl checkpoint","version":1,"size":1000000000000,"parts":1000000000}`,
	} {
		docs[name] = []byte(doc)
	}
	return docs
}

// everyByte is a claim for each of the first n bytes of the content.
func everyByte(content []byte, n int, sum func(uint64) uint64) (parts []Part) {
	for i := range n {
		parts = append(parts, Part{int64(i), 1, 1, sum(crc64.Update(0, content[i:i+1]))})
	}
	return parts
}
