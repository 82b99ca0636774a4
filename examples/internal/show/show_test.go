package show

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 384 << 20: "384.0 MiB", math.MaxInt64: "8.0 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestProgressInAFile(t *testing.T) {
	var out strings.Builder
	p := NewProgress(&out, "disk.img")
	p.Update(ossdl.Progress{Remaining: -1}) // nothing is known yet
	p.Update(ossdl.Progress{Done: 1 << 20, Total: 4 << 20, BytesPerSecond: 1 << 20, Remaining: 3 * time.Second})
	p.Update(ossdl.Progress{Done: 2 << 20, Total: 4 << 20, Remaining: -1})
	p.Update(ossdl.Progress{Done: 4 << 20, Total: 4 << 20})
	p.Close()
	const want = "disk.img: 1.0 MiB of 4.0 MiB (25%), 1.0 MiB/s, 3s left\ndisk.img: 4.0 MiB of 4.0 MiB (100%)\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

func TestProgressOnATerminal(t *testing.T) {
	var out strings.Builder
	p := &Progress{w: &out, name: "k", terminal: true}
	p.Update(ossdl.Progress{Done: 1, Total: 10, Remaining: 12 * time.Second})
	p.Update(ossdl.Progress{Done: 10, Total: 10})
	p.Close()
	const want = "\rk: 1 B of 10 B (10%), 12s left\rk: 10 B of 10 B (100%)        \n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
