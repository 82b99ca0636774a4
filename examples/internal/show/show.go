// Package show prints sizes and progress, in the few lines that the examples need. The bar of cmd/ossget does more.
package show

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ossdl/ossdl"
)

// Bytes formats a size for people: 1023 B, 1.5 MiB.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for size >= 1023.95 && unit < len(units)-1 { // otherwise 1024.0 would be printed
		size, unit = size/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

var units = []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// IsTerminal reports whether w is a terminal, as far as that can be told without a library: /dev/null passes, too.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// plainEvery is the shortest time between two lines in a file or a pipe.
const plainEvery = 5 * time.Second

// Progress prints the progress of one download. On a terminal it redraws one line. Elsewhere it prints the first state,
// the last state, and one every five seconds. Its methods must not be called concurrently.
type Progress struct {
	w        io.Writer
	name     string
	terminal bool
	latest   string
	printed  string
	at       time.Time // when printed was printed
}

// NewProgress returns a Progress that prints to w and calls the download name.
func NewProgress(w io.Writer, name string) *Progress {
	return &Progress{w: w, name: name, terminal: IsTerminal(w)}
}

// Update shows p. Pass it to ossdl.WithProgress.
func (s *Progress) Update(p ossdl.Progress) {
	if p.Total == 0 {
		return // no answer yet
	}
	s.latest = line(s.name, p)
	if s.terminal || time.Since(s.at) >= plainEvery {
		s.print()
	}
}

// Close shows the last state and ends the line.
func (s *Progress) Close() {
	if s.latest != s.printed {
		s.print()
	}
	if s.terminal && s.printed != "" {
		fmt.Fprintln(s.w)
	}
}

// print ignores errors: a download must not fail because its progress cannot be shown.
func (s *Progress) print() {
	if s.terminal {
		fmt.Fprintf(s.w, "\r%-*s", len(s.printed), s.latest) // spaces cover what a longer line left
	} else {
		fmt.Fprintln(s.w, s.latest)
	}
	s.printed, s.at = s.latest, time.Now()
}

func line(name string, p ossdl.Progress) string {
	text := fmt.Sprintf("%s: %s of %s (%d%%)", name, Bytes(p.Done), Bytes(p.Total), p.Done*100/p.Total)
	if p.BytesPerSecond > 0 {
		text += fmt.Sprintf(", %s/s", Bytes(int64(p.BytesPerSecond)))
	}
	if p.Remaining >= 0 && p.Done < p.Total {
		text += fmt.Sprintf(", %v left", p.Remaining.Round(time.Second))
	}
	return text
}
