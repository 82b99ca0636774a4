package tree

import (
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
)

// TestCheckName checks which names are refused everywhere, and which on Windows alone.
func TestCheckName(t *testing.T) {
	for _, c := range []struct{ name, everywhere, windows string }{
		{"a", "", ""},
		{"a/b c/d.e", "", ""},
		{"a/", "", ""},
		{"...", "", "drops"},
		{"..x", "", ""},
		{"x..", "", "drops"},
		{".", `"."`, ""},
		{"a/..", `".."`, ""},
		{"../a", `".."`, ""},
		{"/a", "empty", ""},
		{"a//b", "empty", ""},
		{"a//", "empty", ""},
		{"/", "empty", ""},
		{"a\x00b", "NUL", ""},
		{"a\xffb", "UTF-8", ""},
		{".ossdl", "reserved", ""},
		{".OssDL/x", "reserved", ""},
		{"a/.ossdl", "", ""},
		{".ossdlx", "", ""},
		{"ossdl~1/x", "reserved", ""},
		{`..\a`, "", `'\\'`},
		{`a\b`, "", `'\\'`},
		{`\a`, "", `'\\'`},
		{"C:/a", "", "':'"},
		{"a:stream", "", "':'"},
		{"a\x01", "", "no"},
		{"what?", "", "'?'"},
		{"a ", "", "drops"},
		{"CON", "", "device"},
		{"x/con.txt", "", "device"},
		{"nul .x", "", "device"},
		{"COM1", "", "device"},
		{"lpt².x", "", "device"},
		{"COM", "", ""},
		{"COM10", "", ""},
		{"CONTENT", "", ""},
		{"LPTX", "", ""},
	} {
		for windows, want := range map[bool]string{false: c.everywhere, true: c.everywhere + c.windows} {
			err := checkName(c.name, Rules{Windows: windows})
			if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q, windows %t: %v, want %q", c.name, windows, err, want)
			}
		}
	}
}

// TestNamerBelow checks that a key below another is refused, and that nothing is remembered for longer than needed.
func TestNamerBelow(t *testing.T) {
	n := NewNames("p/", Rules{})
	for _, c := range []struct{ key, below string }{
		{"p/", ""}, {"p/a", ""}, {"p/a!", ""}, {"p/a!/x", "a!"}, {"p/a-b/c", ""}, {"p/a/", "a"}, {"p/a/b", "a"}, {"p/a/b/c", "a"},
		{"p/a0", ""}, {"p/b/", ""}, {"p/b/c", ""}, {"p/b/c/d", "b/c"}, {"p/b/d", ""}, {"p/c", ""}, {"p/d/c/x", ""},
	} {
		if _, err := n.Name(c.key); (err != nil) != (c.below != "") || err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q", c.below)) {
			t.Errorf("%s: %v, want below %q", c.key, err, c.below)
		}
	}
	if len(n.above) > 1 {
		t.Errorf("still remembered: %q", n.above)
	}
	if _, err := n.Name("q/x"); err == nil {
		t.Error("a key with another prefix was named")
	}
}

// TestShardHas checks that each key is in one shard, which is always the same.
func TestShardHas(t *testing.T) {
	for key, hash := range map[string]uint64{ // the test vectors of FNV-1a 64
		"": 0xcbf29ce484222325, "a": 0xaf63dc4c8601ec8c, "foobar": 0x85944171f73967e8, "логи/2024": fnvOf("логи/2024"),
	} {
		for _, count := range []int{1, 2, 3, 7, 1000} {
			in := 0
			for i := range count {
				if (Shard{i, count}).Has(key) {
					in++
					if uint64(i) != hash%uint64(count) {
						t.Errorf("%q of %d is in shard %d, want %d", key, count, i, hash%uint64(count))
					}
				}
			}
			if in != 1 {
				t.Errorf("%q of %d is in %d shards", key, count, in)
			}
		}
	}
	if !(Shard{}).Has("x") {
		t.Error("without shards a key is left out")
	}
}

func fnvOf(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}
