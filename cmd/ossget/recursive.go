package main

import (
	"fmt"
	"io"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar"
)

// someFailed reports whether the whole prefix was processed and some of its objects failed.
func (o outcome) someFailed() bool { return o.prefix != nil && o.prefix.Failed > 0 }

// allFinal reports whether the same command would fail again: none of the failures can heal. Of many failures only the first ones are
// in the result; all are counted.
func (o outcome) allFinal() bool {
	p := o.prefix
	if p.Failed != len(p.Failures) && p.Failed != o.final {
		return false
	}
	for _, f := range p.Failures {
		if !isFinal(f.Err) {
			return false
		}
	}
	return p.Listing == nil || isFinal(p.Listing)
}

// isFinal reports whether the failure of an object would happen again.
func isFinal(err error) bool {
	_, exit := outcome{prefix: new(ossdl.PrefixResult)}.kindOf(err) // a request was made
	return exit == exitHopeless
}

// printFailures prints a line for each failed object that was recorded.
func printFailures(w io.Writer, all int, failures []ossdl.KeyError) {
	for _, f := range failures {
		fmt.Fprintf(w, "ossget: %q: %s\n", f.Key, oneLine(f.Err))
	}
	if more := all - len(failures); more > 0 {
		fmt.Fprintf(w, "ossget: and %d more\n", more)
	}
}

// prefixLine summarizes the download of a prefix.
func (o outcome) prefixLine() string {
	p := o.prefix
	if o.dryRun {
		return o.dryRunLine()
	}
	s := fmt.Sprintf("%s: %d done, %d skipped, %d failed; %s in %s", o.path, p.Done, p.Skipped, p.Failed,
		bar.Bytes(p.Bytes), time.Duration(o.seconds*float64(time.Second)).Round(time.Millisecond))
	if o.seconds > 0 && p.Bytes > 0 {
		s += fmt.Sprintf(" (%s/s)", bar.Bytes(int64(float64(p.Bytes)/o.seconds)))
	}
	if p.ResumedBytes > 0 {
		s += fmt.Sprintf(", %s of it from an earlier run", bar.Bytes(p.ResumedBytes))
	}
	s += requestsMade(p.Requests, p.Retries)
	if p.Restored > 0 {
		s += fmt.Sprintf("; %d restores asked for", p.Restored)
	}
	if p.Restoring > 0 {
		s += fmt.Sprintf("; %d still thaw", p.Restoring)
	}
	if p.Deleted > 0 {
		s += fmt.Sprintf("; %d without a key deleted", p.Deleted)
	}
	if p.Unverified > 0 {
		s += fmt.Sprintf("; %d not verified: there is no checksum to compare with", p.Unverified)
	}
	if p.Encrypted > 0 {
		s += fmt.Sprintf("; %d encrypted by their writers, and not decrypted", p.Encrypted)
	}
	if p.NotDurable > 0 {
		s += fmt.Sprintf("; %d not synced: a power loss may cost them", p.NotDurable)
	}
	if p.Listing != nil && o.someFailed() {
		s = oneLine(p.Listing) + "; " + s
	}
	switch {
	case o.err == nil:
		return s
	case o.wasInterrupted():
		return "interrupted; " + s + "; the same command continues"
	case o.someFailed() && o.allFinal():
		return s + "; the same command would fail again"
	case o.someFailed():
		return s + "; the same command tries again what failed"
	default:
		return oneLine(o.err) + "; " + s
	}
}

// dryRunLine summarizes what would be done.
func (o outcome) dryRunLine() string {
	p := o.prefix
	s := fmt.Sprintf("%s: dry run: %d to download (%s), %d to skip, %d failed", o.path, p.Done, bar.Bytes(p.Bytes), p.Skipped, p.Failed)
	if p.Deleted > 0 {
		s += fmt.Sprintf(", %d without a key to delete", p.Deleted)
	}
	s += fmt.Sprintf("; requests: %d", p.Requests)
	switch {
	case o.wasInterrupted():
		return "interrupted; " + s
	case p.Listing != nil && o.someFailed():
		return oneLine(p.Listing) + "; " + s
	case o.err != nil && !o.someFailed():
		return oneLine(o.err) + "; " + s
	}
	return s
}

// prefixReport is the line of --json for a prefix.
type prefixReport struct {
	Path            string       `json:"path"`
	Done            int          `json:"done"`
	Skipped         int          `json:"skipped"`
	Failed          int          `json:"failed"`
	Bytes           int64        `json:"bytes"`      // of the completed objects
	NotDurable      int          `json:"notDurable"` // of done and skipped, those that a power loss may cost
	Encrypted       int          `json:"encrypted"`  // the completed objects that their writers encrypted
	Unverified      int          `json:"unverified"` // the completed objects without any checksum to compare with
	ResumedBytes    int64        `json:"resumedBytes"`
	DownloadedBytes int64        `json:"downloadedBytes"`
	Requests        int          `json:"requests"`
	Retries         int          `json:"retries"`
	Restored        int          `json:"restored"`  // archived objects whose restore was asked for
	Restoring       int          `json:"restoring"` // archived objects that still thaw
	Deleted         int          `json:"deleted"`   // files without a key
	DryRun          bool         `json:"dryRun"`    // nothing was done: the counts are of what would be
	Seconds         float64      `json:"seconds"`
	Failures        []keyFailure `json:"failures"` // the first ones only
	*Failure
}

// keyFailure is one object that failed.
type keyFailure struct {
	Key string `json:"key"`
	Failure
}

func (o outcome) prefixReport() prefixReport {
	r := prefixReport{Path: o.path, DryRun: o.dryRun, Seconds: o.seconds, Failures: []keyFailure{}, Failure: o.failure()}
	if o.prefix == nil {
		return r
	}
	r.Done, r.Skipped, r.Failed = o.prefix.Done, o.prefix.Skipped, o.prefix.Failed
	r.Bytes, r.NotDurable, r.Encrypted = o.prefix.Bytes, o.prefix.NotDurable, o.prefix.Encrypted
	r.Unverified, r.ResumedBytes, r.DownloadedBytes = o.prefix.Unverified, o.prefix.ResumedBytes, o.prefix.DownloadedBytes
	r.Deleted, r.Restored, r.Restoring = o.prefix.Deleted, o.prefix.Restored, o.prefix.Restoring
	r.Requests, r.Retries = o.prefix.Requests, o.prefix.Retries
	for _, f := range o.prefix.Failures {
		r.Failures = append(r.Failures, keyFailure{f.Key, *o.failureOf(f.Err)})
	}
	return r
}

// requestsMade says in a summary how many requests were made, and how many of them followed a failure.
func requestsMade(requests, retries int) string {
	s := fmt.Sprintf(", requests: %d", requests)
	if retries > 0 {
		s += fmt.Sprintf(", retries: %d", retries)
	}
	return s
}
