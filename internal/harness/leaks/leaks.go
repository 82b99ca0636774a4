// Package leaks finds what must not be left: goroutines after a call, and secrets in errors. It must not import the library:
// the library's own tests use it.
package leaks

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// NoSecret fails the test if any error of the chain contains one of the secrets.
func NoSecret(t testing.TB, err error, secrets ...string) {
	t.Helper()
	if err == nil {
		return
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%T contains %s: %s", err, secret, text)
			}
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		NoSecret(t, e.Unwrap(), secrets...)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			NoSecret(t, err, secrets...)
		}
	}
}

// stackBuffers are for [stacks]: the fault loops ask for them thousands of times.
var stackBuffers = sync.Pool{New: func() any { return &[]byte{} }}

// stacks are those of all goroutines, with the caller's first.
func stacks() []string {
	buf := stackBuffers.Get().(*[]byte)
	defer stackBuffers.Put(buf)
	for {
		if n := runtime.Stack(*buf, true); n < len(*buf) {
			return strings.Split(string((*buf)[:n]), "\n\n")
		}
		*buf = make([]byte, max(1<<18, 2*len(*buf))) // there are more, or longer ones
	}
}

// OthersInBubble is the stacks of all goroutines of the caller's bubble except the caller's.
func OthersInBubble() string {
	stacks := stacks()
	header, _, _ := strings.Cut(stacks[0], "\n")
	bubble := header[strings.LastIndexByte(header, ','):] // ", synctest bubble 7]:"
	var left []string
	for _, s := range stacks[1:] {
		header, _, _ := strings.Cut(s, "\n")
		if strings.HasSuffix(header, bubble) && !strings.Contains(s, "testing/synctest.Test") {
			left = append(left, s)
		}
	}
	return strings.Join(left, "\n\n")
}

// Ours reports whether a goroutine is one of the library, by its stack as package runtime or runtime/pprof has it: a frame is of
// one of the library's packages. The packages of the tests are none of them. Goroutines of the server are the server's,
// whatever they call, and those that read idle connections are of net/http's pool.
func Ours(stack string) bool {
	if strings.Contains(stack, "net/http.(*persistConn).readLoop") {
		return false
	}
	ours := false
	for line := range strings.Lines(stack) {
		_, name, ok := strings.Cut(line, "github.com/ossdl/ossdl")
		if !ok || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "created by ") { // a file, or who has started it
			continue
		}
		of := func(pkg string) bool { return strings.HasPrefix(name, pkg) }
		switch {
		case of("/internal/osstest.") || of("/osstest."):
			return false
		case !of("/internal/harness") && !of("/internal/torture") && !of("_test."):
			ours = true
		}
	}
	return ours
}

// NoGoroutines waits until no goroutine of the library is left, except those that run a test.
func NoGoroutines(t testing.TB) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		left = left[:0]
		for _, stack := range stacks() {
			if Ours(stack) && !strings.Contains(stack, "testing.tRunner") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("goroutines are left:\n%s", strings.Join(left, "\n\n"))
}
