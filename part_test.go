package ossdl

import (
	"math"
	"testing"

	"github.com/ossdl/ossdl/internal/engine"
)

// TestPartSizes checks how many bytes a request asks for.
func TestPartSizes(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		fixed int64
		load  engine.Load
		want  int64
	}{
		"object not known":                   {load: engine.Load{Unfinished: gib, Limit: 8, Ceiling: 64, Rate: 1 << 20}, want: firstPart},
		"speed not known":                    {load: engine.Load{Unfinished: gib, Known: true, Limit: 8, Ceiling: 64}, want: firstPart},
		"four seconds of a connection":       {load: engine.Load{Unfinished: gib, Known: true, Limit: 8, Ceiling: 64, Rate: 10 << 20}, want: 40 << 20},
		"whole mebibytes":                    {load: engine.Load{Unfinished: gib, Known: true, Limit: 8, Ceiling: 64, Rate: 10<<20 + 1}, want: 41 << 20},
		"slow connection":                    {load: engine.Load{Unfinished: gib, Known: true, Limit: 8, Ceiling: 64, Rate: 1000}, want: minPart},
		"fast connection":                    {load: engine.Load{Unfinished: 100 * gib, Known: true, Limit: 8, Ceiling: 64, Rate: gib}, want: maxPart},
		"faster than an integer holds":       {load: engine.Load{Unfinished: 100 * gib, Known: true, Limit: 8, Ceiling: 64, Rate: math.Inf(1)}, want: maxPart},
		"equal share":                        {load: engine.Load{Unfinished: 80 << 20, Known: true, Limit: 8, Ceiling: 64, Rate: gib}, want: 10 << 20},
		"equal share, rounded up":            {load: engine.Load{Unfinished: 80<<20 + 1, Known: true, Limit: 8, Ceiling: 64, Rate: gib}, want: 11 << 20},
		"least":                              {load: engine.Load{Unfinished: 1000, Known: true, Limit: 8, Ceiling: 64, Rate: gib}, want: minPart},
		"nothing left":                       {load: engine.Load{Known: true, Limit: 8, Ceiling: 64, Rate: gib}, want: minPart},
		"limit at the ceiling":               {load: engine.Load{Unfinished: gib, Known: true, Limit: 64, Ceiling: 64, Rate: 1000}, want: 16 << 20},
		"limit above the call's own ceiling": {load: engine.Load{Unfinished: gib, Known: true, Limit: 64, Ceiling: 16, Rate: 1000}, want: 64 << 20},
		"one connection for all":             {load: engine.Load{Unfinished: 2 * gib, Known: true, Limit: 1, Ceiling: 1}, want: maxPart},
		"fixed":                              {fixed: 100, load: engine.Load{Unfinished: gib, Known: true, Limit: 8, Ceiling: 64, Rate: gib}, want: 100},
		"fixed, object not known":            {fixed: 5 * gib, load: engine.Load{Limit: 8, Ceiling: 64}, want: 5 * gib},
		"room for all in flight and one":     {load: engine.Load{Unfinished: gib, Known: true, Limit: 8, Ceiling: 64, Rate: gib, Room: 18 << 20}, want: 2 << 20},
		"room, whole buffers":                {load: engine.Load{Unfinished: gib, Known: true, Limit: 8, Ceiling: 64, Rate: gib, Room: 18<<20 + 9*(engine.BufferSize-1)}, want: 2 << 20},
		"room, under a buffer":               {load: engine.Load{Unfinished: gib, Known: true, Limit: 9, Ceiling: 64, Rate: gib, Room: 1_000_000}, want: 100_000},
		"room, under the least":              {load: engine.Load{Unfinished: gib, Known: true, Limit: 64, Ceiling: 64, Rate: gib, Room: 1 << 20}, want: engine.LeastRoomShare},
		"room, call's own ceiling":           {load: engine.Load{Unfinished: gib, Known: true, Limit: 64, Ceiling: 3, Rate: gib, Room: 4 << 20}, want: 1 << 20},
		"more room than is useful":           {load: engine.Load{Unfinished: gib, Known: true, Limit: 8, Ceiling: 64, Rate: 1 << 20, Room: gib}, want: 4 << 20},
		"fixed, and little room":             {fixed: gib, load: engine.Load{Unfinished: gib, Known: true, Limit: 3, Ceiling: 64, Room: 1 << 20}, want: engine.BufferSize},
	} {
		if got := (partSizer{c.fixed}).next(c.load); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestFirstPartSize checks how many bytes the first request asks for, before the size of the object is known.
func TestFirstPartSize(t *testing.T) {
	for _, c := range []struct{ fixed, base, length, want int64 }{
		{0, 0, -1, firstPart},
		{0, 1 << 40, -1, firstPart},
		{0, 0, 1, 1},
		{0, 5, firstPart, firstPart},
		{0, 5, firstPart + 1, firstPart},
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
		{0, minPart, 64, 1},
		{0, minPart + 1, 64, 2},
		{0, 64 * minPart, 64, 64},
		{0, 1 << 50, 64, 64},
		{0, 1 << 50, 1, 1},
		{100, 1000, 64, 10},
		{100, 1001, 64, 11},
		{5 << 30, 10 * minPart, 64, 10}, // what is not taken is shared
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
		{0, 82, 1}, {firstPart, 82, 1}, {3 * firstPart, 82, 3}, {1 << 50, 82, 20}, {1 << 50, 3, 1}, {1 << 50, 1, 1},
	} {
		if got := weight(c.size, c.room); got != c.want {
			t.Errorf("%d bytes in %d: %d, want %d", c.size, c.room, got, c.want)
		}
	}
}
