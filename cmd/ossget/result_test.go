package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

func TestExitCodesAndWords(t *testing.T) {
	service := func(status int, code string) error {
		return oss.ServiceError{StatusCode: status, Code: code, RequestID: "5F"}
	}
	part := func(err error) error {
		return fmt.Errorf("oss://b/k: %w", &ossdl.PartError{Bucket: "b", Key: "k", Size: 1, Attempts: 1, Err: err})
	}
	for _, c := range []struct {
		err  error
		exit int
		code string
		id   string
	}{
		{nil, 0, "", ""},
		{usageError{errors.New("-x")}, 2, "Usage", ""},
		{part(errors.New("connection refused")), 1, "Failed", ""},
		{part(ossdl.ErrInUse), 1, "InUse", ""},
		{part(ossdl.ErrNoSpace), 1, "NoSpace", ""},
		{part(ossdl.ErrExpired), 1, "Expired", ""},
		{part(errors.Join(ossdl.ErrExpired, service(403, "SecurityTokenExpired"))), 1, "Expired", "5F"},
		{part(errors.Join(ossdl.ErrObjectChanged, service(412, "PreconditionFailed"))), 1, "ObjectChanged", "5F"},
		{part(ossdl.ErrObjectChanged), 1, "ObjectChanged", ""},
		{part(errors.Join(ossdl.ErrNotFound, service(404, "NoSuchKey"))), 3, "NotFound", "5F"},
		{part(errors.Join(ossdl.ErrArchived, service(403, "InvalidObjectState"))), 3, "Archived", "5F"},
		{part(ossdl.ErrRange), 3, "RangeRefused", ""},
		{part(ossdl.ErrChecksum), 3, "ChecksumMismatch", ""},
		{part(ossdl.ErrTooLarge), 3, "TooLarge", ""},
		{part(errors.ErrUnsupported), 3, "Local", ""},
		{part(ossdl.ErrDestination), 3, "Local", ""},
		{part(service(403, "AccessDenied")), 3, "AccessDenied", "5F"},
		{part(service(403, "")), 3, "AccessDenied", "5F"},
		{part(service(400, "InvalidArgument")), 3, "InvalidArgument", "5F"},
		{part(service(400, "RequestTimeout")), 1, "RequestTimeout", "5F"},
		{part(service(408, "")), 1, "RequestTimeout", "5F"},
		{part(service(429, "QpsLimitExceeded")), 1, "HTTP429", "5F"},
		{part(service(429, "")), 1, "HTTP429", "5F"},
		{part(service(503, "")), 1, "HTTP503", "5F"},
		{part(service(503, "ServiceUnavailable")), 1, "HTTP503", "5F"},
		{part(context.DeadlineExceeded), 1, "Failed", ""},
	} {
		o := outcome{err: c.err, result: new(ossdl.Result)}
		if got := o.exitCode(); got != c.exit {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.exit)
		}
		if f := o.failure(); f != nil && (f.Code != c.code || f.RequestID != c.id) {
			t.Errorf("%v: got %q, %q, want %q, %q", c.err, f.Code, f.RequestID, c.code, c.id)
		}
	}
	if local := (outcome{err: fs.ErrNotExist}); local.exitCode() != 3 || local.failure().Code != "Local" {
		t.Errorf("before any request: %d, %q", local.exitCode(), local.failure().Code)
	}
	interrupted := outcome{err: part(context.Canceled), interrupted: true, kept: 3 << 20}
	if got := interrupted.exitCode(); got != 130 {
		t.Errorf("interrupted: exit code %d", got)
	}
	if got := interrupted.line(); !strings.Contains(got, "interrupted; 3.0 MiB of the file are kept; the same command continues") {
		t.Errorf("interrupted: %q", got)
	}
}

// TestMessagesArePrintable checks that messages are printable, whatever a key or a server puts into them.
func TestMessagesArePrintable(t *testing.T) {
	const evil = "a\x1b[2J\u009b1mb\x07"
	err := fmt.Errorf("ossdl: download oss://b/%s: %w", evil, ossdl.ErrNotFound)
	for _, o := range []outcome{
		{err: err, result: new(ossdl.Result)},
		{result: &ossdl.Result{Path: evil}},
		{err: err, path: evil, prefix: &ossdl.PrefixResult{Failed: 1, Failures: []ossdl.KeyError{{Key: evil, Err: err}}, Listing: err}},
		{path: evil, prefix: new(ossdl.PrefixResult)},
	} {
		var out strings.Builder
		o.print(&out, false)
		for line := range strings.Lines(out.String()) {
			if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q", line)
			}
		}
		if f := o.failure(); f != nil && f.Error != oneLine(err) || !strings.Contains(out.String(), "a") {
			t.Errorf("got %+v, %q", f, &out)
		}
	}
	if got := oneLine(err); got != "download oss://b/a?[2J?1mb?: object not found" {
		t.Errorf("got %q", got)
	}
}

// TestNothingContinuesThatFailsAgain checks that a file that is too large for its place is not promised to continue there.
func TestNothingContinuesThatFailsAgain(t *testing.T) {
	o := outcome{err: fmt.Errorf("oss://b/k: %w", ossdl.ErrTooLarge), result: new(ossdl.Result), kept: 3 << 20}
	if got := o.line(); strings.Contains(got, "continues") {
		t.Errorf("got %q", got)
	}
}

// TestNotSyncedIsSaid checks that the line of a file that a power loss may cost says so, and that of a stream does not.
func TestNotSyncedIsSaid(t *testing.T) {
	for task, want := range map[task]bool{taskFile: true, taskURL: true, taskStdout: false} {
		for _, durable := range []bool{false, true} {
			o := outcome{task: task, result: &ossdl.Result{Path: "p", Verified: true, Durable: durable}}
			if got := o.line(); strings.Contains(got, "power loss") != (want && !durable) || !strings.Contains(got, ", verified") {
				t.Errorf("%v, durable %t: %q", task, durable, got)
			}
		}
	}
}

// TestNothingContinuesWithoutACheckpoint checks that a run that keeps nothing does not promise to resume.
func TestNothingContinuesWithoutACheckpoint(t *testing.T) {
	for _, o := range []outcome{
		{err: context.Canceled, interrupted: true, anew: true},
		{err: context.Canceled, interrupted: true, anew: true, task: taskStdout},
	} {
		if got := o.line(); got != "ossget: interrupted" {
			t.Errorf("got %q", got)
		}
	}
}

func TestJSONHasTheNamedFieldsAndNoOther(t *testing.T) {
	names := []string{"path", "bucket", "key", "versionId", "etag", "size", "crc64", "verified", "durable", "encrypted", "skipped", "resumedBytes",
		"downloadedBytes", "requests", "retries", "seconds"} // and lastModified, if it is known
	done := outcome{result: &ossdl.Result{
		Path: "a<b>&", Size: 5, ETag: `"AB"`, CRC64: 1<<64 - 1, Verified: true, Durable: true, ResumedBytes: 2, DownloadedBytes: 3,
		Requests: 4, Retries: 1, Duration: 1500 * time.Millisecond,
	}}
	want := `{"path":"a<b>&","bucket":"","key":"","versionId":"","etag":"\"AB\"","size":5,"crc64":"18446744073709551615","verified":true,` +
		`"durable":true,"encrypted":false,"skipped":false,"resumedBytes":2,"downloadedBytes":3,"requests":4,"retries":1,"seconds":1.5}` + "\n"
	if got := done.json(); got != want {
		t.Errorf("got  %swant %s", got, want)
	}

	failed := outcome{path: "p", err: errors.New("two\nlines")}
	line := failed.json()
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil || strings.Count(line, "\n") != 1 {
		t.Fatalf("%q: %v", line, err)
	}
	for _, name := range append(names, "error", "code", "requestId", "exitCode", "retryable") {
		if _, ok := fields[name]; !ok {
			t.Errorf("%s is missing in %s", name, line)
		}
		delete(fields, name)
	}
	if len(fields) > 0 {
		t.Errorf("too many: %v", fields)
	}
	if fields := strings.Count(done.json(), `":`); fields != len(names) {
		t.Errorf("%d fields, want %v", fields, slices.Values(names))
	}
}

// TestJSONIsHarmless checks that no rune that a terminal acts on is in a line of -json, and that it still says the same.
func TestJSONIsHarmless(t *testing.T) {
	const hostile = "a\u0000\u001b[31m\u007f\u0085\u009b2J\u202e\u2066\u200f\u2028\ufeff\U000e0001\U0001f600 \u00e9"
	line := oneJSON(report{Path: hostile})
	for _, r := range strings.TrimSuffix(line, "\n") {
		if !unicode.IsPrint(r) {
			t.Errorf("%U is in %q", r, line)
		}
	}
	var got report
	if err := json.Unmarshal([]byte(line), &got); err != nil || got.Path != hostile {
		t.Errorf("got %q, %v", got.Path, err)
	}
}
