package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestKeyReader checks which keys a list has, and which error ends it.
func TestKeyReader(t *testing.T) {
	long := strings.Repeat("x", maxKey)
	for name, c := range map[string]struct {
		list string
		nul  bool
		want []string
		says string
	}{
		"none":                {"", false, nil, ""},
		"lines":               {"a\nb/c d\n\n ключ \n", false, []string{"a", "b/c d", " ключ "}, ""},
		"no end of line":      {"a\nb", false, []string{"a", "b"}, ""},
		"CR LF":               {"a\r\n\r\nb\r\nc\r", false, []string{"a", "b", "c"}, ""},
		"byte order mark":     {"\ufeffa\n\ufeffb\n", false, []string{"a", "\ufeffb"}, ""},
		"NULs":                {"a\x00b\nc\r\x00\x00\ufeffd\x00", true, []string{"a", "b\nc\r", "\ufeffd"}, ""},
		"NULs, no end":        {"\ufeffa\x00b", true, []string{"\ufeffa", "b"}, ""},
		"the longest":         {long + "\n" + long, false, []string{long, long}, ""},
		"too long":            {"a\n\n" + long + "x\nb\n", false, []string{"a"}, "list, line 3: not a key: it has 1024 bytes, a key has 1 to 1023"},
		"much too long":       {"a\n" + strings.Repeat("x", 10*maxLine), false, []string{"a"}, "list, line 2: not a key: it has more than 65536 bytes"},
		"not UTF-8":           {"a\nb\n\xff\n", false, []string{"a", "b"}, `list, line 3: not a key: "\xff" is not UTF-8`},
		"not UTF-8, with NUL": {"a\x00\xff\x00", true, []string{"a"}, `list, line 2: not a key: "\xff" is not UTF-8`},
	} {
		r := newKeyReader(strings.NewReader(c.list), "list", c.nul)
		var got []string
		var err error
		for {
			var key string
			if key, err = r.next(); err != nil {
				break
			}
			got = append(got, key)
		}
		if !slices.Equal(got, c.want) || c.says == "" && err != io.EOF || c.says != "" && (err.Error() != c.says || !errors.Is(err, errBadList)) {
			t.Errorf("%s: %q, %v; want %q, %q", name, got, err, c.want, c.says)
		}
	}
	if newKeyReader(nil, "-", false).name != "standard input" {
		t.Error("a list from standard input is not named so")
	}
}

// TestFilesFrom checks a list from a file and from standard input, without a listing of the bucket.
func TestFilesFrom(t *testing.T) {
	s := newServer(t)
	putAll(s, "", someFiles)
	s.Put("bucket", "not/in/the/list", osstest.Random(9, 10))
	list := filepath.Join(t.TempDir(), "keys")
	lines := "sub/deep/数据 &.txt\r\n\r\nb.txt\r\nsub/c.gz\r\na.gz"
	if err := os.WriteFile(list, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	r := runHere(t.Context(), envOf(s), "-json", "-mkdir", "-files-from", list, "oss://bucket/", dir)
	if got := prefixLine(t, r); r.exit != 0 || got.Path != dir || got.Done != 4 || got.Skipped+got.Failed != 0 || got.Requests != len(s.Requests()) {
		t.Errorf("%+v", r)
	}
	someFiles.isIn(t, dir)
	for _, r := range s.Requests() {
		if r.Key == "" {
			t.Errorf("a listing: %s", r.Query)
		}
	}

	dir = t.TempDir()
	cmd := process(t, envOf(s), "-0", "-files-from=-", "-exclude", "*.txt", "oss://bucket", dir)
	cmd.Stdin = strings.NewReader("a.gz\x00b.txt\x00sub/c.gz\x00")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "2 done, 0 skipped, 0 failed") {
		t.Errorf("from standard input: %v, %s", err, out)
	}
	tree{"a.gz": someFiles["a.gz"], "sub/c.gz": someFiles["sub/c.gz"]}.isIn(t, dir)
}

// TestFilesFromFails checks the exit codes and messages of lists with keys that fail, with lines that are no keys, and that
// are not there.
func TestFilesFromFails(t *testing.T) {
	s := newServer(t)
	putAll(s, "", someFiles)
	list := filepath.Join(t.TempDir(), "keys")
	for name, c := range map[string]struct {
		list string
		exit int
		code string
		says string
	}{
		"no such key":              {"a.gz\nnone\n", 3, "SomeFailed", `"none": `},
		"a line that is no key":    {"a.gz\nb.txt\n\xff\n", 3, "BadList", "line 3: not a key"},
		"both":                     {"a.gz\nnone\n\xff\n", 3, "SomeFailed", "line 3: not a key"},
		"twice":                    {"a.gz\nb.txt\na.gz\n", 3, "SomeFailed", "an earlier object has the same name"},
		"a file and a folder":      {"a.gz\na.gz/x\n", 3, "SomeFailed", "below the file of an earlier object"},
		"a name outside of folder": {"../a.gz\n", 3, "SomeFailed", `".."`},
	} {
		if err := os.WriteFile(list, []byte(c.list), 0o600); err != nil {
			t.Fatal(err)
		}
		r := runHere(t.Context(), envOf(s), "-json", "-files-from", list, "oss://bucket/", t.TempDir())
		if got := prefixLine(t, r); r.exit != c.exit || got.Failure == nil || got.Code != c.code || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, args := range [][]string{
		{"-files-from", filepath.Join(t.TempDir(), "none"), "oss://bucket/", t.TempDir()},
		{"-files-from", list, "oss://bucket/prefix/", t.TempDir()},
		{"-files-from", list, "-recursive", "oss://bucket/", t.TempDir()},
		{"-files-from", list, "oss://bucket/", "-"},
		{"-files-from", list, "-sha256", strings.Repeat("0", 64), "oss://bucket/"},
		{"-files-from", list, "http://host/key"},
		{"-files-from", ""},
		{"-0", "oss://bucket/key"},
	} {
		if r := runHere(t.Context(), envOf(s), args...); r.exit != 2 || !strings.HasPrefix(r.stderr, "ossget: ") {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

// TestFilesFromInterrupted checks that a list from which nothing comes any more ends with the context.
func TestFilesFromInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	if _, err := w.WriteString("a.gz\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for key, err := range listed(ctx, newKeyReader(r, "pipe", false)) {
		if err == nil && key.Key != "a.gz" || err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v", key, err)
		}
		cancel()
	}
}
