package ossdl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ossdl/ossdl/internal/object"
)

// Result describes what a call did. It is non-nil as soon as one request has been made, even if the error is non-nil, and if the
// file was there already.
//
// Its JSON has the names of ossget's -json line; see [Result.MarshalJSON].
type Result struct {
	Path            string        `json:"path"`                  // symbolic links resolved; "" if the bytes did not go to a file
	Bucket          string        `json:"bucket"`                // of a URL: the host
	Key             string        `json:"key"`                   // of a URL: the path
	VersionID       string        `json:"versionId"`             // as the service says; "" if the bucket has no versions
	ETag            string        `json:"etag"`                  // as received, with its quotes
	Size            int64         `json:"size"`                  // bytes of the file; of the range, if WithRange asked for one
	CRC64           uint64        `json:"crc64,string"`          // of those bytes; 0 if the call failed
	Verified        bool          `json:"verified"`              // the service's CRC-64, or the caller's digest, matched
	Durable         bool          `json:"durable"`               // the file and its name are on stable storage; see [Downloader.Download]
	Encrypted       bool          `json:"encrypted"`             // by the writer of the object, and not decrypted: the bytes are ciphertext
	Skipped         bool          `json:"skipped"`               // the file was there already; see [WithIfChanged]
	ResumedBytes    int64         `json:"resumedBytes"`          // kept from an earlier run
	DownloadedBytes int64         `json:"downloadedBytes"`       // body bytes read from the network, including those that came twice
	Requests        int           `json:"requests"`              // made, including those that were tried again
	Retries         int           `json:"retries"`               // of them, those that followed a failure
	Restored        bool          `json:"restored"`              // this call has asked for the restore of the object; see [WithRestore]
	Duration        time.Duration `json:"seconds"`               // of the whole call
	LastModified    time.Time     `json:"lastModified,omitzero"` // of the object, to the second

	// Header holds the object's headers as of the first answer that was accepted, x-oss-meta-* included. It is nil if there
	// was none. It reads like the answer to a HEAD: Content-Length is the size of the whole object, and there is no
	// Content-Range. Headers of the connection and cookies are omitted, and credentials that a server sent back are hidden.
	Header http.Header `json:"header,omitempty"`
}

// MarshalJSON writes the names that the tags of the fields give. CRC64 is a decimal string, because many programs read a
// JSON number as a float64; Duration is a number of seconds. LastModified and Header are omitted if empty.
func (r Result) MarshalJSON() ([]byte, error) {
	type fields Result
	return marshal(struct {
		fields
		Seconds float64 `json:"seconds"`
	}{fields(r), r.Duration.Seconds()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Result) UnmarshalJSON(b []byte) error {
	type fields Result
	in := struct {
		*fields
		Seconds float64 `json:"seconds"`
	}{(*fields)(r), r.Duration.Seconds()}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	d, err := secondsToDuration(in.Seconds)
	r.Duration = d
	return err
}

// LogValue returns a group with the names of the JSON, without Header.
func (r *Result) LogValue() slog.Value {
	if r == nil {
		return slog.AnyValue(nil)
	}
	attrs := []slog.Attr{
		slog.String("path", r.Path), slog.String("bucket", r.Bucket), slog.String("key", r.Key),
		slog.String("versionId", r.VersionID), slog.String("etag", r.ETag), slog.Int64("size", r.Size),
		slog.String("crc64", strconv.FormatUint(r.CRC64, 10)), slog.Bool("verified", r.Verified), slog.Bool("durable", r.Durable),
		slog.Bool("encrypted", r.Encrypted), slog.Bool("skipped", r.Skipped),
		slog.Int64("resumedBytes", r.ResumedBytes), slog.Int64("downloadedBytes", r.DownloadedBytes),
		slog.Int("requests", r.Requests), slog.Int("retries", r.Retries), slog.Bool("restored", r.Restored),
		slog.Float64("seconds", r.Duration.Seconds()),
	}
	if !r.LastModified.IsZero() {
		attrs = append(attrs, slog.Time("lastModified", r.LastModified))
	}
	return slog.GroupValue(attrs...)
}

// PrefixResult describes what a call of [Downloader.DownloadPrefix], [Downloader.DownloadObjects] or [Downloader.DownloadAll] did, or
// would do with [WithDryRun]. It is non-nil as soon as one request has been made or an object was settled, even if the error is non-nil.
type PrefixResult struct {
	Done    int   `json:"done"`    // objects that were downloaded, and folders that were made for keys that end in a slash
	Skipped int   `json:"skipped"` // objects and folders that were there already
	Failed  int   `json:"failed"`  // objects that could not be downloaded; those cut short by cancellation are not counted
	Bytes   int64 `json:"bytes"`   // of the files that were downloaded
	// NotDurable counts the files, among Done and Skipped, that a power loss may cost, because the file system cannot sync or
	// because a folder that leads to them could not be synced. They are in place, and a later call skips them.
	NotDurable int `json:"notDurable"`
	// Encrypted counts those of Done that were encrypted by their writers. They are not decrypted: the files are ciphertext.
	Encrypted int `json:"encrypted"`
	// Unverified counts the objects among Done that came without any checksum to compare with: the service has no CRC-64 for
	// some older or copied objects. Each of them is logged as Warn. Folders are not counted.
	Unverified      int   `json:"unverified"`
	Requests        int   `json:"requests"`        // made, including listings and those that were tried again
	Retries         int   `json:"retries"`         // of them, those that followed a failure
	ResumedBytes    int64 `json:"resumedBytes"`    // of files that were not complete, kept from an earlier call
	DownloadedBytes int64 `json:"downloadedBytes"` // body bytes of objects read from the network, including those that came twice
	Deleted         int   `json:"deleted"`         // files without a key; see [WithDelete]
	Restored        int   `json:"restored"`        // objects whose restore this call has asked for; see [WithRestore]
	// Restoring counts the objects that still thawed when the call ended: with [RestorePolicy].StartOnly, or after a cancellation.
	Restoring int `json:"restoring"`
	// Failures are the first 1,000 of Failed, in the order in which they happened. All are logged.
	Failures []KeyError `json:"failures"`
	// Listing is the error that ended the listing early; objects that were not listed are not counted anywhere. It is nil if
	// everything was listed, and after a cancellation.
	Listing error `json:"listing"`
}

// MarshalJSON writes the names that the tags of the fields give. Errors are their texts; Listing is omitted if it is nil.
func (r PrefixResult) MarshalJSON() ([]byte, error) {
	type fields PrefixResult
	if r.Failures == nil {
		r.Failures = []KeyError{} // an empty array, not null
	}
	return marshal(struct {
		fields
		Listing jsonError `json:"listing,omitzero"`
	}{fields(r), jsonError{&r.Listing}})
}

// UnmarshalJSON reads what MarshalJSON writes. The errors then have the same texts, and [errors.Is] no longer finds what they
// wrapped.
func (r *PrefixResult) UnmarshalJSON(b []byte) error {
	type fields PrefixResult
	return json.Unmarshal(b, &struct {
		*fields
		Listing jsonError `json:"listing"`
	}{(*fields)(r), jsonError{&r.Listing}})
}

// LogValue returns a group with the counts, and the texts of the first failure and of the error of the listing, if any. The
// other failures have log lines of their own.
func (r *PrefixResult) LogValue() slog.Value {
	if r == nil {
		return slog.AnyValue(nil)
	}
	attrs := []slog.Attr{
		slog.Int("done", r.Done), slog.Int("skipped", r.Skipped), slog.Int("failed", r.Failed), slog.Int64("bytes", r.Bytes),
		slog.Int("notDurable", r.NotDurable), slog.Int("encrypted", r.Encrypted), slog.Int("unverified", r.Unverified),
		slog.Int("requests", r.Requests), slog.Int("retries", r.Retries),
		slog.Int64("resumedBytes", r.ResumedBytes), slog.Int64("downloadedBytes", r.DownloadedBytes),
		slog.Int("deleted", r.Deleted), slog.Int("restored", r.Restored), slog.Int("restoring", r.Restoring),
	}
	if len(r.Failures) > 0 {
		attrs = append(attrs, slog.String("firstFailure", r.Failures[0].Error()))
	}
	if r.Listing != nil {
		attrs = append(attrs, slog.String("listing", r.Listing.Error()))
	}
	return slog.GroupValue(attrs...)
}

// ObjectStatus says how an object of a prefix was settled. Its text is the same in JSON and in logs.
type ObjectStatus string

// How an object was settled.
const (
	ObjectDone    ObjectStatus = "done"    // it was downloaded, and its file is in place
	ObjectSkipped ObjectStatus = "skipped" // its file, or its folder, was there already
	ObjectFailed  ObjectStatus = "failed"  // it could not be downloaded
	ObjectFolder  ObjectStatus = "folder"  // the folder that a key ending in a slash stands for was made
	// ObjectRestoring says that it thaws, and that the call does not wait for it: see [RestorePolicy].StartOnly.
	ObjectRestoring ObjectStatus = "restoring"
	ObjectDeleted   ObjectStatus = "deleted" // a file without a key was deleted; see [WithDelete]

	// With [WithDryRun], what would happen to it.
	ObjectWouldDownload ObjectStatus = "would download"
	ObjectWouldDelete   ObjectStatus = "would delete"
)

// String returns the text.
func (s ObjectStatus) String() string { return string(s) }

// ObjectResult describes what became of one object of a prefix or a list; see [WithObjectResult]. What is not known is zero.
type ObjectResult struct {
	Status ObjectStatus `json:"status"`
	Source string       `json:"source,omitempty"` // of the [Item], without the query of a URL; "" except for DownloadAll
	Bucket string       `json:"bucket,omitempty"` // the same, its bucket; of a URL: the host
	Key    string       `json:"key"`              // of the object, prefix included; "" if the file has none; of a URL: the path
	Name   string       `json:"name"`             // of its file, relative to the folder, with slashes; that of a folder ends in one
	Path   string       `json:"path"`             // of its file: Name below dir as that was given; "" if the key can have no file
	// VersionID, ETag, Size and LastModified are those of the object that was downloaded. If there was no answer about it, they
	// are those that were listed. Of a file that was deleted, Size and LastModified are its own.
	VersionID    string    `json:"versionId"`
	ETag         string    `json:"etag"`
	Size         int64     `json:"size"`
	LastModified time.Time `json:"lastModified,omitzero"`
	// CRC64 is that of the file. It is known after [ObjectDone], and after [ObjectSkipped] if the file was compared by it.
	// Otherwise it is 0, which is also the CRC-64 of an empty file.
	CRC64    uint64 `json:"crc64,string"`
	Verified bool   `json:"verified"` // CRC64 is known, and is the one that the service has
	// Durable says that the file and its name are on stable storage, and so are its folders if they are below the folder of a prefix,
	// or with [WithMkdirAll]. The bytes of a file that was there are taken to be; an item of [Downloader.DownloadAll] is synced.
	Durable         bool          `json:"durable"`
	Encrypted       bool          `json:"encrypted"`       // by the writer of the object, and not decrypted: the bytes are ciphertext
	ResumedBytes    int64         `json:"resumedBytes"`    // kept from an earlier call; 0 if the file was complete
	DownloadedBytes int64         `json:"downloadedBytes"` // body bytes read from the network, including those that came twice
	Requests        int           `json:"requests"`        // made for this object, including those that were tried again
	Retries         int           `json:"retries"`         // of them, those that followed a failure
	Restored        bool          `json:"restored"`        // the call has asked for its restore; see [WithRestore]
	Duration        time.Duration `json:"seconds"`         // since its turn came
	Err             error         `json:"error"`           // why it failed, without the key; nil unless Status is [ObjectFailed]
}

// MarshalJSON writes the names that the tags of the fields give. CRC64 is a decimal string, Duration a number of seconds.
// LastModified is omitted if it is zero, the text of Err if there is none.
func (r ObjectResult) MarshalJSON() ([]byte, error) {
	type fields ObjectResult
	return marshal(struct {
		fields
		Seconds float64   `json:"seconds"`
		Err     jsonError `json:"error,omitzero"`
	}{fields(r), r.Duration.Seconds(), jsonError{&r.Err}})
}

// UnmarshalJSON reads what MarshalJSON writes. Err is then an error with the same text, and [errors.Is] no longer finds what
// it wrapped.
func (r *ObjectResult) UnmarshalJSON(b []byte) error {
	type fields ObjectResult
	in := struct {
		*fields
		Seconds float64   `json:"seconds"`
		Err     jsonError `json:"error"`
	}{(*fields)(r), r.Duration.Seconds(), jsonError{&r.Err}}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	d, err := secondsToDuration(in.Seconds)
	r.Duration = d
	return err
}

// LogValue returns a group with the names of the JSON.
func (r ObjectResult) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("status", string(r.Status)), slog.String("key", r.Key), slog.String("name", r.Name), slog.String("path", r.Path),
		slog.String("versionId", r.VersionID), slog.String("etag", r.ETag), slog.Int64("size", r.Size),
		slog.String("crc64", strconv.FormatUint(r.CRC64, 10)), slog.Bool("verified", r.Verified), slog.Bool("durable", r.Durable),
		slog.Bool("encrypted", r.Encrypted),
		slog.Int64("resumedBytes", r.ResumedBytes), slog.Int64("downloadedBytes", r.DownloadedBytes),
		slog.Int("requests", r.Requests), slog.Int("retries", r.Retries), slog.Bool("restored", r.Restored),
		slog.Float64("seconds", r.Duration.Seconds()),
	}
	if r.Source != "" {
		attrs = append(attrs, slog.String("source", r.Source), slog.String("bucket", r.Bucket))
	}
	if !r.LastModified.IsZero() {
		attrs = append(attrs, slog.Time("lastModified", r.LastModified))
	}
	if r.Err != nil {
		attrs = append(attrs, slog.String("error", r.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}

// secondsToDuration returns a number of seconds, to the nanosecond.
func secondsToDuration(seconds float64) (time.Duration, error) {
	return time.ParseDuration(strconv.FormatFloat(seconds, 'f', 9, 64) + "s")
}

// result returns what a call ends with: its figures, and the error with the names of object and destination.
func (c *call) result(ctx context.Context, path string, err error) (*Result, error) {
	res := c.figures(path)
	if err == nil {
		return res, nil
	}
	if res != nil {
		res.CRC64, res.Verified, res.Durable = 0, false, false
	}
	return res, c.withNames(ctx, path, err)
}

// figures returns what a call did, or nil if it made no request.
func (c *call) figures(path string) *Result {
	res := c.figuresWithoutHeader(path)
	if res == nil {
		return nil
	}
	if c.engine == nil { // the call ended before it asked for bytes
		return res
	}
	if f, fixed := c.engine.Facts(); fixed {
		res.Header = objectHeader(c.engine.Header(), f.Size)
	}
	return res
}

// figuresWithoutHeader does the same, but for the headers of the object.
func (c *call) figuresWithoutHeader(path string) *Result {
	if c.stats.Requests.Load() == 0 && c.there == nil {
		return nil
	}
	id := c.src.Identity()
	res := &Result{
		Path: path, Bucket: id.Bucket, Key: id.Key, CRC64: c.crc, Verified: c.verified, Durable: c.durable,
		ResumedBytes: c.stats.Resumed.Load(), DownloadedBytes: c.stats.Downloaded.Load(),
		Requests: int(c.stats.Requests.Load()), Retries: int(c.stats.Retries.Load()), Restored: c.restored.Load(), Duration: time.Since(c.start),
	}
	if c.there != nil {
		f := c.there.facts
		res.Skipped, res.Size, res.VersionID, res.ETag, res.LastModified = true, c.there.size, f.VersionID, f.ETag, f.LastModified
	}
	if c.engine == nil {
		return res // its requests were for anything but bytes
	}
	if f, fixed := c.engine.Facts(); fixed {
		res.VersionID, res.ETag, res.LastModified = f.VersionID, f.ETag, f.LastModified
		res.Encrypted = c.engine.IsCiphertext()
	}
	if n, known := c.engine.Total(); known {
		res.Size = n
	}
	return res
}

// objectHeader returns what the headers of an answer say of an object of size bytes.
func objectHeader(answer http.Header, size int64) http.Header {
	if answer == nil {
		return nil
	}
	h := answer.Clone()
	for _, names := range h.Values("Connection") {
		for name := range strings.SplitSeq(names, ",") {
			h.Del(strings.TrimSpace(name)) // of this connection alone: RFC 9110, section 7.6.1
		}
	}
	for _, name := range notOfTheObject {
		h.Del(name)
	}
	if size != object.UnknownSize {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	return h
}

// notOfTheObject are headers that describe a connection, a session or one answer. A cookie is a credential.
var notOfTheObject = [...]string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Set-Cookie", "Content-Range",
}

// jsonError is an error in JSON: its text. What is read is another error with that text; an empty one is nil.
type jsonError struct{ err *error }

// IsZero reports whether there is no error, for omitzero.
func (e jsonError) IsZero() bool { return *e.err == nil }

func (e jsonError) MarshalJSON() ([]byte, error) { return marshal(e.text()) }

func (e jsonError) UnmarshalJSON(b []byte) error {
	text := e.text()
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*e.err = nil
	if text != "" {
		*e.err = errors.New(text)
	}
	return nil
}

func (e jsonError) text() string {
	if e.IsZero() {
		return ""
	}
	return (*e.err).Error()
}

// marshal encodes v and leaves <, > and & as they are. The encoder that called MarshalJSON escapes them if it is to.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Progress describes how far a download is. [WithProgress] reports it.
type Progress struct {
	// Done counts the bytes that were received, or verified to be there. It never goes back, and reaches Total only
	// once the result is verified and in place. Total is the size of the object, or of the range asked for, in bytes; it is 0
	// until the first answer, and until the end if a web server does not say it. Resumed counts the bytes kept from an earlier call.
	Done, Total, Resumed int64
	BytesPerSecond       float64       // received over the last few seconds; 0 until it was measured
	Remaining            time.Duration // at that speed; -1 if it is not known, as while objects thaw
	InFlight, Retries    int           // requests that are in flight now, and retries so far
	Requests             int           // requests made so far, including retries
	Restoring            int           // archived objects that thaw; see [WithRestore]
	// Objects are some of those that [Downloader.DownloadPrefix] is downloading: at most eight, those that were begun first.
	// It is nil for other calls.
	Objects []ObjectProgress
}

// ObjectProgress describes how far one object of a prefix is.
type ObjectProgress struct {
	Key         string
	Done, Total int64 // bytes, as in Progress; until the first answer Total is the size that was listed
}

const (
	reportTime = 100 * time.Millisecond // least time between two reports
	speedTime  = 3 * time.Second        // over which the reported speed is smoothed
)

// reporter calls a progress function for one call of the library, never concurrently. A nil reporter does nothing.
type reporter struct {
	fn       func(Progress)
	snapshot func() Progress // without the speed
	received func() int64    // bytes

	last  Progress
	at    time.Time // of the last snapshot
	bytes int64     // received by then
	stop  chan struct{}
	ended sync.WaitGroup
}

// startReporter starts reporting to fn, until end is called. With a nil fn it returns nil. snapshot returns the state without
// the speed, received how many body bytes were read so far.
func startReporter(fn func(Progress), snapshot func() Progress, received func() int64) *reporter {
	if fn == nil {
		return nil
	}
	r := &reporter{fn: fn, snapshot: snapshot, received: received, stop: make(chan struct{}), at: time.Now()}
	r.last.Remaining = -1
	r.ended.Go(r.run)
	return r
}

// end stops reporting, with a last report of the outcome.
func (r *reporter) end(err error) {
	if r == nil {
		return
	}
	close(r.stop)
	r.ended.Wait()
	if err == nil {
		r.succeeded()
	} else {
		r.failed()
	}
}

// succeeded reports that the result is in place.
func (r *reporter) succeeded() {
	p := r.next(time.Now())
	p.Remaining, p.InFlight = 0, 0
	r.fn(p)
}

// failed reports how far a call came that did not succeed. It never reports all bytes as done.
func (r *reporter) failed() {
	p := r.next(time.Now())
	if p.Done == p.Total {
		p.Done = r.last.Done // all bytes came, but the result is not in place
	}
	p.InFlight = 0
	r.fn(p)
}

// run reports until it is stopped.
func (r *reporter) run() {
	tick := time.NewTicker(reportTime)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			// The tick may have waited for a slow fn, so its own time is wrong, and the next must not follow immediately.
			if p := r.next(time.Now()); p.Done < p.Total || p.Total == 0 && p.Done > 0 || p.Restoring != r.last.Restoring {
				r.last = p
				r.fn(p)
				tick.Reset(reportTime)
			}
		}
	}
}

// next returns the state at the time now, with the speed since it was last called.
func (r *reporter) next(now time.Time) Progress {
	p := r.snapshot()
	p.Done = max(p.Done, r.last.Done) // bytes that are downloaded again were reported already
	p.BytesPerSecond, p.Remaining = r.last.BytesPerSecond, -1
	if elapsed := now.Sub(r.at).Seconds(); elapsed > 0 {
		n := r.received()
		speed := float64(n-r.bytes) / elapsed
		weight := 1 - math.Exp(-elapsed/speedTime.Seconds())
		if r.bytes == 0 {
			weight = 1
		}
		p.BytesPerSecond += (speed - p.BytesPerSecond) * weight
		r.at, r.bytes, r.last.BytesPerSecond = now, n, p.BytesPerSecond
	}
	if p.BytesPerSecond > 0 && p.Total > 0 && p.Restoring == 0 {
		if left := float64(p.Total-p.Done) / p.BytesPerSecond; left < math.MaxInt64/float64(time.Second) {
			p.Remaining = time.Duration(left * float64(time.Second))
		}
	}
	return p
}
