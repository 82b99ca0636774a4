package ossdl

import (
	"math"
	"testing"
)

// TestPartSizes checks how many bytes a request asks for.
func TestPartSizes(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		fixed int64
		load  load
		want  int64
	}{
		"object not known":                   {load: load{unfinished: gib, limit: 8, ceiling: 64, rate: 1 << 20}, want: firstPiece},
		"speed not known":                    {load: load{unfinished: gib, known: true, limit: 8, ceiling: 64}, want: firstPiece},
		"four seconds of a connection":       {load: load{unfinished: gib, known: true, limit: 8, ceiling: 64, rate: 10 << 20}, want: 40 << 20},
		"whole mebibytes":                    {load: load{unfinished: gib, known: true, limit: 8, ceiling: 64, rate: 10<<20 + 1}, want: 41 << 20},
		"slow connection":                    {load: load{unfinished: gib, known: true, limit: 8, ceiling: 64, rate: 1000}, want: minPiece},
		"fast connection":                    {load: load{unfinished: 100 * gib, known: true, limit: 8, ceiling: 64, rate: gib}, want: maxPiece},
		"faster than an integer holds":       {load: load{unfinished: 100 * gib, known: true, limit: 8, ceiling: 64, rate: math.Inf(1)}, want: maxPiece},
		"equal share":                        {load: load{unfinished: 80 << 20, known: true, limit: 8, ceiling: 64, rate: gib}, want: 10 << 20},
		"equal share, rounded up":            {load: load{unfinished: 80<<20 + 1, known: true, limit: 8, ceiling: 64, rate: gib}, want: 11 << 20},
		"least":                              {load: load{unfinished: 1000, known: true, limit: 8, ceiling: 64, rate: gib}, want: minPiece},
		"nothing left":                       {load: load{known: true, limit: 8, ceiling: 64, rate: gib}, want: minPiece},
		"limit at the ceiling":               {load: load{unfinished: gib, known: true, limit: 64, ceiling: 64, rate: 1000}, want: 16 << 20},
		"limit above the call's own ceiling": {load: load{unfinished: gib, known: true, limit: 64, ceiling: 16, rate: 1000}, want: 64 << 20},
		"one connection for all":             {load: load{unfinished: 2 * gib, known: true, limit: 1, ceiling: 1}, want: maxPiece},
		"fixed":                              {fixed: 100, load: load{unfinished: gib, known: true, limit: 8, ceiling: 64, rate: gib}, want: 100},
		"fixed, object not known":            {fixed: 5 * gib, load: load{limit: 8, ceiling: 64}, want: 5 * gib},
		"room for all in flight and one":     {load: load{unfinished: gib, known: true, limit: 8, ceiling: 64, rate: gib, room: 18 << 20}, want: 2 << 20},
		"room, whole buffers":                {load: load{unfinished: gib, known: true, limit: 8, ceiling: 64, rate: gib, room: 18<<20 + 9*(bufferSize-1)}, want: 2 << 20},
		"room, under a buffer":               {load: load{unfinished: gib, known: true, limit: 9, ceiling: 64, rate: gib, room: 1_000_000}, want: 100_000},
		"room, under the least":              {load: load{unfinished: gib, known: true, limit: 64, ceiling: 64, rate: gib, room: 1 << 20}, want: leastRoomShare},
		"room, call's own ceiling":           {load: load{unfinished: gib, known: true, limit: 64, ceiling: 3, rate: gib, room: 4 << 20}, want: 1 << 20},
		"more room than is useful":           {load: load{unfinished: gib, known: true, limit: 8, ceiling: 64, rate: 1 << 20, room: gib}, want: 4 << 20},
		"fixed, and little room":             {fixed: gib, load: load{unfinished: gib, known: true, limit: 3, ceiling: 64, room: 1 << 20}, want: bufferSize},
	} {
		if got := (partSizer{c.fixed}).next(c.load); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestFirstPartSize checks how many bytes the first request asks for, before the size of the object is known.
func TestFirstPartSize(t *testing.T) {
	for _, c := range []struct{ fixed, base, length, want int64 }{
		{0, 0, -1, firstPiece},
		{0, 1 << 40, -1, firstPiece},
		{0, 0, 1, 1},
		{0, 5, firstPiece, firstPiece},
		{0, 5, firstPiece + 1, firstPiece},
		{100, 0, -1, 100},
		{100, 0, 99, 99},
		{5 << 30, 0, -1, 5 << 30},
		{0, math.MaxInt64 - 10, -1, 10},
		{0, math.MaxInt64 - 10, 10, 10},
		{1, math.MaxInt64, -1, 0},
	} {
		if got := (partSizer{c.fixed}).first(c.base, c.length); got != c.want {
			t.Errorf("part size %d, %d bytes at %d: %d, want %d", c.fixed, c.length, c.base, got, c.want)
		}
	}
}

// TestWorkers checks for how many requests at once there is work.
func TestWorkers(t *testing.T) {
	for _, c := range []struct {
		fixed, left   int64
		ceiling, want int
	}{
		{0, 0, 64, 1},
		{0, 1, 64, 1},
		{0, minPiece, 64, 1},
		{0, minPiece + 1, 64, 2},
		{0, 64 * minPiece, 64, 64},
		{0, 1 << 50, 64, 64},
		{0, 1 << 50, 1, 1},
		{100, 1000, 64, 10},
		{100, 1001, 64, 11},
		{5 << 30, 10 * minPiece, 64, 10}, // what is not taken is shared
		{1, 1 << 50, 256, 256},
	} {
		if got := (partSizer{c.fixed}).workers(c.left, c.ceiling); got != c.want {
			t.Errorf("part size %d, %d bytes left, at most %d: %d, want %d", c.fixed, c.left, c.ceiling, got, c.want)
		}
	}
}

// TestWeight checks how much room an object takes.
func TestWeight(t *testing.T) {
	for _, c := range []struct{ size, room, want int64 }{
		{0, 82, 1}, {firstPiece, 82, 1}, {3 * firstPiece, 82, 3}, {1 << 50, 82, 20}, {1 << 50, 3, 1}, {1 << 50, 1, 1},
	} {
		if got := weight(c.size, c.room); got != c.want {
			t.Errorf("%d bytes in %d: %d, want %d", c.size, c.room, got, c.want)
		}
	}
}
