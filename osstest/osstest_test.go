package osstest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/osstest"
)

// get reads an object with the client of the SDK.
func get(t *testing.T, client *oss.Client, key string, options ...oss.Option) (data []byte, code string) {
	t.Helper()
	bucket, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	body, err := bucket.GetObject(key, options...)
	var refused oss.ServiceError
	if errors.As(err, &refused) {
		return nil, refused.Code
	}
	if err != nil {
		return nil, "none: " + err.Error()
	}
	defer body.Close()
	data, err = io.ReadAll(body)
	if err != nil {
		return data, "none: " + err.Error()
	}
	return data, ""
}

func newServer(t testing.TB, opts ...osstest.Option) *osstest.Server {
	s := osstest.NewServer(t, opts...)
	s.CreateBucket("bkt")
	return s
}

func TestContents(t *testing.T) {
	for name, s := range map[string]*osstest.Server{"http": newServer(t), "https": newServer(t, osstest.WithTLS())} {
		for _, c := range []osstest.Content{osstest.Bytes(nil), osstest.Bytes([]byte("x")), osstest.Random(1, 3<<20), osstest.Zeros(5)} {
			want := s.Put("bkt", "key", c)
			got, code := get(t, s.Client(), "key")
			stored, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
			if err != nil || code != "" || string(got) != string(stored) || want.Size() != c.Size() || want.CRC64() != c.CRC64() {
				t.Errorf("%s: %d bytes of %d, code %q, %v", name, len(got), c.Size(), code, err)
			}
		}
		if scheme, _, _ := strings.Cut(s.Endpoint(), ":"); scheme != name {
			t.Errorf("%s: endpoint %s", name, s.Endpoint())
		}
	}
}

func TestObjects(t *testing.T) {
	s := newServer(t)
	client := s.Client()
	s.CreateBucket("bkt", osstest.Versioned())
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	first := s.Put("bkt", "key", osstest.Bytes([]byte("one")), osstest.LastModified(at), osstest.ETag(`"E1"`))
	second := s.Put("bkt", "key", osstest.Bytes([]byte("two")), osstest.Header("x-oss-meta-owner", "me"), osstest.NoCRC())
	if first.VersionID == "" || second.VersionID == first.VersionID || first.ETag != `"E1"` || !first.LastModified.Equal(at) {
		t.Errorf("%+v, %+v", first, second)
	}
	if got := s.Stat("bkt", "key"); got == nil || got.VersionID != second.VersionID || got.Key != "key" {
		t.Errorf("Stat: %+v", got)
	}
	if got, code := get(t, client, "key", oss.VersionId(first.VersionID)); string(got) != "one" {
		t.Errorf("first version: %q, %s", got, code)
	}
	var head http.Header
	if got, code := get(t, client, "key", oss.GetResponseHeader(&head)); string(got) != "two" ||
		head.Get("X-Oss-Meta-Owner") != "me" || head.Get("X-Oss-Hash-Crc64ecma") != "" {
		t.Errorf("second version: %q, %s, %v", got, code, head)
	}
	if s.Delete("bkt", "key") == "" {
		t.Error("no delete marker")
	}
	if _, code := get(t, client, "key"); code != "NoSuchKey" || s.Stat("bkt", "key") != nil {
		t.Errorf("deleted: %s", code)
	}

	s.Put("bkt", "old", osstest.Bytes([]byte("cold")), osstest.Archived())
	if _, code := get(t, client, "old"); code != "InvalidObjectState" {
		t.Errorf("archived: %s", code)
	}
	s.Restore("bkt", "old", time.Now().Add(time.Hour))
	if got, code := get(t, client, "old"); string(got) != "cold" {
		t.Errorf("restored: %q, %s", got, code)
	}
}

// TestStorageClasses checks what is frozen, and what the setting for direct reading changes.
func TestStorageClasses(t *testing.T) {
	s := newServer(t, osstest.WithThawTime(0))
	codes := func() (all []string) {
		for _, class := range []string{"Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"} {
			s.Put("bkt", class, osstest.Bytes([]byte(class)), osstest.StorageClass(class))
			got, code := get(t, s.Client(), class)
			if code == "" && string(got) != class {
				t.Errorf("%s: %q", class, got)
			}
			all = append(all, code)
		}
		return all
	}
	const refused = "InvalidObjectState"
	if got, want := codes(), []string{"", "", refused, refused, refused}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.CreateBucket("bkt", osstest.ArchiveDirectRead())
	if got, want := codes(), []string{"", "", "", refused, refused}; !slices.Equal(got, want) {
		t.Errorf("direct reading: %q, want %q", got, want)
	}
	bucket, err := s.Client().Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.RestoreObject("DeepColdArchive"); err != nil {
		t.Fatal(err)
	}
	if got, code := get(t, s.Client(), "DeepColdArchive"); string(got) != "DeepColdArchive" {
		t.Errorf("restored: %q, %s", got, code)
	}
	if s.Restores("bkt", "DeepColdArchive") != 1 || s.Restores("bkt", "ColdArchive") != 0 {
		t.Error("restores are not counted")
	}
}

// TestSuspendedVersions checks that a suspended bucket keeps its versions and has one null version.
func TestSuspendedVersions(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.Versioned())
	first := s.Put("bkt", "key", osstest.Bytes([]byte("first")))
	s.CreateBucket("bkt", osstest.VersioningSuspended())
	for range 2 {
		if o := s.Put("bkt", "key", osstest.Bytes([]byte("null"))); o.VersionID != "null" {
			t.Errorf("version %q", o.VersionID)
		}
	}
	bucket, err := s.Client().Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	versions := func() (all []string) {
		r, err := bucket.ListObjectVersions()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.ObjectVersions {
			all = append(all, v.VersionId)
		}
		return all
	}
	if got := versions(); !slices.Equal(got, []string{"null", first.VersionID}) {
		t.Errorf("%q", got)
	}
	s.DeleteVersion("bkt", "key", "null")
	s.DeleteVersion("bkt", "key", "nonesuch")
	if got := versions(); !slices.Equal(got, []string{first.VersionID}) {
		t.Errorf("%q", got)
	}
}

func TestAppends(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "key", osstest.Bytes([]byte("one")))
	if o := s.Append("bkt", "key", []byte("two")); o.Size() != 6 || o.CRC64() != osstest.Bytes([]byte("onetwo")).CRC64() {
		t.Errorf("%+v", o)
	}
	bucket, err := s.Client().Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	if next, err := bucket.AppendObject("key", strings.NewReader("three"), 6); err != nil || next != 11 {
		t.Errorf("next position %d, %v", next, err)
	}
	if got, code := get(t, s.Client(), "key"); string(got) != "onetwothree" {
		t.Errorf("%q, %s", got, code)
	}
}

func TestWhoMayRead(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "key", osstest.Bytes([]byte("x")))
	as := func(id, secret string, options ...oss.ClientOption) string {
		client, err := oss.New(s.Endpoint(), id, secret, append(options, oss.AuthVersion(oss.AuthV4), oss.Region(osstest.Region))...)
		if err != nil {
			t.Fatal(err)
		}
		_, code := get(t, client, "key")
		return code
	}
	s.AddUser("me", "mine")
	s.AddToken("STS.id", "secret", "token", time.Now().Add(time.Hour))
	for _, c := range []struct{ got, want string }{
		{as(osstest.AccessKeyID, "wrong"), "SignatureDoesNotMatch"},
		{as("nobody", "x"), "InvalidAccessKeyId"},
		{as("me", "mine"), ""},
		{as("STS.id", "secret", oss.SecurityToken("token")), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	s.RemoveUser("me")
	if got := as("me", "mine"); got != "InvalidAccessKeyId" {
		t.Errorf("removed: %q", got)
	}
	s.ExpireToken("token")
	if got := as("STS.id", "secret", oss.SecurityToken("token")); got != "SecurityTokenExpired" {
		t.Errorf("expired: %q", got)
	}

	status := func() int {
		resp, err := s.HTTPClient().Get(s.URL("bkt", "key"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := status(); got != 403 {
		t.Errorf("private: %d", got)
	}
	s.CreateBucket("bkt", osstest.PublicRead())
	if got := status(); got != 200 {
		t.Errorf("public: %d", got)
	}
	theirs := osstest.NewServer(t)
	theirs.CreateBucket("bkt", osstest.Forbidden())
	theirs.Put("bkt", "key", osstest.Bytes([]byte("x")))
	if _, code := get(t, theirs.Client(), "key"); code != "AccessDenied" {
		t.Errorf("forbidden: %s", code)
	}
}

// TestFaults checks that each step does what it says, and that its String tells of it.
func TestFaults(t *testing.T) {
	open := make(chan struct{})
	close(open)
	called := 0
	const cut = "none: unexpected EOF"
	for _, c := range []struct {
		fault      *osstest.Fault
		data, code string // code may be the beginning
	}{
		{osstest.Error(503, "ServiceUnavailable"), "", "ServiceUnavailable"},
		{osstest.Reply(200, "text/html", "sign in"), "sign in", ""},
		{osstest.Inject().Header("X-Oss-Server-Time", "1").Header("Content-Type", "a/b").NoHeader("ETag"), "0123456789", ""},
		{osstest.Inject().Status(206), "0123456789", ""},
		{osstest.Inject().FlipByte(1), "0\xce23456789", ""},
		{osstest.Inject().CloseAfter(3), "012", cut},
		{osstest.Inject().ResetAfter(4), "0123", "none: "},
		{osstest.Inject().ResetBeforeHead(), "", "none: "},
		{osstest.Inject().Gate(5, open).Delay(time.Millisecond).Rate(1 << 20), "0123456789", ""},
		{osstest.Inject().Before(func() { called++ }).Then(func() { called++ }), "0123456789", ""},
	} {
		t.Run(c.fault.String(), func(t *testing.T) {
			s := newServer(t)
			s.Put("bkt", "key", osstest.Bytes([]byte("0123456789")))
			s.Nth(1, c.fault)
			client := s.Client(oss.HTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})) // net/http sends nothing again on a new one
			if got, code := get(t, client, "key"); string(got) != "0123456789" {
				t.Errorf("before: %q, %s", got, code)
			}
			if got, code := get(t, client, "key"); string(got) != c.data || !strings.HasPrefix(code, c.code) || c.code == "" && code != "" {
				t.Errorf("got %q, %q, want %q, %q", got, code, c.data, c.code)
			}
			if all := s.Requests(); len(all) != 2 || all[1].Fault != c.fault.String() {
				t.Errorf("%+v", all)
			}
		})
	}
	if called != 2 {
		t.Errorf("Before and Then: %d calls", called)
	}
}

func TestIgnoredRange(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "key", osstest.Bytes([]byte("0123456789")))
	s.Once(func(r *osstest.Request) bool { return r.Start == 2 && r.End == 5 }, osstest.Inject().IgnoreRange())
	for _, want := range []string{"0123456789", "234"} {
		if got, code := get(t, s.Client(), "key", oss.Range(2, 4)); string(got) != want {
			t.Errorf("got %q, %s; want %q", got, code, want)
		}
	}
}

func TestStall(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "key", osstest.Bytes([]byte("0123456789")))
	s.Nth(0, osstest.Inject().StallAfter(7))
	bucket, err := s.Client().Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, err := bucket.GetObject("key", oss.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got := make([]byte, 10)
	if n, err := io.ReadFull(body, got[:7]); err != nil {
		t.Fatalf("%q, %v", got[:n], err)
	}
	time.AfterFunc(20*time.Millisecond, cancel)
	if n, err := body.Read(got[7:]); n > 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("after the stall: %q, %v", got[7:7+n], err)
	}
}

func TestListings(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "a", osstest.Bytes(nil))
	s.Put("bkt", "b", osstest.Bytes(nil))
	s.OnRequest(func(*osstest.Request) *osstest.Fault { t.Error("a listing is no request for an object"); return nil })
	lists := 0
	s.OnList(func(r *osstest.Request) *osstest.Fault {
		if lists++; lists == 1 {
			return osstest.Error(500, "InternalError")
		}
		return nil
	})
	bucket, err := s.Client().Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.ListObjectsV2(); err == nil {
		t.Error("the first listing succeeded")
	}
	if l, err := bucket.ListObjectsV2(); err != nil || len(l.Objects) != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestMachineThatFails(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "key", osstest.Bytes([]byte("x")))
	s.Down()
	if _, code := get(t, s.Client(), "key"); !strings.HasPrefix(code, "none: ") {
		t.Errorf("down: %q", code)
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	if got, code := get(t, s.Client(), "key"); string(got) != "x" {
		t.Errorf("up: %q, %s", got, code)
	}
	s.ResetLog()
	if len(s.Requests()) != 0 || s.Sent() != 0 {
		t.Error("the log is not empty")
	}
	open := make(chan struct{})
	defer close(open)
	s.Nth(0, osstest.Inject().Gate(0, open).Maybe()) // the connection may be cut before the gate
	s.Once(func(*osstest.Request) bool { return false }, osstest.Inject().FlipByte(0).Maybe())
	go func() {
		if s.WaitFor(t.Context(), func() bool { return len(s.Requests()) == 1 && s.Requests()[0].Status == 200 }) == nil {
			s.CutConns()
		}
	}()
	if _, code := get(t, s.Client(), "key"); !strings.HasPrefix(code, "none: ") {
		t.Errorf("cut: %q", code)
	}
}

// recorder stands in for the test that NewServer is given.
type recorder struct {
	testing.TB
	cleanup []func()
	errors  []string
}

func (r *recorder) Helper()          {}
func (r *recorder) Failed() bool     { return len(r.errors) > 0 }
func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, format)
}

// TestFaultThatNeverHappens checks that NewServer reports it, and that Maybe and ClearFaults do what they say.
func TestFaultThatNeverHappens(t *testing.T) {
	for _, c := range []struct {
		fault *osstest.Fault
		want  int
	}{
		{osstest.Inject().ResetAfter(5), 1},
		{osstest.Inject().ResetAfter(5).Maybe(), 0},
	} {
		r := &recorder{TB: t}
		s := osstest.NewServer(r)
		s.Nth(7, c.fault)
		s.ClearFaults()
		for _, f := range r.cleanup {
			f()
		}
		if len(r.errors) != c.want {
			t.Errorf("%s: reported %q, want %d", c.fault, r.errors, c.want)
		}
		if _, err := http.Get(s.Endpoint()); err == nil {
			t.Error("the server still answers")
		}
	}
}

func TestShapedAnswers(t *testing.T) {
	s := newServer(t, osstest.WithLatency(30*time.Millisecond), osstest.WithRate(10<<20))
	s.Put("bkt", "key", osstest.Random(1, 1<<20))
	began := time.Now()
	if got, code := get(t, s.Client(), "key"); len(got) != 1<<20 {
		t.Errorf("%d bytes, %s", len(got), code)
	}
	if took := time.Since(began); took < 120*time.Millisecond {
		t.Errorf("a tenth of a second's worth of bytes, 30 ms late, took %v", took)
	}
}
