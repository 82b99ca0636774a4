package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// table is what the runs of one scenario say.
type table struct {
	s     *scenario
	write string // fresh or warm: which pair the goal of a processor row is about
	lines []*line
}

// line is one client's runs.
type line struct {
	client string
	runs   []result // that ended well
	failed []result
}

func newTable(s *scenario, write string, results []result) *table {
	t := &table{s: s, write: write}
	for _, r := range results {
		i := slices.IndexFunc(t.lines, func(l *line) bool { return l.client == r.Client })
		if i < 0 {
			i = len(t.lines)
			t.lines = append(t.lines, &line{client: r.Client})
		}
		l := t.lines[i]
		if r.TimedOut || r.Err != "" || r.Wrong != "" {
			l.failed = append(l.failed, r)
		} else {
			l.runs = append(l.runs, r)
		}
	}
	return t
}

// line returns the client's line, one without runs if it has none.
func (t *table) line(client string) *line {
	for _, l := range t.lines {
		if l.client == client {
			return l
		}
	}
	return &line{client: client}
}

// median is that of a number over the line's runs; NaN if there are none.
func (l *line) median(of func(*result) float64) float64 {
	var values []float64
	for i := range l.runs {
		if v := of(&l.runs[i]); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return median(values)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// value is the median of the row's metric for a client.
func (t *table) value(client string) float64 {
	return t.line(client).median(func(r *result) float64 { return t.s.metric.of(t.s, r) })
}

// ratio is the quotient of two clients' medians.
func (t *table) ratio(client, to string) float64 { return t.value(client) / t.value(to) }

// bareOf is the line of the bare loop to compare a client with: the one that writes to the same kind of file.
func bareOf(client string) string {
	return entry{bareClient, strings.HasSuffix(client, warmSuffix)}.String()
}

// goal is a number to reach.
type goal struct {
	what    string
	limit   float64
	memory  float64 // the limit for files in memory; 0: the same
	atLeast bool    // the limit is a floor
	value   func(*table) float64
}

// verdict is a goal that was looked at.
type verdict struct {
	Scenario string  `json:"scenario"`
	What     string  `json:"what"`
	Value    float64 `json:"value"`
	Goal     float64 `json:"goal"`
	Met      bool    `json:"met"`
	Measured bool    `json:"measured"`
	atLeast  bool
}

func (t *table) verdicts() []verdict {
	var vs []verdict
	for _, g := range t.s.goals {
		v := verdict{Scenario: t.s.name, What: g.what, Value: g.value(t), Goal: g.limit, atLeast: g.atLeast}
		v.Measured = !math.IsNaN(v.Value)
		if !v.Measured {
			v.Value = 0 // JSON has no other
		}
		v.Met = v.Measured && (v.Value <= g.limit || g.atLeast) && (v.Value >= g.limit || !g.atLeast)
		vs = append(vs, v)
	}
	return vs
}

func (v verdict) String() string {
	sign := "≤"
	if v.atLeast {
		sign = "≥"
	}
	switch {
	case !v.Measured:
		return fmt.Sprintf("%s: not measured (goal %s %s)", v.What, sign, number(v.Goal))
	case v.Met:
		return fmt.Sprintf("%s: %s, goal %s %s, met", v.What, number(v.Value), sign, number(v.Goal))
	}
	return fmt.Sprintf("%s: %s, goal %s %s, NOT MET", v.What, number(v.Value), sign, number(v.Goal))
}

// column is one of a table.
type column struct {
	head string
	cell func(*table, *line) string
}

// of is a column of medians.
func of(head string, value func(*result) float64) column {
	return column{head, func(_ *table, l *line) string { return number(l.median(value)) }}
}

func (t *table) columns() []column {
	metricValue := func(t *table, l *line) string { return number(t.value(l.client)) }
	times := func(head string, to func(client string) string) column {
		return column{head, func(t *table, l *line) string { return number(t.ratio(l.client, to(l.client))) }}
	}
	if t.s.special != nil {
		return []column{
			{"runs", func(_ *table, l *line) string { return fmt.Sprint(len(l.runs)) }},
			{t.s.metric.name, metricValue},
			times("× "+crcStd, func(string) string { return crcStd }),
			{"least–most", t.spread},
		}
	}
	cs := []column{
		{"runs", func(_ *table, l *line) string { return fmt.Sprint(len(l.runs)) }},
		of("wall s", func(r *result) float64 { return r.Seconds }),
	}
	if t.s.kills == 0 { // the processor time of a killed process is not known
		cs = append(cs,
			of("CPU s", func(r *result) float64 { return r.CPU }),
			of("CPU s/GiB", func(r *result) float64 { return r.CPU / float64(r.Size) * gib }),
			of("peak MiB", func(r *result) float64 { return float64(r.Peak) / mib }),
		)
	}
	cs = append(cs,
		of("requests", func(r *result) float64 { return float64(r.Requests) }),
		of("conns", func(r *result) float64 { return float64(r.Conns) }),
		column{"sent/size", func(_ *table, l *line) string {
			v := l.median(func(r *result) float64 { return float64(r.Sent) / float64(r.Size) })
			if math.IsNaN(v) || math.IsInf(v, 0) { // nothing was to be sent
				return "-"
			}
			return fmt.Sprintf("%.4f", v)
		}},
	)
	cs = append(cs, t.s.columns...)
	switch t.s.metric.name {
	case timesIdeal().name, perKill().name, cpuPerKey().name, wallPerObject().name:
		cs = append(cs, column{t.s.metric.name, metricValue})
	}
	return append(cs,
		times("× bare", bareOf),
		times("× "+sdkClient, func(string) string { return sdkClient }),
		column{"least–most", t.spread},
		of("server CPU s", func(r *result) float64 { return r.ServerCPU }),
		column{"", t.remark},
	)
}

// checkpointColumns are for the rows whose checkpoint could grow.
func checkpointColumns() []column {
	return []column{
		of("checkpoint KiB", func(r *result) float64 { return float64(r.Checkpoint) / kib }),
		{"more written MiB", func(t *table, l *line) string {
			writes := func(r *result) float64 { return float64(r.Written) / mib }
			return number(l.median(writes) - t.line(bareClient).median(writes))
		}},
	}
}

// spread is the range of the row's metric: how noisy the machine was.
func (t *table) spread(_ *table, l *line) string {
	least, most := math.Inf(1), math.Inf(-1)
	for i := range l.runs {
		v := t.s.metric.of(t.s, &l.runs[i])
		least, most = min(least, v), max(most, v)
	}
	if len(l.runs) == 0 {
		return "-"
	}
	return number(least) + "–" + number(most)
}

// remark says what the numbers do not.
func (t *table) remark(_ *table, l *line) string {
	var words []string
	if n := len(l.failed); n > 0 && len(l.runs) > 0 {
		words = append(words, fmt.Sprintf("%d of %d runs failed", n, n+len(l.runs)))
	}
	if share := t.s.shares[l.client]; share > 1 {
		words = append(words, fmt.Sprintf("1/%d of the size", share))
	}
	for i := range l.failed {
		r := &l.failed[i]
		word := "fails: " + short(r.Err)
		switch {
		case r.Wrong != "":
			word = "WRONG RESULT"
		case !r.TimedOut && i > 0:
			continue // the first failure stands for all
		case r.TimedOut:
			word = fmt.Sprintf("not done after %s s", number(r.Seconds))
			if bare := t.line(bareClient).median(func(r *result) float64 { return r.Seconds }); bare > 0 {
				word += fmt.Sprintf(" (%s × bare)", number(r.Seconds/bare))
			}
			if r.Written > 0 {
				word += fmt.Sprintf(", %s MiB written", number(float64(r.Written)/mib))
			}
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, "; ")
}

func short(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// print writes the table and what became of its goals.
func (t *table) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s: %s", t.s.name, t.s.title)
	if t.s.special == nil {
		fmt.Fprintf(w, ", %s", sizeText(t.s))
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := t.columns()
	fmt.Fprint(tw, "client\t")
	for _, c := range columns {
		fmt.Fprint(tw, c.head, "\t")
	}
	fmt.Fprintln(tw)
	for _, l := range t.lines {
		fmt.Fprint(tw, l.client, "\t")
		for _, c := range columns {
			fmt.Fprint(tw, c.cell(t, l), "\t")
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, v := range t.verdicts() {
		fmt.Fprintln(w, "  ", v)
	}
	return nil
}

func sizeText(s *scenario) string {
	one := fmt.Sprintf("%d KiB", s.size/kib)
	if s.size%mib == 0 {
		one = fmt.Sprintf("%d MiB", s.size/mib)
	}
	if s.objects > 1 {
		return fmt.Sprintf("%d × %s", s.objects, one)
	}
	return one
}

// number prints three digits that matter, or more before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case v == math.Trunc(v) || a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.4f", v)
}
