package tree

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys/memfs"
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

// TestLook checks what can be said of a file at one look, and that nothing is said that needs more.
func TestLook(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	folder, err := Open(disk, "/dir", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := folder.Make("a/sub"); err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile("a/file", os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("12345"), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), disk.Chtimes("a/file", when)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		size int64
		time time.Time
		want Finding
	}{
		{"a/file", 5, when, Unchanged},
		{"a/file", 5, when.Add(time.Second / 2), Unchanged},
		{"a/file", 6, when, Unclear},
		{"a/file", 5, when.Add(time.Second), Unclear},
		{"a/other", 5, when, Missing},
		{"new/other", 5, when, Missing},
		{"a/sub", 0, when, Unclear},
		{WorkDir, 0, when, Unclear},
	} {
		if got, err := folder.Look(c.name, c.size, c.time); err != nil || got != c.want {
			t.Errorf("%s, %d bytes of %v: %v, %v, want %v", c.name, c.size, c.time, got, err, c.want)
		}
	}
	if got, err := folder.Look("a/file/below", 5, when); err == nil || got != Unclear {
		t.Errorf("below a file: %v, %v", got, err)
	}
}

// TestIsAmongWorking checks which files a mirror leaves alone because a download needs them.
func TestIsAmongWorking(t *testing.T) {
	for name, want := range map[string]bool{
		".ossdl/x": true, "a/.ossdl/x": true, ".ossdl-00ff.cp/data": true, "a/b.cp/data": true, "b.cp/checkpoint.json": true,
		"b.cp/checkpoint.json.tmp": true, "b.cp/lock": true, "b.cp/trial.moved": true, "b.cp/recent": true,
		"data": false, "b.cp": false, "b.cp/other": false, "b.cp/sub/data": false, "b.cpx/data": false,
	} {
		if got := isAmongWorking(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestExtrasUnderOtherNames checks that a file whose key was found by its name does not explain that another one was not: that
// one's file may be among the extras, in another normal form of Unicode.
func TestExtrasUnderOtherNames(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	for _, name := range []string{"readme", "README", "e\u0301"} {
		f, err := disk.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	folder := Look(disk, "/", false, slog.New(slog.DiscardHandler))
	all := func(string) bool { return true }
	keep := NewKeep()
	keep.Add("readme")
	keep.Add("\u00e9")
	if extras, n, err := folder.Extras(t.Context(), keep, keep.Files(), all, 10); err == nil || !strings.Contains(err.Error(), "under other names") {
		t.Errorf("%v, %d, %v", extras, n, err)
	}
	keep = NewKeep()
	keep.Add("ReadMe")
	if extras, n, err := folder.Extras(t.Context(), keep, keep.Files(), all, 10); err != nil || n != 1 || extras[0].Name != "e\u0301" {
		t.Errorf("%v, %d, %v", extras, n, err)
	}
}
