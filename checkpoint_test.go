package ossdl

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/osstest"
	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/span"
)

func goodCheckpoint() *checkpoint {
	crc := uint64(math.MaxUint64)
	return &checkpoint{
		Version: checkpointVersion, Bucket: "bkt", Key: "dir/key \u00e9\"", VersionID: "v1", ETag: `"ABC"`,
		LastModified: "2026-01-02T03:04:05Z", Size: 1000, CRC64: &crc, Path: "file",
		Parts: []checkpointPart{{0, 100, 50, 1}, {100, 100, 100, math.MaxUint64}, {900, 100, 1, 0}},
	}
}

// TestCheckpointEncodeDecode checks that what is read is what was written.
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

// TestCheckpointDocument checks the names of the fields, and that each CRC-64 is a decimal string.
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

// TestCheckpointDamaged checks that a document that is cut off, or says what no run would write, is refused.
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

// TestCheckpointStaysWithinItsBounds checks that a map of very many parts, and the longest names, become a document that is
// short enough.
func TestCheckpointStaysWithinItsBounds(t *testing.T) {
	s := parts.New(48_800_000_000_000)
	for i := range int64(5000) {
		if err := s.Claim(span.Span{Off: i * 9e9, End: i*9e9 + 8e9}, math.MaxUint64-uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	c := goodCheckpoint()
	c.Size, c.Key, c.Path = 48_800_000_000_000, strings.Repeat("\x01", bucket.MaxKey), strings.Repeat("p", 4096)
	data, err := c.encode(s.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > localfile.CheckpointLimit {
		t.Errorf("%d bytes, want at most %d", len(data), localfile.CheckpointLimit)
	}
	got, err := decodeCheckpoint(data)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Parts); n == 0 || n > parts.MaxClaims {
		t.Errorf("%d parts, want 1 to %d", n, parts.MaxClaims)
	}
}

// TestCheckpointFits checks which calls may use a checkpoint.
func TestCheckpointFits(t *testing.T) {
	id := object.Identity{Bucket: "bkt", Key: goodCheckpoint().Key}
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
		{"for a range", func(c *checkpoint, s *objectOptions) { s.asked = &rangeAsked{0, -1} }, "another range"},
		{"same range", func(c *checkpoint, s *objectOptions) { s.asked, c.Range = &rangeAsked{5, 10}, &checkpointRange{5, 10} }, ""},
		{"other range", func(c *checkpoint, s *objectOptions) { s.asked, c.Range = &rangeAsked{5, 10}, &checkpointRange{5, 11} }, "another range"},
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

// FuzzCheckpoint checks that the decoder never panics, takes memory for what it reads and not for what that promises, and
// what it accepts makes a sound map of parts and survives encoding.
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
		var s *parts.Map
		var err error
		spent := allocated(func() {
			if c, err = decodeCheckpoint(data); err == nil {
				s, err = c.partsMap()
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
		have := int64(0)
		for _, claimed := range claimsOf(c) {
			have += claimed.Done
		}
		if length, err := c.length(); err != nil || s.Totals() != (parts.Totals{Size: length, Have: have}) {
			t.Fatalf("%s: %+v of %d bytes, %v", data, s.Totals(), length, err)
		}
		// By the encoder, with all the parts: they become what they were, and what the map claims is the same.
		again, err := c.encode(func(int) []parts.Claim { return claimsOf(c) })
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeCheckpoint(again)
		if len(claimsOf(c)) > 0 && len(again) < localfile.CheckpointLimit && (err != nil || !reflect.DeepEqual(back, c)) {
			t.Fatalf("%s became %+v, %v", data, back, err)
		}
		claims := s.Snapshot(math.MaxInt)
		for i, want := range claimsOf(c) {
			if got := claims[i]; got.Off != want.Off || got.Done != want.Done || got.CRC != want.CRC {
				t.Fatalf("%s: claim %d of the map is %+v, want %+v", data, i, got, want)
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
func claimsOf(c *checkpoint) (claims []parts.Claim) {
	for _, p := range c.Parts {
		claims = append(claims, parts.Claim{Off: p.Offset, Size: p.Size, Done: p.Done, CRC: p.CRC64, Synced: false})
	}
	return claims
}

// TestCheckpointMemory checks that the numbers of a document cost nothing.
func TestCheckpointMemory(t *testing.T) {
	for name, doc := range checkpoints.Hostile(t) {
		spent := allocated(func() {
			if c, err := decodeCheckpoint(doc); err == nil {
				c.partsMap()
			}
		})
		if most := checkpointMemory(len(doc)); spent > most {
			t.Errorf("%s: %d bytes of memory for %d bytes, more than %d", name, spent, len(doc), most)
		}
	}
}

// TestHugeObjectInTheSet checks that a map of parts and its checkpoint can hold the largest object there can be, with a crash
// in its middle: no number overflows, the checkpoint stays small, and the CRC-64 of a million ranges is that of the object.
func TestHugeObjectInTheSet(t *testing.T) {
	const piece = 512 << 20
	whole := osstest.Zeros(piece).CRC64()
	fetch := func(s *parts.Map, until int64) {
		for n := 1; s.Totals().Done < until; n++ {
			p := s.Take(func(int64) int64 { return piece })
			h := s.Hold(p, piece)
			crc := whole
			if h.Size != piece {
				crc = osstest.Zeros(int64(h.Size)).CRC64()
			}
			if !s.Advance(p, h, crc) {
				t.Fatalf("%d bytes at %d are not all of [%d,%d)", h.Size, h.Off, p.Off, p.End)
			}
			if n%100 == 0 {
				s.BeginSync()
				s.EndSync()
			}
		}
	}
	s := parts.New(largestObject)
	fetch(s, largestObject/2)
	c := goodCheckpoint()
	c.Size = largestObject
	data, err := c.encode(s.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = decodeCheckpoint(data); err != nil {
		t.Fatal(err)
	}
	done := s.Totals().Done
	if s, err = c.partsMap(); err != nil {
		t.Fatal(err)
	}
	for p, _ := s.NextClaim(); p != nil; p, _ = s.NextClaim() {
		s.Proved(p, true)
	}
	if got := s.Totals(); got.Done != done || got.Size != largestObject {
		t.Errorf("%d of %d bytes kept of %d", got.Done, got.Size, done)
	}
	fetch(s, largestObject)
	if got, want := s.Sum(), osstest.Zeros(largestObject).CRC64(); got != want {
		t.Errorf("CRC-64 %d, want %d", got, want)
	}
	if n := len(s.Snapshot(1 << 20)); n > 512 {
		t.Errorf("%d parts in the end", n)
	}
}

// largestObject is the size of the largest object that OSS stores.
const largestObject = 48_800_000_000_000

// BenchmarkCheckpointEncode encodes the largest checkpoint.
func BenchmarkCheckpointEncode(b *testing.B) {
	s := parts.New(1 << 40)
	for i := range int64(parts.MaxClaims) {
		if err := s.Claim(span.Span{Off: i << 30, End: i<<30 + 1<<20}, uint64(i)*0x9e3779b97f4a7c15); err != nil {
			b.Fatal(err)
		}
	}
	c := &checkpoint{Version: checkpointVersion, Bucket: "bkt", Key: "key", ETag: `"5B3C1A2E053D763E1B002CC607C5A0FE"`, Size: 1 << 40}
	for b.Loop() {
		data, err := c.encode(s.Snapshot)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}

// renames counts the checkpoints that were put in place.
func renames(f *faultfs.FS) (n int) {
	for _, op := range f.Ops() {
		if op.Kind == faultfs.Rename && strings.HasSuffix(op.To, "checkpoint.json") {
			n++
		}
	}
	return n
}

// passes waits, and reports whether the context has not ended by then.
func passes(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// TestSaveCadence checks how often the checkpoint is saved: at most twenty times a second, and for at most a twentieth of the
// time, however fast the line and however slow the disk. With little to save a second passes between two saves.
func TestSaveCadence(t *testing.T) {
	for name, c := range map[string]struct {
		every       time.Duration // a MiB comes
		disk        time.Duration // a rename takes
		least, most int           // saves in ten seconds
	}{
		"fast line":               {time.Millisecond, 0, 100, 200},
		"slow line":               {250 * time.Millisecond, 0, 8, 11},
		"nothing comes":           {time.Hour, 0, 0, 0},
		"slow disk":               {time.Millisecond, 40 * time.Millisecond, 8, 13},
		"disk that is very slow":  {time.Millisecond, 200 * time.Millisecond, 2, 3},
		"slow disk and slow line": {250 * time.Millisecond, 40 * time.Millisecond, 7, 11},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := memfs.New(memfs.Config{})
				if err := disk.Mkdir("/dir", 0o755); err != nil {
					t.Fatal(err)
				}
				f := faultfs.New(disk)
				f.OnOp(func(op faultfs.Op) error {
					if op.Kind == faultfs.Rename {
						time.Sleep(c.disk)
					}
					return nil
				})
				cfg := defaults()
				m := parts.New(1 << 40)
				dst, err := localfile.Check(localfile.Config{FS: f, Log: cfg.log, Path: "/dir/file", KeepPartial: true})
				if err != nil {
					t.Fatal(err)
				}
				unlock, err := dst.Lock()
				if err != nil {
					t.Fatal(err)
				}
				defer unlock()
				k := newKeeper(dst, m, object.Identity{Bucket: "b", Key: "k"}, &cfg.object, cfg.log)
				k.engine = begun{object.Facts{Size: 1 << 40, ETag: `"e"`}}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var line sync.WaitGroup
				line.Go(func() {
					for passes(ctx, c.every) {
						p := m.Take(func(int64) int64 { return 1 << 20 })
						m.Advance(p, m.Hold(p, 1<<20), 0)
					}
				})
				if err := k.saves(ctx); err != nil {
					t.Error(err)
				}
				line.Wait()
				if n := renames(f); n < c.least || n > c.most {
					t.Errorf("%d saves in ten seconds, want %d to %d", n, c.least, c.most)
				}
			})
		})
	}
}

// begun is the state of an engine that knows its object, and whose destination has begun.
type begun struct{ f object.Facts }

func (b begun) Facts() (object.Facts, bool) { return b.f, true }
func (b begun) Total() (int64, bool)        { return b.f.Size, true }
func (begun) IsReady() bool                 { return true }
