package torture_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// Answers that say success and are not what was asked for: none of their bytes is used, and the request is made again.
var badAnswers = []struct {
	name  string
	fault func() *osstest.Fault
}{
	{"Content-Range one byte later", func() *osstest.Fault { return osstest.Inject().WrongContentRange(1) }},
	{"Content-Range one part earlier", func() *osstest.Fault { return osstest.Inject().WrongContentRange(-liePart) }},
	{"206 without Content-Range", func() *osstest.Fault { return osstest.Inject().ContentRange("") }},
	{"Content-Range that is none", func() *osstest.Fault { return osstest.Inject().ContentRange("bytes 0-9") }},
	{"Content-Range without total", func() *osstest.Fault { return osstest.Inject().ContentRange("bytes 0-65535/*") }},
	{"Content-Range of 2^64", func() *osstest.Fault {
		return osstest.Inject().ContentRange("bytes 0-18446744073709551615/18446744073709551616")
	}},
	{"two Content-Ranges", func() *osstest.Fault { return osstest.Inject().AddHeader("Content-Range", "bytes 0-9/10") }},
	{"Content-Range of six bytes", func() *osstest.Fault { return osstest.Inject().ContentRange("bytes 0-5/6") }},
	{"several ranges", func() *osstest.Fault {
		return osstest.Inject().ContentRange("").Header("Content-Type", "multipart/byteranges; boundary=x")
	}},
	{"gzip although identity was asked", func() *osstest.Fault { return osstest.Inject().GzipAnyway() }},
	{"gzip without ETag", func() *osstest.Fault { return osstest.Inject().GzipAnyway().NoETag() }},
	{noNames, func() *osstest.Fault { return osstest.Inject().NoETag().NoCRC().NoHeader("Last-Modified") }},
	{"login page", func() *osstest.Fault { return osstest.Inject().LoginPage() }},
	{"login page with an ETag", func() *osstest.Fault { return osstest.Inject().LoginPage().Header("ETag", `"5f-2a"`) }},
	{"200 of a length not said", func() *osstest.Fault { return osstest.Inject().IgnoreRange().NoContentLength() }},
	{"200 until the connection ends", func() *osstest.Fault { return osstest.Inject().IgnoreRange().UntilClose() }},
	{"200 with a part", func() *osstest.Fault { return osstest.Inject().Status(200) }},
	{"200 that is of no object", func() *osstest.Fault { return osstest.Inject().Empty(200) }},
	{"200 with some text", func() *osstest.Fault { return osstest.Inject().Reply(200, "text/plain", "OK") }},
	{"no body and 204", func() *osstest.Fault { return osstest.Inject().Empty(204) }},
	{"203", func() *osstest.Fault { return osstest.Inject().Status(203) }},
	{"226", func() *osstest.Fault { return osstest.Inject().Status(226) }},
}

// noNames is an answer of OSS with a request ID and nothing that identifies the object, as behind a proxy that strips headers.
const noNames = "nothing identifies the object"

func TestRefusedAnswers(t *testing.T) {
	countLies(t)
	for i, lie := range badAnswers {
		for _, m := range momentsOf(i) {
			t.Run(lie.name+"/"+m.name, func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: m.size, v4: m.v4})
				res, err := st.answerOnceOrAlways(m, lie.fault(), 0)
				if m.always {
					st.mustBeOddAnswer(err)
				} else if res.Retries != 1 || !res.Verified || res.DownloadedBytes+res.ResumedBytes != st.content.Size() {
					t.Errorf("result %+v, %v", *res, err)
				}
			})
		}
	}
}

// TestWholeObjectInsteadOfRange checks that a 200 with the whole object is the right answer to a range from 0, and of no
// use to any other.
func TestWholeObjectInsteadOfRange(t *testing.T) {
	countLies(t)
	whole := func() *osstest.Fault { return osstest.Inject().IgnoreRange() }
	t.Run("first answer", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.s.Nth(0, whole())
		res, err := st.download()
		st.mustSucceed(res, err, lieParts+1)
	})
	t.Run("answer in the middle", func(t *testing.T) {
		st := newServerStage(t, stageConfig{v4: true})
		st.s.Once(func(r *osstest.Request) bool { return r.Start == 3*liePart }, whole())
		res, err := st.download()
		st.mustSucceed(res, err, lieParts+1)
		st.mustFetch(res, lieSize)
	})
	t.Run("all but the first", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		f := whole()
		st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if r.Start > 0 {
				return f
			}
			return nil
		})
		_, err := st.download()
		gaveUp(t, err, lieAttempts)
		st.mustBeOddAnswer(err)
		st.mustFailAndHeal(err, errSomehow, 1+4*lieAttempts)
	})
	// A server that knows no ranges: one stream, after one trial of another range where that could pay.
	for _, resumed := range []bool{false, true} {
		for _, size := range []int64{lieSmall, lieSize} {
			if resumed && size == lieSmall {
				continue
			}
			t.Run(fmt.Sprintf("always, %d bytes, resumed %t", size, resumed), func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: size})
				if resumed {
					st.interrupt()
				}
				st.s.SetQuirks(osstest.NoRanges)
				res, err := st.download()
				st.mustSucceed(res, err, 3)
				if !res.Verified || res.Retries != 0 || res.ResumedBytes != map[bool]int64{true: lieKept}[resumed] {
					t.Errorf("%+v", *res)
				}
			})
		}
	}
	t.Run("always, and the stream breaks", func(t *testing.T) {
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.NoRanges)}})
		breaks := []*osstest.Fault{osstest.Inject().ResetAfter(300_000), osstest.Inject().CloseAfter(600_000), osstest.Inject().ResetAfter(900_000)}
		st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if r.Start > 0 || len(breaks) == 0 { // another range: the answer is not read
				return nil
			}
			f := breaks[0]
			breaks = breaks[1:]
			return f
		})
		res, err := st.download()
		st.mustSucceed(res, err, 8)
	})
}

// TestWrongTotal is about totals that are not the object's.
func TestWrongTotal(t *testing.T) {
	countLies(t)
	for _, more := range []int64{1, 5 * liePart, -1, -3 * liePart} {
		t.Run(fmt.Sprintf("%+d once", more), func(t *testing.T) {
			st := newServerStage(t, stageConfig{})
			st.s.Nth(0, osstest.Inject().WrongTotal(more))
			// The first answer is believed until another contradicts it.
			_, err := st.download()
			st.mustFail(err, ossdl.ErrObjectChanged, 8, false)
			// What was kept is of an object of another size.
			st.claimedBytes()
			st.mustResume(0)
		})
		t.Run(fmt.Sprintf("%+d in the middle", more), func(t *testing.T) {
			st := newServerStage(t, stageConfig{v4: true})
			st.putOldFile()
			st.s.Nth(7, osstest.Inject().WrongTotal(more))
			_, err := st.download()
			partError(t, err)
			st.mustFail(err, ossdl.ErrObjectChanged, lieParts, true)
			st.mustResume(st.claimedBytes())
		})
		t.Run(fmt.Sprintf("%+d on resume", more), func(t *testing.T) {
			st := newServerStage(t, stageConfig{})
			st.interrupt()
			st.s.Nth(0, osstest.Inject().WrongTotal(more))
			res, err := st.download()
			st.mustSucceed(res, err, 1+lieParts) // a fresh start
			if res.ResumedBytes != 0 {
				t.Errorf("%+v", *res)
			}
		})
	}
	t.Run("always too long", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.answerAlways(osstest.Inject().WrongTotal(10))
		_, err := st.download()
		// The last part is answered as far as there are bytes, and its rest with a 416.
		if pe := partError(t, err); pe.Offset != lieSize || pe.Size != 10 {
			t.Errorf("%+v", *pe)
		}
		st.mustFail(err, ossdl.ErrObjectChanged, lieParts+1, false)
		st.mustResume(0)
	})
	t.Run("always too short", func(t *testing.T) {
		// The service says itself that the object ends earlier. Only its CRC-64 tells that it is wrong.
		st := newServerStage(t, stageConfig{})
		st.answerAlways(osstest.Inject().WrongTotal(-12345))
		_, err := st.download()
		st.mustFailAndHeal(err, ossdl.ErrChecksum, 2*lieParts)
	})
	t.Run("2^62", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.answerAlways(osstest.Inject().WrongTotal(1<<62 - lieSize)) // always: one that contradicts it could come first
		res, err := st.download()
		want := ossdl.ErrNoSpace
		if errors.Is(err, syscall.EFBIG) { // beyond what a file of this system can be
			want = syscall.EFBIG
		}
		st.mustFail(err, want, 1+4, false)
		if res.Size != 1<<62 {
			t.Errorf("%+v", *res)
		}
		harness.NoLeftovers(t, st.path)
		st.mustResume(0)
	})
}

// TestWrongETag is about ETags that are missing, weak or another's.
func TestWrongETag(t *testing.T) {
	countLies(t)
	other := func() *osstest.Fault { return osstest.Inject().OtherETag(`"0123456789ABCDEF0123456789ABCDEF"`) }
	t.Run("another one, only answer", func(t *testing.T) {
		st := newServerStage(t, stageConfig{size: lieSmall})
		st.s.Nth(0, other())
		res, err := st.download()
		st.mustSucceed(res, err, 1)
	})
	t.Run("another one, first answer", func(t *testing.T) {
		st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{osstest.NoCRC()}})
		st.s.Nth(0, other())
		_, err := st.download()
		st.mustFail(err, ossdl.ErrObjectChanged, 1+2*4, false) // refused, and asked for without the condition
		st.claimedBytes()
		st.mustResume(0) // with the true one
	})
	etag := []osstest.ObjectOption{osstest.ETag(fmt.Sprintf(`"%032X"`, 0xabcdef))}
	for _, lie := range []struct {
		name  string
		fault func() *osstest.Fault
	}{
		{"another one", other},
		{"none", func() *osstest.Fault { return osstest.Inject().NoETag() }},
		{"a weak one", func() *osstest.Fault { return osstest.Inject().WeakETag() }},
		{"the same in lower case", func() *osstest.Fault {
			return osstest.Inject().OtherETag(fmt.Sprintf(`"%032x"`, 0xabcdef))
		}},
		{"the same without quotes", func() *osstest.Fault { return osstest.Inject().OtherETag(fmt.Sprintf("%032X", 0xabcdef)) }},
	} {
		for _, crc := range []bool{true, false} {
			object := etag
			if !crc {
				object = []osstest.ObjectOption{etag[0], osstest.NoCRC()}
			}
			// Another spelling is the same ETag, and the CRC-64 says that another ETag is of the same object.
			changes := lie.name == "another one" && !crc
			t.Run(fmt.Sprintf("%s, in the middle, CRC-64 %t", lie.name, crc), func(t *testing.T) {
				st := newServerStage(t, stageConfig{v4: true, object: object})
				st.s.Nth(7, lie.fault())
				res, err := st.download()
				if !changes {
					st.mustSucceed(res, err, lieParts)
					return
				}
				partError(t, err)
				st.mustFailAndHeal(err, ossdl.ErrObjectChanged, lieParts)
			})
			t.Run(fmt.Sprintf("%s, on resume, CRC-64 %t", lie.name, crc), func(t *testing.T) {
				st := newServerStage(t, stageConfig{object: object})
				st.interrupt()
				st.s.Nth(0, lie.fault())
				res, err := st.download()
				want, most := int64(lieKept), lieParts-5+2*4 // refused, and asked for without the condition
				if changes {
					want, most = 0, 1+lieParts
				}
				st.mustSucceed(res, err, most)
				if res.ResumedBytes != want {
					t.Errorf("%+v", *res)
				}
			})
		}
	}
	// An object whose ETag identifies nothing: no condition is sent, and answers are compared instead.
	for _, weak := range []struct {
		name   string
		object osstest.ObjectOption
	}{
		{"weak", osstest.WeakETag()}, {"none", osstest.NoETag()}, {`"null"`, osstest.ETag(`"null"`)}, {"no quotes", osstest.ETag("abc")},
	} {
		for _, resumed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s for ever, resumed %t", weak.name, resumed), func(t *testing.T) {
				st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{weak.object}, v4: true})
				want := lieParts
				if resumed {
					st.interrupt()
					want -= 5
				}
				res, err := st.download()
				st.unconditional()
				st.mustSucceed(res, err, want)
				if !res.Verified {
					t.Errorf("%+v", *res)
				}
			})
		}
		for name, replace := range map[string]func(*serverStage){
			"another time": func(st *serverStage) {
				st.s.Put("bkt", "key", osstest.Random(8, lieSize), weak.object, osstest.NoCRC(), osstest.LastModified(time.Now().Add(time.Hour)))
			},
			"another CRC-64": func(st *serverStage) {
				st.s.Put("bkt", "key", osstest.Random(8, lieSize), weak.object, osstest.LastModified(st.s.Stat("bkt", "key").LastModified))
			},
			"another size": func(st *serverStage) {
				st.s.Put("bkt", "key", osstest.Random(8, lieSize+1), weak.object, osstest.LastModified(st.s.Stat("bkt", "key").LastModified), osstest.NoCRC())
			},
		} {
			t.Run(weak.name+" for ever, replaced by an object of "+name, func(t *testing.T) {
				st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{weak.object}})
				st.s.Nth(7, osstest.Inject().Before(func() { replace(st) }))
				_, err := st.download()
				st.mustFail(err, ossdl.ErrObjectChanged, lieParts, false)
				st.unconditional()
				st.claimedBytes() // nothing of the other object
				st.content = st.s.Stat("bkt", "key").Content
				if st.s.Stat("bkt", "key").CRC == crcOf(st.content) {
					st.mustResume(0)
				}
			})
		}
	}
}

func crcOf(c osstest.Content) string { return strconv.FormatUint(c.CRC64(), 10) }

// unconditional asks that the last call sent no If-Match.
func (st *serverStage) unconditional() {
	st.t.Helper()
	for _, r := range st.s.Requests() {
		if r.Header.Get("If-Match") != "" {
			st.t.Errorf("request %d has If-Match %s", r.Seq, r.Header.Get("If-Match"))
		}
	}
}

// TestIfMatchWithRangeRefused is about a server that takes no If-Match together with Range and answers 412: one question
// without it tells, and the answers are compared from then on.
func TestIfMatchWithRangeRefused(t *testing.T) {
	countLies(t)
	for _, resumed := range []bool{false, true} {
		t.Run(fmt.Sprintf("resumed %t", resumed), func(t *testing.T) {
			st := newServerStage(t, stageConfig{})
			clean, askers := lieParts, 4 // workers that meet the 412 together
			if resumed {
				st.interrupt()
				clean, askers = lieParts-5, 1
			}
			st.s.SetQuirks(osstest.IfMatchWithRangeUnsupported)
			res, err := st.download()
			st.mustSucceed(res, err, clean+2*askers)
			if resumed && res.ResumedBytes != lieKept {
				t.Errorf("%+v", *res)
			}
		})
	}
	t.Run("and the object is replaced", func(t *testing.T) {
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.IfMatchWithRangeUnsupported)}})
		st.s.Once(func(r *osstest.Request) bool { return r.Start == 9*liePart && r.Header.Get("If-Match") == "" }, osstest.Inject().Before(func() {
			st.s.Put("bkt", "key", osstest.Random(8, lieSize))
		}))
		_, err := st.download()
		st.mustFail(err, ossdl.ErrObjectChanged, lieParts+2*4, false)
		st.claimedBytes()
		st.content = osstest.Random(8, lieSize)
		st.s.SetQuirks(0)
		st.mustResume(0)
	})
	t.Run("with the caller's ETag", func(t *testing.T) {
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.IfMatchWithRangeUnsupported)}})
		res, err := st.download(ossdl.WithIfMatch(st.s.Stat("bkt", "key").ETag))
		st.mustSucceed(res, err, lieParts+2)
	})
	t.Run("with another ETag of the caller", func(t *testing.T) {
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.IfMatchWithRangeUnsupported)}})
		_, err := st.download(ossdl.WithIfMatch("0123456789ABCDEF0123456789ABCDEF"))
		st.mustFailAndHeal(err, ossdl.ErrObjectChanged, 2)
	})
	t.Run("If-Match ignored, other ETag of the caller", func(t *testing.T) {
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.IgnoreIfMatch)}})
		_, err := st.download(ossdl.WithIfMatch("0123456789ABCDEF0123456789ABCDEF"))
		st.mustFailAndHeal(err, ossdl.ErrObjectChanged, 1)
	})
}

// TestFalse412 is about a 412 although nothing has changed: the object is asked for without the condition, and it is the
// same.
func TestFalse412(t *testing.T) {
	countLies(t)
	refused := func() *osstest.Fault { return osstest.Error(412, "PreconditionFailed") }
	t.Run("first answer", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.s.Nth(0, refused()) // there was no condition
		_, err := st.download()
		st.mustFailAndHeal(err, ossdl.ErrObjectChanged, 1)
	})
	t.Run("in the middle", func(t *testing.T) {
		st := newServerStage(t, stageConfig{v4: true})
		st.s.Nth(7, refused())
		res, err := st.download()
		st.mustSucceed(res, err, lieParts+2)
	})
	t.Run("on resume", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.interrupt()
		st.s.Nth(0, refused())
		res, err := st.download()
		st.mustSucceed(res, err, lieParts-5+2)
		if res.ResumedBytes != lieKept {
			t.Errorf("%+v", *res)
		}
	})
	t.Run("for ever, from the middle on", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.answerFrom(7, refused())
		_, err := st.download()
		st.mustFailAndHeal(err, ossdl.ErrObjectChanged, 7+2*4)
	})
	t.Run("for ever, on resume", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.interrupt()
		st.answerAlways(refused())
		_, err := st.download()
		st.mustFail(err, ossdl.ErrObjectChanged, 3, false)
		st.mustResume(st.claimedBytes())
	})
}

// TestCRCHeaderUnreliable is about a CRC-64 header that is missing, malformed, or on some answers only.
func TestCRCHeaderUnreliable(t *testing.T) {
	countLies(t)
	for _, header := range []string{"", "x", "-1", "+1", "0x10", "1e3", "18446744073709551616", "12345678901234567890123", "1,2"} {
		for _, resumed := range []bool{false, true} {
			for _, size := range []int64{lieSmall, lieSize} {
				if resumed && size == lieSmall {
					continue
				}
				t.Run(fmt.Sprintf("%q for ever, %d bytes, resumed %t", header, size, resumed), func(t *testing.T) {
					st := newServerStage(t, stageConfig{size: size, object: []osstest.ObjectOption{osstest.CRCHeader(header)}})
					if resumed {
						st.interrupt()
					}
					res, err := st.download()
					st.mustSucceed(res, err, lieParts)
					if res.Verified {
						t.Error("verified by nothing")
					}
				})
			}
		}
		for _, from := range []int{0, 1, 7, lieParts - 1} {
			t.Run(fmt.Sprintf("%q in answer %d", header, from), func(t *testing.T) {
				st := newServerStage(t, stageConfig{v4: true})
				f := osstest.Inject().CRC(header)
				if header == "" {
					f = osstest.Inject().NoCRC()
				}
				st.s.Nth(from, f)
				res, err := st.download()
				st.mustSucceed(res, err, lieParts)
				if !res.Verified {
					t.Error("not verified, though an answer had the CRC-64")
				}
			})
		}
	}
	t.Run("known of the earlier run only", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.interrupt()
		st.answerAlways(osstest.Inject().NoCRC())
		res, err := st.download()
		st.mustSucceed(res, err, lieParts-5)
		if res.Verified || res.ResumedBytes != lieKept {
			t.Errorf("%+v", *res)
		}
	})
}

// TestWrongCRC is about a CRC-64 that is not the content's.
func TestWrongCRC(t *testing.T) {
	countLies(t)
	for _, header := range []string{"0", "1", "18446744073709551615"} {
		for _, size := range []int64{1, lieSmall, lieSize} {
			t.Run(fmt.Sprintf("%s for ever, %d bytes", header, size), func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: size, object: []osstest.ObjectOption{osstest.CRCHeader(header)}})
				st.putOldFile()
				res, err := st.download()
				st.mustFail(err, ossdl.ErrChecksum, 2*lieParts, true)
				harness.NoLeftovers(t, st.path)
				if res == nil || res.Verified || res.CRC64 != 0 {
					t.Fatalf("%+v", res)
				}
				st.mustFetch(res, 2*size)
				st.s.Put("bkt", "key", st.content)
				st.mustResume(0)
			})
		}
		t.Run(header+" for ever, resumed", func(t *testing.T) {
			st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{osstest.CRCHeader(header)}})
			st.interrupt()
			res, err := st.download()
			st.mustFail(err, ossdl.ErrChecksum, lieParts-5+lieParts, false)
			harness.NoLeftovers(t, st.path)
			st.mustFetch(res, 2*lieSize-lieKept)
			st.s.Put("bkt", "key", st.content)
			st.mustResume(0)
		})
		t.Run(header+", on resume only", func(t *testing.T) {
			// Another CRC-64 than the checkpoint's: of another object, by all that can be known.
			st := newServerStage(t, stageConfig{})
			st.interrupt()
			st.answerAlways(osstest.Inject().CRC(header))
			_, err := st.download()
			st.mustFail(err, ossdl.ErrChecksum, 1+2*lieParts, false)
			harness.NoLeftovers(t, st.path)
			st.mustResume(0)
		})
		t.Run(header+", only answer", func(t *testing.T) {
			st := newServerStage(t, stageConfig{size: lieSmall})
			st.s.Nth(0, osstest.Inject().CRC(header))
			_, err := st.download() // fetched again, the service says something else
			st.mustFail(err, ossdl.ErrObjectChanged, 2, false)
			st.claimedBytes()
			st.mustResume(0)
		})
		t.Run(header+", answer in the middle", func(t *testing.T) {
			st := newServerStage(t, stageConfig{v4: true})
			st.s.Nth(7, osstest.Inject().CRC(header))
			_, err := st.download()
			st.mustFailAndHeal(err, ossdl.ErrObjectChanged, lieParts)
		})
	}
}

// TestFlippedBytes is about bytes that are not the object's, under a head that is.
func TestFlippedBytes(t *testing.T) {
	countLies(t)
	for _, lie := range []struct {
		name  string
		fault func() *osstest.Fault
	}{
		{"first byte", func() *osstest.Fault { return osstest.Inject().FlipByte(0) }},
		{"a byte in the middle", func() *osstest.Fault { return osstest.Inject().FlipByte(4321) }},
		{"last byte of a part", func() *osstest.Fault { return osstest.Inject().FlipByte(12344) }},
		{"another object's bytes", func() *osstest.Fault { return osstest.Inject().OtherBytes(osstest.Random(8, lieSize)) }},
	} {
		for _, at := range []int{0, 7, lieParts - 1} {
			t.Run(fmt.Sprintf("%s, answer %d", lie.name, at), func(t *testing.T) {
				st := newServerStage(t, stageConfig{})
				st.putOldFile()
				st.s.Nth(at, lie.fault())
				res, err := st.download()
				st.mustSucceed(res, err, 2*lieParts)
				if st.mustFetch(res, 2*lieSize); !res.Verified {
					t.Errorf("%+v", *res)
				}
			})
		}
		t.Run(lie.name+", only answer", func(t *testing.T) {
			st := newServerStage(t, stageConfig{size: lieSmall, v4: true})
			st.s.Nth(0, lie.fault())
			res, err := st.download()
			st.mustSucceed(res, err, 2)
		})
		t.Run(lie.name+", resumed run", func(t *testing.T) {
			st := newServerStage(t, stageConfig{})
			st.interrupt()
			st.s.Nth(2, lie.fault())
			res, err := st.download()
			st.mustSucceed(res, err, lieParts-5+lieParts)
			if !res.Verified || res.ResumedBytes != 0 {
				t.Errorf("%+v", *res)
			}
		})
		t.Run(lie.name+", every answer", func(t *testing.T) {
			st := newServerStage(t, stageConfig{v4: true})
			st.putOldFile()
			st.answerAlways(lie.fault())
			res, err := st.download()
			st.mustFail(err, ossdl.ErrChecksum, 2*lieParts, true)
			harness.NoLeftovers(t, st.path)
			st.mustFetch(res, 2*lieSize)
			st.mustResume(0)
		})
		t.Run(lie.name+", found by the caller's digest alone", func(t *testing.T) {
			st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{osstest.NoCRC()}})
			st.s.Nth(7, lie.fault())
			res, err := st.download(ossdl.WithChecksum(sha256.New, digestOf(st.content)))
			st.mustSucceed(res, err, 2*lieParts)
			if !res.Verified {
				t.Errorf("%+v", *res)
			}
		})
	}
	t.Run("in the earlier run", func(t *testing.T) {
		// Its record agrees with the disk: only the whole shows it.
		st := newServerStage(t, stageConfig{})
		st.s.Nth(2, osstest.Inject().FlipByte(77))
		denied := osstest.Error(403, "AccessDenied")
		st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if r.Start == lieKept {
				return denied
			}
			return nil
		})
		if _, err := st.download(ossdl.WithConcurrency(1)); err == nil {
			t.Fatal("completed")
		}
		st.mustHaveFired()
		res, err := st.download()
		st.mustSucceed(res, err, lieParts-5+lieParts)
		if !res.Verified || res.ResumedBytes != 0 {
			t.Errorf("%+v", *res)
		}
	})
	t.Run("caller's digest of another object", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		_, err := st.download(ossdl.WithChecksum(sha256.New, make([]byte, 32)))
		st.mustFail(err, ossdl.ErrChecksum, lieParts, false) // at once: the service and the bytes agree
		harness.NoLeftovers(t, st.path)
		st.mustResume(0)
	})
}

func digestOf(c osstest.Content) []byte {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(c, 0, c.Size())); err != nil {
		panic(err)
	}
	return h.Sum(nil)
}

// Bodies longer than said, or of a length not said.
var bodyLengths = []struct {
	name  string
	fault func() *osstest.Fault
	extra int // requests
	maybe int // further ones: what came beyond the length may be met by the next request over the connection
}{
	{"as long as said, and the connection closed", func() *osstest.Fault { return osstest.Inject().CloseConn() }, 0, 0},
	{"longer", func() *osstest.Fault { return osstest.Inject().LongBody(100) }, 0, 1},
	{"much longer", func() *osstest.Fault { return osstest.Inject().LongBody(1 << 20) }, 0, 1},
	{"longer, in chunks", func() *osstest.Fault { return osstest.Inject().NoContentLength().LongBody(100) }, 0, 1},
	{"longer, until the connection ends", func() *osstest.Fault { return osstest.Inject().UntilClose().LongBody(100_000) }, 0, 0},
	{"in chunks", func() *osstest.Fault { return osstest.Inject().NoContentLength() }, 0, 0},
	{"until the connection ends", func() *osstest.Fault { return osstest.Inject().UntilClose() }, 0, 0},
	{"shorter by a byte", func() *osstest.Fault { return osstest.Inject().ShortBody(1) }, 1, 0},
	{"shorter by most", func() *osstest.Fault { return osstest.Inject().ShortBody(12344) }, 1, 0},
	{"none", func() *osstest.Fault { return osstest.Inject().CloseAfter(0) }, 1, 0},
	{"shorter, in chunks", func() *osstest.Fault { return osstest.Inject().NoContentLength().ShortBody(500) }, 1, 0},
	{"shorter, until the connection ends", func() *osstest.Fault { return osstest.Inject().UntilClose().ShortBody(500) }, 1, 0},
}

func TestBodyLength(t *testing.T) {
	countLies(t)
	quietHTTP(t)
	for i, lie := range bodyLengths {
		for _, m := range momentsOf(i) {
			if m.always {
				continue
			}
			t.Run(lie.name+"/"+m.name, func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: m.size, v4: m.v4})
				if m.resumed {
					st.interrupt()
				}
				st.s.Nth(m.from, lie.fault())
				res, err := st.download()
				st.mustSucceed(res, err, m.clean+lie.extra+lie.maybe)
				if !res.Verified || res.DownloadedBytes+res.ResumedBytes != st.content.Size() ||
					res.Retries < lie.extra || res.Retries > lie.extra+lie.maybe {
					t.Errorf("%+v", *res)
				}
			})
		}
		t.Run(lie.name+"/always", func(t *testing.T) {
			st := newServerStage(t, stageConfig{})
			st.putOldFile()
			st.answerAlways(lie.fault())
			res, err := st.download()
			if lie.extra == 0 {
				st.mustSucceed(res, err, lieParts*(1+lie.maybe))
				return
			}
			// What an attempt brings is not enough to go on for ever: the last bytes of a part never come.
			gaveUp(t, err, lieAttempts)
			st.mustFail(err, io.ErrUnexpectedEOF, 4*lieAttempts, true)
			if kept := st.claimedBytes(); (lie.name == "none") != (kept == 0) {
				t.Errorf("%d bytes kept", kept)
			}
			st.mustResume(st.claimedBytes())
		})
	}
}

// TestUnusualForms is about answers in forms that OSS does not use, and that are right.
func TestUnusualForms(t *testing.T) {
	countLies(t)
	chunks := func(b []byte) []byte {
		return fmt.Appendf(nil, "1\r\n%s\r\n%x; with=more\r\n%s\r\n0\r\nX-Trailer: x\r\n\r\n", b[:1], len(b)-1, b[1:])
	}
	for name, form := range map[string]func(head string, body []byte) []byte{
		"HTTP/1.0": func(head string, body []byte) []byte {
			return fmt.Appendf(nil, "HTTP/1.0 206 Partial Content\r\n%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
		},
		"HTTP/1.0, until the end of the connection": func(head string, body []byte) []byte {
			return fmt.Appendf(nil, "HTTP/1.0 206 Partial Content\r\n%s\r\n%s", head, body)
		},
		"Content-Length beside chunks": func(head string, body []byte) []byte {
			return fmt.Appendf(nil, "HTTP/1.1 206 Partial Content\r\n%sContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n%s", head, chunks(body))
		},
		"after a 100": func(head string, body []byte) []byte {
			return fmt.Appendf(nil, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nETag: \"x\"\r\n\r\nHTTP/1.1 206 Partial Content\r\n%sContent-Length: %d\r\n\r\n%s",
				head, len(body), body)
		},
		"names in lower case, no reason": func(head string, body []byte) []byte {
			return fmt.Appendf(nil, "HTTP/1.1 206\r\n%scontent-length:%d\r\n\r\n%s", strings.ToLower(head), len(body), body)
		},
	} {
		for _, at := range []int64{0, 7} {
			t.Run(fmt.Sprintf("%s, part %d", name, at), func(t *testing.T) {
				st := newServerStage(t, stageConfig{object: []osstest.ObjectOption{osstest.ETag(`"5f-2a"`)}})
				o := st.s.Stat("bkt", "key")
				body := harness.Bytes(t, st.content)[at*liePart:][:liePart]
				head := fmt.Sprintf("ETag: %s\r\nx-oss-request-id: 5F\r\nx-oss-hash-crc64ecma: %s\r\nContent-Range: bytes %d-%d/%d\r\n",
					o.ETag, o.CRC, at*liePart, (at+1)*liePart-1, lieSize)
				st.s.Once(func(r *osstest.Request) bool { return r.Start == at*liePart }, osstest.Inject().Raw(form(head, body)))
				res, err := st.download()
				st.mustSucceed(res, err, lieParts)
				if st.mustFetch(res, lieSize); res.Retries != 0 || !res.Verified {
					t.Errorf("%+v", *res)
				}
			})
		}
	}
}

// TestBytesBehindAnswersAreNotPrinted checks that net/http prints nothing of what a server sends behind the end of each of its
// answers, long and short ones, with and without TLS and chunks.
func TestBytesBehindAnswersAreNotPrinted(t *testing.T) {
	countLies(t)
	quietHTTP(t)
	for name, server := range map[string][]osstest.Option{"plain": nil, "TLS": {osstest.WithTLS()}} {
		for _, size := range []int64{100, 3000, lieSize} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: size, server: server})
				st.s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().LongBody(100).Maybe() })
				res, err := st.download()
				if err != nil || !res.Verified || res.Size != size {
					t.Errorf("%+v, %v", res, err)
				}
			})
			t.Run(fmt.Sprintf("%s, %d bytes in chunks", name, size), func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: size, server: server, object: []osstest.ObjectOption{osstest.ETag(`"5f-2a"`)}})
				o, content := st.s.Stat("bkt", "key"), harness.Bytes(t, st.content)
				st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
					end := min(r.End, size)
					body := content[r.Start:end]
					return osstest.Inject().Raw(fmt.Appendf(nil, "HTTP/1.1 206 Partial Content\r\nETag: %s\r\nx-oss-request-id: 5F\r\nx-oss-hash-crc64ecma: %s\r\n"+
						"Content-Range: bytes %d-%d/%d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\n\r\n%s",
						o.ETag, o.CRC, r.Start, end-1, size, body[:1], len(body)-1, body[1:], strings.Repeat("more", 25))).Maybe()
				})
				res, err := st.download()
				if err != nil || !res.Verified || res.Size != size {
					t.Errorf("%+v, %v", res, err)
				}
			})
		}
	}
}

// TestTwoLengths is about a part whose Content-Length is not that of its Content-Range.
func TestTwoLengths(t *testing.T) {
	countLies(t)
	for _, n := range []int{0, 100, liePart - 1, liePart + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			quietHTTP(t)
			st := newServerStage(t, stageConfig{})
			o := st.s.Stat("bkt", "key")
			st.s.Nth(0, osstest.Inject().Raw(fmt.Appendf(nil, "HTTP/1.1 206 Partial Content\r\nETag: %s\r\nx-oss-request-id: 5F\r\n"+
				"Content-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n%s", o.ETag, liePart-1, lieSize, n, make([]byte, n))))
			res, err := st.download()
			st.mustSucceed(res, err, 1+lieParts)
			st.mustFetch(res, lieSize)
		})
	}
}

// TestSymlinkCRC is about a symbolic link. The CRC-64 of a symbolic link's answer may be the link's.
func TestSymlinkCRC(t *testing.T) {
	countLies(t)
	for _, quirk := range []osstest.Quirk{0, osstest.LinkCRC} {
		t.Run(fmt.Sprint(quirk), func(t *testing.T) {
			st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(quirk)}})
			st.s.Put("bkt", "target", st.content)
			st.s.Symlink("bkt", "key", "target")
			res, err := st.download()
			st.mustSucceed(res, err, lieParts)
			if res.Verified != (quirk == 0) {
				t.Errorf("%+v", *res)
			}
		})
	}
}

// TestEmptyAndOutside is about empty objects, and servers that say so of others.
func TestEmptyAndOutside(t *testing.T) {
	countLies(t)
	t.Run("empty, 416", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.content = osstest.Bytes(nil)
		st.s.Put("bkt", "key", st.content)
		res, err := st.download()
		st.mustSucceed(res, err, 2)
	})
	t.Run("empty, 416 with Content-Range", func(t *testing.T) {
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.ContentRangeOn416)}, v4: true})
		st.content = osstest.Bytes(nil)
		st.s.Put("bkt", "key", st.content)
		res, err := st.download()
		st.mustSucceed(res, err, 2)
	})
	t.Run("empty, 200", func(t *testing.T) {
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.IgnoreRangeBehavior)}})
		st.content = osstest.Bytes(nil)
		st.s.Put("bkt", "key", st.content)
		res, err := st.download()
		st.mustSucceed(res, err, 1)
	})
	t.Run("empty with the CRC-64 of another", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.putOldFile()
		st.content = osstest.Bytes(nil)
		st.s.Put("bkt", "key", st.content, osstest.CRCHeader("5"))
		_, err := st.download()
		st.mustFail(err, ossdl.ErrChecksum, 3, true)
		harness.NoLeftovers(t, st.path)
	})
	t.Run("416 once, first answer", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.s.Nth(0, osstest.Error(416, "InvalidRange"))
		res, err := st.download()
		st.mustSucceed(res, err, lieParts+2)
	})
	t.Run("416 for ever", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.answerAlways(osstest.Error(416, "InvalidRange"))
		_, err := st.download()
		st.mustFailAndHeal(err, ossdl.ErrRange, 2)
	})
	t.Run("416 in the middle", func(t *testing.T) {
		st := newServerStage(t, stageConfig{v4: true})
		st.s.Nth(7, osstest.Error(416, "InvalidRange"))
		_, err := st.download()
		st.mustFailAndHeal(err, ossdl.ErrObjectChanged, lieParts)
	})
	t.Run("416 on resume", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.interrupt()
		st.s.Nth(0, osstest.Error(416, "InvalidRange"))
		res, err := st.download()
		st.mustSucceed(res, err, 1+lieParts)
	})
	// From a 206 that does not say of what nothing can be learned, not even that the range was wrong.
	unlearned := func(st *serverStage, err error, asked checkpoints.Span) {
		t := st.t
		if pe := gaveUp(t, err, lieAttempts); pe.Offset != asked.Off || pe.Size != asked.Len() || errors.Is(err, ossdl.ErrRange) {
			t.Errorf("%+v, want %v", *pe, asked)
		}
		st.mustBeOddAnswer(err)
		st.s.SetQuirks(0)
		st.mustFailAndHeal(err, errSomehow, lieAttempts)
	}
	for name, quirk := range map[string]osstest.Quirk{"416": 0, "200": osstest.IgnoreRangeBehavior, "206 of all": osstest.IgnoreRangeBehavior | osstest.RangeOutside206} {
		t.Run("range beyond the end, "+name, func(t *testing.T) {
			st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(quirk)}})
			_, err := st.download(ossdl.WithRange(lieSize, 10))
			if name == "206 of all" {
				unlearned(st, err, checkpoints.Span{Off: lieSize, End: lieSize + 10})
				return
			}
			st.mustFailAndHeal(err, ossdl.ErrRange, 1)
		})
		t.Run("range across the end, "+name, func(t *testing.T) {
			st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(quirk)}})
			_, err := st.download(ossdl.WithRange(lieSize-5, 10))
			if name == "206 of all" {
				unlearned(st, err, checkpoints.Span{Off: lieSize - 5, End: lieSize + 5})
				return
			}
			st.mustFailAndHeal(err, ossdl.ErrRange, 1)
		})
		t.Run("object smaller than a part, "+name, func(t *testing.T) {
			st := newServerStage(t, stageConfig{size: lieSmall, server: []osstest.Option{osstest.WithQuirks(quirk)}})
			res, err := st.download()
			if name == "206 of all" {
				unlearned(st, err, checkpoints.Span{End: liePart})
				return
			}
			st.mustSucceed(res, err, 1)
		})
	}
}
