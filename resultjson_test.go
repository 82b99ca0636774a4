package ossdl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/object"
)

// someResult has every field set, CRC64 to what no float64 holds.
func someResult() *Result {
	return &Result{
		Path: "/data/a<b>&c", Bucket: "bkt", Key: "dir/k", VersionID: "v1", ETag: `"0A1B"`, Size: 1 << 40, CRC64: math.MaxUint64,
		Verified: true, ResumedBytes: 1, DownloadedBytes: 2, Requests: 3, Retries: 4, Duration: 1500 * time.Millisecond,
		LastModified: time.Unix(1_600_000_000, 0).UTC(), Header: http.Header{"X-Oss-Meta-Colour": {"blue"}},
	}
}

func somePrefixResult() *PrefixResult {
	return &PrefixResult{
		Done: 1, Skipped: 2, Failed: 3, Bytes: 4,
		Failures: []KeyError{
			{Key: "a", Err: fmt.Errorf("%w: %w", object.ErrArchived, oss.ServiceError{StatusCode: 403, RequestID: "R"})}, {Key: "b&c", Err: ErrChecksum},
		},
		Listing: errors.New("listing: no answer"),
	}
}

// TestGoldenJSON checks names, order and form of what is printed, which scripts rely on.
func TestGoldenJSON(t *testing.T) {
	archived := KeyError{Key: "k", Err: object.ErrArchived}
	serviceText, err := json.Marshal(somePrefixResult().Failures[0].Err.Error())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		v    any
		want string
	}{
		"Result": {someResult(), `{"path":"/data/a<b>&c","bucket":"bkt","key":"dir/k","versionId":"v1","etag":"\"0A1B\"","size":1099511627776,` +
			`"crc64":"18446744073709551615","verified":true,"resumedBytes":1,"downloadedBytes":2,"requests":3,"retries":4,` +
			`"lastModified":"2020-09-13T12:26:40Z","header":{"X-Oss-Meta-Colour":["blue"]},"seconds":1.5}`},
		"empty Result": {Result{}, `{"path":"","bucket":"","key":"","versionId":"","etag":"","size":0,"crc64":"0","verified":false,` +
			`"resumedBytes":0,"downloadedBytes":0,"requests":0,"retries":0,"seconds":0}`},
		"no Result": {(*Result)(nil), `null`},
		"PrefixResult": {somePrefixResult(), `{"done":1,"skipped":2,"failed":3,"bytes":4,"failures":[{"key":"a","error":` + string(serviceText) +
			`},{"key":"b&c","error":"checksum mismatch"}],"listing":"listing: no answer"}`},
		"empty PrefixResult": {PrefixResult{}, `{"done":0,"skipped":0,"failed":0,"bytes":0,"failures":[]}`},
		"no PrefixResult":    {(*PrefixResult)(nil), `null`},
		"KeyError":           {archived, `{"key":"k","error":"object is archived"}`},
		"*KeyError":          {&archived, `{"key":"k","error":"object is archived"}`},
		"KeyError, no cause": {KeyError{Key: "k"}, `{"key":"k","error":""}`},
		"*PartError": {&PartError{Bucket: "bkt", Key: "k", Offset: 5, Size: 6, Attempts: 7, Err: object.ErrNotFound},
			`{"bucket":"bkt","key":"k","offset":5,"size":6,"attempts":7,"error":"object not found"}`},
		"no *PartError": {(*PartError)(nil), `null`},
	} {
		var plain bytes.Buffer
		e := json.NewEncoder(&plain)
		e.SetEscapeHTML(false)
		if err := e.Encode(c.v); err != nil || plain.String() != c.want+"\n" {
			t.Errorf("%s: %v\n\t%swant\n\t%s", name, err, plain.String(), c.want)
		}
		escaped := strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`).Replace(c.want)
		if b, err := json.Marshal(c.v); err != nil || string(b) != escaped {
			t.Errorf("%s, escaped: %v\n\t%s\nwant\n\t%s", name, err, b, escaped)
		}
	}
}

// TestJSONRoundTrip checks that what is read back is what was written, except that an error is its text.
func TestJSONRoundTrip(t *testing.T) {
	there := func(v, back any) {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, back); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		again, err := json.Marshal(back)
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%s, and then %s, %v", b, again, err)
		}
	}
	for _, d := range []time.Duration{0, 1, 1500 * time.Millisecond, 123456789 * time.Microsecond, 100 * 24 * time.Hour, -time.Second} {
		r, back := someResult(), new(Result)
		r.Duration = d
		if there(r, back); !reflect.DeepEqual(back, r) {
			t.Errorf("%+v, want %+v", back, r)
		}
	}
	there(Result{}, new(Result))
	there(PrefixResult{}, new(PrefixResult))

	prefix := new(PrefixResult)
	want := somePrefixResult()
	there(want, prefix)
	if prefix.Done != 1 || prefix.Skipped != 2 || prefix.Failed != 3 || prefix.Bytes != 4 || len(prefix.Failures) != 2 ||
		prefix.Failures[0].Error() != want.Failures[0].Error() || prefix.Listing.Error() != want.Listing.Error() {
		t.Errorf("%+v", prefix)
	}
	part := new(PartError)
	there(&PartError{Bucket: "bkt", Key: "k", Offset: 5, Size: 6, Attempts: 7, Err: object.ErrNotFound}, part)
	if part.Error() != "bytes 5-10, attempt 7: object not found" || part.Bucket != "bkt" {
		t.Errorf("%+v", part)
	}
	none := new(KeyError)
	if there(KeyError{Key: "k"}, none); none.Err != nil {
		t.Errorf("%+v", none)
	}

	for _, bad := range []string{`{"seconds":1e300}`, `{"seconds":"1"}`, `{"crc64":1}`, `[]`} {
		if err := json.Unmarshal([]byte(bad), new(Result)); err == nil {
			t.Errorf("%s is a Result", bad)
		}
	}
	for _, back := range []any{new(PrefixResult), new(KeyError), new(PartError)} {
		if err := json.Unmarshal([]byte(`[]`), back); err == nil {
			t.Errorf("a list is a %T", back)
		}
	}
	// A field that is missing keeps what it was, as with every struct.
	r := someResult()
	if err := json.Unmarshal([]byte(`{"key":"other"}`), r); err != nil || r.Key != "other" || r.Duration != 1500*time.Millisecond || r.Size != 1<<40 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestLogValue checks what a line of a log has of results and errors: errors as texts, CRC-64 as a decimal string, and no
// headers.
func TestLogValue(t *testing.T) {
	type handler func(*bytes.Buffer, *slog.HandlerOptions) slog.Handler
	asJSON := func(b *bytes.Buffer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(b, o) }
	asText := func(b *bytes.Buffer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(b, o) }
	line := func(newHandler handler, v any) string {
		var b bytes.Buffer
		noTime := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey {
				return slog.Attr{}
			}
			return a
		}
		slog.New(newHandler(&b, &slog.HandlerOptions{ReplaceAttr: noTime})).Info("", "v", v)
		return strings.TrimSuffix(b.String(), "\n")
	}
	prefix := somePrefixResult()
	prefix.Failures = prefix.Failures[1:]
	key := KeyError{Key: "k", Err: object.ErrArchived}
	part := &PartError{Bucket: "bkt", Key: "k", Offset: 5, Size: 6, Attempts: 7, Err: object.ErrNotFound}
	for name, c := range map[string]struct {
		v          any
		json, text string
	}{
		"Result": {someResult(),
			`{"v":{"path":"/data/a<b>&c","bucket":"bkt","key":"dir/k","versionId":"v1","etag":"\"0A1B\"","size":1099511627776,` +
				`"crc64":"18446744073709551615","verified":true,"resumedBytes":1,"downloadedBytes":2,"requests":3,"retries":4,"seconds":1.5,` +
				`"lastModified":"2020-09-13T12:26:40Z"}}`,
			`v.path=/data/a<b>&c v.bucket=bkt v.key=dir/k v.versionId=v1 v.etag="\"0A1B\"" v.size=1099511627776 ` +
				`v.crc64=18446744073709551615 v.verified=true v.resumedBytes=1 v.downloadedBytes=2 v.requests=3 v.retries=4 v.seconds=1.5 ` +
				`v.lastModified=2020-09-13T12:26:40.000Z`},
		"no Result": {(*Result)(nil), `{"v":null}`, `v=<nil>`},
		"PrefixResult": {prefix,
			`{"v":{"done":1,"skipped":2,"failed":3,"bytes":4,"firstFailure":"\"b&c\": checksum mismatch","listing":"listing: no answer"}}`,
			`v.done=1 v.skipped=2 v.failed=3 v.bytes=4 v.firstFailure="\"b&c\": checksum mismatch" v.listing="listing: no answer"`},
		"empty PrefixResult": {&PrefixResult{}, `{"v":{"done":0,"skipped":0,"failed":0,"bytes":0}}`, `v.done=0 v.skipped=0 v.failed=0 v.bytes=0`},
		"no PrefixResult":    {(*PrefixResult)(nil), `{"v":null}`, `v=<nil>`},
		"KeyError":           {key, `{"v":"\"k\": object is archived"}`, `v="\"k\": object is archived"`},
		"*KeyError":          {&key, `{"v":"\"k\": object is archived"}`, `v="\"k\": object is archived"`},
		"*PartError":         {part, `{"v":"bytes 5-10, attempt 7: object not found"}`, `v="bytes 5-10, attempt 7: object not found"`},
	} {
		if got := line(asJSON, c.v); got != c.json {
			t.Errorf("%s:\n\t%s\nwant\n\t%s", name, got, c.json)
		}
		if got := line(asText, c.v); got != c.text {
			t.Errorf("%s:\n\t%s\nwant\n\t%s", name, got, c.text)
		}
	}
	if got := line(asJSON, Result{}); strings.Contains(got, "lastModified") {
		t.Errorf("no time is one: %s", got)
	}
}
