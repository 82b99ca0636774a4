package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/osstest"
)

// wrong says what is wrong with the files of a client that said it was done: "" if each holds its object. want are the objects'
// CRC-64; content returns the i-th object, to find the first byte that differs.
func wrong(paths []string, size int64, want []uint64, content func(i int) osstest.Content) (string, error) {
	buf := make([]byte, 1<<20)
	for i, path := range paths {
		crc, n, err := sumOf(path, buf)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return missing(path)
		case err != nil:
			return "", err
		case n == size && crc == want[i]:
			continue
		}
		at, err := firstDifference(path, content(i))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s has %d bytes with CRC-64 %016x, not %d with %016x; the first difference is at byte %d",
			filepath.Base(path), n, crc, size, want[i], at), nil
	}
	return "", nil
}

// missing says that a file is missing, and what is in its folder instead. If the folder is missing, that is no client's doing.
func missing(path string) (string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("another program has removed the folder of a run: %w", err)
	}
	if err != nil {
		return "", err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return fmt.Sprintf("%s is missing; there are: %s", filepath.Base(path), strings.Join(names, ", ")), nil
}

// sumOf returns the CRC-64 of a file, and how many bytes it has. It reads into buf.
func sumOf(path string, buf []byte) (crc uint64, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	for err == nil {
		var k int
		k, err = f.Read(buf)
		crc, n = crc64.Update(crc, buf[:k]), n+int64(k)
	}
	return crc, n, errors.Join(f.Close(), notEOF(err))
}

// firstDifference returns the offset of the first byte of a file that is not that of the object. If one is the beginning of the
// other, it is the end of the shorter one.
func firstDifference(path string, content osstest.Content) (at int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	object := io.NewSectionReader(content, 0, content.Size())
	ours, theirs := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(f, ours)
		m, oerr := io.ReadFull(object, theirs)
		if n != m || !bytes.Equal(ours[:n], theirs[:m]) {
			k := 0
			for k < min(n, m) && ours[k] == theirs[k] {
				k++
			}
			return at + int64(k), errors.Join(notEnd(err), notEnd(oerr))
		}
		if at += int64(n); n < len(ours) {
			return at, errors.Join(notEnd(err), notEnd(oerr))
		}
	}
}

// notEnd is notEOF for io.ReadFull.
func notEnd(err error) error {
	if err == io.ErrUnexpectedEOF {
		return nil
	}
	return notEOF(err)
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
