package bar

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar/vt"
)

const mib = 1 << 20

var half = ossdl.Progress{Done: 230 * mib, Total: 512 * mib, BytesPerSecond: 98.25 * mib, Remaining: 2900 * time.Millisecond}

func TestDraw(t *testing.T) {
	for _, c := range []struct {
		name    string
		p       ossdl.Progress
		columns int
		want    string
	}{
		{"disk.img", half, 99, "disk.img   44%  [==============>                 ]  230.0 MiB / 512.0 MiB   98.2 MiB/s      3s left"},
		{"disk.img", half, 79, "disk.img   44%  [=====>      ]  230.0 MiB / 512.0 MiB   98.2 MiB/s      3s left"},
		{"a-very-long-name-of-a-file.tar.gz", half, 79, "a-very-long…   44%  [===>    ]  230.0 MiB / 512.0 MiB   98.2 MiB/s      3s left"},
		{"disk.img", ossdl.Progress{Restoring: 1}, 60, "disk.img     ?        0 B        0 B/s    1 thawing"},
		{"disk.img", half, 60, "disk.img   44%  230.0 MiB / 512.0 MiB      3s left"},
		{"disk.img", half, 30, "disk.img   44%      3s left"},
		{"disk.img", half, 15, "disk.img   44%"},
		{"disk.img", half, 8, "44%"},
		{"disk.img", half, 2, "4…"},
		{"disk.img", half, 0, ""},
		{"数据备份.tar", half, 79, "数据备份.tar   44%  [===>    ]  230.0 MiB / 512.0 MiB   98.2 MiB/s      3s left"},
	} {
		got := draw(c.name, c.p, c.columns)
		if width(got) > c.columns {
			t.Errorf("%d columns: %q takes %d", c.columns, got, width(got))
		}
		if got != c.want {
			t.Errorf("%d columns: got %q, want %q", c.columns, got, c.want)
		}
	}
}

func TestGauge(t *testing.T) {
	for _, c := range []struct {
		p    ossdl.Progress
		want string
	}{
		{ossdl.Progress{Total: 100}, "[>         ]"},
		{ossdl.Progress{Done: 55, Total: 100}, "[=====>    ]"},
		{ossdl.Progress{Done: 55, Total: 100, Resumed: 30}, "[---==>    ]"},
		{ossdl.Progress{Done: 100, Total: 100}, "[==========]"},
		{ossdl.Progress{}, "[>         ]"},
	} {
		if got := gauge(c.p, 12); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.p, got, c.want)
		}
	}
}

// TestPlainLinesWhileObjectsThaw checks that there is a line when objects begin to thaw, and no other until something changes.
func TestPlainLinesWhileObjectsThaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := New(&out, "p")
		for range 3600 {
			b.Update(ossdl.Progress{Restoring: 2, Remaining: -1})
			time.Sleep(time.Second) // of the bubble's clock
		}
		b.Update(ossdl.Progress{Restoring: 1, Done: 1, Total: 2, Remaining: -1})
		b.Close()
		if want := "p: 0 B, 2 being restored\np: 1 B of 2 B (50%), 1 being restored\n"; out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	})
}

func TestPlainLinesAreFewAndEndWithTheLastState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := New(&out, "disk\x1b[2J.img")
		for i := range int64(101) {
			b.Update(ossdl.Progress{Done: i * mib, Total: 100 * mib, BytesPerSecond: 10 * mib, Remaining: time.Duration(100-i) * 100 * time.Millisecond})
			time.Sleep(100 * time.Millisecond) // of the bubble's clock
		}
		b.Close()
		want := []string{
			"disk?[2J.img: 0 B of 100.0 MiB (0%), 10.0 MiB/s, 10s left",
			"disk?[2J.img: 50.0 MiB of 100.0 MiB (50%), 10.0 MiB/s, 5s left",
			"disk?[2J.img: 100.0 MiB of 100.0 MiB (100%), 10.0 MiB/s",
		}
		if got := strings.TrimSuffix(out.String(), "\n"); got != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	})
}

func TestTerminalLineIsRedrawnInPlace(t *testing.T) {
	var out bytes.Buffer
	columns := 80
	b := New(&out, "disk.img")
	b.size = func() (int, int) { return columns, 24 }
	b.Update(half)
	columns = 20 // the window was made narrow
	b.Update(half)
	b.Close()
	lines := strings.Split(out.String(), "\r")
	if len(lines) != 3 || lines[0] != "" || !strings.Contains(lines[1], "98.2 MiB/s") {
		t.Fatalf("not redrawn in place: %q", lines)
	}
	if want := "disk.img   44%     \n"; lines[2] != want {
		t.Errorf("got %q, want %q", lines[2], want)
	}
}

// TestLineThatHasWrappedIsReplaced checks that nothing is left of the line when the terminal was made narrow and has wrapped it.
func TestLineThatHasWrappedIsReplaced(t *testing.T) {
	screen := vt.New(40, 24) // it wraps what was written before it was made narrow
	columns := 80
	b := New(screen, "disk.img")
	b.size, b.many = func() (int, int) { return columns, 24 }, true
	fmt.Fprintln(screen, "$ ossget")
	b.Update(half)
	columns = 40
	b.Update(half)
	const want = "$ ossget\ndisk.img   44%  [===>    ]      3s left"
	if got := strings.Join(screen.Lines(), "\n"); got != want || screen.Unknown != nil {
		t.Errorf("got\n%s\nwant\n%s\n%q", got, want, screen.Unknown)
	}
}

// whole is a prefix in the middle of its download, with a number of objects in flight.
func whole(objects int) ossdl.Progress {
	p := half
	for i := range objects {
		p.Objects = append(p.Objects, ossdl.ObjectProgress{Key: strings.Repeat("x", 40*(i%2)) + fmt.Sprintf("/k%d", i), Done: 5 * mib, Total: 10 * mib})
	}
	return p
}

// TestObjectsHaveLinesOfTheirOwn checks the lines of the whole and of the objects in flight, one below the other. They are
// redrawn in place as their number changes, and removed at the end.
func TestObjectsHaveLinesOfTheirOwn(t *testing.T) {
	screen := vt.New(80, 24)
	b := New(screen, "backup")
	b.size, b.many = func() (int, int) { return 80, 24 }, true
	fmt.Fprintln(screen, "$ ossget")
	see := func(want ...string) {
		t.Helper()
		if got, want := strings.Join(screen.Lines(), "\n"), "$ ossget\n"+strings.Join(want, "\n"); got != want || screen.Unknown != nil {
			t.Errorf("got\n%s\nwant\n%s\n%q", got, want, screen.Unknown)
		}
	}
	const all = "backup   44%  [======>       ]  230.0 MiB / 512.0 MiB   98.2 MiB/s      3s left"
	const k0 = "  /k0                                50%  [======>     ]    5.0 MiB / 10.0 MiB"
	const k1 = "  …xxxxxxxxxxxxxxxxxxxxxxxxxxxx/k1   50%  [======>     ]    5.0 MiB / 10.0 MiB"
	b.Update(whole(2))
	see(all, k0, k1)
	b.Update(whole(4))
	see(all, k0, k1, strings.Replace(k0, "k0", "k2", 1), strings.Replace(k1, "k1", "k3", 1))
	b.Update(whole(1))
	see(all, "  /k0   50%  [===================>                  ]    5.0 MiB / 10.0 MiB")
	b.Update(whole(0))
	see(all)
	b.Update(whole(2))
	b.Close()
	see(all, "")
}

// TestObjectsStayOnTheScreen checks terminals of many sizes. No line wraps and nothing scrolls away, so that each frame
// replaces the one before.
func TestObjectsStayOnTheScreen(t *testing.T) {
	for rows := 1; rows < 12; rows++ {
		for columns := 1; columns < 120; columns += 1 + columns/12 {
			screen := vt.New(columns, rows)
			b := New(screen, "backup")
			b.size, b.many = func() (int, int) { return columns, rows }, true
			for n := range 9 {
				b.Update(whole(8 - n))
				b.Update(whole(n))
				if got, want := len(screen.Lines()), min(1+n, max(1, rows-1)); got != want || screen.Unknown != nil {
					t.Fatalf("%d columns, %d rows, %d objects: %d lines, want %d; %q", columns, rows, n, got, want, screen.Unknown)
				}
				for _, line := range screen.Lines() {
					if width(line) >= columns && columns > 1 {
						t.Fatalf("%d columns: %q", columns, line)
					}
				}
			}
		}
	}
}

// TestObjectsArePrintable checks that unprintable characters of a key are not shown.
func TestObjectsArePrintable(t *testing.T) {
	for _, line := range drawObjects([]ossdl.ObjectProgress{{Key: "a\x1b[2J\n\u009b数据\xff", Total: 1}}, 80, 8) {
		if !strings.HasPrefix(line, "  a?[2J??数据") || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("got %q", line)
		}
	}
}

// TestObjectsOnATerminalMadeNarrow checks that lines which wrapped when the terminal was made narrow are still replaced.
func TestObjectsOnATerminalMadeNarrow(t *testing.T) {
	var out bytes.Buffer
	columns := 80
	b := New(&out, "backup")
	b.size, b.many = func() (int, int) { return columns, 24 }, true
	b.Update(whole(2))
	out.Reset()
	columns = 40
	b.Update(whole(2))
	if !strings.HasPrefix(out.String(), "\r\x1b[5A") { // three lines of two rows each
		t.Errorf("got %q", out.String())
	}
}

// TestOneLineWithoutEscapeSequences checks that a terminal without escape sequences gets only one line.
func TestOneLineWithoutEscapeSequences(t *testing.T) {
	var out bytes.Buffer
	b := New(&out, "backup")
	b.size = func() (int, int) { return 80, 24 }
	b.Update(whole(3))
	b.Close()
	if strings.ContainsAny(out.String(), "\x1b") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("got %q", out.String())
	}
}

func TestCutFront(t *testing.T) {
	for _, c := range []struct {
		s       string
		columns int
		want    string
	}{
		{"abc", 5, "abc  "}, {"abc", 3, "abc"}, {"abcdef", 4, "…def"}, {"abcdef  ", 7, "abcdef "}, {"abc   ", 3, "abc"},
		{"数据备份", 6, "…备份 "}, {"数据备份", 5, "…备份"}, {"abc", 1, "…"}, {"abc", 0, ""},
		{"x/👨\u200d👩\u200d👧é.img", 9, "x/👨\u200d👩\u200d👧é.img"}, {"x/👨\u200d👩\u200d👧é.img", 8, "…👨\u200d👩\u200d👧é.img"}, {"x/e\u0301e\u0301", 3, "…e\u0301e\u0301"},
	} {
		if got := cutFront(c.s, c.columns); got != c.want {
			t.Errorf("%q in %d: got %q, want %q", c.s, c.columns, got, c.want)
		}
	}
}

func TestNothingIsShownOfADownloadThatNeverBegan(t *testing.T) {
	var out bytes.Buffer
	New(&out, "disk.img").Close()
	if out.Len() > 0 {
		t.Errorf("got %q", out.String())
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", mib - 1: "1.0 MiB", mib: "1.0 MiB", 5 << 30: "5.0 GiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Millisecond: "1s", 59 * time.Second: "59s", 60 * time.Second: "1m00s", 185 * time.Second: "3m05s",
		7*time.Hour + 12*time.Minute: "7h12m", 51 * time.Hour: "2d03h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%d: got %q, want %q", d, got, want)
		}
	}
}
