package torture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// restoring are the entry points that restore an object.
var restoring = []string{"Download", "DownloadTo", "Open", "DownloadPrefix", "DownloadObjects"}

// restoredContent is the object "bkt/k" of these tests.
var restoredContent = osstest.Random(1, 300<<10)

// outside runs fn in a bubble, with a server outside of it that has the bubble's clock.
func outside(t *testing.T, s *osstest.Server, fn func(*testing.T, *harness.Outside)) {
	t.Helper()
	o := harness.NewOutside(t, s)
	synctest.Test(t, func(t *testing.T) {
		fn(t, o)
		synctest.Wait()
		if left := leaks.OthersInBubble(); left != "" {
			t.Error("left running:\n", left)
		}
	})
}

// enterRestore downloads "bkt/k" through an entry point, and compares the bytes if that succeeds.
func enterRestore(t *testing.T, ctx context.Context, d *ossdl.Downloader, entryPoint, dir string, opts ...ossdl.Option) error {
	t.Helper()
	want := harness.Bytes(t, restoredContent)
	same := func(got []byte) {
		t.Helper()
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", entryPoint)
		}
	}
	switch entryPoint {
	case "Download":
		_, err := d.Download(ctx, "bkt", "k", filepath.Join(dir, "k"), opts...)
		if err == nil {
			harness.CheckFile(t, filepath.Join(dir, "k"), restoredContent)
		}
		return err
	case "DownloadTo":
		to := &harness.Memory{Content: make([]byte, len(want))}
		_, err := d.DownloadTo(ctx, "bkt", "k", to, opts...)
		if err == nil {
			same(to.Content)
		}
		return err
	case "Open":
		r, err := d.Open(ctx, "bkt", "k", opts...)
		if err != nil {
			return err
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if err == nil {
			same(got)
		}
		return err
	case "DownloadPrefix":
		_, err := d.DownloadPrefix(ctx, "bkt", "", dir, opts...)
		if err == nil {
			harness.CheckTree(t, dir, harness.Contents{"k": restoredContent})
		}
		return err
	case "DownloadObjects":
		_, err := d.DownloadObjects(ctx, "bkt", harness.List(ossdl.Object{Key: "k"}), dir, opts...)
		if err == nil {
			harness.CheckTree(t, dir, harness.Contents{"k": restoredContent})
		}
		return err
	}
	t.Fatal("no such entry point: ", entryPoint)
	return nil
}

// posts returns when restores were asked for.
func posts(moments []harness.Moment) (at []time.Time) {
	for _, m := range moments {
		if m.Method == http.MethodPost {
			at = append(at, m.At)
		}
	}
	return at
}

// archiveClasses are the classes and tiers, and how long a restore takes at most.
var archiveClasses = []struct {
	class, tier string
	takes       time.Duration
}{
	{"Archive", "", time.Minute},
	{"Archive", "Bulk", time.Minute}, // which has no tiers: none is sent
	{"ColdArchive", "", 5 * time.Hour},
	{"ColdArchive", "Expedited", time.Hour},
	{"ColdArchive", "Bulk", 12 * time.Hour},
	{"DeepColdArchive", "Expedited", 12 * time.Hour},
	{"DeepColdArchive", "Standard", 48 * time.Hour},
}

// TestRestore checks that an object of each class is asked for once, with days and tier, looked at within a minute and then at
// growing intervals, and downloaded soon after it can be read.
func TestRestore(t *testing.T) {
	for _, c := range archiveClasses {
		for _, entryPoint := range restoring {
			if c.takes > time.Hour && slices.Contains([]string{"DownloadPrefix", "DownloadObjects"}, entryPoint) {
				continue // such a call ticks all the time
			}
			t.Run(strings.TrimSpace(c.class+" "+c.tier)+" "+entryPoint, func(t *testing.T) {
				s := harness.NewServer(t)
				s.Put("bkt", "k", restoredContent, osstest.StorageClass(c.class))
				outside(t, s, func(t *testing.T, o *harness.Outside) {
					const most = 10 * time.Minute // between two looks
					d := o.Downloader(t)
					began := time.Now()
					if err := enterRestore(t, t.Context(), d, entryPoint, t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{Days: 3, Tier: c.tier})); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took < c.takes || took > c.takes+most+time.Minute {
						t.Errorf("it took %v, want about %v", took, c.takes)
					}
					moments := o.Moments()
					asked := posts(moments)
					if len(asked) != 1 || s.Restores("bkt", "k") != 1 {
						t.Fatalf("asked for %d times", len(asked))
					}
					checkLooks(t, moments, asked[0], most)
				})
				checkExpires(t, s, 3*24*time.Hour)
			})
		}
	}
}

// checkLooks checks when an object was looked at after its restore was asked for.
func checkLooks(t *testing.T, moments []harness.Moment, asked time.Time, most time.Duration) {
	t.Helper()
	last, pause := asked, time.Duration(0)
	for _, m := range moments {
		if m.Method != http.MethodHead || m.At.Before(asked.Add(time.Second)) {
			continue
		}
		next := m.At.Sub(last)
		if pause == 0 && next > time.Minute {
			t.Errorf("the first look came after %v", next)
		}
		if next < pause || next > most {
			t.Errorf("a pause of %v after one of %v", next, pause)
		}
		last, pause = m.At, next
	}
	if pause == 0 {
		t.Error("it was not looked at")
	}
}

// checkExpires checks for how long the object can be read, by the answer with its bytes.
func checkExpires(t *testing.T, s *osstest.Server, want time.Duration) {
	t.Helper()
	for _, r := range s.Requests() {
		_, rest, _ := strings.Cut(r.Response.Get("X-Oss-Restore"), `expiry-date="`)
		text, _, _ := strings.Cut(rest, `"`)
		until, err := http.ParseTime(text)
		now, derr := http.ParseTime(r.Response.Get("Date"))
		if r.Method != http.MethodGet || r.Key == "" || err != nil || derr != nil {
			continue
		}
		if left := until.Sub(now); left > want || left < want-11*time.Minute {
			t.Errorf("it can be read for %v, want %v", left, want)
		}
		return
	}
	t.Error("it was not read")
}

// TestRestoreNotTwice checks that an interrupted call has a successor that asks for nothing twice, and that one that can be read
// already is not asked for.
func TestRestoreNotTwice(t *testing.T) {
	for _, entryPoint := range restoring {
		t.Run(entryPoint, func(t *testing.T) {
			s := harness.NewServer(t, osstest.WithThawTime(40*time.Minute))
			s.Put("bkt", "k", restoredContent, osstest.StorageClass("ColdArchive"))
			outside(t, s, func(t *testing.T, o *harness.Outside) {
				policy := ossdl.WithRestore(ossdl.RestorePolicy{Tier: "Bulk"})
				d, dir := o.Downloader(t), t.TempDir()
				for range 3 {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
					err := enterRestore(t, ctx, d, entryPoint, dir, policy)
					cancel()
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Fatal(err)
					}
				}
				// A faster tier does not begin another restore, either.
				if err := enterRestore(t, t.Context(), d, entryPoint, dir, ossdl.WithRestore(ossdl.RestorePolicy{Tier: "Expedited"})); err != nil {
					t.Fatal(err)
				}
				if n := len(posts(o.Moments())); n != 1 {
					t.Errorf("asked for %d times", n)
				}
				before := time.Now()
				if err := enterRestore(t, t.Context(), d, entryPoint, t.TempDir(), policy); err != nil || time.Since(before) > 0 {
					t.Errorf("%v, after %v", err, time.Since(before))
				}
				if n := len(posts(o.Moments())); n > 0 {
					t.Error("a restored object was asked for")
				}
			})
		})
	}
}

// bubbleDay is in the first days of every bubble.
var bubbleDay = time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC)

// TestRestoreInProgress checks each answer to a restore that another client has begun at the same moment.
func TestRestoreInProgress(t *testing.T) {
	for _, quirk := range []osstest.Quirk{0, osstest.LowerTier400, osstest.NoTierUpgrade, osstest.TierUpgrade200} {
		for _, theirs := range []string{"Expedited", "Standard", "Bulk", "ended"} {
			for _, entryPoint := range restoring {
				t.Run(fmt.Sprint(entryPoint, " ", theirs, " ", quirk), func(t *testing.T) {
					s := harness.NewServer(t, osstest.WithQuirks(quirk|osstest.AnyClock), osstest.WithThawTime(5*time.Minute))
					s.Put("bkt", "k", restoredContent, osstest.StorageClass("ColdArchive"))
					s.Once(func(r *osstest.Request) bool { return r.Method == http.MethodPost }, osstest.Inject().Before(func() {
						if theirs == "ended" {
							s.Restore("bkt", "k", bubbleDay)
						} else if err := restoreByOther(s, "k", theirs); err != nil {
							t.Error(err)
						}
					}))
					outside(t, s, func(t *testing.T, o *harness.Outside) {
						policy := ossdl.WithRestore(ossdl.RestorePolicy{})
						if err := enterRestore(t, t.Context(), o.Downloader(t), entryPoint, t.TempDir(), policy); err != nil {
							t.Fatal(err)
						}
						if n := len(posts(o.Moments())); n != 1 {
							t.Errorf("asked for %d times", n)
						}
					})
				})
			}
		}
	}
}

// TestRestoreByAnother checks that a restore that another client has begun, or that has ended by then, is not counted as one that this
// call has to pay for.
func TestRestoreByAnother(t *testing.T) {
	for _, ended := range []bool{false, true} {
		s := harness.NewServer(t, osstest.WithQuirks(osstest.AnyClock), osstest.WithThawTime(5*time.Minute))
		s.Put("bkt", "k", restoredContent, osstest.StorageClass("ColdArchive"))
		s.Once(func(r *osstest.Request) bool { return r.Method == http.MethodPost }, osstest.Inject().Before(func() {
			if ended {
				s.Restore("bkt", "k", bubbleDay)
			} else if err := restoreByOther(s, "k", "Standard"); err != nil {
				t.Error(err)
			}
		}))
		outside(t, s, func(t *testing.T, o *harness.Outside) {
			res, err := o.Downloader(t).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{}),
				ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
					if r.Restored {
						t.Errorf("ended %t: %+v", ended, r)
					}
				}))
			harness.CheckCounts(t, res, err, 1, 0, 0)
			if res.Restored != 0 || len(posts(o.Moments())) != 1 {
				t.Errorf("ended %t: %d restores", ended, res.Restored)
			}
		})
	}
}

// TestRestoreRate checks that the restores of a prefix are asked for at a bounded rate: 100 at once, and then 100 a second.
func TestRestoreRate(t *testing.T) {
	const frozen, atOnce, second = 350, 100, 100
	s := harness.NewServer(t, osstest.WithThawTime(time.Minute))
	for i := range frozen {
		s.Put("bkt", fmt.Sprintf("k%03d", i), osstest.Random(uint64(i), 1), osstest.StorageClass("ColdArchive"))
	}
	outside(t, s, func(t *testing.T, o *harness.Outside) {
		res, err := o.Downloader(t).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{StartOnly: true}))
		if !errors.Is(err, ossdl.ErrRestoring) || res.Restored != frozen || res.Restoring != frozen {
			t.Errorf("%+v, %v", res, err)
		}
		at := posts(o.Moments())
		if len(at) != frozen {
			t.Fatalf("asked for %d times", len(at))
		}
		slices.SortFunc(at, time.Time.Compare)
		for i := range frozen - atOnce - second {
			// Some leave at once, and are not sent at once.
			if took := at[i+atOnce+second].Sub(at[i]); took < time.Second*9/10 {
				t.Fatalf("%d were asked for in %v", atOnce+second, took)
			}
		}
		if took := at[frozen-1].Sub(at[0]); took > 5*time.Second {
			t.Errorf("all took %v", took)
		}
	})
}

// restoreByOther asks for a restore as another client does, which is outside of any bubble. Class Archive has no tiers.
func restoreByOther(s *osstest.Server, key, tier string) error {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := s.Client(oss.HTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		return err
	}
	b, err := client.Bucket("bkt")
	if err != nil {
		return err
	}
	if tier == "" {
		return b.RestoreObject(key)
	}
	return b.RestoreObjectDetail(key, oss.RestoreConfiguration{Days: 2, Tier: tier})
}

// TestRestoreProgress checks that progress says that an object thaws, and no longer once it can be read.
func TestRestoreProgress(t *testing.T) {
	for _, entryPoint := range restoring {
		t.Run(entryPoint, func(t *testing.T) {
			s := harness.NewServer(t)
			s.Put("bkt", "k", restoredContent, osstest.StorageClass("Archive"))
			outside(t, s, func(t *testing.T, o *harness.Outside) {
				most, last := 0, -1
				err := enterRestore(t, t.Context(), o.Downloader(t), entryPoint, t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{}),
					ossdl.WithProgress(func(p ossdl.Progress) { most, last = max(most, p.Restoring), p.Restoring }))
				if err != nil || most != 1 || last != 0 {
					t.Errorf("%d objects thawed, %d at the end; %v", most, last, err)
				}
			})
		})
	}
}

// TestRestoreFreezesAgain checks that an object that freezes while it is downloaded is restored again, and that what was there is
// kept.
func TestRestoreFreezesAgain(t *testing.T) {
	for _, entryPoint := range []string{"Download", "DownloadTo", "Open"} {
		t.Run(entryPoint, func(t *testing.T) {
			s := harness.NewServer(t)
			s.Put("bkt", "k", restoredContent, osstest.StorageClass("Archive"))
			reads := 0
			s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				if r.Method == http.MethodGet {
					if reads++; reads == 4 { // the first one is refused
						return osstest.Inject().Before(func() { s.Archive("bkt", "k") })
					}
				}
				return nil
			})
			outside(t, s, func(t *testing.T, o *harness.Outside) {
				err := enterRestore(t, t.Context(), o.Downloader(t), entryPoint, t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{}),
					ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
				if err != nil {
					t.Fatal(err)
				}
			})
			if n := s.Restores("bkt", "k"); n != 2 {
				t.Errorf("%d restores, want 2", n)
			}
			var sent int64
			for _, r := range s.Requests() {
				if r.Status == http.StatusPartialContent {
					sent += r.Sent
				}
			}
			if sent != restoredContent.Size() {
				t.Errorf("%d bytes were sent of %d", sent, restoredContent.Size())
			}
		})
	}
}

// TestRestoreVersion checks that the version that is asked for is restored, and no other.
func TestRestoreVersion(t *testing.T) {
	for _, entryPoint := range []string{"Download", "DownloadTo", "Open"} {
		t.Run(entryPoint, func(t *testing.T) {
			s := harness.NewServer(t)
			s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
			old := s.Put("bkt", "k", restoredContent, osstest.StorageClass("ColdArchive"))
			s.Put("bkt", "k", osstest.Random(2, 10), osstest.StorageClass("ColdArchive"))
			outside(t, s, func(t *testing.T, o *harness.Outside) {
				err := enterRestore(t, t.Context(), o.Downloader(t), entryPoint, t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{}),
					ossdl.WithVersionID(old.VersionID))
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range o.Moments() {
					if !strings.Contains(m.Query, "versionId="+old.VersionID) {
						t.Errorf("%s ?%s", m.Method, m.Query)
					}
				}
			})
		})
	}
}

// TestArchivedError checks that the error says class and state without the option, and that nothing is asked for.
func TestArchivedError(t *testing.T) {
	s := harness.NewServer(t)
	s.SetThawTime(func(*osstest.Object, string) time.Duration { return 1000 * time.Hour })
	d := harness.NewDownloader(t, s)
	for _, class := range []string{"Archive", "ColdArchive", "DeepColdArchive"} {
		s.Put("bkt", "k", restoredContent, osstest.StorageClass(class))
		for _, state := range []ossdl.ArchiveState{ossdl.ArchiveFrozen, ossdl.ArchiveThawing} {
			if state == ossdl.ArchiveThawing {
				if err := restoreByOther(s, "k", ""); err != nil {
					t.Fatal(err)
				}
			}
			s.ResetLog()
			for _, entryPoint := range restoring {
				err := enterRestore(t, t.Context(), d, entryPoint, t.TempDir())
				var archived *ossdl.ArchivedError
				if !errors.Is(err, ossdl.ErrArchived) || !errors.As(err, &archived) || archived.StorageClass != class || archived.State != state ||
					!strings.Contains(err.Error(), class+", "+string(state)) || !errors.As(err, new(oss.ServiceError)) {
					t.Errorf("%s, %s, %s: %v", entryPoint, class, state, err)
				}
			}
			_, err := d.DownloadURL(t.Context(), harness.Sign(t, s, oss.AuthV4, time.Hour, "k"), filepath.Join(t.TempDir(), "k"))
			var archived *ossdl.ArchivedError
			if !errors.As(err, &archived) || archived.StorageClass != "" || archived.State != "" {
				t.Errorf("DownloadURL, %s: %v", class, err)
			}
			if n := restoresAsked(s); n > 0 {
				t.Errorf("%s: asked for %d times", class, n)
			}
		}
	}
}

// restoresAsked returns how many requests were made for a restore.
func restoresAsked(s *osstest.Server) (n int) {
	for _, r := range s.Requests() {
		if r.Method == http.MethodPost {
			n++
		}
	}
	return n
}

// TestRestoreWrongForClass checks that days and tiers that a class does not have are errors that name both, before the restore is
// asked for.
func TestRestoreWrongForClass(t *testing.T) {
	for _, c := range []struct {
		class  string
		policy ossdl.RestorePolicy
		want   string
	}{
		{"Archive", ossdl.RestorePolicy{Days: 8}, "Days is 8: class Archive allows 1 to 7"},
		{"DeepColdArchive", ossdl.RestorePolicy{Tier: "Bulk"}, "tier Bulk: class DeepColdArchive has Expedited and Standard"},
	} {
		for _, entryPoint := range restoring {
			s := harness.NewServer(t)
			s.Put("bkt", "k", restoredContent, osstest.StorageClass(c.class))
			err := enterRestore(t, t.Context(), harness.NewDownloader(t, s), entryPoint, t.TempDir(), ossdl.WithRestore(c.policy))
			if !errors.Is(err, ossdl.ErrArchived) || !errors.As(err, new(*ossdl.ArchivedError)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: %v", entryPoint, c.class, err)
			}
			if n := restoresAsked(s); n > 0 {
				t.Errorf("%s, %s: asked for %d times", entryPoint, c.class, n)
			}
		}
	}
}

// TestRestoreDirectRead checks that Archive objects of a bucket with direct reading are not restored, and those of other classes
// are. Such reads are billed by what is asked for, so no byte is asked for twice but what did not come.
func TestRestoreDirectRead(t *testing.T) {
	const part, cut = 64 * harness.PartSize, 1000
	const size = 8 * part
	content := osstest.Random(3, size)
	for _, entryPoint := range []string{"Download", "DownloadPrefix", "DownloadObjects"} {
		t.Run(entryPoint, func(t *testing.T) {
			s := harness.NewServer(t, osstest.WithThawTime(0))
			s.CreateBucket("bkt", osstest.ArchiveDirectRead(true))
			s.Put("bkt", "k", content, osstest.StorageClass("Archive"))
			s.Put("bkt", "x", osstest.Random(4, 10), osstest.StorageClass("ColdArchive"))
			// One range is cut, and one is slow: to take over a part of it would cost that part twice.
			s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				switch {
				case r.Method == http.MethodGet && r.Start == part && r.End-r.Start == part:
					return osstest.Inject().CloseAfter(cut)
				case r.Method == http.MethodGet && r.Start == 7*part:
					return osstest.Inject().Rate(part)
				}
				return nil
			})
			d := harness.NewDownloader(t, s, ossdl.WithPartSize(part), ossdl.WithConcurrency(8),
				ossdl.WithRestore(ossdl.RestorePolicy{PollMin: ossdl.MinRestorePoll}))
			dir := t.TempDir()
			var err error
			switch entryPoint {
			case "Download":
				_, err = d.Download(t.Context(), "bkt", "k", filepath.Join(dir, "k"))
			case "DownloadPrefix":
				_, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
			case "DownloadObjects":
				_, err = d.DownloadObjects(t.Context(), "bkt", harness.List(ossdl.Object{Key: "k"}, ossdl.Object{Key: "x"}), dir)
			}
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, filepath.Join(dir, "k"), content)
			want := 1
			if entryPoint == "Download" {
				want = 0
			}
			if s.Restores("bkt", "k") != 0 || s.Restores("bkt", "x") != want {
				t.Errorf("%d and %d restores", s.Restores("bkt", "k"), s.Restores("bkt", "x"))
			}
			var asked int64
			for _, r := range s.Requests() {
				if r.Method == http.MethodGet && r.Key == "k" && r.End-r.Start > 1 {
					asked += r.End - r.Start
				}
			}
			if want := int64(size + part - cut); asked != want {
				t.Errorf("%d bytes were asked for, want %d", asked, want)
			}
		})
	}
}

// sooner makes restores quicker than they are, in the same order: a call for many objects ticks while they thaw.
func sooner(o *osstest.Object, _ string) time.Duration {
	return map[string]time.Duration{"Archive": time.Minute, "ColdArchive": 5 * time.Minute, "DeepColdArchive": 25 * time.Minute}[o.Class]
}

// restoreTree is a prefix with objects of every class and state.
type restoreTree struct {
	all    harness.Contents
	frozen []string // keys of those that must be asked for
}

// putRestoreTree puts n objects, with the states that rnd says.
func putRestoreTree(t *testing.T, s *osstest.Server, rnd *rand.Rand, n int) *restoreTree {
	t.Helper()
	tree := &restoreTree{all: harness.Contents{}}
	classes := []string{"Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"}
	for i := range n {
		key, class := fmt.Sprintf("d%d/k%03d", i%3, i), classes[rnd.IntN(len(classes))]
		size := int64(rnd.IntN(3000))
		if rnd.IntN(5) == 0 {
			size += 1 << 20 // not in memory
		}
		tree.all[key] = osstest.Random(uint64(i), size)
		s.Put("bkt", key, tree.all[key], osstest.StorageClass(class), osstest.LastModified(time.Unix(900_000_000, 0)))
		if slices.Index(classes, class) < 2 {
			continue
		}
		switch rnd.IntN(3) {
		case 0: // restored by someone else
			s.Restore("bkt", key, bubbleDay.AddDate(1, 0, 0))
		case 1: // being restored by someone else
			if err := restoreByOther(s, key, ""); err != nil {
				t.Fatal(err)
			}
		default:
			tree.frozen = append(tree.frozen, key)
		}
	}
	return tree
}

// TestRestorePrefix checks prefixes and lists of any mixture, through calls that are interrupted at any request, against the
// promise: as many restores as there are frozen objects, and all files whole in the end.
func TestRestorePrefix(t *testing.T) {
	n := 0
	for seed := range uint64(12) {
		for _, entryPoint := range []string{"DownloadPrefix", "DownloadObjects"} {
			if n++; harness.LeaveOut(n, 3) {
				continue
			}
			t.Run(fmt.Sprint(entryPoint, " ", seed), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				s := harness.NewServer(t, osstest.WithQuirks(osstest.AnyClock))
				s.SetThawTime(sooner)
				o := harness.NewOutside(t, s)
				tree := putRestoreTree(t, s, rnd, 40)
				before := map[string]int{}
				for key := range tree.all {
					before[key] = s.Restores("bkt", key)
				}
				synctest.Test(t, func(t *testing.T) { restoreInterrupted(t, o, rnd, entryPoint, tree) })
				for key := range tree.all {
					want := 0
					if slices.Contains(tree.frozen, key) {
						want = 1
					}
					if n := s.Restores("bkt", key) - before[key]; n != want {
						t.Errorf("%s: %d restores, want %d", key, n, want)
					}
				}
			})
		}
	}
}

// restoreInterrupted downloads a tree with calls that end at random requests, until one ends by itself. Someone else's restores last
// a day, so the interruptions must come within that: while nothing is asked for, hours pass.
func restoreInterrupted(t *testing.T, o *harness.Outside, rnd *rand.Rand, entryPoint string, tree *restoreTree) {
	t.Helper()
	dir := t.TempDir()
	d := o.Downloader(t, ossdl.WithRestore(ossdl.RestorePolicy{Days: 7}))
	for round := 0; ; round++ {
		ctx, cancel := context.WithCancel(t.Context())
		last := rnd.IntN(150)
		o.Moments()
		o.Before = func(n int, _ *http.Request) {
			if n == last && round < 8 {
				cancel()
			}
		}
		res, err := enterTree(ctx, d, entryPoint, dir, slices.Sorted(maps.Keys(tree.all)))
		canceled := ctx.Err() != nil
		cancel()
		synctest.Wait()
		if left := leaks.OthersInBubble(); left != "" {
			t.Fatal("left running:\n", left)
		}
		switch {
		case err == nil:
			if res.Done+res.Skipped != len(tree.all) || res.Restoring != 0 {
				t.Errorf("%+v", *res)
			}
			harness.CheckTree(t, dir, tree.all)
			return
		case !canceled || !errors.Is(err, context.Canceled) || res != nil && res.Failed > 0:
			t.Fatalf("%+v, %v", res, err)
		}
	}
}

// enterTree downloads the bucket, by its listing or as a list of the keys.
func enterTree(ctx context.Context, d *ossdl.Downloader, entryPoint, dir string, keys []string, opts ...ossdl.Option) (*ossdl.PrefixResult, error) {
	if entryPoint == "DownloadPrefix" {
		return d.DownloadPrefix(ctx, "bkt", "", dir, opts...)
	}
	var list []ossdl.Object
	for _, key := range keys {
		list = append(list, ossdl.Object{Key: key})
	}
	return d.DownloadObjects(ctx, "bkt", harness.List(list...), dir, opts...)
}

// TestRestoreAsksFirst checks that all frozen objects are asked for before there is room for all that can be read.
func TestRestoreAsksFirst(t *testing.T) {
	const large, frozen = 20, 30
	s := harness.NewServer(t, osstest.WithThawTime(time.Minute))
	late := make(chan struct{})
	defer time.AfterFunc(20*time.Second, func() { close(late) }).Stop() // by the clock outside: that of the bubble stands still
	all := harness.Contents{}
	put := func(key string, size int64, class string) {
		all[key] = osstest.Random(uint64(len(all)), size)
		s.Put("bkt", key, all[key], osstest.StorageClass(class))
	}
	for i := range large {
		put(fmt.Sprintf("a%02d", i), 1<<20+1, "Standard")
	}
	for i := range frozen {
		put(fmt.Sprintf("z%02d", i), 10, "ColdArchive")
	}
	outside(t, s, func(t *testing.T, o *harness.Outside) {
		asked, n := make(chan struct{}), 0
		o.Before = func(_ int, r *http.Request) {
			if r.Method == http.MethodPost {
				if n++; n == frozen {
					close(asked)
				}
			}
		}
		// No object is settled, and so makes room, before all are asked for.
		settled := func(ossdl.ObjectResult) {
			select {
			case <-asked:
			case <-late:
				t.Error("the call waits for room before it has asked for all")
			}
		}
		dir := t.TempDir()
		res, err := o.Downloader(t).DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithConcurrency(1), ossdl.WithObjectResult(settled),
			ossdl.WithRestore(ossdl.RestorePolicy{}))
		harness.CheckCounts(t, res, err, large+frozen, 0, 0)
		harness.CheckTree(t, dir, all)
		if res.Restored != frozen || res.Restoring != 0 {
			t.Errorf("%+v", *res)
		}
	})
}

// TestRestoreMeanwhile checks that what can be read is downloaded while the rest thaws, that files that are there are not restored,
// and what results, progress and the manifest say.
func TestRestoreMeanwhile(t *testing.T) {
	s := harness.NewServer(t)
	s.SetThawTime(sooner)
	all := harness.Contents{}
	for key, class := range map[string]string{"there": "ColdArchive", "cold": "ColdArchive", "deep": "DeepColdArchive", "archive": "Archive", "now": "Standard"} {
		all[key] = osstest.Random(uint64(len(key)), 1000)
		s.Put("bkt", key, all[key], osstest.StorageClass(class), osstest.LastModified(time.Unix(900_000_000, 0)))
	}
	outside(t, s, func(t *testing.T, o *harness.Outside) {
		dir, manifest := t.TempDir(), filepath.Join(t.TempDir(), "m")
		there := filepath.Join(dir, "there")
		harness.WriteFile(t, there, string(harness.Bytes(t, all["there"])))
		if err := os.Chtimes(there, time.Time{}, time.Unix(900_000_000, 0)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		at, restored, most := map[string]time.Duration{}, map[string]bool{}, 0
		res, err := o.Downloader(t).DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithRestore(ossdl.RestorePolicy{}), ossdl.WithManifest(manifest),
			ossdl.WithObjectResult(func(r ossdl.ObjectResult) { at[r.Key], restored[r.Key] = time.Since(began), r.Restored }),
			ossdl.WithProgress(func(p ossdl.Progress) {
				if most = max(most, p.Restoring); p.Restoring > 0 && p.Remaining != -1 {
					t.Errorf("%v remain, although nobody knows how long %d objects thaw", p.Remaining, p.Restoring)
				}
			}))
		harness.CheckCounts(t, res, err, 4, 1, 0)
		harness.CheckTree(t, dir, all)
		if res.Restored != 3 || most != 3 {
			t.Errorf("%+v; %d thawed at once", *res, most)
		}
		for key, want := range map[string]time.Duration{"now": 0, "there": 0, "archive": time.Minute, "cold": 5 * time.Minute, "deep": 25 * time.Minute} {
			if at[key] < want || at[key] > want+5*time.Minute || restored[key] != (want > 0) {
				t.Errorf("%s after %v, restored %t; want %v", key, at[key], restored[key], want)
			}
		}
		lines, err := os.ReadFile(manifest)
		if err != nil || bytes.Count(lines, []byte(`"restored":true`)) != 3 {
			t.Errorf("%s, %v", lines, err)
		}
	})
}

// TestRestoreStartOnly checks that such a call asks for everything that is missing, downloads nothing, and says how many objects
// still thaw.
func TestRestoreStartOnly(t *testing.T) {
	classes := map[string]string{"a": "ColdArchive", "b": "ColdArchive", "c": "Archive", "d": "Standard", "e/": "Standard", "f": "DeepColdArchive"}
	for _, entryPoint := range []string{"DownloadPrefix", "DownloadObjects"} {
		t.Run(entryPoint, func(t *testing.T) {
			s := harness.NewServer(t, osstest.WithQuirks(osstest.AnyClock))
			o := harness.NewOutside(t, s)
			for key, class := range classes {
				s.Put("bkt", key, osstest.Random(1, int64(100*(2-len(key)))), osstest.StorageClass(class))
			}
			if err := restoreByOther(s, "b", "Standard"); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "new")
				start := func(restored, restoring int) {
					t.Helper()
					reported := 0
					res, err := enterTree(t.Context(), o.Downloader(t), entryPoint, dir, slices.Sorted(maps.Keys(classes)),
						ossdl.WithRestore(ossdl.RestorePolicy{Days: 7, StartOnly: true}),
						ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
							if reported++; r.Status != ossdl.ObjectRestoring {
								t.Errorf("%s: %s", r.Key, r.Status)
							}
						}))
					if errors.Is(err, ossdl.ErrRestoring) != (restoring > 0) || restoring == 0 && err != nil ||
						restoring > 0 && !strings.Contains(err.Error(), fmt.Sprint(restoring)) {
						t.Error(err)
					}
					if res == nil || res.Restored != restored || res.Restoring != restoring || reported != restoring || res.Done+res.Skipped+res.Failed > 0 {
						t.Errorf("%+v, %d reported; want %d restored, %d restoring", res, reported, restored, restoring)
					}
					if harness.Exists(dir) {
						t.Error("a folder was made")
					}
				}
				start(3, 4)
				start(0, 4)
				time.Sleep(6 * time.Hour)
				start(0, 1) // the one of class DeepColdArchive
				time.Sleep(43 * time.Hour)
				start(0, 0)
			})
		})
	}
}

// TestRestoreFaults lets one request fail in each way, at each place, and checks that the object is restored once all the same.
func TestRestoreFaults(t *testing.T) {
	faults := map[string]func() *osstest.Fault{
		"reset":      func() *osstest.Fault { return osstest.Inject().ResetBeforeHead() },
		"close":      func() *osstest.Fault { return osstest.Inject().CloseBeforeHead() },
		"500":        func() *osstest.Fault { return osstest.Error(http.StatusInternalServerError, "InternalError") },
		"503":        func() *osstest.Fault { return osstest.Error(http.StatusServiceUnavailable, "ServiceUnavailable") },
		"429":        func() *osstest.Fault { return osstest.Error(http.StatusTooManyRequests, "TooManyRequests") },
		"login page": func() *osstest.Fault { return osstest.Inject().LoginPage() },
	}
	n := 0
	for _, entryPoint := range restoring {
		for name, fault := range faults {
			if n++; harness.LeaveOut(n, 3) {
				continue
			}
			t.Run(entryPoint+" "+name, func(t *testing.T) {
				for n := 0; ; n++ {
					s := harness.NewServer(t, osstest.WithThawTime(2*time.Minute))
					s.Put("bkt", "k", restoredContent, osstest.StorageClass("ColdArchive"))
					f := fault().Maybe()
					s.Nth(n, f)
					outside(t, s, func(t *testing.T, o *harness.Outside) {
						err := enterRestore(t, t.Context(), o.Downloader(t), entryPoint, t.TempDir(),
							ossdl.WithRestore(ossdl.RestorePolicy{Tier: "Expedited"}))
						if err != nil {
							t.Fatalf("%s of request %d: %v", name, n, err)
						}
					})
					if got := s.Restores("bkt", "k"); got != 1 {
						t.Errorf("%s of request %d: %d restores", name, n, got)
					}
					if !f.Fired() {
						break
					}
				}
			})
		}
	}
}

// lossy loses the answer to one request, or to that and all later ones.
type lossy struct {
	http.RoundTripper
	n, at   int
	forever bool
	fired   bool
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	n := l.n
	l.n++
	if err != nil || n != l.at && !(l.forever && n > l.at) {
		return resp, err
	}
	l.fired = true
	resp.Body.Close()
	return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
}

// TestRestoreAnswerLost loses the answer to each request once, also to the one for a restore that OSS has begun with. The object is
// restored once, over one endpoint and over two of which the first dies then.
func TestRestoreAnswerLost(t *testing.T) {
	for _, entryPoint := range restoring {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, two endpoints %t", entryPoint, two), func(t *testing.T) {
				for n, fired := 0, true; fired; n++ {
					s := harness.NewServer(t, osstest.WithThawTime(2*time.Minute))
					s.Put("bkt", "k", restoredContent, osstest.StorageClass("ColdArchive"))
					outside(t, s, func(t *testing.T, o *harness.Outside) {
						opts := []ossdl.Option{ossdl.WithConcurrency(1)}
						if two {
							second, err := s.Client(oss.HTTPClient(&http.Client{Transport: o}))
							if err != nil {
								t.Fatal(err)
							}
							opts = append(opts, ossdl.WithFallback(second))
						}
						_ = o.Downloader(t) // which sets the clock
						l := &lossy{RoundTripper: o, at: n, forever: two}
						d := harness.NewDownloaderOver(t, s, &http.Client{Transport: l}, opts...)
						if err := enterRestore(t, t.Context(), d, entryPoint, t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{Tier: "Expedited"})); err != nil {
							t.Errorf("request %d: %v", n, err)
						}
						fired = l.fired
					})
					if begun, asked := s.Restores("bkt", "k"), restoresAsked(s); begun != 1 || asked > 2 {
						t.Errorf("request %d: asked for %d times, %d begun", n, asked, begun)
					}
				}
			})
		}
	}
}

// restoreLie is a server that says what is not so.
type restoreLie struct {
	name   string
	script func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault
	fails  bool // with ErrArchived
	most   int  // how often a restore may be asked for
}

var restoreLies = []restoreLie{
	{"GET refuses what is restored", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		s.Restore("bkt", "k", bubbleDay)
		return on(http.MethodGet, func() *osstest.Fault { return osstest.Error(http.StatusForbidden, "InvalidObjectState") })
	}, true, 0},
	{"GET refuses twice what is restored", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		s.Restore("bkt", "k", bubbleDay)
		n := 0
		return on(http.MethodGet, func() *osstest.Fault {
			if n++; n > 2 {
				return nil
			}
			return osstest.Error(http.StatusForbidden, "InvalidObjectState")
		})
	}, false, 0},
	{"HEAD says frozen after the restore was accepted", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		return on(http.MethodHead, func() *osstest.Fault { return osstest.Inject().Header("X-Oss-Restore", "") })
	}, true, 3},
	{"a cache drops the headers of HEAD", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		return on(http.MethodHead, func() *osstest.Fault {
			return osstest.Inject().Header("X-Oss-Restore", "").Header("X-Oss-Storage-Class", "")
		})
	}, false, 1},
	{"HEAD is refused", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		return on(http.MethodHead, func() *osstest.Fault { return osstest.Inject().Empty(http.StatusForbidden) })
	}, false, 1},
	{"the date is none", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		s.Restore("bkt", "k", bubbleDay)
		return on(http.MethodHead, func() *osstest.Fault {
			return osstest.Inject().Header("X-Oss-Restore", `ongoing-request="false", expiry-date="soon"`)
		})
	}, false, 0},
	{"the date is past, and GET refuses", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		return func(r *osstest.Request) *osstest.Fault {
			switch {
			case r.Method == http.MethodHead:
				return osstest.Inject().Header("X-Oss-Restore", `ongoing-request="false", expiry-date="Sun, 16 Apr 2017 08:12:33 GMT"`)
			case r.Key == "k" && r.Method == http.MethodGet:
				return osstest.Error(http.StatusForbidden, "InvalidObjectState")
			}
			return nil
		}
	}, true, 1}, // by the listing it is frozen
	{"the date is past, and GET does not refuse", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		s.Restore("bkt", "k", bubbleDay)
		return on(http.MethodHead, func() *osstest.Fault {
			return osstest.Inject().Header("X-Oss-Restore", `ongoing-request="false", expiry-date="Sun, 16 Apr 2017 08:12:33 GMT"`)
		})
	}, false, 0},
	{"the header is malformed", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		return on(http.MethodHead, func() *osstest.Fault { return osstest.Inject().Header("X-Oss-Restore", `ongoing-request=perhaps`) })
	}, true, 3},
	{"the restore is refused for ever", func(s *osstest.Server) func(r *osstest.Request) *osstest.Fault {
		return on(http.MethodPost, func() *osstest.Fault { return osstest.Error(http.StatusBadRequest, "OperationNotSupported") })
	}, false, 1},
}

// on returns a script for the requests of a method.
func on(method string, fault func() *osstest.Fault) func(*osstest.Request) *osstest.Fault {
	return func(r *osstest.Request) *osstest.Fault {
		if r.Method != method {
			return nil
		}
		return fault()
	}
}

// TestRestoreLies checks that a server that contradicts itself costs a few requests, and never a restore more.
func TestRestoreLies(t *testing.T) {
	for _, lie := range restoreLies {
		for _, entryPoint := range restoring {
			t.Run(lie.name+", "+entryPoint, func(t *testing.T) {
				s := harness.NewServer(t, osstest.WithThawTime(5*time.Minute))
				o := harness.NewOutside(t, s)
				s.Put("bkt", "k", restoredContent, osstest.StorageClass("ColdArchive"))
				s.OnRequest(lie.script(s))
				synctest.Test(t, func(t *testing.T) {
					err := enterRestore(t, t.Context(), o.Downloader(t), entryPoint, t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{}))
					refused := strings.HasPrefix(lie.name, "the restore is refused")
					if lie.fails && !errors.Is(err, ossdl.ErrArchived) || refused && !errors.As(err, new(oss.ServiceError)) || !lie.fails && !refused && err != nil {
						t.Error(err)
					}
				})
				if n := restoresAsked(s); n > lie.most || s.Restores("bkt", "k") > 1 {
					t.Errorf("asked for %d times, begun %d", n, s.Restores("bkt", "k"))
				}
				if n := len(s.Requests()); n > 200 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

// TestRestoreNotAllowed checks that the error of a missing permission names it, and that nothing waits then.
func TestRestoreNotAllowed(t *testing.T) {
	for _, entryPoint := range restoring {
		s := harness.NewServer(t)
		s.Put("bkt", "k", restoredContent, osstest.StorageClass("Archive"))
		s.AddUser("limited", "secret", osstest.Without("oss:RestoreObject"))
		hc := ossdl.HTTPClient()
		t.Cleanup(hc.CloseIdleConnections)
		client, err := s.ClientFor("limited", "secret", oss.HTTPClient(hc))
		if err != nil {
			t.Fatal(err)
		}
		d, err := ossdl.New(client)
		if err != nil {
			t.Fatal(err)
		}
		err = enterRestore(t, t.Context(), d, entryPoint, t.TempDir(), ossdl.WithRestore(ossdl.RestorePolicy{}))
		var refused oss.ServiceError
		if !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden || !strings.Contains(err.Error(), "the permission oss:RestoreObject is needed") {
			t.Errorf("%s: %v", entryPoint, err)
		}
	}
}

// TestRestoreDryRun checks that a dry run asks for no restore, and says what would be downloaded.
func TestRestoreDryRun(t *testing.T) {
	for _, entryPoint := range []string{"DownloadPrefix", "DownloadObjects"} {
		for _, startOnly := range []bool{false, true} {
			s := harness.NewServer(t)
			s.Put("bkt", "a", osstest.Random(1, 10), osstest.StorageClass("ColdArchive"))
			s.Put("bkt", "b", osstest.Random(2, 10))
			dir := filepath.Join(t.TempDir(), "new")
			would := 0
			res, err := enterTree(t.Context(), harness.NewDownloader(t, s), entryPoint, dir, []string{"a", "b"}, ossdl.WithDryRun(),
				ossdl.WithRestore(ossdl.RestorePolicy{StartOnly: startOnly}), ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
					if r.Status == ossdl.ObjectWouldDownload {
						would++
					}
				}))
			harness.CheckCounts(t, res, err, 2, 0, 0)
			if n := restoresAsked(s); n > 0 || would != 2 || res.Restored+res.Restoring > 0 || harness.Exists(dir) {
				t.Errorf("%s: asked for %d times, %d reported, %+v", entryPoint, n, would, *res)
			}
		}
	}
}
