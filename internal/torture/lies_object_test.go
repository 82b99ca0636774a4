package torture_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestObjectChanges is about what happens to an object between two requests.
func TestObjectChanges(t *testing.T) {
	countLies(t)
	other := osstest.Random(8, lieSize)
	changes := []struct {
		name   string
		change func(*serverStage)
		want   error
		now    func(*serverStage) osstest.Content // what a healthy run then brings; nil: nothing
		keeps  bool                               // and continues with what was kept
	}{
		{"replaced", func(st *serverStage) { st.s.Put("bkt", "key", other) }, ossdl.ErrObjectChanged, func(*serverStage) osstest.Content { return other }, false},
		{"replaced by a shorter one", func(st *serverStage) { st.s.Put("bkt", "key", osstest.Random(8, 100)) }, ossdl.ErrObjectChanged,
			func(*serverStage) osstest.Content { return osstest.Random(8, 100) }, false},
		{"replaced by an empty one", func(st *serverStage) { st.s.Put("bkt", "key", osstest.Bytes(nil)) }, ossdl.ErrObjectChanged,
			func(*serverStage) osstest.Content { return osstest.Bytes(nil) }, false},
		{"replaced by a longer one of the same ETag", func(st *serverStage) {
			st.s.Put("bkt", "key", osstest.Random(7, lieSize+1000), osstest.ETag(st.s.Stat("bkt", "key").ETag))
		}, ossdl.ErrObjectChanged, func(*serverStage) osstest.Content { return osstest.Random(7, lieSize+1000) }, false},
		{"replaced by one of the same ETag and size", func(st *serverStage) {
			st.s.Put("bkt", "key", other, osstest.ETag(st.s.Stat("bkt", "key").ETag))
		}, ossdl.ErrObjectChanged, func(*serverStage) osstest.Content { return other }, false},
		{"appended to", func(st *serverStage) { st.s.Append("bkt", "key", []byte("more")) }, ossdl.ErrObjectChanged,
			func(st *serverStage) osstest.Content { return st.s.Stat("bkt", "key").Content }, false},
		{"deleted", func(st *serverStage) { st.s.Delete("bkt", "key") }, ossdl.ErrObjectChanged, nil, false},
		{"archived", func(st *serverStage) { st.s.Archive("bkt", "key") }, ossdl.ErrArchived, nil, false},
		{"archived and restored", func(st *serverStage) {
			st.s.Archive("bkt", "key")
			st.s.Restore("bkt", "key", time.Now().Add(time.Hour))
		}, nil, nil, false},
		{"replaced by itself", func(st *serverStage) { st.s.Put("bkt", "key", st.content) }, nil, nil, false},
	}
	for _, c := range changes {
		for _, quirk := range []osstest.Quirk{0, osstest.IgnoreIfMatch} {
			for _, v4 := range []bool{false, true} {
				if v4 && quirk != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s, V4 %t, If-Match ignored %t", c.name, v4, quirk != 0), func(t *testing.T) {
					st := newServerStage(t, stageConfig{v4: v4, server: []osstest.Option{osstest.WithQuirks(quirk)}})
					st.putOldFile()
					if c.name == "archived and restored" { // in two steps, of which another worker would see the first alone
						st.opts = append(st.opts, ossdl.WithConcurrency(1))
					}
					st.s.Nth(7, osstest.Inject().Before(func() { c.change(st) }))
					res, err := st.download()
					if c.want == nil {
						st.mustSucceed(res, err, lieParts)
						return
					}
					st.mustFail(err, c.want, lieParts+3*4, true)
					var pe *ossdl.PartError
					if !errors.As(err, &pe) {
						t.Errorf("%v holds no *PartError", err)
					}
					st.claimedBytes() // nothing of another object
					if c.now != nil {
						st.content = c.now(st)
						st.mustResume(0)
					}
				})
			}
		}
		t.Run(c.name+" since the interrupted run", func(t *testing.T) {
			st := newServerStage(t, stageConfig{})
			st.interrupt()
			c.change(st)
			if c.now != nil {
				st.content = c.now(st)
			}
			res, err := st.download()
			switch {
			case c.want == nil:
				st.mustSucceed(res, err, lieParts-5)
			case c.now != nil:
				st.mustSucceed(res, err, lieParts+4)
				if res.ResumedBytes != 0 {
					t.Errorf("%+v", *res)
				}
			case c.want == ossdl.ErrObjectChanged:
				st.mustFail(err, ossdl.ErrNotFound, 1, false)
				if errors.Is(err, ossdl.ErrObjectChanged) {
					t.Errorf("%v: no answer of this call said that there was an object", err)
				}
			default:
				st.mustFail(err, c.want, 1, false)
			}
		})
		t.Run(c.name+", versioned", func(t *testing.T) {
			st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
			version := st.s.Stat("bkt", "key").VersionID
			change := c.change
			if c.want == ossdl.ErrArchived || strings.HasPrefix(c.name, "archived") || c.name == "appended to" {
				// These change the version itself.
				change = func(st *serverStage) { st.s.Put("bkt", "key", other); c.change(st) }
			}
			if c.name == "archived and restored" {
				st.opts = append(st.opts, ossdl.WithConcurrency(1))
			}
			st.s.Nth(7, osstest.Inject().Before(func() { change(st) }))
			res, err := st.download()
			st.mustSucceed(res, err, lieParts)
			if res.VersionID != version {
				t.Errorf("version %s, want %s", res.VersionID, version)
			}
			for _, r := range st.s.Requests()[1:] {
				if !strings.Contains(r.Query, "versionId="+version) {
					t.Errorf("request %d asks for %q", r.Seq, r.Query)
				}
			}
		})
	}
	t.Run("replaced since the interrupted run, versioned", func(t *testing.T) {
		// The current version is what the caller asks for, not last week's.
		st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
		st.interrupt()
		st.s.Put("bkt", "key", other)
		st.content = other
		res, err := st.download()
		st.mustSucceed(res, err, 2+lieParts)
		if res.ResumedBytes != 0 || res.VersionID != st.s.Stat("bkt", "key").VersionID {
			t.Errorf("%+v", *res)
		}
	})
	t.Run("replaced since the interrupted run, version asked for by name", func(t *testing.T) {
		st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
		st.opts = append(st.opts, ossdl.WithVersionID(st.s.Stat("bkt", "key").VersionID))
		st.interrupt()
		st.s.Put("bkt", "key", other)
		res, err := st.download()
		st.mustSucceed(res, err, lieParts-5)
		if res.ResumedBytes != lieKept {
			t.Errorf("%+v", *res)
		}
	})
	t.Run("replaced, versioning suspended", func(t *testing.T) {
		// The null version can be overwritten: it pins nothing.
		st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Suspended)}})
		st.s.Nth(7, osstest.Inject().Before(func() { st.s.Put("bkt", "key", other) }))
		_, err := st.download()
		st.mustFail(err, ossdl.ErrObjectChanged, lieParts+3*4, false)
		for _, r := range st.s.Requests() {
			if strings.Contains(r.Query, "versionId") {
				t.Errorf("request %d asks for %q", r.Seq, r.Query)
			}
		}
		st.claimedBytes()
		st.content = other
		st.mustResume(0)
	})
	t.Run("archived version, versioned", func(t *testing.T) {
		st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
		st.s.Nth(7, osstest.Inject().Before(func() { st.s.Archive("bkt", "key") }))
		_, err := st.download()
		st.mustFail(err, ossdl.ErrArchived, lieParts, false)
		kept := st.claimedBytes()
		st.s.Restore("bkt", "key", time.Now().Add(time.Hour))
		st.mustResume(kept)
	})
	t.Run("version deleted, versioned", func(t *testing.T) {
		st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
		st.s.Nth(7, osstest.Inject().Before(func() { st.s.DeleteVersion("bkt", "key", st.s.Stat("bkt", "key").VersionID) }))
		_, err := st.download()
		st.mustFail(err, ossdl.ErrObjectChanged, lieParts, false)
		st.claimedBytes()
	})
}

// TestWithoutVersionPermission is about a caller without oss:GetObjectVersion, who is refused every request that names a
// version.
func TestWithoutVersionPermission(t *testing.T) {
	countLies(t)
	limited := func(t *testing.T) *serverStage {
		st := newServerStage(t, stageConfig{
			bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)},
			client: []oss.ClientOption{oss.SetCredentialsProvider(&keys{now: key{"limited", "limited-secret", ""}})},
		})
		st.s.AddUser("limited", "limited-secret", osstest.WithoutGetObjectVersion())
		return st
	}
	t.Run("nothing happens", func(t *testing.T) {
		st := limited(t)
		res, err := st.download()
		st.mustSucceed(res, err, lieParts+4)
		if !res.Verified || res.VersionID == "" || res.Retries != 0 {
			t.Errorf("%+v", *res)
		}
	})
	t.Run("on resume", func(t *testing.T) {
		st := limited(t)
		st.interrupt()
		res, err := st.download()
		st.mustSucceed(res, err, lieParts-5+4)
		if res.ResumedBytes != lieKept {
			t.Errorf("%+v", *res)
		}
	})
	t.Run("replaced", func(t *testing.T) {
		st := limited(t)
		other := osstest.Random(8, lieSize)
		st.s.Once(func(r *osstest.Request) bool { return r.Start == 9*liePart && r.Query == "" }, osstest.Inject().Before(func() { st.s.Put("bkt", "key", other) }))
		_, err := st.download()
		st.mustFail(err, ossdl.ErrObjectChanged, lieParts+3*4, false)
		st.claimedBytes()
		st.content = other
		st.mustResume(0)
	})
	t.Run("replaced by itself", func(t *testing.T) {
		st := limited(t)
		st.s.Once(func(r *osstest.Request) bool { return r.Start == 9*liePart && r.Query == "" }, osstest.Inject().Before(func() { st.s.Put("bkt", "key", st.content) }))
		res, err := st.download()
		st.mustSucceed(res, err, lieParts+4)
	})
	t.Run("deleted", func(t *testing.T) {
		st := limited(t)
		st.s.Once(func(r *osstest.Request) bool { return r.Start == 9*liePart && r.Query == "" }, osstest.Inject().Before(func() { st.s.Delete("bkt", "key") }))
		_, err := st.download()
		st.mustFail(err, ossdl.ErrObjectChanged, lieParts+2*4, false)
		st.claimedBytes()
	})
	t.Run("a version asked for by name", func(t *testing.T) {
		st := limited(t)
		_, err := st.download(ossdl.WithVersionID(st.s.Stat("bkt", "key").VersionID))
		st.mustFail(err, errSomehow, 1, false)
		var se oss.ServiceError
		if !errors.As(err, &se) || se.Code != "AccessDenied" {
			t.Errorf("%v", err)
		}
		st.mustResume(0)
	})
	t.Run("all permissions gone in the middle", func(t *testing.T) {
		st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
		st.answerFrom(8, osstest.Error(403, "AccessDenied"))
		_, err := st.download()
		gaveUp(t, err, 1)
		st.mustBeRefusal(err, 403, "AccessDenied")
		st.mustFailAndHeal(err, errSomehow, 8+4)
	})
}

// TestVersionNotSaid is about an object whose version is said by some answers only: the others have its ETag.
func TestVersionNotSaid(t *testing.T) {
	countLies(t)
	for _, from := range []int{0, 1, 7} {
		for _, always := range []bool{false, true} {
			if from == 0 && always {
				continue // a bucket without versions
			}
			t.Run(fmt.Sprintf("from answer %d, always %t", from, always), func(t *testing.T) {
				st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
				version := st.s.Stat("bkt", "key").VersionID
				f := osstest.Inject().NoHeader("X-Oss-Version-Id")
				if always {
					st.answerFrom(from, f)
				} else {
					st.s.Nth(from, f)
				}
				res, err := st.download()
				st.mustSucceed(res, err, lieParts)
				if from > 0 && res.VersionID != version || !res.Verified {
					t.Errorf("%+v, want version %s", *res, version)
				}
			})
		}
	}
}

// TestVersionIgnored is about a cache that does not know versionId and answers with the current version.
func TestVersionIgnored(t *testing.T) {
	countLies(t)
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprintf("asked for by name %t", named), func(t *testing.T) {
			st := newServerStage(t, stageConfig{bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}})
			first := st.s.Stat("bkt", "key")
			var opts []ossdl.Option
			from := 7
			if named {
				opts, from = append(opts, ossdl.WithVersionID(first.VersionID)), 0
				st.s.Put("bkt", "key", osstest.Random(9, lieSize))
			}
			other := osstest.Random(8, lieSize)
			f := osstest.Inject().Header("X-Oss-Version-Id", "CAEQother").OtherBytes(other)
			if named {
				f.CRC(crcOf(other))
				f.OtherETag(`"0123456789ABCDEF0123456789ABCDEF"`)
			}
			st.answerFrom(from, f)
			_, err := st.download(opts...)
			st.mustFail(err, ossdl.ErrObjectChanged, lieParts, false)
			st.claimedBytes() // nothing of the other version
		})
	}
}
