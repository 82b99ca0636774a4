package torture_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestFieldSnapshot checks that an Appendable object that grows is an error that says so, and that the result of WithSnapshot is
// what was there at the first answer.
func TestFieldSnapshot(t *testing.T) {
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
	t.Run("replaced by a longer one", func(t *testing.T) {
		for _, e := range []entryPoint{viaKey, viaURL, viaWriter, viaReader} {
			st := newServerStage(t, stageConfig{through: e, object: []osstest.ObjectOption{appendable}})
			st.damagedBytes = true // what is written or read until then is of both
			st.s.Nth(7, osstest.Inject().Before(func() { st.s.Put("bkt", "key", osstest.Random(8, 2*lieSize), appendable) }))
			_, err := st.download(ossdl.WithSnapshot())
			if !errors.Is(err, ossdl.ErrObjectChanged) || errors.Is(err, ossdl.ErrChecksum) || !strings.Contains(err.Error(), "another object") {
				t.Errorf("%s: error %v", e, err)
			}
			harness.NoLeftovers(t, st.path)
		}
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

// TestFieldSnapshotLink checks that WithSnapshot is of no use for a symbolic link. Its target may have been replaced by a longer
// object, which the CRC-64 of a link need not show.
func TestFieldSnapshotLink(t *testing.T) {
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

// TestSnapshotRequests checks what goes over the wire for a growing object: no condition, since the ETag may change with each
// append, and no byte beyond those that were there first, even if something is appended in the middle of a body.
func TestSnapshotRequests(t *testing.T) {
	for name, c := range map[string]struct {
		quirks osstest.Quirk
		bucket []osstest.BucketOption
	}{
		"the ETag changes":      {},
		"the ETag is kept":      {quirks: osstest.AppendKeepsETag},
		"with versions":         {bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}},
		"with the version null": {quirks: osstest.AppendNullVersion, bucket: []osstest.BucketOption{osstest.Versioning(osstest.Enabled)}},
		"ranges are ignored":    {quirks: osstest.NoRanges},
	} {
		t.Run(name, func(t *testing.T) {
			harness.Tried.Add("cases from the field", 1)
			st := newServerStage(t, stageConfig{
				server: []osstest.Option{osstest.WithQuirks(c.quirks)}, bucket: c.bucket, object: []osstest.ObjectOption{osstest.Type("Appendable")},
			})
			grow := func() { st.s.Append("bkt", "key", []byte("more")) }
			st.s.Nth(0, osstest.Inject().At(liePart/2, grow))
			st.s.Nth(4, osstest.Inject().At(liePart/2, grow).Then(grow).ResetAfter(liePart-1).Maybe())
			st.s.Nth(8, osstest.Inject().Before(grow).Maybe()) // one connection makes fewer requests
			res, err := st.download(ossdl.WithSnapshot())
			st.mustSucceed(res, err, lieParts+3)
			if !res.Verified {
				t.Errorf("%+v", *res)
			}
			for _, r := range st.s.Requests() {
				if r.Header.Get("If-Match") != "" || r.End > lieSize {
					t.Errorf("request for %s with If-Match %q", r.Range, r.Header.Get("If-Match"))
				}
			}
		})
	}
}

// TestSnapshotResumes checks that runs that are interrupted again and again, while something is appended before and during each,
// finish the snapshot of the first one, and that the call after that downloads what is there by then.
func TestSnapshotResumes(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			harness.Tried.Add("cases from the field", 1)
			r := rand.New(rand.NewPCG(seed, 1))
			st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{osstest.Type("Appendable")}, opts: []ossdl.Option{ossdl.WithSnapshot(), ossdl.WithConcurrency(1)}})
			grow := func() { st.s.Append("bkt", "key", make([]byte, 1+r.IntN(2*liePart))) }
			kept := int64(0)
			for kept < lieSize-4*liePart {
				kept += int64(1+r.IntN(4)) * liePart
				stop := kept
				st.s.Nth(1+r.IntN(2), osstest.Inject().Before(grow).Maybe()) // the first answer of the first run is before
				st.s.OnRequest(func(q *osstest.Request) *osstest.Fault {
					if q.Start >= stop {
						return osstest.Error(403, "AccessDenied")
					}
					return nil
				})
				_, err := st.download()
				if err == nil || st.claimedBytes() != kept {
					t.Fatalf("%d bytes are kept, want %d: %v", st.claimedBytes(), kept, err)
				}
				st.s.ClearFaults()
				grow()
			}
			first := st.s.Stat("bkt", "key")
			st.s.Nth(0, osstest.Inject().At(1, grow))
			res, err := st.download()
			st.mustSucceed(res, err, lieParts)
			if res.ResumedBytes != kept || res.DownloadedBytes != lieSize-kept || !res.Verified || res.ETag == first.ETag {
				t.Errorf("%+v, want %d bytes resumed", *res, kept)
			}
			st.content = st.s.Stat("bkt", "key").Content
			res, err = st.download()
			st.mustSucceed(res, err, lieParts+100)
		})
	}
}

// TestSnapshotOfEverything checks that a run that has everything from an earlier one, and finds that the object has grown, commits
// that after one request for a byte.
func TestSnapshotOfEverything(t *testing.T) {
	st := newServerStage(t, stageConfig{size: wireSize, object: []osstest.ObjectOption{osstest.Type("Appendable")}, opts: []ossdl.Option{ossdl.WithPartSize(wirePart)}})
	st.leaveWhole(callDownload)
	st.s.Append("bkt", "key", []byte("more"))
	res, err := st.download(ossdl.WithSnapshot())
	st.mustSucceed(res, err, 1)
	if res.ResumedBytes != wireSize || !res.Verified {
		t.Errorf("%+v", *res)
	}
}

// TestSnapshotReplacedBetweenRuns checks that a run starts over if the object has become another one since the run before, also if
// only the CRC-64 of the whole shows that.
func TestSnapshotReplacedBetweenRuns(t *testing.T) {
	appendable := osstest.Type("Appendable")
	for name, c := range map[string]struct {
		size    int64
		options []osstest.ObjectOption
		twice   bool // what is missing comes of the other object before that shows
	}{
		"longer":         {2 * lieSize, []osstest.ObjectOption{appendable}, true},
		"as long":        {lieSize, []osstest.ObjectOption{appendable}, false},
		"shorter":        {lieSize - 1, []osstest.ObjectOption{appendable}, false},
		"another type":   {2 * lieSize, nil, false},
		"has no CRC-64":  {2 * lieSize, []osstest.ObjectOption{appendable, osstest.NoCRC()}, false},
		"a single byte":  {1, []osstest.ObjectOption{appendable}, false},
		"deleted before": {2 * lieSize, []osstest.ObjectOption{appendable}, true},
	} {
		t.Run(name, func(t *testing.T) {
			harness.Tried.Add("cases from the field", 1)
			st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{appendable}})
			st.interrupt()
			if name == "deleted before" {
				st.s.Delete("bkt", "key")
			}
			st.content = osstest.Random(8, c.size)
			st.s.Put("bkt", "key", st.content, c.options...)
			res, err := st.download(ossdl.WithSnapshot())
			most := int(c.size/liePart) + 4
			if c.twice {
				most += lieParts
			}
			st.mustSucceed(res, err, most)
			if res.ResumedBytes != 0 || res.Verified == (len(c.options) == 2) {
				t.Errorf("%+v", *res)
			}
			if came := res.DownloadedBytes; (came > c.size) != c.twice {
				t.Errorf("%d bytes came for %d", came, c.size)
			}
		})
	}
}

// TestSnapshotOfTornAnswers checks that an answer is asked for again if its X-Oss-Next-Append-Position is not its length: the CRC-64
// beside it may be that of more bytes.
func TestSnapshotOfTornAnswers(t *testing.T) {
	appendable := []osstest.ObjectOption{osstest.Type("Appendable")}
	const name = "X-Oss-Next-Append-Position"
	st := newServerStage(t, stageConfig{object: appendable})
	torn := osstest.Inject().Header(name, fmt.Sprint(lieSize+4)).CRC("1")
	st.s.Nth(0, torn)
	st.s.Nth(3, osstest.Inject().Header(name, fmt.Sprint(lieSize-4)))
	res, err := st.download(ossdl.WithSnapshot())
	st.mustSucceed(res, err, lieParts+2)

	st = newServerStage(t, stageConfig{object: appendable})
	st.s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Header(name, "5") })
	if _, err := st.download(ossdl.WithSnapshot()); err == nil || !strings.Contains(err.Error(), name+" 5") {
		t.Errorf("error %v", err)
	}
	st.mustAskAtMost(lieAttempts)
	res, err = st.download() // it does not matter otherwise
	st.mustSucceed(res, err, lieParts)
}

// TestSnapshotOfAPrefix checks that small and large logs of a prefix are those of their first answers, while all of them grow.
func TestSnapshotOfAPrefix(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Contents{}
	for i, size := range []int64{0, 1, 100, 1<<20 - 100, 1<<20 + 1, 5 << 20} {
		key := fmt.Sprintf("log%d", i)
		s.Put("bkt", key, osstest.Random(uint64(i), size), osstest.Type("Appendable"))
	}
	answered := map[string]bool{}
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if !answered[r.Key] {
			answered[r.Key] = true
			s.Append("bkt", r.Key, []byte("since the listing"))
			all[r.Key] = s.Stat("bkt", r.Key).Content
			key := r.Key
			return osstest.Inject().Then(func() { s.Append("bkt", key, []byte("later")) })
		}
		s.Append("bkt", r.Key, []byte("and later"))
		return nil
	})
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithSnapshot(), ossdl.WithPartSize(1<<20))
	harness.CheckCounts(t, res, err, 6, 0, 0)
	harness.CheckTree(t, dir, all)
}
