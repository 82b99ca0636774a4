package harness

import (
	"log/slog"
	"strings"
	"sync"
)

// Records keeps what a call logs.
type Records struct {
	mu    sync.Mutex
	lines strings.Builder
}

// Logger returns a logger of all levels, whose lines are kept.
func (r *Records) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write keeps a line.
func (r *Records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.Write(p)
}

// String returns all lines.
func (r *Records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.String()
}
