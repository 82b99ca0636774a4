package torture_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestLiesThroughOtherEntryPoints tells the lies of the tables to the entry points that the other tests do not go through.
func TestLiesThroughOtherEntryPoints(t *testing.T) {
	countLies(t)
	quietHTTP(t)
	for _, e := range []entryPoint{viaUnsigned, viaURL, viaWriter, viaReader} {
		t.Run(string(e), func(t *testing.T) {
			t.Run("answers refused", func(t *testing.T) {
				for i, lie := range badAnswers {
					for _, m := range e.moments(i) {
						t.Run(lie.name+"/"+m.name, func(t *testing.T) {
							st := newServerStage(t, stageConfig{size: m.size, v4: m.v4, through: e})
							if e == viaURL && m.from == 0 && m.always && lie.name == noNames {
								t.Skip("to a URL it is one stream, see TestFieldNothingIdentifiesTheObject")
							}
							if e == viaURL && m.from == 0 && (lie.name == "200 of a length not said" || lie.name == "200 until the connection ends") {
								pageOfAWebServer(st, m, lie.fault())
								return
							}
							res, err := st.answerOnceOrAlways(m, lie.fault(), 0)
							if m.always {
								st.mustBeOddAnswer(err)
							} else if res.Retries != 1 || !res.Verified || res.DownloadedBytes+res.ResumedBytes != st.content.Size() {
								t.Errorf("result %+v, %v", *res, err)
							}
						})
					}
				}
			})
			t.Run("statuses retried", func(t *testing.T) {
				for i, lie := range statusesRetried {
					for _, m := range e.moments(i) {
						t.Run(fmt.Sprintf("%d %s/%s", lie.status, lie.form, m.name), func(t *testing.T) {
							st := newServerStage(t, stageConfig{size: m.size, v4: m.v4, through: e})
							if _, err := st.answerOnceOrAlways(m, lie.fault(), 0); m.always {
								hasStatus(t, err, lie.status)
							}
						})
					}
				}
			})
			t.Run("statuses final", func(t *testing.T) {
				for i, lie := range statusesFinal {
					for j, from := range []int{0, 7} {
						if !harness.Long() && (i+j)%2 > 0 {
							continue
						}
						t.Run(fmt.Sprintf("%s/answer %d", lie.name, from), func(t *testing.T) {
							st := newServerStage(t, stageConfig{v4: i%2 > 0, through: e})
							if lie.name == finalAlone {
								st.opts = append(st.opts, ossdl.WithConcurrency(1))
							}
							st.putOldFile()
							st.s.Nth(from, lie.fault())
							_, err := st.download()
							want, most := lie.first, 1
							if from > 0 {
								gaveUp(t, err, 1)
								want, most = lie.mid, lieParts
							}
							if want == nil {
								want = errSomehow
							}
							hasStatus(t, err, lie.status)
							st.mustFail(err, want, most, true)
							st.mustResume(st.claimedBytes())
						})
					}
				}
			})
			t.Run("no answer", func(t *testing.T) {
				for i, lie := range noAnswer {
					for _, m := range e.moments(i) {
						t.Run(lie.name+"/"+m.name, func(t *testing.T) {
							st := newServerStage(t, stageConfig{size: m.size, v4: m.v4, through: e})
							st.httpRepeats = true
							st.answerOnceOrAlways(m, lie.fault(), 0)
						})
					}
				}
			})
			t.Run("stalls", func(t *testing.T) {
				for i, lie := range answersStalled {
					for _, m := range e.moments(i) {
						t.Run(lie.name+"/"+m.name, func(t *testing.T) {
							t.Parallel()
							st := newServerStage(t, stageConfig{size: m.size, v4: m.v4, through: e, opts: []ossdl.Option{ossdl.WithStallTimeout(lieStall)}})
							st.answerOnceOrAlways(m, lie.fault(), lie.leeway)
						})
					}
				}
			})
			t.Run("lengths of bodies", func(t *testing.T) {
				for i, lie := range bodyLengths {
					for _, m := range e.moments(i) {
						if lie.extra > 0 {
							t.Run(lie.name+"/"+m.name, func(t *testing.T) {
								st := newServerStage(t, stageConfig{size: m.size, v4: m.v4, through: e})
								st.answerOnceOrAlways(m, lie.fault(), allStart)
							})
							continue
						}
						t.Run(lie.name+"/"+m.name, func(t *testing.T) {
							st := newServerStage(t, stageConfig{size: m.size, v4: m.v4, through: e})
							if m.resumed {
								st.interrupt()
							}
							st.s.Nth(m.from, lie.fault())
							res, err := st.download()
							st.mustSucceed(res, err, max(m.clean, lieParts)+lie.maybe)
							if res.Retries > lie.maybe || !res.Verified {
								t.Errorf("result %+v, %v", *res, err)
							}
						})
					}
				}
			})
			t.Run("damage", func(t *testing.T) {
				for _, always := range []bool{false, true} {
					t.Run(fmt.Sprintf("a flipped byte, always %t", always), func(t *testing.T) { flippedByte(t, e, always) })
				}
				t.Run("another ETag", func(t *testing.T) {
					st := newServerStage(t, stageConfig{through: e, object: []osstest.ObjectOption{osstest.NoCRC()}})
					st.s.Nth(7, osstest.Inject().OtherETag(`"0123456789ABCDEF0123456789ABCDEF"`))
					_, err := st.download()
					gaveUp(t, err, 1)
					st.mustFailAndHeal(err, ossdl.ErrObjectChanged, lieParts)
				})
				t.Run("another total", func(t *testing.T) {
					st := newServerStage(t, stageConfig{through: e})
					st.s.Nth(7, osstest.Inject().WrongTotal(liePart))
					_, err := st.download()
					gaveUp(t, err, 1)
					st.mustFailAndHeal(err, ossdl.ErrObjectChanged, lieParts)
				})
				t.Run("replaced", func(t *testing.T) {
					st := newServerStage(t, stageConfig{through: e})
					other := osstest.Random(8, lieSize)
					st.s.Nth(7, osstest.Inject().Before(func() { st.s.Put("bkt", "key", other) }))
					_, err := st.download()
					st.mustFail(err, ossdl.ErrObjectChanged, lieParts+3*4, false)
					st.claimedBytes()
					st.content = other
					st.mustResume(0)
				})
			})
		})
	}
}

// pageOfAWebServer: a URL whose first answer has no length is of something that is made on the way out, and has none the
// next time either.
func pageOfAWebServer(st *serverStage, m moment, fault *osstest.Fault) {
	if m.resumed {
		st.interrupt()
	}
	st.s.Nth(0, fault)
	_, err := st.download()
	st.mustBeOddAnswer(err)
	st.mustFail(err, errSomehow, 1, false)
	st.mustResume(st.claimedBytes())
}

// flippedByte: one that came once is fetched again where what was written can be written again. A Reader has given it out,
// and says so at the end.
func flippedByte(t *testing.T, e entryPoint, always bool) {
	st := newServerStage(t, stageConfig{through: e})
	st.damagedBytes = true
	if always {
		st.answerAlways(osstest.Inject().FlipByte(4321))
	} else {
		st.s.Nth(7, osstest.Inject().FlipByte(4321))
	}
	res, err := st.download()
	switch {
	case e == viaReader:
		st.mustFail(err, ossdl.ErrChecksum, lieParts, false)
	case always:
		st.mustFail(err, ossdl.ErrChecksum, 2*lieParts, false)
	default:
		st.mustSucceed(res, err, 2*lieParts)
		return
	}
	harness.NoLeftovers(t, st.path)
	st.damagedBytes = false
	st.mustResume(0)
}

// hasStatus asks that err holds the service's own word.
func hasStatus(t *testing.T, err error, status int) {
	t.Helper()
	var se oss.ServiceError
	if !errors.As(err, &se) || se.StatusCode != status {
		t.Errorf("%v holds %+v, want status %d", err, se, status)
	}
}

// TestNothingLeftOfAnyEntryPoint checks that when a call returns, by success, by error or because its caller had enough, no
// request and no body of it is open, and soon no connection, no file and no goroutine is more than there was.
func TestNothingLeftOfAnyEntryPoint(t *testing.T) {
	for _, e := range []entryPoint{viaKey, viaUnsigned, viaURL, viaWriter, viaReader} {
		for _, ends := range []string{"success", "error of the first answer", "error in the middle", "cancelled before the first answer", "cancelled in the middle"} {
			t.Run(string(e)+"/"+ends, func(t *testing.T) {
				st := newServerStage(t, stageConfig{through: e})
				counted := &flight{RoundTripper: st.http.Transport}
				st.http.Transport = counted
				st.returned = func() {
					if n := counted.inFlight(); n != 0 {
						t.Errorf("%d requests or bodies are left open", n)
					}
				}
				before := harness.OpenFiles()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				st.ctx = ctx
				at := 7
				if strings.Contains(ends, "first answer") {
					at = 0
				}
				switch {
				case strings.HasPrefix(ends, "error"):
					st.s.Nth(at, osstest.Error(403, "AccessDenied"))
				case strings.HasPrefix(ends, "cancelled"):
					st.s.Nth(at, osstest.Inject().Before(cancel).HoldHeaders(nil))
				}
				res, err := st.download()
				switch {
				case ends == "success":
					st.mustSucceed(res, err, lieParts)
				case strings.HasPrefix(ends, "error"):
					st.mustBeRefusal(err, 403, "AccessDenied")
				case !errors.Is(err, context.Canceled):
					t.Errorf("%v", err)
				}
				harness.BackTo(t, math.MaxInt, before) // the goroutines were looked at
				st.ctx = t.Context()
				if ends != "success" {
					st.mustLeavePathAlone(false)
					st.mustResume(st.claimedBytes())
				}
			})
		}
	}
}
