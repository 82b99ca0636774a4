package bar

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl"
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
	b.columns = func() int { return columns }
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
