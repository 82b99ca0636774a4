package main

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ossdl/ossdl"
)

// schemaVersion is that of the lines of --json=events. It grows if a name goes or changes its meaning, and not for new names and
// events.
const schemaVersion = 1

// The events of --json=events. docs/ossget.md has all of them.
const (
	eventStart         = "start"
	eventProgress      = "progress"
	eventRetry         = "retry"
	eventRestoring     = "restoring"
	eventThawing       = "thawing"
	eventWarning       = "warning"
	eventFile          = "file"
	eventFolder        = "folder"
	eventSkipped       = "skipped"
	eventFailed        = "failed"
	eventDeleted       = "deleted"
	eventWouldDownload = "wouldDownload"
	eventWouldDelete   = "wouldDelete"
	eventDifference    = "difference"
	eventDone          = "done"
)

// eventsOf are the events for what became of an object.
var eventsOf = map[ossdl.ObjectStatus]string{
	ossdl.ObjectDone: eventFile, ossdl.ObjectFolder: eventFolder, ossdl.ObjectSkipped: eventSkipped, ossdl.ObjectFailed: eventFailed,
	ossdl.ObjectRestoring: eventThawing, ossdl.ObjectDeleted: eventDeleted, ossdl.ObjectWouldDownload: eventWouldDownload, ossdl.ObjectWouldDelete: eventWouldDelete,
}

// eventHead begins each line.
type eventHead struct {
	SchemaVersion int       `json:"schemaVersion"`
	Event         string    `json:"event"`
	Time          time.Time `json:"time"`
}

// eventLine returns the line of an event whose names are those of the head and of body, a struct.
func eventLine(event string, body any) string {
	head := oneJSON(eventHead{schemaVersion, event, time.Now().UTC().Truncate(time.Millisecond)})
	return strings.TrimSuffix(head, "}\n") + "," + strings.TrimPrefix(oneJSON(body), "{")
}

// events prints what happens as it happens, a line each. Its methods are safe for concurrent use, and do nothing if it is nil.
type events struct {
	about  outcome                 // knows the codes of errors
	bucket string                  // of all objects
	stop   context.CancelCauseFunc // ends the download if nobody reads

	mu       sync.Mutex
	out      *sink
	progress time.Time // of the last such event; only update uses it
}

func newEvents(c command, out io.Writer, stop context.CancelCauseFunc) *events {
	about := outcome{task: c.task, result: new(ossdl.Result), prefix: new(ossdl.PrefixResult)} // requests are made by now
	return &events{about: about, bucket: c.source.bucket, stop: stop, out: &sink{w: out}}
}

func (e *events) print(event string, body any) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.out.err != nil {
		return
	}
	if _, err := io.WriteString(e.out, eventLine(event, body)); err != nil {
		e.stop(e.out.explain(nil))
	}
}

// end returns the error to report for a run that ended with err: that of the output, if there is one.
func (e *events) end(err error) error {
	if e == nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.out.explain(err)
}

// started says what will be downloaded.
type started struct {
	Version string `json:"version"` // of ossget
	Task    string `json:"task"`
	Bucket  string `json:"bucket"`
	Key     string `json:"key"`
	Path    string `json:"path"`
	DryRun  bool   `json:"dryRun"`
}

func (e *events) start(c command) {
	e.print(eventStart, started{ossdl.Version, c.task.word(c.url != ""), c.source.bucket, c.source.key, c.dest, c.dryRun})
}

// progressed says how far everything is.
type progressed struct {
	DoneBytes        int64    `json:"doneBytes"`
	TotalBytes       int64    `json:"totalBytes"` // 0: not known yet
	ResumedBytes     int64    `json:"resumedBytes"`
	BytesPerSecond   float64  `json:"bytesPerSecond"`
	RemainingSeconds *float64 `json:"remainingSeconds,omitempty"` // nil: not known
	InFlight         int      `json:"inFlight"`
	Requests         int      `json:"requests"`
	Retries          int      `json:"retries"`
}

// eventEvery is the least time between two events of progress.
const eventEvery = time.Second

func (e *events) update(p ossdl.Progress) {
	if e == nil || time.Since(e.progress) < eventEvery {
		return
	}
	e.progress = time.Now()
	now := progressed{p.Done, p.Total, p.Resumed, p.BytesPerSecond, nil, p.InFlight, p.Requests, p.Retries}
	if p.Remaining >= 0 {
		seconds := p.Remaining.Seconds()
		now.RemainingSeconds = &seconds
	}
	e.print(eventProgress, now)
}

// object prints what became of one object of many.
func (e *events) object(r ossdl.ObjectResult) {
	event, known := eventsOf[r.Status]
	if !known {
		event = string(r.Status)
	}
	about := reportOf(r)
	if about.Bucket == "" {
		about.Bucket = e.bucket
	}
	if r.Err != nil {
		about.Failure = e.about.failureOf(r.Err)
	}
	e.print(event, about)
}

// only prints what became of the only object.
func (e *events) only(o outcome) {
	switch {
	case o.err != nil:
		e.print(eventFailed, o.report())
	case o.result != nil && o.result.Skipped:
		e.print(eventSkipped, o.report())
	default:
		e.print(eventFile, o.report())
	}
}

// What the library logs about a request that is made again, and about an archived object.
const (
	retryMessage   = "retrying after failed request"
	restoreMessage = "asking for the restore"
	failedMessage  = "object failed" // there is an event for the object itself
)

// noticed is something that happened to a request or an object, which may succeed all the same.
type noticed struct {
	Message string `json:"message"`
	Bucket  string `json:"bucket"`
	Key     string `json:"key"`
	Offset  int64  `json:"offset"` // of the range that was asked for
	*Failure
}

// noticer is a [slog.Handler] that makes events of what the library logs.
type noticer struct {
	*events
	attrs []slog.Attr
}

func (n noticer) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (n noticer) WithAttrs(attrs []slog.Attr) slog.Handler {
	return noticer{n.events, append(n.attrs[:len(n.attrs):len(n.attrs)], attrs...)}
}

func (n noticer) WithGroup(string) slog.Handler { return n }

func (n noticer) Handle(_ context.Context, r slog.Record) error {
	event := eventWarning
	switch {
	case r.Message == retryMessage:
		event = eventRetry
	case r.Message == restoreMessage:
		event = eventRestoring
	case r.Level < slog.LevelWarn || r.Message == failedMessage:
		return nil
	}
	about := noticed{Message: r.Message, Bucket: n.bucket}
	add := func(a slog.Attr) bool {
		switch value := a.Value.Resolve(); a.Key {
		case "bucket":
			about.Bucket = value.String()
		case "key":
			about.Key = value.String()
		case "offset":
			about.Offset, _ = value.Any().(int64)
		case "error", "reason":
			if err, ok := value.Any().(error); ok {
				about.Failure = n.about.failureOf(err)
			}
		}
		return true
	}
	for _, a := range n.attrs {
		add(a)
	}
	r.Attrs(add)
	if event == eventRetry && about.Failure != nil {
		about.ExitCode, about.Retryable = exitFailed, true // it is being retried
	}
	n.print(event, about)
	return nil
}
