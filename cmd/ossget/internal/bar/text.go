package bar

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
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

// cells counts the columns that text occupies on a terminal. It does not ask the locale, which terminals do not follow either.
var cells = &runewidth.Condition{StrictEmojiNeutral: true}

const ellipsis = "…"

// width returns how many columns s occupies on a terminal.
func width(s string) int { return cells.StringWidth(s) }

// cut shortens s to columns, with an ellipsis at its end, or pads it to columns with spaces.
func cut(s string, columns int) string {
	if columns <= 0 {
		return ""
	}
	return cells.FillRight(cells.Truncate(s, columns, ellipsis), columns)
}

// cutFront is like cut but keeps the end, which is the most specific part of a key.
func cutFront(s string, columns int) string {
	if columns <= 0 {
		return ""
	}
	if width(s) > columns {
		s = strings.TrimRight(s, " ") // padding to the longest
	}
	return cells.FillRight(cells.TruncatePrefix(s, columns, ellipsis), columns)
}
