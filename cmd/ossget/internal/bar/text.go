package bar

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Bytes formats a size for people: 1023 B, 1.5 MiB.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for size >= 1023.95 && unit < len(units)-1 { // it would be printed as 1024.0
		size, unit = size/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

var units = []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// Duration formats a time span for people, in two units: 45s, 3m05s, 7h12m, 2d03h. It rounds up to whole seconds.
func Duration(d time.Duration) string {
	s := int64((d + time.Second - 1) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
	}
}

// Printable replaces what could move the cursor or do worse. An object's key may contain any character.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// width returns how many columns s occupies on a terminal.
func width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// runeWidth supports the East Asian scripts and emoji, which occupy two columns, and combining marks, which occupy none.
func runeWidth(r rune) int {
	switch {
	case unicode.Is(unicode.Mn, r):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000:
		return 2
	}
	return 1
}

// cut shortens s to columns, with an ellipsis at its end, or pads it to columns with spaces.
func cut(s string, columns int) string {
	if n := width(s); n <= columns {
		return s + strings.Repeat(" ", columns-n)
	}
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n+runeWidth(r) > columns-1 {
			break
		}
		b.WriteRune(r)
		n += runeWidth(r)
	}
	if columns > 0 {
		b.WriteRune('…')
		n++
	}
	return b.String() + strings.Repeat(" ", max(0, columns-n))
}

// cutFront is like cut but keeps the end, which is the most specific part of a key.
func cutFront(s string, columns int) string {
	n := width(s)
	if n <= columns || columns <= 0 {
		return cut(s, columns)
	}
	s = strings.TrimRight(s, " ") // padding to the longest
	pad := n - width(s)
	if n -= pad; n <= columns {
		return cut(s, columns)
	}
	for i, r := range s {
		if n <= columns-1 {
			return cut("…"+s[i:], columns)
		}
		n -= runeWidth(r)
	}
	return cut("…", columns)
}
