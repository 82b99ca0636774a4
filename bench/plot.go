package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image/color"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	_ "gonum.org/v1/plot/vg/vgsvg" // the format of the figures
)

// The figures, by their files.
const (
	killFigure    = "kill.svg"
	perKillFigure = "kill-again.svg"
	slowFigure    = "line-slow.svg"
	manyFigure    = "many.svg"
)

const (
	sampleEvery = 50 * time.Millisecond  // the server's counters are read so often
	window      = 200 * time.Millisecond // over which a throughput is a mean
)

// sample is how many body bytes the server had sent at a moment of a run.
type sample struct {
	Seconds float64 `json:"seconds"`
	Sent    int64   `json:"sentBytes"`
}

// sampler reads the server's counters until the function is called that it returns, which returns them.
func (s *server) sampler() (samples func() ([]sample, error)) {
	var all []sample
	var failed error
	start, stop, done := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for failed == nil {
			var st serverStats
			st, failed = s.stats()
			all = append(all, sample{time.Since(start).Seconds(), st.Sent})
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() ([]sample, error) {
		close(stop)
		<-done
		return all, failed
	}
}

// plot runs the rows that the figures are of, and draws them into dir. quick makes them small.
func (b *bench) plot(ctx context.Context, dir string, quick bool, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	b.sampled = true
	rows := map[string]*scenario{}
	for _, s := range scenarios() {
		if quick {
			s.quick()
		}
		rows[s.name] = s
	}
	kill, err := b.right(ctx, rows["kill"])
	if err != nil {
		return err
	}
	slow, err := b.right(ctx, rows["line-slow"])
	if err != nil {
		return err
	}
	bySize, err := b.manySizes(ctx, rows["many"], quick)
	if err != nil {
		return err
	}
	figures := map[string]*plot.Plot{}
	figures[killFigure], err = throughput(kill)
	perKill, err2 := bars(newTable(rows["kill"], b.write, kill))
	rest, err3 := remaining(slow)
	many, err4 := objectsASecond(bySize)
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return err
	}
	figures[perKillFigure], figures[slowFigure], figures[manyFigure] = perKill, rest, many
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		path := filepath.Join(dir, name)
		if err := figures[name].Save(7*vg.Inch, 3.5*vg.Inch, path); err != nil {
			return err
		}
		fmt.Fprintln(out, path)
	}
	return nil
}

// right is run for results that must be right.
func (b *bench) right(ctx context.Context, s *scenario) ([]result, error) {
	results, err := b.run(ctx, s)
	for i := range results {
		if results[i].Wrong != "" {
			return nil, fmt.Errorf("%s: %s: done, and the file is wrong: %s", s.name, results[i].Client, results[i].Wrong)
		}
	}
	return results, err
}

// manySizes runs the row many with objects of several sizes, by their size.
func (b *bench) manySizes(ctx context.Context, s *scenario, quick bool) (map[int64][]result, error) {
	bySize := map[int64][]result{}
	for size, objects := range map[int64]int{1 * kib: 4000, 16 * kib: 4000, 256 * kib: 1000, 4 * mib: 100} {
		row := *s
		row.size, row.objects = size, objects
		if quick {
			row.objects = 5
		}
		var err error
		if bySize[size], err = b.right(ctx, &row); err != nil {
			return nil, err
		}
	}
	return bySize, nil
}

// firsts are the first runs of each client that ended well, in the order in which they come.
func firsts(results []result) []result {
	var all []result
	for _, r := range results {
		same := func(o result) bool { return o.Client == r.Client }
		if r.Err == "" && !r.TimedOut && !slices.ContainsFunc(all, same) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b result) int { return cmp.Compare(rank(a.Client), rank(b.Client)) })
	return all
}

// order is that of the clients in all figures, so that each has its colour.
var order = []string{ossdlClient, prefixClient, bareClient, bareManyClient, sdkClient, sdkV2Client, sdkV2LoopClient, sdkV2SyncClient, aria2Client}

func rank(client string) int { return slices.Index(order, client) }

// hue is the colour of a client: its own, or that of the client which it is a form of.
func hue(client string) color.Color {
	forms := map[string]int{
		ossdlClient: 1, prefixClient: 1, bareClient: 3, bareManyClient: 3, sdkClient: 0, sdkV2Client: 2, sdkV2LoopClient: 2, sdkV2SyncClient: 4, aria2Client: 5,
	}
	return plotutil.Color(forms[client])
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Y.Min = 0
	p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, vg.Points(5), vg.Points(5)
	p.Add(plotter.NewGrid())
	return p
}

// seconds makes the axis one of seconds, with room at its end.
func seconds(a *plot.Axis) {
	a.Min, a.Max = 0, a.Max*1.03
	a.Tick.Marker = plot.TickerFunc(func(least, most float64) (ticks []plot.Tick) {
		for s := math.Ceil(least); s <= most; s++ {
			ticks = append(ticks, plot.Tick{Value: s, Label: fmt.Sprint(s)})
		}
		return ticks
	})
}

// addLine draws a client's points.
func addLine(p *plot.Plot, client string, points plotter.XYs) error {
	l, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	l.Color, l.Width = hue(client), vg.Points(1.5)
	p.Add(l)
	p.Legend.Add(client, l)
	return nil
}

// throughput draws what comes a second in a run that is killed again and again.
func throughput(results []result) (*plot.Plot, error) {
	p := newPlot("Killed four times and resumed", "seconds", "MB/s")
	for _, r := range firsts(results) {
		var points plotter.XYs
		from := 0
		for i, at := range r.Samples {
			for at.Seconds-r.Samples[from].Seconds > window.Seconds() && from < i-1 {
				from++
			}
			if took := at.Seconds - r.Samples[from].Seconds; took > 0 {
				points = append(points, plotter.XY{X: at.Seconds, Y: float64(at.Sent-r.Samples[from].Sent) / took / mb})
			}
		}
		if len(points) == 0 { // a small form is over at once
			points = plotter.XYs{{X: r.Seconds}}
		}
		if err := addLine(p, r.Client, points); err != nil {
			return nil, err
		}
	}
	seconds(&p.X)
	p.Y.Max *= 1.05
	return p, nil
}

// leastLeft is where the axis of what is left begins, in MiB: it is logarithmic.
const leastLeft = 0.1

// remaining draws how the end of a download comes if a connection is slow.
func remaining(results []result) (*plot.Plot, error) {
	p := newPlot("One connection in eight at 5 % of the speed", "seconds", "MiB left")
	for _, r := range firsts(results) {
		var points plotter.XYs
		for _, at := range r.Samples {
			points = append(points, plotter.XY{X: at.Seconds, Y: max(leastLeft, float64(r.Size-at.Sent)/mib)})
			if at.Sent >= r.Size {
				break
			}
		}
		if err := addLine(p, r.Client, points); err != nil {
			return nil, err
		}
	}
	seconds(&p.X)
	p.Y.Scale, p.Y.Tick.Marker, p.Y.Min = plot.LogScale{}, plot.LogTicks{Prec: -1}, leastLeft
	return p, nil
}

// bars draws the median of a row for each client.
func bars(t *table) (*plot.Plot, error) {
	p := newPlot("Sent again for each kill, median", "", t.s.metric.name)
	var names []string
	for _, r := range firsts(slices.Concat(slices.Collect(runsOf(t))...)) {
		v := t.value(r.Client)
		if math.IsNaN(v) {
			continue
		}
		bar, err := plotter.NewBarChart(plotter.Values{max(0, v)}, vg.Points(40))
		if err != nil {
			return nil, err
		}
		bar.XMin, bar.Color = float64(len(names)), hue(r.Client)
		p.Add(bar)
		names = append(names, fmt.Sprintf("%s: %s", r.Client, number(v)))
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max, p.Y.Max = -0.5, float64(len(names))-0.5, max(1, p.Y.Max*1.1)
	return p, nil
}

// runsOf are the runs of each line of a table.
func runsOf(t *table) func(func([]result) bool) {
	return func(yield func([]result) bool) {
		for _, l := range t.lines {
			if !yield(l.runs) {
				return
			}
		}
	}
}

// objectsASecond draws how many objects of a size are downloaded a second.
func objectsASecond(bySize map[int64][]result) (*plot.Plot, error) {
	p := newPlot("Objects of a prefix, 64 connections", "KiB of each object", "objects a second")
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Y.Min = math.Inf(1)
	sizes := slices.Sorted(maps.Keys(bySize))
	for _, r := range firsts(bySize[sizes[0]]) {
		var points plotter.XYs
		for _, size := range sizes {
			t := newTable(&scenario{metric: wall()}, "", bySize[size])
			// All runs of a size have the same number of objects.
			if v := t.line(r.Client).median(func(r *result) float64 { return float64(r.Size/size) / r.Seconds }); !math.IsNaN(v) {
				points = append(points, plotter.XY{X: float64(size) / kib, Y: v})
			}
		}
		if err := addLine(p, r.Client, points); err != nil {
			return nil, err
		}
	}
	p.X.Max *= 1.1
	return p, nil
}
