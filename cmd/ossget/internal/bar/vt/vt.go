// Package vt is a terminal for tests. It shows what a real one would show of the output.
package vt

import (
	"strings"
	"unicode/utf8"
)

// Screen is a terminal with a number of columns and rows. It supports what bar uses: \r, \n (alone, or as \r\n from the line
// discipline; both return the cursor), cursor up, and clearing to the end of the line and of the screen. Each rune occupies
// one column.
type Screen struct {
	columns, rows int
	lines         [][]rune // all lines so far; the last rows of them are on the screen
	row, column   int
	Unknown       []string // unsupported escape sequences
}

func New(columns, rows int) *Screen {
	return &Screen{columns: columns, rows: rows, lines: [][]rune{nil}}
}

// Write shows b.
func (t *Screen) Write(b []byte) (int, error) {
	for s := string(b); s != ""; {
		r, n := utf8.DecodeRuneInString(s)
		switch r {
		case '\r':
			t.column = 0
		case '\n':
			t.column = 0
			t.down()
		case '\x1b':
			n = t.escape(s)
		default:
			t.put(r)
		}
		s = s[n:]
	}
	return len(b), nil
}

func (t *Screen) down() {
	if t.row++; t.row == len(t.lines) {
		t.lines = append(t.lines, nil)
	}
}

func (t *Screen) put(r rune) {
	if t.column == t.columns {
		t.column = 0
		t.down()
	}
	line := t.lines[t.row]
	for len(line) <= t.column {
		line = append(line, ' ')
	}
	line[t.column] = r
	t.lines[t.row] = line
	t.column++
}

// escape executes the sequence at the beginning of s and returns its length.
func (t *Screen) escape(s string) int {
	end := strings.IndexFunc(s[1:], func(r rune) bool { return r >= '@' && r <= '~' && r != '[' })
	if end < 0 {
		t.Unknown = append(t.Unknown, s)
		return len(s)
	}
	seq := s[:end+2]
	up := 0
	for _, digit := range strings.TrimPrefix(seq[:len(seq)-1], "\x1b[") {
		up = up*10 + int(digit-'0')
	}
	switch {
	case seq == "\x1b[K" || seq == "\x1b[J":
		t.lines[t.row] = t.lines[t.row][:min(t.column, len(t.lines[t.row]))]
		if seq == "\x1b[J" {
			t.lines = t.lines[:t.row+1]
		}
	case strings.HasPrefix(seq, "\x1b[") && seq[len(seq)-1] == 'A' && up > 0:
		t.row = max(t.row-up, len(t.lines)-t.rows, 0) // the cursor stops at the top
	default:
		t.Unknown = append(t.Unknown, seq)
	}
	return len(seq)
}

// Lines returns everything that was shown and not cleared, including what has scrolled away, without trailing spaces.
func (t *Screen) Lines() []string {
	var lines []string
	for _, line := range t.lines {
		lines = append(lines, strings.TrimRight(string(line), " "))
	}
	return lines
}
