// Package bar shows a download as it goes on: one line that is redrawn where the output is a terminal, and plain lines
// where it is a file or a pipe.
package bar

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/ossdl/ossdl"
)

// plainEvery is how far apart plain lines are at least, but for the first and the last.
const plainEvery = 5 * time.Second

// Bar shows one download. Its methods are for one goroutine at a time.
type Bar struct {
	w       io.Writer
	name    string
	columns func() int // of the terminal now; nil where w is none

	shown  ossdl.Progress // what the last line said
	at     time.Time      // when it was written; zero: nothing was
	cells  int            // columns the line on the terminal takes
	latest ossdl.Progress
}

// New returns a Bar that writes to w and calls the download name.
func New(w io.Writer, name string) *Bar {
	b := &Bar{w: w, name: printable(name)}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.columns = func() int {
			if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
				return n
			}
			return 80
		}
	}
	return b
}

// Update shows p. Give it to ossdl.WithProgress. Before anything is known there is nothing to show.
func (b *Bar) Update(p ossdl.Progress) {
	b.latest = p
	if p.Done == 0 && p.Total == 0 {
		return
	}
	if b.columns != nil || b.at.IsZero() || time.Since(b.at) >= plainEvery {
		b.show()
	}
}

// Latest is what Update was last called with.
func (b *Bar) Latest() ossdl.Progress { return b.latest }

// Close shows the last state, if it was not shown yet, and ends the line.
func (b *Bar) Close() {
	if b.latest != b.shown && b.latest.Total > 0 {
		b.show()
	}
	if b.columns != nil && b.cells > 0 {
		fmt.Fprintln(b.w)
		b.cells = 0
	}
}

// show writes the latest state. What cannot be written is lost: a progress bar is no reason to fail a download.
func (b *Bar) show() {
	b.shown, b.at = b.latest, time.Now()
	if b.columns == nil {
		fmt.Fprintln(b.w, plain(b.name, b.latest))
		return
	}
	// The last column stays free: writing into it makes some terminals wrap. What an older, longer line left is
	// overwritten with spaces, which works on a console without escape sequences too.
	line := draw(b.name, b.latest, b.columns()-1)
	cells := width(line)
	fmt.Fprint(b.w, "\r"+line+strings.Repeat(" ", max(0, min(b.cells, b.columns()-1)-cells)))
	b.cells = cells
}

// plain is a state as a line of a log.
func plain(name string, p ossdl.Progress) string {
	s := fmt.Sprintf("%s: %s", name, Bytes(p.Done))
	if p.Total > 0 {
		s += fmt.Sprintf(" of %s (%d%%)", Bytes(p.Total), percent(p))
	}
	if p.BytesPerSecond > 0 {
		s += fmt.Sprintf(", %s/s", Bytes(int64(p.BytesPerSecond)))
	}
	if p.Remaining >= 0 && p.Done < p.Total {
		s += fmt.Sprintf(", %s left", Duration(p.Remaining))
	}
	return s
}

// Columns of the name and of the bar beside it.
const (
	minName, maxName = 12, 32
	minBar, maxBar   = 10, 40
)

// draw is a state as one line of at most columns. What does not fit is left out, the least wanted first: the bar, the
// speed, the sizes, the time left.
func draw(name string, p ossdl.Progress, columns int) string {
	share, sizes, speed, left := fields(p)
	for _, f := range [][]string{{share, sizes, speed, left}, {share, sizes, left}, {share, left}, {share}} {
		room := columns - width("  "+strings.Join(f, "  "))
		if room < min(width(name), minName) {
			continue
		}
		head := min(width(name), maxName, max(minName, room-2-minBar))
		if spare := room - head - 2; spare >= minBar {
			f = slices.Insert(f, 1, gauge(p, min(spare, maxBar)))
		}
		return strings.TrimRight(cut(name, head)+"  "+strings.Join(f, "  "), " ")
	}
	return strings.TrimSpace(cut(strings.TrimSpace(share), columns))
}

// fields are the columns of a line, each of a width that does not change under way.
func fields(p ossdl.Progress) (share, sizes, speed, left string) {
	share, sizes, left = "   ?", fmt.Sprintf("%9s", Bytes(p.Done)), strings.Repeat(" ", len("12m34s left"))
	if p.Total > 0 || p.Done == 0 {
		share = fmt.Sprintf("%3d%%", percent(p))
		sizes += " / " + Bytes(p.Total)
	}
	if p.Remaining >= 0 && p.Done < p.Total {
		left = fmt.Sprintf("%6s left", Duration(p.Remaining))
	}
	return share, sizes, fmt.Sprintf("%11s", Bytes(int64(p.BytesPerSecond))+"/s"), left
}

// gauge is the bar itself: columns wide, what an earlier run left in another shade.
func gauge(p ossdl.Progress, columns int) string {
	inside := columns - 2
	part := func(n int64) int {
		if p.Total <= 0 {
			return 0
		}
		return int(float64(inside) * min(1, float64(n)/float64(p.Total)))
	}
	kept, full := part(min(p.Resumed, p.Done)), part(p.Done)
	s := strings.Repeat("-", kept) + strings.Repeat("=", full-kept)
	if full < inside {
		s += ">" + strings.Repeat(" ", inside-full-1)
	}
	return "[" + s + "]"
}

// percent is rounded down: 100 is said only of a whole download.
func percent(p ossdl.Progress) int {
	if p.Total <= 0 {
		return 100
	}
	return int(float64(min(p.Done, p.Total)) / float64(p.Total) * 100)
}
