package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar"
	"github.com/ossdl/ossdl/cmd/ossget/internal/credentials"
)

const (
	exitDone        = 0
	exitFailed      = 1 // the same command later continues
	exitUsage       = 2
	exitHopeless    = 3 // the same command fails again
	exitInterrupted = 130
	exitBrokenPipe  = 141 // as of a process that SIGPIPE ended
)

// usageError is a mistake in the command line or the environment.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// outcome is how a command ended.
type outcome struct {
	task        task
	path        string
	result      *ossdl.Result       // nil where no request was made
	prefix      *ossdl.PrefixResult // the same, of a prefix
	seconds     float64
	err         error
	kept        int64 // bytes that the same command will not fetch again
	anew        bool  // it keeps nothing of an object that is not whole
	interrupted bool
}

// kinds are the errors that a caller can act on, with their stable words and exit codes, the more telling first.
var kinds = []struct {
	err  error
	word string
	exit int
}{
	{credentials.ErrUnavailable, "NoCredentials", exitFailed},
	{ossdl.ErrExpired, "Expired", exitFailed},
	{ossdl.ErrInUse, "InUse", exitFailed},
	{ossdl.ErrNoSpace, "NoSpace", exitFailed},
	{ossdl.ErrObjectChanged, "ObjectChanged", exitFailed},
	{ossdl.ErrNotFound, "NotFound", exitHopeless},
	{ossdl.ErrArchived, "Archived", exitHopeless},
	{ossdl.ErrRange, "RangeRefused", exitHopeless},
	{ossdl.ErrChecksum, "ChecksumMismatch", exitHopeless},
	{ossdl.ErrTooLarge, "TooLarge", exitHopeless},
	{errors.ErrUnsupported, "Local", exitHopeless}, // by the file system of the destination
}

// kind is the exit code, and a stable word for what the service has no code for.
func (o outcome) kind() (word string, exit int) {
	var usage usageError
	switch {
	case o.err == nil:
		return "", exitDone
	case errors.As(o.err, &usage):
		return "Usage", exitUsage
	case o.interrupted && errors.Is(o.err, context.Canceled):
		return "Interrupted", exitInterrupted
	case errors.Is(o.err, errBrokenPipe):
		return "BrokenPipe", exitBrokenPipe
	case o.someFailed():
		return "SomeFailed", exitFailed
	}
	return o.kindOf(o.err)
}

// kindOf is the same of an error alone.
func (o outcome) kindOf(err error) (word string, exit int) {
	var service oss.ServiceError
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.word, k.exit
		}
	}
	if o.result == nil && o.prefix == nil {
		return "Local", exitHopeless // the destination or the checkpoint's place cannot be: nothing was asked for yet
	}
	if errors.As(err, &service) && refused(service) {
		return "HTTP" + strconv.Itoa(service.StatusCode), exitHopeless
	}
	return "Failed", exitFailed
}

// refused tells an answer that the same request gets again. RequestTimeout is a 400 of OSS that speaks of the network.
func refused(answer oss.ServiceError) bool {
	status := answer.StatusCode
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests &&
		answer.Code != "RequestTimeout"
}

func (o outcome) exitCode() int {
	_, exit := o.kind()
	return exit
}

// print says how it ended: in one line, and one for each object of a prefix that failed, whatever is in names. A broken pipe
// is nothing to speak of.
func (o outcome) print(w io.Writer, quiet bool) {
	if quiet && o.err == nil || errors.Is(o.err, errBrokenPipe) {
		return
	}
	if o.someFailed() {
		o.printFailures(w)
	}
	fmt.Fprintln(w, bar.Printable(o.line()))
}

// line says in one line how it ended.
func (o outcome) line() string {
	if o.prefix != nil {
		return "ossget: " + o.prefixLine()
	}
	continues := "; the same command continues"
	if o.anew {
		continues = ""
	}
	if o.kept > 0 {
		continues = fmt.Sprintf("; %s are kept%s", bar.Bytes(o.kept), continues)
	}
	_, exit := o.kind()
	switch {
	case exit == exitDone:
		return "ossget: " + o.summary()
	case exit == exitInterrupted:
		return "ossget: interrupted" + continues
	case exit == exitFailed && o.kept > 0:
		return "ossget: " + oneLine(o.err) + continues
	default:
		return "ossget: " + oneLine(o.err)
	}
}

func (o outcome) summary() string {
	r := o.result
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
	if !r.Durable && o.task != taskStdout {
		s += "; not synced: a power loss may cost it"
	}
	return s
}

// report is the line of -json. Names and meanings are what scripts rely on.
type report struct {
	Path            string  `json:"path"`
	Size            int64   `json:"size"`
	ETag            string  `json:"etag"`
	CRC64           string  `json:"crc64"` // decimal: more than a JSON number holds everywhere
	Verified        bool    `json:"verified"`
	Durable         bool    `json:"durable"`
	ResumedBytes    int64   `json:"resumedBytes"`
	DownloadedBytes int64   `json:"downloadedBytes"`
	Requests        int     `json:"requests"`
	Retries         int     `json:"retries"`
	Seconds         float64 `json:"seconds"`
	*Failure
}

// Failure is what a failed run tells besides. Embedded by pointer it is left out otherwise.
type Failure struct {
	Error     string `json:"error"`
	Code      string `json:"code"`
	RequestID string `json:"requestId"`
}

func (o outcome) json() string {
	if o.task == taskPrefix {
		return oneJSON(o.prefixReport())
	}
	r := o.result
	if r == nil {
		r = &ossdl.Result{Path: o.path}
	}
	line := report{
		Path: r.Path, Size: r.Size, ETag: r.ETag, CRC64: strconv.FormatUint(r.CRC64, 10), Verified: r.Verified, Durable: r.Durable,
		ResumedBytes: r.ResumedBytes, DownloadedBytes: r.DownloadedBytes, Requests: r.Requests, Retries: r.Retries,
		Seconds: r.Duration.Seconds(), Failure: o.failure(),
	}
	return oneJSON(line)
}

// oneJSON is a value as one line.
func oneJSON(line any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(line); err != nil {
		panic(err) // structs of strings and numbers, none of them NaN
	}
	return b.String()
}

// failure is nil where there is none.
func (o outcome) failure() *Failure {
	if o.err == nil {
		return nil
	}
	word, exit := o.kind()
	if exit == exitInterrupted || o.someFailed() {
		return &Failure{Error: oneLine(o.err), Code: word} // no answer's
	}
	return failureOf(o.err, word)
}

// failureOf has the service's own code, where it gave one.
func failureOf(err error, word string) *Failure {
	f := &Failure{Error: oneLine(err), Code: word}
	var service oss.ServiceError
	if errors.As(err, &service) {
		f.RequestID = service.RequestID
		if service.Code != "" {
			f.Code = service.Code
		}
	}
	return f
}

// oneLine keeps a message to one line of what can be printed, whatever a server or a key put into it, under the one name of
// this command.
func oneLine(err error) string {
	return bar.Printable(strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "ossdl: ")), " "))
}
