package harness

import (
	"sync"
	"testing"

	"github.com/ossdl/ossdl"
)

// ProgressRecorder collects reports and holds each against the rules for all of them.
type ProgressRecorder struct {
	T   *testing.T
	mu  sync.Mutex
	All []ossdl.Progress
}

// Add is the function for WithProgress.
func (p *ProgressRecorder) Add(r ossdl.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.All); n > 0 {
		if last := p.All[n-1]; r.Done < last.Done || r.Resumed < last.Resumed || last.Total != 0 && r.Total != last.Total {
			p.T.Errorf("report %+v after %+v", r, last)
		}
	}
	if r.Done > r.Total || r.Resumed > r.Done || r.Remaining < -1 {
		p.T.Errorf("report %+v", r)
	}
	p.All = append(p.All, r)
}

// Last returns the last report, or a zero one.
func (p *ProgressRecorder) Last() ossdl.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.All) == 0 {
		return ossdl.Progress{}
	}
	return p.All[len(p.All)-1]
}

// AddOfMany is Add for calls whose total is known bit by bit.
func (p *ProgressRecorder) AddOfMany(r ossdl.Progress) {
	p.mu.Lock()
	if n := len(p.All); n > 0 {
		p.All[n-1].Total = r.Total
	}
	p.mu.Unlock()
	p.Add(r)
}
