package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar"
	"github.com/ossdl/ossdl/cmd/ossget/internal/credentials"
)

const (
	exitDone        = 0
	exitFailed      = 1 // the same command resumes later
	exitUsage       = 2
	exitHopeless    = 3 // the same command fails again
	exitRestoring   = 4 // --restore-only: objects still thaw
	exitHangup      = 129
	exitInterrupted = 130
	exitTerminated  = 143
	exitBrokenPipe  = 141 // like a process that SIGPIPE ended
)

// usageError is a mistake in the command line or the environment.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// outcome is how a command ended.
type outcome struct {
	task        task
	path        string
	bucket, key string              // what was asked for
	noFolder    string              // the folder of path, if that is missing and could have been made
	result      *ossdl.Result       // nil if no request was made
	prefix      *ossdl.PrefixResult // the same, for a prefix
	final       int                 // objects that failed and would fail again
	dryRun      bool
	compared    *ossdl.VerifyResult // nil unless a folder was compared
	listed      listing             // by ls
	planned     planned             // by plan
	about       circumstances
	seconds     float64
	err         error
	kept        int64 // bytes that the same command will not fetch again
	anew        bool  // it keeps nothing of an incomplete object
	interrupted bool
	signal      os.Signal // that interrupted it; nil: not known
}

// wasInterrupted reports whether the command ended because it was interrupted, and not before that.
func (o outcome) wasInterrupted() bool {
	return o.interrupted && errors.Is(o.err, context.Canceled)
}

// interruptedExit is the exit code of a process that the signal ended, as shells have it.
func (o outcome) interruptedExit() int {
	if s, ok := o.signal.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return exitInterrupted
}

// kinds are the errors that a caller can act on, with their stable words and exit codes. The more specific ones come first.
var kinds = []struct {
	err  error
	word string
	exit int
}{
	{credentials.ErrUnavailable, codeNoCredentials, exitFailed},
	{ossdl.ErrExpired, codeExpired, exitFailed},
	{ossdl.ErrInUse, codeInUse, exitFailed},
	{ossdl.ErrNoSpace, codeNoSpace, exitFailed},
	{ossdl.ErrObjectChanged, codeObjectChanged, exitFailed},
	{ossdl.ErrNotFound, codeNotFound, exitHopeless},
	{ossdl.ErrRestoring, codeRestoring, exitRestoring},
	{ossdl.ErrDecryption, codeDecryption, exitHopeless},
	{ossdl.ErrArchived, codeArchived, exitHopeless},
	{ossdl.ErrRange, codeRangeRefused, exitHopeless},
	{ossdl.ErrChecksum, codeChecksumMismatch, exitHopeless},
	{ossdl.ErrTooLarge, codeTooLarge, exitHopeless},
	{errBadList, codeBadList, exitHopeless},
	{ossdl.ErrDestination, codeLocal, exitHopeless},
	{errors.ErrUnsupported, codeLocal, exitHopeless}, // by the file system of the destination
}

// kind returns the exit code and a stable word. The word is for errors without a code of the service.
func (o outcome) kind() (word string, exit int) {
	var usage usageError
	switch {
	case o.err == nil:
		return "", exitDone
	case errors.As(o.err, &usage):
		return codeUsage, exitUsage
	case o.wasInterrupted():
		return codeInterrupted, o.interruptedExit()
	case errors.Is(o.err, errBrokenPipe):
		return codeBrokenPipe, exitBrokenPipe
	case o.task.verifies():
		return o.verifyKind()
	case o.someFailed():
		if o.allFinal() {
			return codeSomeFailed, exitHopeless
		}
		return codeSomeFailed, exitFailed
	}
	return o.kindOf(o.err)
}

// kindOf does the same for an error alone. One cause has one word, whether or not the server explains it: a code of OSS is used
// only where the status alone would not tell the cause.
func (o outcome) kindOf(err error) (word string, exit int) {
	var service oss.ServiceError
	var timeout timeoutError
	if errors.As(err, &timeout) {
		return codeTimeout, exitFailed
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.word, k.exit
		}
	}
	if o.result == nil && o.prefix == nil && o.compared == nil {
		return codeLocal, exitHopeless // the destination or the checkpoint's folder cannot be used: no request was made yet
	}
	if !errors.As(err, &service) || service.StatusCode < 400 {
		return codeFailed, exitFailed
	}
	status := "HTTP" + strconv.Itoa(service.StatusCode)
	switch {
	case service.Code == codeRequestTimeout || service.StatusCode == http.StatusRequestTimeout:
		return codeRequestTimeout, exitFailed
	case !refused(service):
		return status, exitFailed
	case service.Code != "":
		return service.Code, exitHopeless
	case service.StatusCode == http.StatusForbidden:
		return codeAccessDenied, exitHopeless
	}
	return status, exitHopeless
}

// refused reports whether the same request would get the same answer again.
func refused(answer oss.ServiceError) bool {
	status := answer.StatusCode
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests &&
		answer.Code != codeRequestTimeout
}

func (o outcome) exitCode() int {
	_, exit := o.kind()
	return exit
}

// print writes the outcome in one line, and one line for each object of a prefix that failed. Names are made printable. A
// broken pipe is not reported.
func (o outcome) print(w io.Writer, quiet bool) {
	if o.err == nil && (quiet || o.task == taskStat) || errors.Is(o.err, errBrokenPipe) {
		return
	}
	if o.someFailed() {
		printFailures(w, o.prefix.Failed, o.prefix.Failures)
	}
	if o.compared != nil {
		printFailures(w, o.compared.Failed, o.compared.Failures)
	}
	fmt.Fprintln(w, bar.Printable(o.line()))
}

// line describes the outcome in one line.
func (o outcome) line() string {
	if o.prefix != nil {
		return o.hinted("ossget: " + o.prefixLine())
	}
	if o.compared != nil {
		return o.hinted("ossget: " + o.verifyLine())
	}
	if o.task == taskLs && o.err == nil {
		return fmt.Sprintf("ossget: oss://%s/%s: %d objects, %s", o.bucket, o.key, o.listed.Objects, bar.Bytes(o.listed.Bytes))
	}
	if o.task == taskPlan && o.err == nil {
		return fmt.Sprintf("ossget: oss://%s/%s: %d ranges", o.bucket, o.key, o.planned.Ranges)
	}
	continues := "; the same command continues"
	if o.anew || o.task.looks() {
		continues = ""
	}
	if o.kept > 0 {
		continues = fmt.Sprintf("; %s of the file are kept%s", bar.Bytes(o.kept), continues)
	}
	switch _, exit := o.kind(); {
	case exit == exitDone:
		return "ossget: " + o.summary()
	case o.wasInterrupted():
		return "ossget: interrupted" + continues
	case exit == exitFailed && o.kept > 0:
		return o.hinted("ossget: " + oneLine(o.err) + continues)
	case o.noFolder != "":
		return "ossget: " + oneLine(o.err) + "; --mkdir makes the folder"
	default:
		return o.hinted("ossget: " + oneLine(o.err))
	}
}

func (o outcome) summary() string {
	r := o.result
	if r.Skipped {
		return fmt.Sprintf("%s: there already, %s; nothing was downloaded", r.Path, bar.Bytes(r.Size))
	}
	s := fmt.Sprintf("%s: %s in %s", r.Path, bar.Bytes(r.Size), r.Duration.Round(time.Millisecond))
	if seconds := r.Duration.Seconds(); seconds > 0 && r.DownloadedBytes > 0 {
		s += fmt.Sprintf(" (%s/s)", bar.Bytes(int64(float64(r.DownloadedBytes)/seconds)))
	}
	if r.ResumedBytes > 0 {
		s += fmt.Sprintf(", %s of it from an earlier run", bar.Bytes(r.ResumedBytes))
	}
	if !r.Verified {
		s += "; not verified: there is no digest to compare with"
	} else {
		s += ", verified"
	}
	if r.Encrypted {
		s += "; encrypted by its writer, and not decrypted"
	}
	if !r.Durable && o.task != taskStdout {
		s += "; not synced: a power loss may cost it"
	}
	return s
}

// report describes one object, in the line of --json and in the events. Scripts rely on the names and their meanings.
type report struct {
	Path            string    `json:"path"`
	Bucket          string    `json:"bucket"`
	Key             string    `json:"key"`
	VersionID       string    `json:"versionId"`
	ETag            string    `json:"etag"`
	Size            int64     `json:"size"`
	CRC64           string    `json:"crc64"` // decimal: not every parser reads so large a number exactly
	Verified        bool      `json:"verified"`
	Durable         bool      `json:"durable"`
	Encrypted       bool      `json:"encrypted"`
	Skipped         bool      `json:"skipped"`
	ResumedBytes    int64     `json:"resumedBytes"`
	DownloadedBytes int64     `json:"downloadedBytes"`
	Requests        int       `json:"requests"`
	Retries         int       `json:"retries"`
	Seconds         float64   `json:"seconds"`
	LastModified    time.Time `json:"lastModified,omitzero"`
	*Failure
}

// Failure holds the additional fields of a failed run. It is embedded by pointer, so that a successful run omits them.
type Failure struct {
	Error     string `json:"error"`
	Code      string `json:"code"`
	RequestID string `json:"requestId"`
	ExitCode  int    `json:"exitCode"`
	Retryable bool   `json:"retryable"` // the same command may succeed
}

func (o outcome) json() string {
	if o.task.many() {
		return oneJSON(o.prefixReport())
	}
	if o.task.verifies() {
		return oneJSON(o.verifyReport())
	}
	if o.task == taskLs {
		o.listed.Bucket, o.listed.Prefix, o.listed.Seconds, o.listed.Failure = o.bucket, o.key, o.seconds, o.failure()
		return oneJSON(o.listed)
	}
	if o.task == taskPlan {
		o.planned.Bucket, o.planned.Prefix, o.planned.Seconds, o.planned.Failure = o.bucket, o.key, o.seconds, o.failure()
		return oneJSON(o.planned)
	}
	if o.task == taskStat && o.err == nil {
		return "" // it was printed
	}
	return oneJSON(o.report())
}

// event is the line of json as the last event.
func (o outcome) event() string {
	switch {
	case o.task.many():
		return eventLine(eventDone, o.prefixReport())
	case o.task.verifies():
		return eventLine(eventDone, o.verifyReport())
	}
	return eventLine(eventDone, o.report())
}

// report describes the outcome for a single object.
func (o outcome) report() report {
	r := o.result
	if r == nil {
		r = &ossdl.Result{Path: o.path, Bucket: o.bucket, Key: o.key}
	}
	return report{
		Path: r.Path, Bucket: r.Bucket, Key: r.Key, VersionID: r.VersionID, ETag: r.ETag, Size: r.Size, CRC64: strconv.FormatUint(r.CRC64, 10),
		Verified: r.Verified, Durable: r.Durable, Encrypted: r.Encrypted, Skipped: r.Skipped,
		ResumedBytes: r.ResumedBytes, DownloadedBytes: r.DownloadedBytes, Requests: r.Requests, Retries: r.Retries,
		Seconds: r.Duration.Seconds(), LastModified: r.LastModified, Failure: o.failure(),
	}
}

// reportOf describes one object of many.
func reportOf(r ossdl.ObjectResult) report {
	return report{
		Path: r.Path, Bucket: r.Bucket, Key: r.Key, VersionID: r.VersionID, ETag: r.ETag, Size: r.Size, CRC64: strconv.FormatUint(r.CRC64, 10),
		Verified: r.Verified, Durable: r.Durable, Encrypted: r.Encrypted, Skipped: r.Status == ossdl.ObjectSkipped,
		ResumedBytes: r.ResumedBytes, DownloadedBytes: r.DownloadedBytes, Requests: r.Requests, Retries: r.Retries,
		Seconds: r.Duration.Seconds(), LastModified: r.LastModified,
	}
}

// oneJSON encodes a value as one line.
func oneJSON(line any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(line); err != nil {
		panic(err) // cannot happen: structs of strings and numbers, none of them NaN
	}
	return escapeUnprintable(b.String())
}

// escapeUnprintable escapes what a terminal might act on: DEL, the controls of C1 and the marks that change the direction of
// writing. In a JSON document they can only stand inside strings. The encoder escapes those of ASCII.
func escapeUnprintable(line string) string {
	var b strings.Builder
	for _, r := range line {
		switch {
		case r == '\n', unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r1, r2 := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, r1, r2)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// failure returns nil if the run succeeded.
func (o outcome) failure() *Failure {
	if o.err == nil {
		return nil
	}
	code, exit := o.kind()
	f := newFailure(o.err, code, exit)
	if o.wasInterrupted() || o.someFailed() {
		f.RequestID = "" // not from an answer
	}
	return f
}

// failureOf describes the error of one object.
func (o outcome) failureOf(err error) *Failure {
	code, exit := o.kindOf(err)
	return newFailure(err, code, exit)
}

func newFailure(err error, code string, exit int) *Failure {
	f := &Failure{Error: oneLine(err), Code: code, ExitCode: exit, Retryable: !slices.Contains([]int{exitUsage, exitHopeless}, exit)}
	var service oss.ServiceError
	if errors.As(err, &service) {
		f.RequestID = service.RequestID
	}
	return f
}

// oneLine turns an error into one printable line, whatever a server or a key put into it. It removes the library's prefix,
// since the command adds its own.
func oneLine(err error) string {
	return bar.Printable(strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "ossdl: ")), " "))
}
