package ossdl

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

func goodCheckpoint() *checkpoint {
	crc := uint64(math.MaxUint64)
	return &checkpoint{
		Version: checkpointVersion, Bucket: "bkt", Key: "dir/key \u00e9\"", VersionID: "v1", ETag: `"ABC"`,
		LastModified: "2026-01-02T03:04:05Z", Size: 1000, CRC64: &crc, Path: "file",
		Parts: []checkpointPart{{0, 100, 50, 1}, {100, 100, 100, math.MaxUint64}, {900, 100, 1, 0}},
	}
}

func TestCheckpointEncodeDecode(t *testing.T) {
	for _, edit := range []func(*checkpoint){
		func(*checkpoint) {},
		func(c *checkpoint) { c.CRC64 = nil },
		func(c *checkpoint) { c.Range = &checkpointRange{0, -1} },
		func(c *checkpoint) { c.Size = math.MaxInt64 },
		func(c *checkpoint) { c.URL, c.Bucket, c.Key = true, "host:80", "/a%2fb" },
	} {
		c := goodCheckpoint()
		edit(c)
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeCheckpoint(data)
		if err != nil {
			t.Errorf("%s: %v", data, err)
			continue
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v, want %+v", got, c)
		}
	}
}

func TestCheckpointDocument(t *testing.T) {
	data, err := json.Marshal(goodCheckpoint())
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"version", "bucket", "key", "versionId", "etag", "size", "crc64", "parts"} {
		if _, ok := doc[name]; !ok {
			t.Errorf("no %q in %s", name, data)
		}
	}
	if doc["crc64"] != "18446744073709551615" {
		t.Errorf("crc64 is %v, want a decimal string", doc["crc64"])
	}
	part := doc["parts"].([]any)[1].(map[string]any)
	if part["crc64"] != "18446744073709551615" || part["offset"] != 100.0 || part["size"] != 100.0 || part["done"] != 100.0 {
		t.Errorf("part is %v", part)
	}
}

func TestCheckpointDamaged(t *testing.T) {
	good, err := json.Marshal(goodCheckpoint())
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := decodeCheckpoint(good[:n]); err == nil {
			t.Errorf("accepted when cut to %d of %d bytes", n, len(good))
		}
	}
	for _, c := range []struct{ name, old, new string }{
		{"other version", `"version":1`, `"version":2`},
		{"version 0", `"version":1`, `"version":0`},
		{"negative size", `"size":1000`, `"size":-1`},
		{"size too small", `"size":1000`, `"size":999`},
		{"size as text", `"size":1000`, `"size":"1000"`},
		{"size beyond int64", `"size":1000`, `"size":9223372036854775808`},
		{"fraction", `"size":1000`, `"size":1000.5`},
		{"overlap", `"offset":100`, `"offset":99`},
		{"negative offset", `"offset":0`, `"offset":-1`},
		{"offset overflows", `"offset":900`, `"offset":9223372036854775807`},
		{"size overflows", `"offset":900,"size":100`, `"offset":900,"size":9223372036854775807`},
		{"nothing done", `"done":50`, `"done":0`},
		{"done more than its size", `"done":50`, `"done":101`},
		{"CRC-64 as number", `"crc64":"1"`, `"crc64":1`},
		{"CRC-64 beyond uint64", `"crc64":"1"`, `"crc64":"18446744073709551616"`},
		{"CRC-64 negative", `"crc64":"1"`, `"crc64":"-1"`},
		{"more behind it", `}]}`, `}]} {}`},
		{"range outside", `"size":1000`, `"range":{"offset":1000,"length":-1},"size":1000`},
		{"range too long", `"size":1000`, `"range":{"offset":1,"length":1000},"size":1000`},
		{"parts outside the range", `"size":1000`, `"range":{"offset":0,"length":900},"size":1000`},
	} {
		doc := strings.Replace(string(good), c.old, c.new, 1)
		if doc == string(good) {
			t.Fatalf("%s: %q is not in the document", c.name, c.old)
		}
		if got, err := decodeCheckpoint([]byte(doc)); err == nil {
			t.Errorf("%s: accepted as %+v", c.name, got)
		}
	}
}

func TestCheckpointStaysWithinItsBounds(t *testing.T) {
	s := newSet(48_800_000_000_000)
	for i := range int64(5000) {
		if err := s.claim(span{i * 9e9, i*9e9 + 8e9}, math.MaxUint64-uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	c := goodCheckpoint()
	c.Size, c.Key, c.Path = 48_800_000_000_000, strings.Repeat("\x01", maxKey), strings.Repeat("p", 4096)
	data, err := c.encode(s.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > checkpointLimit {
		t.Errorf("%d bytes, want at most %d", len(data), checkpointLimit)
	}
	got, err := decodeCheckpoint(data)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Parts); n == 0 || n > maxClaims {
		t.Errorf("%d parts, want 1 to %d", n, maxClaims)
	}
}

func TestCheckpointFits(t *testing.T) {
	id := identity{bucket: "bkt", key: goodCheckpoint().Key}
	for _, c := range []struct {
		name string
		edit func(*checkpoint, *objectOptions)
		want string // of the reason; "": it fits
	}{
		{"same", func(*checkpoint, *objectOptions) {}, ""},
		{"any version is the current one's business", func(c *checkpoint, s *objectOptions) { c.VersionID = "old" }, ""},
		{"asked for its version", func(c *checkpoint, s *objectOptions) { s.versionID = "v1" }, ""},
		{"other version", func(c *checkpoint, s *objectOptions) { s.versionID = "v2" }, "version"},
		{"other key", func(c *checkpoint, s *objectOptions) { c.Key = "x" }, "another object"},
		{"a URL's", func(c *checkpoint, s *objectOptions) { c.URL = true }, "another object"},
		{"wanted ETag, in lower case", func(c *checkpoint, s *objectOptions) { s.ifMatch = `"abc"` }, ""},
		{"other ETag", func(c *checkpoint, s *objectOptions) { s.ifMatch = `"DEF"` }, "ETag"},
		{"a range's", func(c *checkpoint, s *objectOptions) { c.Range = &checkpointRange{0, -1} }, "another range"},
		{"for a range", func(c *checkpoint, s *objectOptions) { s.window = &window{0, -1} }, "another range"},
		{"same range", func(c *checkpoint, s *objectOptions) { s.window, c.Range = &window{5, 10}, &checkpointRange{5, 10} }, ""},
		{"other range", func(c *checkpoint, s *objectOptions) { s.window, c.Range = &window{5, 10}, &checkpointRange{5, 11} }, "another range"},
		{"other destination", func(c *checkpoint, s *objectOptions) { c.Path = "../file" }, "destination"},
		{"no identity", func(c *checkpoint, s *objectOptions) { c.ETag, c.CRC64, c.LastModified = "", nil, "" }, "identifies"},
	} {
		cp, cfg := goodCheckpoint(), objectOptions{}
		c.edit(cp, &cfg)
		err := cp.fits("file", id, &cfg)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// FuzzCheckpoint: the decoder never panics, takes memory for what it reads and not for what that promises, and what it
// accepts lays out a sound set and survives encoding.
func FuzzCheckpoint(f *testing.F) {
	good, err := json.Marshal(goodCheckpoint())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"size":0,"parts":[]}`))
	f.Add([]byte(fmt.Sprintf(`{"version":1,"size":%d,"range":{"offset":1,"length":-1},"parts":null}`, int64(math.MaxInt64))))
	f.Add([]byte(fmt.Sprintf(`{"version":1,"size":%[1]d,"parts":[{"offset":0,"size":%[1]d,"done":%[1]d,"crc64":"1"}]}`, int64(math.MaxInt64))))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c *checkpoint
		var s *set
		var err error
		spent := allocated(func() {
			if c, err = decodeCheckpoint(data); err == nil {
				s, err = c.set()
			}
		})
		if most := checkpointMemory(len(data)); spent > most {
			t.Fatalf("%d bytes of memory for %d bytes, more than %d", spent, len(data), most)
		}
		if s == nil {
			if c != nil && err == nil {
				t.Fatalf("%s: no set", data)
			}
			return
		}
		if err := s.check(nil); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		// By the encoder, with all the parts: they become what they were, and what the set claims is the same.
		again, err := c.encode(func(int) []claim { return claimsOf(c) })
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeCheckpoint(again)
		if len(claimsOf(c)) > 0 && len(again) < checkpointLimit && (err != nil || !reflect.DeepEqual(back, c)) {
			t.Fatalf("%s became %+v, %v", data, back, err)
		}
		claims := s.snapshot(math.MaxInt)
		for i, want := range claimsOf(c) {
			if got := claims[i]; got.off != want.off || got.done != want.done || got.crc != want.crc {
				t.Fatalf("%s: claim %d of the set is %+v, want %+v", data, i, got, want)
			}
		}
	})
}

// checkpointMemory bounds what the decoder may take, in all, for a document of n bytes: a part has 32 bytes, and as little
// as three in JSON.
func checkpointMemory(n int) uint64 { return uint64(100*n + 100_000) }

// allocated is how much memory fn takes, in bytes, what it gives back included. Nothing else should run.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// claimsOf is the parts of a document as a snapshot has them.
func claimsOf(c *checkpoint) (claims []claim) {
	for _, p := range c.Parts {
		claims = append(claims, claim{p.Offset, p.Size, p.Done, p.CRC64, false})
	}
	return claims
}

// TestCheckpointMemory: the numbers of a document cost nothing.
func TestCheckpointMemory(t *testing.T) {
	for name, doc := range hostileDocuments(t) {
		spent := allocated(func() {
			if c, err := decodeCheckpoint(doc); err == nil {
				c.set()
			}
		})
		if most := checkpointMemory(len(doc)); spent > most {
			t.Errorf("%s: %d bytes of memory for %d bytes, more than %d", name, spent, len(doc), most)
		}
	}
}

// honestCheckpoint is of hostileScene's object, and true.
const (
	honestCheckpoint = `{"version":1,"bucket":"bkt","key":"k","versionId":"","etag":"\"C96228F16CA7382C\"",` +
		`"lastModified":"2001-09-09T01:46:40Z","size":20580,"crc64":"14511205966716287020","path":"file","parts":[` +
		`{"offset":0,"size":8000,"done":8000,"crc64":"13641423820761933214"},` +
		`{"offset":8000,"size":4000,"done":4000,"crc64":"9526840850765454949"}]}`
	honestBytes = 12000
)

// hostileScene is a download with all its data in the partial file, and the checkpoint still to come.
func hostileScene(t *testing.T) *scene {
	t.Helper()
	return newScene(t, "hostile", smallSize, memfs.Config{}).interrupt(t, killedBefore)
}

// hostileDocuments are checkpoints that nobody wrote, of the scene's object and path as far as they can be.
func hostileDocuments(t *testing.T) map[string][]byte {
	t.Helper()
	sc := hostileScene(t)
	docs := map[string][]byte{}
	for name, edit := range map[string]func(c *checkpoint){
		"honest":                  func(c *checkpoint) {},
		"ETag of two lines":       func(c *checkpoint) { c.ETag = "\"A\"\r\nX-Injected: 1" },
		"ETag with a zero byte":   func(c *checkpoint) { c.ETag = "\"A\x00\"" },
		"ETag of half a megabyte": func(c *checkpoint) { c.ETag = `"` + strings.Repeat("A", 500_000) + `"` },
		"ETag without quotes":     func(c *checkpoint) { c.ETag = "*" },
		"weak ETag":               func(c *checkpoint) { c.ETag = "W/" + c.ETag },
		"no ETag":                 func(c *checkpoint) { c.ETag = "" },
		"version of two lines":    func(c *checkpoint) { c.VersionID = "a\r\nb" },
		"odd date":                func(c *checkpoint) { c.LastModified = "99999999999-13-45T99:99:99Z" },
		"another date":            func(c *checkpoint) { c.LastModified = "2030-01-01T00:00:00Z" },
		"the largest size":        func(c *checkpoint) { c.Size = math.MaxInt64 },
		"the largest claim": func(c *checkpoint) {
			c.Size, c.Parts = math.MaxInt64, []checkpointPart{{0, math.MaxInt64, math.MaxInt64, 1}}
		},
		"a size of one":                func(c *checkpoint) { c.Size, c.Parts = 1, []checkpointPart{{0, 1, 1, 1}} },
		"claims all":                   func(c *checkpoint) { c.Parts = []checkpointPart{{0, smallSize, smallSize, *c.CRC64}} },
		"claims the end":               func(c *checkpoint) { c.Parts = []checkpointPart{{smallSize - 1, 1, 1, 7}} },
		"false sums":                   func(c *checkpoint) { c.Parts[0].CRC64++ },
		"the object's sum is false":    func(c *checkpoint) { *c.CRC64++ },
		"a path above":                 func(c *checkpoint) { c.Path = "../../../../etc/passwd" },
		"an absolute path":             func(c *checkpoint) { c.Path = "/cps/x" },
		"the checkpoint's own name":    func(c *checkpoint) { c.Path = "file.cp" },
		"another key":                  func(c *checkpoint) { c.Key = "../k" },
		"a URL's":                      func(c *checkpoint) { c.URL = true },
		"a range of nothing":           func(c *checkpoint) { c.Range = &checkpointRange{0, 0} },
		"a range beyond":               func(c *checkpoint) { c.Range = &checkpointRange{math.MaxInt64, math.MaxInt64} },
		"a negative range":             func(c *checkpoint) { c.Range = &checkpointRange{-5, -1} },
		"negative numbers":             func(c *checkpoint) { c.Size, c.Parts = -1, []checkpointPart{{-1, -1, -1, 0}} },
		"sums of numbers overflow":     func(c *checkpoint) { c.Parts = []checkpointPart{{math.MaxInt64, math.MaxInt64, math.MaxInt64, 0}} },
		"no parts":                     func(c *checkpoint) { c.Parts = nil },
		"thousands of parts, all true": func(c *checkpoint) { c.Parts = everyByte(sc, smallSize/2, func(crc uint64) uint64 { return crc }) },
		"thousands of parts, all false": func(c *checkpoint) {
			c.Parts = everyByte(sc, smallSize/2, func(crc uint64) uint64 { return crc + 1 })
		},
		"parts upside down": func(c *checkpoint) { c.Parts = []checkpointPart{{100, 10, 10, 0}, {0, 10, 10, 0}} },
	} {
		c, err := decodeCheckpoint([]byte(honestCheckpoint))
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
		"numbers of many digits": strings.Replace(honestCheckpoint, `"offset":`, `"offset":`+strings.Repeat("9", 100_000), 1),
		"an exponent":            strings.Replace(honestCheckpoint, `"size":`, `"size":1e400,"size":`, 1),
		"twice the same name":    strings.Replace(honestCheckpoint, `"size":`, `"size":5,"size":`, 1),
		"deep":                   strings.Repeat("[", 100_000),
		"deep inside":            strings.Replace(honestCheckpoint, `"version":`, `"x":`+strings.Repeat(`{"x":`, 100_000)+`1`+strings.Repeat("}", 100_000)+`,"version":`, 1),
		"cut off":                honestCheckpoint[:len(honestCheckpoint)/2],
		"no JSON":                "\xff\xfe\x00",
		"a list":                 "[]",
		"parts by a number":      `{"version":1,"size":1000000000000,"parts":1000000000}`,
	} {
		docs[name] = []byte(doc)
	}
	return docs
}

// everyByte is a claim for each of the first n bytes of a scene.
func everyByte(sc *scene, n int, sum func(uint64) uint64) (parts []checkpointPart) {
	for i := range n {
		parts = append(parts, checkpointPart{int64(i), 1, 1, sum(crc64.Update(0, sc.want[i:i+1]))})
	}
	return parts
}

// meets runs a download that finds a document in the place of its checkpoint. Whatever that says, the file is right, nothing
// is written elsewhere, and it is told whether the download was continued or started anew.
func (sc *scene) meets(t *testing.T, doc []byte) outcome {
	t.Helper()
	disk := sc.before.Kill()
	if err := putFile(disk, scenePath+checkpointSuffix, string(doc)); err != nil {
		t.Fatal(err)
	}
	out := sc.run(t, disk)
	if out.err != nil {
		t.Fatalf("%.300q: %v\n%s", doc, out.err, out.log)
	}
	sc.done(t, disk)
	if !strings.Contains(out.log, "msg=resuming") && !strings.Contains(out.log, "starting over") {
		t.Errorf("%.300q: nothing is said of it\n%s", doc, out.log)
	}
	return out
}

// TestHostileCheckpoints: a hostile document costs a fresh start at worst, and never an error, which the next call would
// meet again.
func TestHostileCheckpoints(t *testing.T) {
	sc := hostileScene(t)
	resumed := map[string]int64{
		"honest": honestBytes, "ETag without quotes": 0, "odd date": honestBytes, "false sums": honestBytes - 8000,
		"claims all": smallSize, "thousands of parts, all true": smallSize / 2, "thousands of parts, all false": 0,
	}
	for name, doc := range hostileDocuments(t) {
		t.Run(name, func(t *testing.T) {
			out := sc.meets(t, doc)
			if want, known := resumed[name]; known && out.res.ResumedBytes != want {
				t.Errorf("%d bytes resumed, want %d\n%s", out.res.ResumedBytes, want, out.log)
			}
		})
	}
}

// FuzzHostileCheckpoint is TestHostileCheckpoints for any document.
func FuzzHostileCheckpoint(f *testing.F) {
	var sc *scene
	var once sync.Once
	f.Add([]byte(honestCheckpoint))
	f.Add([]byte(strings.Replace(honestCheckpoint, "C96228F16CA7382C", `A\r\nX: 1`, 1)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		once.Do(func() { sc = hostileScene(t) })
		sc.meets(t, doc)
	})
}

func readTestCheckpoint(t *testing.T, path string) *checkpoint {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := decodeCheckpoint(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
