package main

import "testing"

// mostOurs is how many allocations of the library a request may cost, and mostRead how many a read of an answer.
const (
	mostOurs = 20
	mostRead = 0
)

// TestAllocations checks what a request and a read cost, without what the SDK and net/http allocate.
func TestAllocations(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	b := &bench{dir: t.TempDir(), log: t.Output()}
	each, err := eachPart(oursOf)(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if each > mostOurs || each < 1 {
		t.Errorf("%.1f allocations a request, want 1 to %d", each, mostOurs)
	}
	if each, err = eachRead(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if each > mostRead {
		t.Errorf("%.0f allocations a read, want %d", each, mostRead)
	}
}

// BenchmarkRequest reports what one request allocates.
func BenchmarkRequest(b *testing.B) {
	const few = 500
	work := &bench{dir: b.TempDir(), log: b.Output()}
	for name, of := range map[string]func(*result) float64{"ours/request": oursOf, "allocs/request": mallocs, "B/request": allocated} {
		each, err := work.each(b.Context(), entry{client: ossdlClient}, oneByOne(few, kib), oneByOne(few+b.N, kib), b.N, of)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(each, name)
	}
}
