package torture_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The tests of this file download objects that an encryption client has encrypted. Those of faults_test.go, crash_test.go,
// crash_prefix_test.go and faults_network_test.go have scenes with such objects, too.

var everyEntry = []entryPoint{viaKey, viaUnsigned, viaURL, viaWriter, viaReader}

// TestDecryption checks that an encrypted object comes as plaintext, in parts and through each entry point, and that the
// service's CRC-64 has verified it. A digest of the caller is that of the plaintext.
func TestDecryption(t *testing.T) {
	for _, through := range everyEntry {
		t.Run(string(through), func(t *testing.T) {
			st := newServerStage(t, stageConfig{through: through, sealed: true})
			sum := sha256.Sum256(harness.Bytes(t, st.content))
			calls := [][]ossdl.Option{nil, {ossdl.WithConcurrency(1), ossdl.WithPartSize(lieSize)}}
			if through != viaWriter { // its writer cannot be read back
				calls = append(calls, []ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:])})
			}
			for _, opts := range calls {
				var logged harness.Records
				res, err := st.download(append(opts, ossdl.WithLogger(logged.Logger()))...)
				if err != nil || !res.Verified || res.Encrypted {
					t.Fatalf("%+v, %v", res, err)
				}
				harness.CheckFile(t, st.path, st.content)
				if strings.Contains(logged.String(), "WARN") {
					t.Error(logged.String())
				}
			}
		})
	}
}

// TestDecryptedRange checks ranges of an encrypted object that begin and end anywhere, in parts of an odd size.
func TestDecryptedRange(t *testing.T) {
	for _, through := range everyEntry {
		t.Run(string(through), func(t *testing.T) {
			st := newServerStage(t, stageConfig{size: 1000, through: through, sealed: true, opts: []ossdl.Option{ossdl.WithPartSize(77)}})
			all := harness.Bytes(t, st.content)
			for _, off := range []int64{0, 1, 15, 16, 17, 31, 32, 255, 256, 999} {
				for _, length := range []int64{-1, 1, 16, 100, 500} {
					end := off + length
					if length < 0 {
						end = int64(len(all))
					}
					if end > int64(len(all)) {
						continue
					}
					st.content = osstest.Bytes(all[off:end])
					res, err := st.download(ossdl.WithRange(off, length))
					if err != nil || res.Verified != (off == 0 && end == int64(len(all))) {
						t.Fatalf("offset %d, length %d: %+v, %v", off, length, res, err)
					}
					harness.CheckFile(t, st.path, st.content)
				}
			}
		})
	}
}

// TestDecryptionOfOtherSizes checks empty objects, and those around the size of a block.
func TestDecryptionOfOtherSizes(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s, ossdl.WithDecryption(&harness.MasterKey{}))
	for _, size := range []int64{0, 1, 15, 16, 17} {
		plain := harness.Bytes(t, osstest.Random(1, size))
		stageSealer.Put(s, "key", plain)
		path := filepath.Join(t.TempDir(), "file")
		res, err := d.Download(t.Context(), "bkt", "key", path)
		if err != nil || !res.Verified || res.Encrypted || res.CRC64 != crc64.Update(0, plain) {
			t.Errorf("%d bytes: %+v, %v", size, res, err)
		}
		harness.CheckFile(t, path, osstest.Bytes(plain))
	}
}

// TestDecryptionResumes checks that a call continues what an interrupted one has left of an encrypted object, that damage on the
// disk in between is found, and that nothing is continued that was written with another key, or with none.
func TestDecryptionResumes(t *testing.T) {
	new := func(t *testing.T) *serverStage {
		st := newServerStage(t, stageConfig{sealed: true})
		st.interrupt()
		return st
	}
	t.Run("as it was", func(t *testing.T) {
		st := new(t)
		st.mustResume(lieKept)
	})
	t.Run("damaged", func(t *testing.T) {
		st := new(t)
		damage(t, st.path+harness.PartSuffix, 10)
		var logged harness.Records
		res, err := st.download(ossdl.WithLogger(logged.Logger()), ossdl.WithConcurrency(1))
		if err != nil || res.ResumedBytes >= lieKept || !res.Verified || !strings.Contains(logged.String(), "does not match its checksum") {
			t.Errorf("%+v, %v\n%s", res, err, logged.String())
		}
		harness.CheckFile(t, st.path, st.content)
	})
	t.Run("damaged unseen", func(t *testing.T) { // the checkpoint claims the damage: the service's CRC-64 finds it
		st := new(t)
		wrong := harness.Bytes(t, st.content)
		damage(t, st.path+harness.PartSuffix, 10)
		wrong[10] ^= 1
		right := st.content
		st.content = osstest.Bytes(wrong)
		st.claim(st.holds()...)
		st.content = right
		res, err := st.download(ossdl.WithConcurrency(1))
		if err != nil || res.ResumedBytes != 0 || !res.Verified {
			t.Errorf("%+v, %v", res, err)
		}
		harness.CheckFile(t, st.path, st.content)
	})
	t.Run("all of it", func(t *testing.T) {
		st := new(t)
		harness.WriteFile(t, st.path+harness.PartSuffix, string(harness.Bytes(t, st.content)))
		whole := st.holds()[:1]
		whole[0].Off, whole[0].End = 0, lieSize
		st.claim(whole...)
		res, err := st.download()
		if err != nil || res.ResumedBytes != lieSize || res.DownloadedBytes > 1 || !res.Verified {
			t.Errorf("%+v, %v", res, err)
		}
		harness.CheckFile(t, st.path, st.content)
	})
	t.Run("encrypted anew", func(t *testing.T) { // the same ciphertext under another envelope is of other bytes
		st := new(t)
		plain, other := harness.Bytes(t, st.content), harness.Sealer{Seed: "other"}
		etag := st.s.Stat("bkt", "key").ETag
		st.content = osstest.Bytes(other.Seal(stageSealer.Seal(plain)))
		other.Put(st.s, "key", harness.Bytes(t, st.content), osstest.ETag(etag))
		st.startsOver(t)
	})
	t.Run("without the option", func(t *testing.T) {
		st := new(t)
		st.opts = slices.Delete(st.opts, 3, 4)
		st.content = osstest.Bytes(stageSealer.Seal(harness.Bytes(t, st.content)))
		st.startsOver(t)
	})
	t.Run("without the option before, and with another key", func(t *testing.T) { // nothing is given up for a mistake
		st := newServerStage(t, stageConfig{sealed: true})
		plain := st.content
		st.content = osstest.Bytes(stageSealer.Seal(harness.Bytes(t, plain)))
		withKey := slices.Clone(st.opts)
		st.opts = slices.Delete(st.opts, 3, 4)
		st.interrupt()
		without := st.opts
		st.opts = withKey
		_, err := st.download(ossdl.WithDecryption(&harness.MasterKey{Err: errors.New("wrong")}))
		st.mustFail(err, ossdl.ErrDecryption, 1, false)
		st.opts = without
		st.mustResume(lieKept)
	})
	t.Run("without the option before", func(t *testing.T) {
		st := newServerStage(t, stageConfig{sealed: true})
		plain := st.content
		st.content = osstest.Bytes(stageSealer.Seal(harness.Bytes(t, plain)))
		withKey := slices.Clone(st.opts)
		st.opts = slices.Delete(st.opts, 3, 4)
		st.interrupt()
		st.opts, st.content = withKey, plain
		st.startsOver(t)
	})
}

// startsOver checks that a call does not continue what an earlier one has left.
func (st *serverStage) startsOver(t *testing.T) {
	t.Helper()
	var logged harness.Records
	res, err := st.download(ossdl.WithLogger(logged.Logger()), ossdl.WithConcurrency(1))
	if err != nil || res.ResumedBytes != 0 || !res.Verified || !strings.Contains(logged.String(), "client-side encryption") {
		t.Errorf("%+v, %v\n%s", res, err, logged.String())
	}
	harness.CheckFile(t, st.path, st.content)
}

// damage changes a byte of a file.
func damage(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	harness.WriteFile(t, path, string(data))
}

// TestDecryptedLies checks that what comes wrong over the network is found by the CRC-64 of the ciphertext, and that each body
// is decrypted from where it begins, whatever was asked for.
func TestDecryptedLies(t *testing.T) {
	second := func(r *osstest.Request) bool { return r.Start == liePart }
	for name, c := range map[string]struct {
		fault *osstest.Fault
		match func(*osstest.Request) bool
		most  int
	}{
		"a byte is flipped":  {osstest.Inject().FlipByte(17), second, 2*lieParts + 2},
		"the body breaks":    {osstest.Inject().ResetAfter(1001), second, lieParts + 2},
		"a range is ignored": {osstest.Inject().IgnoreRange(), second, lieParts + 3},
	} {
		for _, through := range everyEntry {
			if through == viaReader && name == "a byte is flipped" { // it has given the byte out by then
				continue
			}
			t.Run(name+", "+string(through), func(t *testing.T) {
				st := newServerStage(t, stageConfig{through: through, sealed: true})
				st.damagedBytes = true
				st.s.Once(c.match, c.fault)
				res, err := st.download()
				st.mustSucceed(res, err, c.most)
				if !res.Verified {
					t.Errorf("%+v", res)
				}
			})
		}
	}
	t.Run("ranges are not served", func(t *testing.T) {
		for _, through := range everyEntry {
			st := newServerStage(t, stageConfig{through: through, sealed: true})
			st.s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().IgnoreRange().Maybe() })
			res, err := st.download()
			st.mustSucceed(res, err, 6)
		}
	})
	t.Run("wrong for ever", func(t *testing.T) {
		st := newServerStage(t, stageConfig{sealed: true})
		st.damagedBytes = true
		st.s.OnRequest(func(r *osstest.Request) *osstest.Fault { return osstest.Inject().FlipObjectByte(10).Maybe() })
		res, err := st.download()
		if !errors.Is(err, ossdl.ErrChecksum) {
			t.Errorf("%+v, %v", res, err)
		}
		st.mustLeavePathAlone(false)
		harness.NoLeftovers(t, st.path)
	})
}

// TestAnotherEnvelope checks that an answer with another envelope is one of another object, even if everything else is the
// same.
func TestAnotherEnvelope(t *testing.T) {
	other := harness.Sealer{Seed: "other"}.Meta()
	for name, change := range map[string]func(*osstest.Fault) *osstest.Fault{
		"another key": func(f *osstest.Fault) *osstest.Fault {
			return f.Header("X-Oss-Meta-Client-Side-Encryption-Key", other["client-side-encryption-key"])
		},
		"another start": func(f *osstest.Fault) *osstest.Fault {
			return f.Header("X-Oss-Meta-Client-Side-Encryption-Start", other["client-side-encryption-start"])
		},
		"no key that fits": func(f *osstest.Fault) *osstest.Fault {
			return f.Header("X-Oss-Meta-Client-Side-Encryption-Wrap-Alg", "KMS/ALICLOUD")
		},
		"none": func(f *osstest.Fault) *osstest.Fault {
			for _, n := range []string{"Key", "Start", "Cek-Alg", "Wrap-Alg"} {
				f = f.NoHeader("X-Oss-Meta-Client-Side-Encryption-" + n)
			}
			return f
		},
	} {
		for _, through := range everyEntry {
			t.Run(name+", "+string(through), func(t *testing.T) {
				st := newServerStage(t, stageConfig{through: through, sealed: true, opts: []ossdl.Option{ossdl.WithConcurrency(1)}})
				st.s.Once(func(r *osstest.Request) bool { return r.Start == 3*liePart }, change(osstest.Inject()))
				_, err := st.download()
				st.mustFail(err, ossdl.ErrObjectChanged, 5, false)
				if !strings.Contains(err.Error(), "client-side encryption") {
					t.Error(err)
				}
			})
		}
	}
}

// TestNotDecrypted checks that an object which cannot be decrypted is an error that says why, after one request and before
// anything is written. An old file and what an earlier call has left stay.
func TestNotDecrypted(t *testing.T) {
	const name = "X-Oss-Meta-Client-Side-Encryption-"
	set := func(header, value string) func() *osstest.Fault {
		return func() *osstest.Fault { return osstest.Inject().Header(name+header, value) }
	}
	key := func(k harness.MasterKey) []ossdl.Option { return []ossdl.Option{ossdl.WithDecryption(&k)} }
	refused := errors.New("the service for keys refuses")
	for what, c := range map[string]struct {
		answer func() *osstest.Fault
		opts   []ossdl.Option
		says   []string
		is     error
	}{
		"unknown content algorithm": {answer: set("Cek-Alg", "AES/GCM/NoPadding"), says: []string{"client-side-encryption-cek-alg", `"AES/GCM/NoPadding"`, "AES/CTR/NoPadding"}},
		"no content algorithm":      {answer: set("Cek-Alg", ""), says: []string{"client-side-encryption-cek-alg", "missing"}},
		"unknown wrap algorithm":    {answer: set("Wrap-Alg", "KMS/ALICLOUD"), says: []string{"client-side-encryption-wrap-alg", `"KMS/ALICLOUD"`, harness.MasterKeyAlgorithm}},
		"no wrap algorithm":         {answer: set("Wrap-Alg", ""), says: []string{"client-side-encryption-wrap-alg", "missing"}},
		"no key":                    {answer: set("Key", ""), says: []string{"client-side-encryption-key", "missing"}},
		"no start":                  {answer: set("Start", ""), says: []string{"client-side-encryption-start", "missing"}},
		"a malformed key":           {answer: set("Key", "?"), says: []string{"client-side-encryption-key", "base64"}},
		"odd parts":                 {answer: set("Part-Size", "1000"), says: []string{"client-side-encryption-part-size", "1000", "16"}},
		"an old Python SDK": {answer: func() *osstest.Fault {
			return osstest.Inject().NoHeader(name+"Key").Header("X-Oss-Meta-Oss-Crypto-Key", "a2V5")
		}, says: []string{"x-oss-meta-oss-crypto-key"}},
		"wrapped by another key": {answer: set("Key", "b3RoZXI="), says: []string{"client-side-encryption-key", "wrapped by another key"}, is: harness.ErrNotWrapped},
		"a key with another description": {answer: set("Matdesc", `{"a":"1"}`), opts: key(harness.MasterKey{Description: `{"b":"2"}`}),
			says: []string{"client-side-encryption-matdesc", `{\"a\":\"1\"}`, `{\"b\":\"2\"}`}},
		"a key that fails":           {opts: key(harness.MasterKey{Err: refused}), says: []string{refused.Error()}, is: refused},
		"a key that unwraps little":  {opts: key(harness.MasterKey{Changes: func(b []byte) []byte { return b[1:] }}), says: []string{"something else"}},
		"a key that unwraps nothing": {opts: key(harness.MasterKey{Changes: func([]byte) []byte { return nil }}), says: []string{"something else"}},
	} {
		for _, through := range everyEntry {
			for _, resume := range []bool{false, true} {
				if resume && !through.toFile() {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, resume %t", what, through, resume), func(t *testing.T) {
					st := newServerStage(t, stageConfig{through: through, sealed: true, object: []osstest.ObjectOption{osstest.Meta("x", "y")}})
					if resume {
						st.interrupt()
					}
					st.putOldFile()
					before := folder(t, filepath.Dir(st.path))
					if c.answer != nil {
						st.s.OnRequest(func(*osstest.Request) *osstest.Fault { return c.answer() })
					}
					_, err := st.download(c.opts...)
					st.mustFail(err, ossdl.ErrDecryption, 1, true)
					if c.is != nil && !errors.Is(err, c.is) {
						t.Errorf("%v does not wrap %v", err, c.is)
					}
					var se oss.ServiceError
					if !errors.As(err, &se) || se.RequestID == "" {
						t.Errorf("%v has no request ID", err)
					}
					for _, s := range c.says {
						if !strings.Contains(err.Error(), s) {
							t.Errorf("%v does not say %s", err, s)
						}
					}
					if after := folder(t, filepath.Dir(st.path)); !maps.Equal(before, after) {
						t.Errorf("it was %q, and is %q", slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
					}
					if resume {
						st.mustResume(lieKept)
					}
				})
			}
		}
	}
}

// TestChoiceOfKeys checks which of several keys opens an object.
func TestChoiceOfKeys(t *testing.T) {
	wrong := func([]byte) []byte { return make([]byte, 32) }
	for name, c := range map[string]struct {
		description string // of the object
		keys        []ossdl.Unwrapper
		fails       bool
	}{
		"the description": {`{"a":"1","b":"2"}`, []ossdl.Unwrapper{
			&harness.MasterKey{Description: `{"a":"2"}`, Changes: wrong}, &harness.MasterKey{Changes: wrong}, &harness.MasterKey{Description: `{"b":"2", "a": "1"}`},
		}, false},
		"the first that opens it": {`{"a":"1"}`, []ossdl.Unwrapper{
			&harness.MasterKey{Description: `{"a":"1"}`, Err: errors.New("not this one")}, &harness.MasterKey{Description: `{"a":"1"}`},
		}, false},
		"one without a description": {`{"a":"1"}`, []ossdl.Unwrapper{
			&harness.MasterKey{Description: `{"a":"2"}`, Changes: wrong}, &harness.MasterKey{},
		}, false},
		"an object without one":           {"", []ossdl.Unwrapper{&harness.MasterKey{Description: `{"a":"2"}`}}, false},
		"an empty description":            {"{}", []ossdl.Unwrapper{&harness.MasterKey{Description: `{"a":"2"}`, Changes: wrong}, &harness.MasterKey{}}, false},
		"a description that is no JSON":   {"mine", []ossdl.Unwrapper{&harness.MasterKey{Description: "other", Changes: wrong}, &harness.MasterKey{Description: "mine"}}, false},
		"another algorithm":               {"", []ossdl.Unwrapper{&harness.MasterKey{Algorithm: "OTHER", Changes: wrong}, &harness.MasterKey{}}, false},
		"only others":                     {`{"a":"1"}`, []ossdl.Unwrapper{&harness.MasterKey{Description: `{"a":"2"}`}}, true},
		"only one for another algorithm":  {"", []ossdl.Unwrapper{&harness.MasterKey{Algorithm: "OTHER"}}, true},
		"each fails, one after the other": {"", []ossdl.Unwrapper{&harness.MasterKey{Err: errors.New("one")}, &harness.MasterKey{Err: errors.New("two")}}, true},
		"the description, which is wrong": {`{"a":"1"}`, []ossdl.Unwrapper{&harness.MasterKey{Description: `{"a":"1"}`, Err: errors.New("no")}, &harness.MasterKey{}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			content := osstest.Random(1, 1000)
			harness.Sealer{Seed: "x", Description: c.description}.Put(s, "key", harness.Bytes(t, content))
			path := filepath.Join(t.TempDir(), "file")
			_, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "key", path, ossdl.WithDecryption(c.keys...))
			if c.fails {
				if !errors.Is(err, ossdl.ErrDecryption) {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, content)
		})
	}
}

// TestKeysAreUsedOnce checks that a key unwraps an object's key and start once for each object, however many requests there are.
func TestKeysAreUsedOnce(t *testing.T) {
	st := newServerStage(t, stageConfig{sealed: true})
	var used atomic.Int64
	res, err := st.download(ossdl.WithDecryption(&harness.MasterKey{Unwrapping: func([]byte) { used.Add(1) }}))
	if err != nil || res.Requests < 2 || used.Load() != 2 {
		t.Errorf("used %d times: %+v, %v", used.Load(), res, err)
	}
}

// TestKeyThatBlocks checks that the end of a context ends a call whose key does not answer.
func TestKeyThatBlocks(t *testing.T) {
	for _, through := range everyEntry {
		t.Run(string(through), func(t *testing.T) {
			st := newServerStage(t, stageConfig{through: through, sealed: true})
			blocked, release := make(chan struct{}), make(chan struct{})
			cause := errors.New("that is enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			st.ctx = ctx
			go func() {
				<-blocked
				cancel(cause)
			}()
			st.returned = func() { close(release) } // what is left behind then ends
			_, err := st.download(ossdl.WithDecryption(&harness.MasterKey{Unwrapping: func([]byte) {
				if ctx.Err() == nil {
					close(blocked)
				}
				<-release
			}}))
			if !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			st.mustLeavePathAlone(false)
		})
	}
}

// TestKeyThatPanics checks that a panic of a key is raised in the caller's goroutine.
func TestKeyThatPanics(t *testing.T) {
	for _, through := range everyEntry {
		t.Run(string(through), func(t *testing.T) {
			st := newServerStage(t, stageConfig{through: through, sealed: true})
			defer func() {
				v := recover()
				if err, ok := v.(error); !ok || !strings.Contains(err.Error(), "a key of WithDecryption: broken") {
					t.Error(v)
				}
				st.mustLeavePathAlone(false)
			}()
			_, err := st.download(ossdl.WithDecryption(&harness.MasterKey{Unwrapping: func([]byte) { panic("broken") }}))
			t.Errorf("it returned %v", err)
		})
	}
}

// TestNoKeyAnywhere checks that the object's key, its start and the master key are in no file, log line, result or error of a
// call, whether it fails or not.
func TestNoKeyAnywhere(t *testing.T) {
	for _, through := range everyEntry {
		t.Run(string(through), func(t *testing.T) {
			st := newServerStage(t, stageConfig{through: through, sealed: true})
			var logged harness.Records
			st.opts = append(st.opts, ossdl.WithLogger(logged.Logger()), ossdl.WithConcurrency(1))
			var said strings.Builder
			note := func(res *ossdl.Result, err error) {
				t.Helper()
				line, jerr := json.Marshal(res)
				if jerr != nil {
					t.Fatal(jerr)
				}
				fmt.Fprintf(&said, "%s %+v %v %+v\n", line, res, err, err)
				for name, content := range folder(t, filepath.Dir(st.path)) {
					if !strings.HasSuffix(name, "file") { // the object itself
						fmt.Fprintln(&said, name, content)
					}
				}
			}
			st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				if r.Start >= lieKept {
					return osstest.Error(403, "AccessDenied")
				}
				return nil
			})
			note(st.download())
			st.s.ClearFaults()
			note(st.download(ossdl.WithDecryption(&harness.MasterKey{Changes: func(b []byte) []byte { return append(b, 0) }})))
			st.s.Once(func(r *osstest.Request) bool { return r.Start >= 8*liePart }, osstest.Inject().NoHeader("X-Oss-Meta-Client-Side-Encryption-Start"))
			note(st.download())
			st.s.ClearFaults()
			st.s.Once(func(r *osstest.Request) bool { return true }, osstest.Inject().FlipByte(1))
			st.damagedBytes = true
			note(st.download())
			fmt.Fprintln(&said, logged.String())
			if !strings.Contains(said.String(), "oss://bkt/key") && through != viaURL {
				t.Error("nothing was said")
			}
			for _, secret := range stageSealer.Secrets() {
				if strings.Contains(said.String(), secret) {
					t.Errorf("%q is in what was said", secret)
				}
			}
		})
	}
}

// TestDecryptedPrefix checks a folder of objects of which some are encrypted: large and small ones, their results, what a second
// call skips, and comparisons.
func TestDecryptedPrefix(t *testing.T) {
	s := harness.NewServer(t)
	sealer := harness.Sealer{Seed: "prefix"}
	want := harness.Contents{}
	var list []ossdl.Object
	for i, size := range []int64{0, 1, 100, 5000, 1 << 20, 1<<20 + 1, 3 << 20} {
		for _, kind := range []string{"sealed", "plain"} {
			key := fmt.Sprintf("%s/%d", kind, size)
			want[key] = osstest.Random(uint64(i), size)
			o := (*osstest.Object)(nil)
			if kind == "sealed" {
				o = sealer.Put(s, key, harness.Bytes(t, want[key]))
			} else {
				o = s.Put("bkt", key, want[key])
			}
			list = append(list, ossdl.Object{Key: key, CRC64: o.Content.CRC64()})
		}
	}
	key := &harness.MasterKey{}
	d := harness.NewDownloader(t, s, ossdl.WithDecryption(key), ossdl.WithPartSize(1<<20))
	dir, manifest := t.TempDir(), filepath.Join(t.TempDir(), "manifest")
	results := map[string]ossdl.ObjectResult{}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(manifest),
		ossdl.WithObjectResult(func(r ossdl.ObjectResult) { results[r.Key] = r }))
	if err != nil || res.Done != len(want) || res.Encrypted != 0 || res.Unverified != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	harness.CheckTree(t, dir, want)
	for name, c := range want {
		if r := results[name]; !r.Verified || r.Encrypted || r.CRC64 != c.CRC64() || r.Size != c.Size() {
			t.Errorf("%+v", r)
		}
	}
	if res, err := d.VerifyManifest(t.Context(), manifest, dir); err != nil || res.Same != len(want) {
		t.Errorf("%+v, %v", res, err)
	}
	if res, err := d.VerifyPrefix(t.Context(), "bkt", "", dir); err != nil || res.Same != len(want) || res.Unverified != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	without := harness.NewDownloader(t, s)
	if res, err := without.VerifyPrefix(t.Context(), "bkt", "", dir); !errors.Is(err, ossdl.ErrDifferent) || res.Differing != len(want)/2-1 { // but for the empty one
		t.Errorf("%+v, %v", res, err)
	}
	for name, call := range map[string]func() (*ossdl.PrefixResult, error){
		"by time": func() (*ossdl.PrefixResult, error) { return d.DownloadPrefix(t.Context(), "bkt", "", dir) },
		"by CRC-64": func() (*ossdl.PrefixResult, error) {
			return d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithCompareCRC64())
		},
		"by a list": func() (*ossdl.PrefixResult, error) {
			return d.DownloadObjects(t.Context(), "bkt", harness.List(list...), dir)
		},
		"with a manifest": func() (*ossdl.PrefixResult, error) {
			return d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(manifest))
		},
		"list, a manifest": func() (*ossdl.PrefixResult, error) {
			return d.DownloadObjects(t.Context(), "bkt", harness.List(list...), dir, ossdl.WithManifest(manifest))
		},
	} {
		if res, err := call(); err != nil || res.Skipped != len(want) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
	damage(t, filepath.Join(dir, "sealed", "5000"), 7)
	if res, err := d.VerifyPrefix(t.Context(), "bkt", "", dir); !errors.Is(err, ossdl.ErrDifferent) || res.Differing != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithCompareCRC64()); err != nil || res.Done != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	fresh := t.TempDir()
	if res, err := d.DownloadObjects(t.Context(), "bkt", harness.List(list...), fresh); err != nil || res.Done != len(want) {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckTree(t, fresh, want)
	harness.CheckTree(t, dir, want)
}

// TestDecryptedPrefixWithoutTheKey checks that objects for which there is no key fail, the others do not, and that no file appears.
func TestDecryptedPrefixWithoutTheKey(t *testing.T) {
	s := harness.NewServer(t)
	want := harness.Contents{"small": osstest.Random(1, 1000), "large": osstest.Random(2, 2<<20)}
	for key, c := range want {
		s.Put("bkt", key, c)
		harness.Sealer{Seed: key, Description: `{"a":"1"}`}.Put(s, "sealed "+key, harness.Bytes(t, c))
	}
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDecryption(&harness.MasterKey{Description: `{"a":"2"}`}))
	if !errors.Is(err, ossdl.ErrDecryption) || res.Done != 2 || res.Failed != 2 {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckTree(t, dir, want)
}

// TestDecryptionOfURLs checks that a URL is decrypted by the headers of its answers, that OpenURL does the same, and that what
// was processed comes as the service sends it.
func TestDecryptionOfURLs(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	content := osstest.Random(1, 100_000)
	plain := harness.Bytes(t, content)
	stageSealer.Put(s, "key", plain)
	d := harness.NewDownloader(t, s, ossdl.WithDecryption(&harness.MasterKey{}))
	r, err := d.OpenURL(t.Context(), s.URL("bkt", "key"), ossdl.WithHTTPClient(s.HTTPClient()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if cerr := r.Close(); err != nil || cerr != nil || !bytes.Equal(got, plain) || !r.Result().Verified {
		t.Errorf("%d bytes, %v, %v", len(got), err, cerr)
	}
	var files [2][]byte
	for i, d := range []*ossdl.Downloader{d, harness.NewDownloader(t, s)} {
		path := filepath.Join(t.TempDir(), "file")
		if _, err := d.DownloadURL(t.Context(), s.URL("bkt", "key")+"?x-oss-process=image/info", path, ossdl.WithHTTPClient(s.HTTPClient())); err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) || len(files[0]) == 0 {
		t.Errorf("processed, it has %d bytes, and without the option %d", len(files[0]), len(files[1]))
	}
}

// TestDecryptedSnapshot checks an encrypted Appendable object whose writer went on with one keystream: the snapshot of it is the
// plaintext of the first answer, verified, also if it is resumed and has grown between the runs. Without WithSnapshot one that grows
// is an error.
func TestDecryptedSnapshot(t *testing.T) {
	const size = 20*liePart + 5 // so that the appends begin within a block
	sealer := harness.Sealer{Seed: "log"}
	plain := harness.Bytes(t, osstest.Random(1, 2*size))
	stored := sealer.Seal(plain)
	for _, through := range []string{"Download", "DownloadTo", "Open", "DownloadPrefix"} {
		for _, snapshot := range []bool{true, false} {
			s := harness.NewServer(t)
			s.Put("bkt", "log", osstest.Bytes(stored[:size]), append(sealer.Options(), osstest.Type("Appendable"))...)
			at := size
			grow := func() {
				s.Append("bkt", "log", stored[at:at+1000])
				at += 1000
			}
			opts := []ossdl.Option{ossdl.WithDecryption(&harness.MasterKey{}), ossdl.WithPartSize(liePart), ossdl.WithConcurrency(1), ossdl.WithRetry(lieRetry)}
			if snapshot {
				opts = append(opts, ossdl.WithSnapshot())
			}
			d := harness.NewDownloader(t, s, opts...)
			dir := t.TempDir()
			path := filepath.Join(dir, "log")
			get := func() ([]byte, error) {
				switch through {
				case "Download":
					if res, err := d.Download(t.Context(), "bkt", "log", path); err != nil || !res.Verified || res.Encrypted {
						return nil, cmp.Or(err, errors.New("not verified"))
					}
				case "DownloadPrefix":
					if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err != nil {
						return nil, err
					}
				case "DownloadTo":
					f, err := os.Create(path)
					if err != nil {
						return nil, err
					}
					defer f.Close()
					if res, err := d.DownloadTo(t.Context(), "bkt", "log", f); err != nil || !res.Verified {
						return nil, cmp.Or(err, errors.New("not verified"))
					}
				case "Open":
					r, err := d.Open(t.Context(), "bkt", "log")
					if err != nil {
						return nil, err
					}
					defer r.Close()
					return io.ReadAll(r)
				}
				return os.ReadFile(path)
			}
			s.Nth(3, osstest.Inject().Before(grow).Maybe())
			resumes := snapshot && (through == "Download" || through == "DownloadPrefix")
			if resumes {
				s.OnRequest(func(r *osstest.Request) *osstest.Fault {
					if r.Start >= lieKept {
						return osstest.Error(403, "AccessDenied")
					}
					return nil
				})
				if _, err := get(); err == nil {
					t.Fatalf("%s: no error", through)
				}
				s.ClearFaults()
				grow()
				s.Nth(2, osstest.Inject().Before(grow))
			}
			got, err := get()
			switch {
			case !snapshot && through != "Open" && !errors.Is(err, ossdl.ErrObjectChanged), !snapshot && err == nil:
				t.Errorf("%s, growing: %v", through, err)
			case snapshot && (err != nil || !bytes.Equal(got, plain[:size])):
				t.Errorf("%s: %d bytes, %v; want the %d of the first answer", through, len(got), err, size)
			}
		}
	}
}
