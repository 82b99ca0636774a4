package torture_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestFieldGrowing checks that an Appendable object that grows is an error that says so, and that WithSnapshot accepts what is
// appended: the result is what was there at the first answer.
func TestFieldGrowing(t *testing.T) {
	appendable := osstest.Type("Appendable")
	for _, e := range []entryPoint{viaKey, viaUnsigned, viaURL, viaWriter, viaReader} {
		// At the first request, at one in the middle, and at each of several.
		for _, at := range [][]int{{1}, {7}, {2, 3, 5, 8, 13}} {
			for _, growing := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, requests %v, WithSnapshot %t", e, at, growing), func(t *testing.T) {
					harness.Tried.Add("cases from the field", 1)
					st := newServerStage(t, stageConfig{through: e, object: []osstest.ObjectOption{appendable}})
					for i, n := range at {
						more := osstest.Inject().Before(func() { st.s.Append("bkt", "key", []byte("more")) })
						if i > 0 && !growing {
							more.Maybe() // the first one ends the call
						}
						st.s.Nth(n, more)
					}
					if growing {
						res, err := st.download(ossdl.WithSnapshot())
						st.mustSucceed(res, err, lieParts)
						if !res.Verified {
							t.Errorf("%+v", *res)
						}
						return
					}
					_, err := st.download()
					if !errors.Is(err, ossdl.ErrObjectChanged) || !strings.Contains(err.Error(), "appendable") {
						t.Errorf("error %v", err)
					}
				})
			}
		}
	}
	t.Run("on resume", func(t *testing.T) {
		st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{appendable}})
		st.interrupt()
		st.s.Append("bkt", "key", make([]byte, 2*liePart))
		st.content = st.s.Stat("bkt", "key").Content
		res, err := st.download(ossdl.WithSnapshot())
		st.mustSucceed(res, err, lieParts)
		if res.ResumedBytes != lieKept || !res.Verified {
			t.Errorf("%+v", *res)
		}
	})
	t.Run("replaced by a longer one", func(t *testing.T) {
		st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{appendable}})
		st.s.Nth(7, osstest.Inject().Before(func() { st.s.Put("bkt", "key", osstest.Random(8, 2*lieSize), appendable) }))
		if _, err := st.download(ossdl.WithSnapshot()); !errors.Is(err, ossdl.ErrChecksum) {
			t.Errorf("error %v", err)
		}
		harness.NoLeftovers(t, st.path)
	})
	for name, change := range map[string]func(st *serverStage){
		"replaced by a shorter one": func(st *serverStage) { st.s.Put("bkt", "key", osstest.Random(8, lieSize-1), appendable) },
		"replaced by another type":  func(st *serverStage) { st.s.Put("bkt", "key", osstest.Random(8, 2*lieSize)) },
	} {
		t.Run(name, func(t *testing.T) {
			st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{appendable}})
			st.s.Nth(7, osstest.Inject().Before(func() { change(st) }))
			if _, err := st.download(ossdl.WithSnapshot()); !errors.Is(err, ossdl.ErrObjectChanged) {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, o := range [][]osstest.ObjectOption{{}, {appendable, osstest.NoCRC()}} {
		t.Run(fmt.Sprintf("no use without a CRC-64 or for another type, %d", len(o)), func(t *testing.T) {
			st := newServerStage(t, stageConfig{object: o})
			longer := slices.Concat(harness.Bytes(t, st.content), []byte("more"))
			st.s.Nth(7, osstest.Inject().Before(func() { st.s.Put("bkt", "key", osstest.Bytes(longer), o...) }))
			if _, err := st.download(ossdl.WithSnapshot()); !errors.Is(err, ossdl.ErrObjectChanged) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("WithIfMatch, on resume", func(t *testing.T) {
		st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{appendable}})
		first := st.s.Stat("bkt", "key").ETag
		st.interrupt()
		grown := st.s.Append("bkt", "key", make([]byte, 2*liePart))
		st.content = grown.Content
		// The second call has no checkpoint, and says the same.
		for range 2 {
			if _, err := st.download(ossdl.WithSnapshot(), ossdl.WithIfMatch(first)); !errors.Is(err, ossdl.ErrObjectChanged) {
				t.Errorf("error %v", err)
			}
			st.mustLeavePathAlone(false)
		}
		res, err := st.download(ossdl.WithSnapshot(), ossdl.WithIfMatch(grown.ETag))
		st.mustSucceed(res, err, lieParts+4)
	})
}

// TestFieldGrowingLink checks that WithSnapshot is of no use for a symbolic link. Its target may have been replaced by a longer
// object, which the CRC-64 of a link need not show.
func TestFieldGrowingLink(t *testing.T) {
	appendable := osstest.Type("Appendable")
	for _, quirk := range []osstest.Quirk{0, osstest.LinkCRC} {
		linked := func(t *testing.T, through entryPoint) *serverStage {
			harness.Tried.Add("cases from the field", 1)
			st := newServerStage(t, stageConfig{through: through, server: []osstest.Option{osstest.WithQuirks(quirk)}})
			st.s.Put("bkt", "target", st.content, appendable)
			st.s.Symlink("bkt", "key", "target")
			return st
		}
		longer := osstest.Random(8, 2*lieSize)
		for _, e := range []entryPoint{viaKey, viaUnsigned, viaURL, viaWriter, viaReader} {
			t.Run(fmt.Sprintf("%s, CRC-64 of the link %t", e, quirk != 0), func(t *testing.T) {
				st := linked(t, e)
				st.s.Nth(7, osstest.Inject().Before(func() { st.s.Put("bkt", "target", longer, appendable) }))
				if _, err := st.download(ossdl.WithSnapshot()); !errors.Is(err, ossdl.ErrObjectChanged) {
					t.Errorf("error %v", err)
				}
				st.mustLeavePathAlone(false)
			})
		}
		t.Run(fmt.Sprintf("on resume, CRC-64 of the link %t", quirk != 0), func(t *testing.T) {
			st := linked(t, viaKey)
			st.interrupt()
			st.s.Put("bkt", "target", longer, appendable)
			st.content = longer
			res, err := st.download(ossdl.WithSnapshot())
			st.mustSucceed(res, err, 2*lieParts+2)
			if res.ResumedBytes != 0 {
				t.Errorf("%+v", *res)
			}
		})
	}
}
