package harness

import (
	"bytes"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// compared are buffers for files and what they should hold: thousands are checked.
var compared = sync.Pool{New: func() any { return new([2][1 << 20]byte) }}

// CheckFile fails the test unless the file holds the content and nothing of ours is beside it.
func CheckFile(t testing.TB, path string, want osstest.Content) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if fi.Size() != want.Size() {
		t.Fatalf("%s has %d bytes, want %d", path, fi.Size(), want.Size())
	}
	buffers := compared.Get().(*[2][1 << 20]byte)
	defer compared.Put(buffers)
	for off := int64(0); off < want.Size(); {
		n, err := f.ReadAt(buffers[0][:min(int64(len(buffers[0])), want.Size()-off)], off)
		if err != nil && err != io.EOF || n == 0 {
			t.Fatal(n, err)
		}
		got, exp := buffers[0][:n], buffers[1][:n]
		if _, err := want.ReadAt(exp, off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(got, exp) {
			at := 0
			for got[at] == exp[at] {
				at++
			}
			t.Fatalf("%s differs at byte %d", path, off+int64(at))
		}
		off += int64(n)
	}
	NoLeftovers(t, path)
}

// NoLeftovers fails the test if a working folder of a download to path is there.
func NoLeftovers(t testing.TB, path string) {
	t.Helper()
	for _, folder := range []string{path + FolderSuffix, OtherFolder(path)} {
		if _, err := os.Lstat(folder); err == nil {
			t.Errorf("%s is left behind", folder)
		}
	}
}

// WriteFile makes a file.
func WriteFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Exists reports whether there is something at path, be it a broken link.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Truncate sets the size of a file.
func Truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// Bytes returns all of a content.
func Bytes(t testing.TB, c osstest.Content) []byte {
	t.Helper()
	b := make([]byte, c.Size())
	if _, err := c.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}
