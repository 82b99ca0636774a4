// Package bar shows the progress of a download. On a terminal it redraws one line, and one more for each object of a prefix
// that is in flight. In a file or a pipe it writes plain lines.
//
// The lines are placed here and not by a library of bars. Those that were tried (mpb, v8.16.2) count lines and not rows, so
// lines that wrap in a terminal made narrow stay there; they write escape sequences to any terminal, also to TERM=dumb; and
// they cut off what does not fit instead of omitting the least important.
package bar

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/ossdl/ossdl"
)

// plainEvery is the minimum time between plain lines, except for the first and the last.
const plainEvery = 5 * time.Second

// Bar shows one download. It is not safe for concurrent use.
type Bar struct {
	w    io.Writer
	name string
	size func() (columns, rows int) // the current size of the terminal; nil if w is none
	many bool                       // it supports the escape sequences that more than one line needs

	latest, shown ossdl.Progress // shown is the state of the last line
	at            time.Time      // when it was written; zero if nothing was
	drawn         []int          // the width of each line on the terminal; the cursor is at the end of the last
}

// New returns a Bar that writes to w and calls the download name.
func New(w io.Writer, name string) *Bar {
	b := &Bar{w: w, name: Printable(name)}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.size = func() (columns, rows int) {
			if columns, rows, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 && rows > 0 {
				return columns, rows
			}
			return 80, 24
		}
		b.many = runtime.GOOS != "windows" && os.Getenv("TERM") != "dumb"
	}
	return b
}

// Update shows p. Pass it to ossdl.WithProgress. It shows nothing until there is something to show.
func (b *Bar) Update(p ossdl.Progress) {
	b.latest = p
	if p.Done == 0 && p.Total == 0 && p.Restoring == 0 {
		return
	}
	if b.size == nil && p.Restoring > 0 && plain("", p) == plain("", b.shown) {
		return // hours may pass until there is something new
	}
	if b.size != nil || b.at.IsZero() || time.Since(b.at) >= plainEvery {
		b.show()
	}
}

// Latest returns the last argument of Update.
func (b *Bar) Latest() ossdl.Progress { return b.latest }

// Close shows the last state, unless it was already shown, and ends the line. It removes the lines of the objects in flight.
func (b *Bar) Close() {
	b.latest.Objects = nil
	if b.latest.Total > 0 && (len(b.drawn) > 1 || plain("", b.latest) != plain("", b.shown)) {
		b.show()
	}
	if len(b.drawn) > 0 {
		fmt.Fprintln(b.w)
		b.drawn = nil
	}
}

// show writes the latest state. Errors are ignored: a progress bar is no reason to fail a download.
func (b *Bar) show() {
	b.shown, b.at = b.latest, time.Now()
	if b.size == nil {
		fmt.Fprintln(b.w, plain(b.name, b.latest))
		return
	}
	columns, rows := b.size()
	lines := []string{draw(b.name, b.latest, columns-1)} // some terminals wrap when the last column is written
	if b.many {
		lines = append(lines, drawObjects(b.latest.Objects, columns-1, rows-2)...)
	}
	fmt.Fprint(b.w, b.over(lines, columns))
	b.drawn = nil
	for _, line := range lines {
		b.drawn = append(b.drawn, width(line))
	}
}

// over returns the output that replaces the lines on the terminal by new ones.
func (b *Bar) over(lines []string, columns int) string {
	up := -1 // rows from the last to the first
	for _, cells := range b.drawn {
		up += max(1, (cells+columns-1)/columns) // more than one if the terminal was made narrow and has wrapped them
	}
	if len(lines) == 1 && len(b.drawn) < 2 && (up < 1 || !b.many) {
		// Spaces overwrite the rest of an older, longer line. That works on a console without escape sequences.
		older := 0
		if len(b.drawn) == 1 {
			older = min(b.drawn[0], columns-1)
		}
		return "\r" + lines[0] + strings.Repeat(" ", max(0, older-width(lines[0])))
	}
	const clearLine, clearBelow = "\x1b[K", "\x1b[J"
	s := "\r"
	if up > 0 {
		s += fmt.Sprintf("\x1b[%dA", up)
	}
	return s + strings.Join(lines, clearLine+"\n") + clearLine + clearBelow
}

// plain formats a state as a line of a log.
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
	if p.Restoring > 0 {
		s += fmt.Sprintf(", %d being restored", p.Restoring)
	}
	return s
}

// Columns of the name and of the bar next to it.
const (
	minName, maxName = 12, 32
	minBar, maxBar   = 10, 40
)

// draw formats a state as one line of at most columns. It omits what does not fit, the least important first: the bar, the
// speed, the sizes, the time left.
func draw(name string, p ossdl.Progress, columns int) string {
	share, sizes, speed, left := fields(p)
	return arrange(name, cut, p, columns, [][]string{{share, sizes, speed, left}, {share, sizes, left}, {share, left}, {share}})
}

// drawObjects returns lines of at most columns for the objects in flight, at most rows of them. They go below the line of
// the whole.
func drawObjects(objects []ossdl.ObjectProgress, columns, rows int) (lines []string) {
	objects = objects[:max(0, min(len(objects), rows))]
	names := make([]string, len(objects))
	widest := 0
	for i, o := range objects {
		names[i] = Printable(o.Key)
		widest = max(widest, width(names[i]))
	}
	for i, o := range objects {
		p := ossdl.Progress{Done: o.Done, Total: o.Total}
		share, sizes, _, _ := fields(p)
		// All names have the same width, so that the columns after them are aligned.
		name := names[i] + strings.Repeat(" ", widest-width(names[i]))
		line := arrange(name, cutFront, p, columns-2, [][]string{{share, sizes}, {share}})
		lines = append(lines, cut("  "+line, min(columns, 2+width(line))))
	}
	return lines
}

// arrange formats a line from a name and the first of several choices of fields that fits. It adds a bar if there is room
// for one, too.
func arrange(name string, fit func(string, int) string, p ossdl.Progress, columns int, choices [][]string) string {
	for _, f := range choices {
		room := columns - width("  "+strings.Join(f, "  "))
		if room < min(width(name), minName) {
			continue
		}
		head := min(width(name), maxName, max(minName, room-2-minBar))
		if spare := room - head - 2; spare >= minBar {
			f = slices.Insert(f, 1, gauge(p, min(spare, maxBar)))
		}
		return strings.TrimRight(fit(name, head)+"  "+strings.Join(f, "  "), " ")
	}
	return strings.TrimSpace(cut(strings.TrimSpace(choices[len(choices)-1][0]), columns))
}

// fields returns the columns of a line. Their widths do not change during the download.
func fields(p ossdl.Progress) (share, sizes, speed, left string) {
	share, sizes, left = "   ?", fmt.Sprintf("%9s", Bytes(p.Done)), strings.Repeat(" ", len("12m34s left"))
	if p.Total > 0 || p.Done == 0 && p.Restoring == 0 {
		share = fmt.Sprintf("%3d%%", percent(p))
		sizes += fmt.Sprintf(" / %-9s", Bytes(p.Total))
	}
	if p.Remaining >= 0 && p.Done < p.Total {
		left = fmt.Sprintf("%6s left", Duration(p.Remaining))
	}
	if p.Restoring > 0 { // when that ends is not known
		left = fmt.Sprintf("%3d thawing", p.Restoring)
	}
	return share, sizes, fmt.Sprintf("%11s", Bytes(int64(p.BytesPerSecond))+"/s"), left
}

// gauge draws the bar itself, columns wide. The bytes from an earlier run have another shade.
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

// percent is rounded down: only a complete download has 100.
func percent(p ossdl.Progress) int {
	if p.Total <= 0 {
		return 100
	}
	return int(float64(min(p.Done, p.Total)) / float64(p.Total) * 100)
}
