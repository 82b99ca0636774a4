package osstest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// virtualClock is a server's clock that a test moves.
type virtualClock struct{ at atomic.Int64 }

func (c *virtualClock) now() time.Time           { return time.Unix(0, c.at.Load()) }
func (c *virtualClock) advance(by time.Duration) { c.at.Add(int64(by)) }

// newArchive has a clock of its own that signatures need not agree with.
func newArchive(t *testing.T, opts ...osstest.Option) (*osstest.Server, *virtualClock) {
	t.Helper()
	s := newServer(t, opts...)
	c := new(virtualClock)
	c.at.Store(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	s.SetNow(c.now)
	s.SetQuirks(osstest.AnyClock)
	return s, c
}

// stateOf is what HEAD, GET and the listing say of an object.
func stateOf(t *testing.T, b *oss.Bucket, key string) string {
	t.Helper()
	h, err := b.GetObjectDetailedMeta(key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.ListObjectsV2(oss.Prefix(key))
	if err != nil || len(r.Objects) != 1 {
		t.Fatal(r.Objects, err)
	}
	header := h.Get("X-Oss-Restore")
	if info := r.Objects[0].RestoreInfo; info != header {
		t.Errorf("RestoreInfo %q, x-oss-restore %q", info, header)
	}
	body, err := b.GetObject(key, oss.GetResponseHeader(&h))
	switch {
	case err == nil:
		body.Close()
		if got := h.Get("X-Oss-Restore"); got != header {
			t.Errorf("GET says %q, HEAD %q", got, header)
		}
		return "readable " + header
	case isCode(err, 403, "InvalidObjectState"):
		return strings.TrimSpace("refused " + header)
	}
	return err.Error()
}

// TestRestore checks the states of an object from the first restore to the second, in each class and tier.
func TestRestore(t *testing.T) {
	for _, c := range []struct {
		class, body string
		takes       time.Duration
		days        int
	}{
		{"Archive", "", time.Minute, 1},
		{"Archive", "<RestoreRequest><Days>7</Days></RestoreRequest>", time.Minute, 7},
		{"ColdArchive", "", 5 * time.Hour, 1},
		{"ColdArchive", tiered(2, "Expedited"), time.Hour, 2},
		{"ColdArchive", tiered(365, "Bulk"), 12 * time.Hour, 365},
		{"DeepColdArchive", tiered(3, "Expedited"), 12 * time.Hour, 3},
		{"DeepColdArchive", "<RestoreRequest><Days>4</Days></RestoreRequest>", 48 * time.Hour, 4},
	} {
		t.Run(c.class+c.body, func(t *testing.T) {
			s, clock := newArchive(t)
			b := sdkBucket(t, s, oss.AuthVersion(oss.AuthV4))
			s.Put("bkt", "k", osstest.Random(1, 1000), osstest.StorageClass(c.class))
			restore := func() error {
				if c.body == "" {
					return b.RestoreObject("k")
				}
				return b.RestoreObjectXML("k", c.body)
			}
			check := func(want string) {
				t.Helper()
				if got := stateOf(t, b, "k"); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
			lastStatus := func() int {
				all := s.Requests()
				return all[len(all)-1].Status
			}
			check("refused")
			if err := restore(); err != nil || lastStatus() != 202 {
				t.Fatal(lastStatus(), err)
			}
			expires := clock.now().Add(c.takes).Add(time.Duration(c.days) * 24 * time.Hour)
			clock.advance(c.takes - time.Second)
			check(`refused ongoing-request="true"`)
			if err := restore(); !isCode(err, 409, "RestoreAlreadyInProgress") {
				t.Error(err)
			}
			clock.advance(time.Second)
			check(`readable ongoing-request="false", expiry-date="` + expires.UTC().Format(http.TimeFormat) + `"`)
			if err := b.RestoreObject("k"); err != nil || lastStatus() != 200 {
				t.Fatal(lastStatus(), err)
			}
			if most := map[string]int{"Archive": 7}[c.class]; c.days != most && c.days != 365 {
				expires = expires.Add(24 * time.Hour) // those that do not have the most already
			}
			clock.advance(expires.Sub(clock.now()) - time.Second)
			check(`readable ongoing-request="false", expiry-date="` + expires.UTC().Format(http.TimeFormat) + `"`)
			clock.advance(time.Second)
			check("refused")
			if n := s.Restores("bkt", "k"); n != 1 {
				t.Errorf("%d restores", n)
			}
			if err := restore(); err != nil || lastStatus() != 202 || s.Restores("bkt", "k") != 2 {
				t.Error(lastStatus(), err)
			}
		})
	}
}

func tiered(days int, tier string) string {
	return fmt.Sprintf("<RestoreRequest><Days>%d</Days><JobParameters><Tier>%s</Tier></JobParameters></RestoreRequest>", days, tier)
}

// TestRestoreRefused checks what is wrong with a restore, and that it changes nothing.
func TestRestoreRefused(t *testing.T) {
	days := func(text string) string { return "<RestoreRequest><Days>" + text + "</Days></RestoreRequest>" }
	for _, c := range []struct {
		key, body, code, ec string
		status              int
	}{
		{"Archive", days("0"), "MalformedXML", "0016-00000708", 400},
		{"Archive", days("8"), "MalformedXML", "0016-00000708", 400},
		{"Archive", days("a"), "MalformedXML", "0016-00000708", 400},
		{"Archive", tiered(1, "Standard"), "MalformedXML", "0016-00000714", 400},
		{"ColdArchive", days("366"), "MalformedXML", "0016-00000704", 400},
		{"ColdArchive", tiered(1, "Test"), "MalformedXML", "0016-00000703", 400},
		{"ColdArchive", "<RestoreRequest><Days>1</Days>", "MalformedXML", "0016-00000706", 400},
		{"ColdArchive", "days=1", "MalformedXML", "0016-00000706", 400},
		{"ColdArchive", "<RestoreRequest><Days>1</Days><Days>2</Days></RestoreRequest>", "MalformedXML", "0016-00000707", 400},
		{"ColdArchive", "<RestoreRequest><Days>1</Days><Type/></RestoreRequest>", "MalformedXML", "0016-00000714", 400},
		{"DeepColdArchive", tiered(1, "Bulk"), "MalformedXML", "0016-00000703", 400},
		{"IA", days("1"), "OperationNotSupported", "0016-00000702", 400},
		{"Standard", days("1"), "OperationNotSupported", "0016-00000702", 400},
		{"nothing", days("1"), "NoSuchKey", "0026-00000001", 404},
	} {
		s, _ := newArchive(t)
		b := sdkBucket(t, s)
		if c.key != "nothing" {
			s.Put("bkt", c.key, osstest.Random(1, 10), osstest.StorageClass(c.key))
		}
		err := b.RestoreObjectXML(c.key, c.body)
		if !isCode(err, c.status, c.code) || err.(oss.ServiceError).Ec != c.ec {
			t.Errorf("%s, %s: %v", c.key, c.body, err)
		}
		if s.Restores("bkt", c.key) != 0 {
			t.Errorf("%s, %s: a restore has begun", c.key, c.body)
		}
		s.SetQuirks(osstest.AnyClock | osstest.RestoreInvalidArgument)
		if err := b.RestoreObjectXML(c.key, c.body); c.code == "MalformedXML" && c.ec != "0016-00000706" && !isCode(err, 400, "InvalidArgument") {
			t.Errorf("%s, %s: %v", c.key, c.body, err)
		}
	}
}

// TestRestoreTiers checks what becomes of a restore under way when another tier is asked for.
func TestRestoreTiers(t *testing.T) {
	for _, c := range []struct {
		before, after string
		quirks        osstest.Quirk
		status        int
		code          string
		ready         time.Duration // from the second request on
	}{
		{"Bulk", "Expedited", 0, 202, "", time.Hour},
		{"Bulk", "Expedited", osstest.TierUpgrade200, 200, "", time.Hour},
		{"Bulk", "Expedited", osstest.NoTierUpgrade, 409, "RestoreAlreadyInProgress", 11*time.Hour + 30*time.Minute},
		{"Expedited", "Expedited", 0, 409, "RestoreAlreadyInProgress", 30 * time.Minute},
		{"Standard", "Bulk", 0, 409, "RestoreAlreadyInProgress", 4*time.Hour + 30*time.Minute},
		{"Standard", "Bulk", osstest.LowerTier400, 400, "OperationNotSupported", 4*time.Hour + 30*time.Minute},
	} {
		t.Run(fmt.Sprint(c.before, c.after, c.quirks), func(t *testing.T) {
			s, clock := newArchive(t)
			s.SetQuirks(osstest.AnyClock | c.quirks)
			s.Put("bkt", "k", osstest.Random(1, 10), osstest.StorageClass("ColdArchive"))
			b := sdkBucket(t, s)
			if err := b.RestoreObjectXML("k", tiered(1, c.before)); err != nil {
				t.Fatal(err)
			}
			clock.advance(30 * time.Minute)
			err := b.RestoreObjectXML("k", tiered(1, c.after))
			all := s.Requests()
			if status := all[len(all)-1].Status; status != c.status || c.code != "" && !isCode(err, c.status, c.code) {
				t.Errorf("%d, %v", status, err)
			}
			clock.advance(c.ready - time.Second)
			if got := stateOf(t, b, "k"); got != `refused ongoing-request="true"` {
				t.Errorf("before: %s", got)
			}
			clock.advance(time.Second)
			if got := stateOf(t, b, "k"); !strings.HasPrefix(got, "readable") {
				t.Errorf("after: %s", got)
			}
			if n := s.Restores("bkt", "k"); n != 1 {
				t.Errorf("%d restores", n)
			}
		})
	}
}

// TestThawTime checks the ways in which a test says how long restores take.
func TestThawTime(t *testing.T) {
	s, clock := newArchive(t, osstest.WithThawTime(0))
	b := sdkBucket(t, s)
	keys := []string{"at once", "by the test", "by class"}
	for _, key := range keys {
		s.Put("bkt", key, osstest.Random(1, 10))
		s.Archive("bkt", key, "DeepColdArchive")
	}
	restore := func(key, wantBefore string) {
		t.Helper()
		if err := b.RestoreObject(key); err != nil {
			t.Fatal(err)
		}
		if got := stateOf(t, b, key); !strings.HasPrefix(got, wantBefore) {
			t.Errorf("%s: %s", key, got)
		}
	}
	restore("at once", "readable")
	s.SetThawTime(func(*osstest.Object, string) time.Duration { return osstest.Never })
	restore("by the test", `refused ongoing-request="true"`)
	clock.advance(1000 * time.Hour)
	if got := stateOf(t, b, "by the test"); got != `refused ongoing-request="true"` {
		t.Error(got)
	}
	s.Restore("bkt", "by the test", clock.now().Add(time.Hour))
	if got := stateOf(t, b, "by the test"); !strings.HasPrefix(got, "readable") {
		t.Error(got)
	}
	clock.advance(time.Hour)
	if got := stateOf(t, b, "by the test"); got != "refused" {
		t.Error(got)
	}
	s.SetThawTime(nil)
	restore("by class", `refused ongoing-request="true"`)
	clock.advance(48 * time.Hour)
	if got := stateOf(t, b, "by class"); !strings.HasPrefix(got, "readable") {
		t.Error(got)
	}
}

// TestRestoreOfVersions checks that a restore is of one version, and that a delete marker has nothing to restore.
func TestRestoreOfVersions(t *testing.T) {
	s, _ := newArchive(t, osstest.WithThawTime(0))
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	b := sdkBucket(t, s)
	old := s.Put("bkt", "k", osstest.Random(1, 10), osstest.Archived(""))
	s.Put("bkt", "k", osstest.Random(2, 10), osstest.Archived(""))
	var h http.Header
	if err := b.RestoreObject("k", oss.VersionId(old.VersionID), oss.GetResponseHeader(&h)); err != nil || h.Get("X-Oss-Version-Id") != old.VersionID {
		t.Fatal(h, err)
	}
	if _, err := b.GetObject("k"); !isCode(err, 403, "InvalidObjectState") {
		t.Error(err)
	}
	if body, err := b.GetObject("k", oss.VersionId(old.VersionID)); err != nil {
		t.Error(err)
	} else {
		body.Close()
	}
	marker := s.Delete("bkt", "k")
	if err := b.RestoreObject("k"); !isCode(err, 404, "NoSuchKey") {
		t.Error(err)
	}
	if err := b.RestoreObject("k", oss.VersionId(marker)); !isCode(err, 405, "MethodNotAllowed") {
		t.Error(err)
	}
	s.AddUser("limited", "sk", osstest.Without("oss:RestoreObject"))
	client, err := s.ClientFor("limited", "sk")
	if err != nil {
		t.Fatal(err)
	}
	limited, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	if err := limited.RestoreObject("k"); !isCode(err, 403, "AccessDenied") || !strings.Contains(err.(oss.ServiceError).RawMessage, "oss:RestoreObject") {
		t.Error(err)
	}
	if err := limited.RestoreObject("k", oss.VersionId(old.VersionID)); err != nil {
		t.Error(err)
	}
}

// TestArchiveDirectRead checks that the setting of the bucket makes Archive readable, with the same headers, and nothing
// else.
func TestArchiveDirectRead(t *testing.T) {
	s, _ := newArchive(t)
	b := sdkBucket(t, s, oss.AuthVersion(oss.AuthV4))
	for _, class := range []string{"Archive", "ColdArchive", "DeepColdArchive"} {
		s.Put("bkt", class, osstest.Random(1, 1000), osstest.StorageClass(class))
	}
	before, err := b.GetObjectDetailedMeta("Archive")
	if err != nil {
		t.Fatal(err)
	}
	setting := func() string {
		t.Helper()
		resp, err := b.Do("GET", "", map[string]any{"bucketArchiveDirectRead": nil}, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return string(readAll(t, resp.Body))
	}
	if doc := setting(); !strings.Contains(doc, "<Enabled>false</Enabled>") {
		t.Error(doc)
	}
	s.CreateBucket("bkt", osstest.ArchiveDirectRead(true))
	if doc := setting(); !strings.Contains(doc, "<ArchiveDirectReadConfiguration><Enabled>true</Enabled>") {
		t.Error(doc)
	}
	if got := stateOf(t, b, "Archive"); got != "readable " {
		t.Error(got)
	}
	for _, class := range []string{"ColdArchive", "DeepColdArchive"} {
		if got := stateOf(t, b, class); got != "refused" {
			t.Errorf("%s: %s", class, got)
		}
	}
	var h http.Header
	body, err := b.GetObject("Archive", oss.Range(10, 19), oss.GetResponseHeader(&h))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got := readAll(t, body); len(got) != 10 {
		t.Errorf("%d bytes of a range", len(got))
	}
	for name := range h {
		if before[name] == nil && name != "Content-Range" {
			t.Errorf("a header of direct reading: %s", name)
		}
	}
	s.CreateBucket("bkt", osstest.ArchiveDirectRead(false))
	if got := stateOf(t, b, "Archive"); got != "refused" {
		t.Error(got)
	}
}
