package sealed

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/span"
)

// newStream returns a keystream whose counter starts at a block with these halves.
func newStream(t testing.TB, hi, lo uint64) *Stream {
	t.Helper()
	block, err := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	s := &Stream{block: block}
	for i := range 8 {
		s.start[i], s.start[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	return s
}

// starts are counters, some of which overflow a quarter, a half or all of the block.
var starts = [][2]uint64{
	{0, 0}, {1, 2}, {0xdeadbeef01234567, 0x89abcdef}, {5, math.MaxUint32 - 1}, {5, math.MaxUint64 - 1}, {math.MaxUint64, math.MaxUint64 - 2},
}

// TestStreamAt checks that the keystream from each offset on is that of the whole, wherever the counter starts.
func TestStreamAt(t *testing.T) {
	for _, at := range starts {
		s := newStream(t, at[0], at[1])
		whole := make([]byte, 200)
		cipher.NewCTR(s.block, s.start[:]).XORKeyStream(whole, whole)
		for off := range whole {
			got := make([]byte, len(whole)-off)
			s.At(int64(off)).XORKeyStream(got, got)
			if !bytes.Equal(got, whole[off:]) {
				t.Fatalf("start %x: it differs from offset %d on", s.start, off)
			}
		}
	}
}

// TestStreamFarAway checks an offset that no test can reach byte by byte: the blocks there are those of the counter.
func TestStreamFarAway(t *testing.T) {
	s := newStream(t, 3, math.MaxUint64)
	const blocks = 1 << 38 // 4 TiB
	var counter, got [blockSize]byte
	counter[7] = 4
	// 3·2^64 + 2^64 − 1 + 2^38 is 4·2^64 + (2^38 − 1).
	for i, b := range []byte{0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 0xff} {
		counter[8+i] = b
	}
	want := make([]byte, blockSize)
	s.block.Encrypt(want, counter[:])
	s.At(blocks*blockSize).XORKeyStream(got[:], got[:])
	if !bytes.Equal(got[:], want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// TestStored checks that the CRC-64 of ciphertext follows from that of the plaintext, for each size around those of buffers.
func TestStored(t *testing.T) {
	buf := make([]byte, 256)
	for _, size := range []int64{0, 1, 15, 16, 17, 255, 256, 257, 1000, 4096} {
		s := newStream(t, 1, 2)
		plain := make([]byte, size)
		rand.Read(plain)
		sealed := make([]byte, size)
		s.At(0).XORKeyStream(sealed, plain)
		for range 2 {
			got, err := s.Stored(t.Context(), crc64.Update(0, plain), size, buf)
			if want := crc64.Update(0, sealed); err != nil || got != want {
				t.Errorf("%d bytes: %d, %v, want %d", size, got, err, want)
			}
		}
	}
}

// TestSumGoesOn checks that a sum which the end of a context has cut short goes on where it was, and that one for fewer bytes is
// right, too.
func TestSumGoesOn(t *testing.T) {
	s, buf := newStream(t, 1, 2), make([]byte, 64)
	ended, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := s.Sum(t.Context(), 1000, buf); err != nil || s.summed != 1000 {
		t.Fatal(s.summed, err)
	}
	if err := s.Sum(ended, 2000, buf); !errors.Is(err, why) || s.summed != 1000 {
		t.Errorf("%d, %v", s.summed, err)
	}
	for _, size := range []int64{2000, 500} {
		plain := make([]byte, size)
		sealed := make([]byte, size)
		s.At(0).XORKeyStream(sealed, plain)
		if got, err := s.Stored(t.Context(), crc64.Update(0, plain), size, buf); err != nil || got != crc64.Update(0, sealed) {
			t.Errorf("%d bytes: %d, %v", size, got, err)
		}
	}
	if _, err := s.Stored(ended, 0, 5000, buf); !errors.Is(err, why) {
		t.Error(err)
	}
}

// testKey is a master key that wraps nothing.
type testKey struct {
	algorithm, description string
	fails                  error
}

func (k testKey) Decrypt(wrapped []byte) ([]byte, error) { return wrapped, k.fails }
func (k testKey) GetWrapAlgorithm() string               { return k.algorithm }
func (k testKey) GetMatDesc() string                     { return k.description }

// header returns the headers of an encrypted object. changes are names and values.
func header(changes ...string) http.Header {
	h := http.Header{}
	for name, value := range map[string]string{
		"Key": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)), "Start": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 16)),
		"Cek-Alg": contentAlgorithm, "Wrap-Alg": "W", "Matdesc": `{"a":"1"}`,
	} {
		h.Set(metaPrefix+name, value)
	}
	for i := 0; i < len(changes); i += 2 {
		h.Set(metaPrefix+changes[i], changes[i+1])
	}
	return h
}

// TestReadEnvelope checks which headers are an envelope, and that an error names the one that is wrong.
func TestReadEnvelope(t *testing.T) {
	for _, c := range []struct {
		header http.Header
		says   string // "": it is one
	}{
		{header(), ""},
		{header("Part-Size", "1048576", "Data-Size", "x", "Unencrypted-Content-Length", "5", "Unencrypted-Content-Md5", "!"), ""},
		{header("Part-Size", "none"), ""},
		{header("Part-Size", "17"), "part-size"},
		{header("Key", ""), "encryption-key is missing"},
		{header("Key", "a"), "encryption-key is not in base64"},
		{header("Key", "YQ"), "encryption-key is not in base64"},
		{header("Start", ""), "encryption-start is missing"},
		{header("Start", "*"), "encryption-start is not in base64"},
		{header("Cek-Alg", ""), "encryption-cek-alg is missing"},
		{header("Cek-Alg", "aes/ctr/nopadding"), `encryption-cek-alg is "aes/ctr/nopadding"`},
		{header("Wrap-Alg", ""), "encryption-wrap-alg is missing"},
		{http.Header{oldHeader: {"a"}}, "oss-crypto-key is the envelope of an old Python SDK"},
	} {
		e, err := readEnvelope(c.header)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || e != nil) {
			t.Errorf("%v: %v", c.header, err)
		}
	}
	long, err := readEnvelope(header("Cek-Alg", strings.Repeat("x", 1000)))
	if err == nil || len(err.Error()) > 400 {
		t.Error(long, err)
	}
}

// TestNameOf checks that an envelope has a name of its own, which is that of the same envelope in another answer.
func TestNameOf(t *testing.T) {
	if got := nameOf(http.Header{"Etag": {"x"}}); got != "" {
		t.Errorf("no envelope is named %s", got)
	}
	more := header()
	more.Set("Etag", "y")
	more.Set(metaPrefix+"Unencrypted-Content-Md5", "z")
	if nameOf(header()) != nameOf(more) {
		t.Error("the same envelope has two names")
	}
	names := []string{nameOf(header()), nameOf(http.Header{oldHeader: {"a"}})}
	for _, name := range []string{"Key", "Start", "Cek-Alg", "Wrap-Alg", "Matdesc", "Part-Size"} {
		names = append(names, nameOf(header(name, "other")))
	}
	names = append(names, nameOf(header("Key", "a", "Start", "b")), nameOf(header("Key", "ab", "Start", "")))
	slices.Sort(names)
	if n := len(slices.Compact(slices.Clone(names))); n != len(names) {
		t.Errorf("%d names of %d envelopes: %q", n, len(names), names)
	}
}

// FuzzReadEnvelope checks that no header makes the reading or the opening panic, and that what opens is a keystream.
func FuzzReadEnvelope(f *testing.F) {
	f.Add("AQEB", "AgIC", contentAlgorithm, "W", `{"a":1}`, "16", `{"a": 1}`)
	f.Add("", "", "", "", "", "", "")
	f.Add("YWJjZGVmZ2hpamtsbW5vcA==", "YWJjZGVmZ2hpamtsbW5vcA==", contentAlgorithm, "W", "", "", "")
	f.Fuzz(func(t *testing.T, key, start, cek, wrap, desc, part, mine string) {
		h := header("Key", key, "Start", start, "Cek-Alg", cek, "Wrap-Alg", wrap, "Matdesc", desc, "Part-Size", part)
		if nameOf(h) == "" {
			t.Error("no name")
		}
		e, err := readEnvelope(h)
		if err != nil {
			return
		}
		s, err := e.open([]Key{testKey{algorithm: "W", description: mine}, testKey{algorithm: "V"}})
		if (s == nil) == (err == nil) {
			t.Fatal(s, err)
		}
		if s != nil {
			b := make([]byte, 20)
			s.At(math.MaxInt64-20).XORKeyStream(b, b)
		}
	})
}

// TestUnwrapTwice checks that a key which refuses what the Python SDK has wrapped twice is given what is inside.
func TestUnwrapTwice(t *testing.T) {
	inner := []byte("0123456789abcdef")
	only := onlyKey{inner}
	got, err := unwrap(only, []byte(base64.StdEncoding.EncodeToString(inner)), func(b []byte) bool { return true })
	if err != nil || !bytes.Equal(got, inner) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := unwrap(only, []byte("bm90aGluZw=="), func(b []byte) bool { return true }); err == nil {
		t.Errorf("%q", got)
	}
}

// onlyKey unwraps nothing but this.
type onlyKey struct{ wrapped []byte }

func (k onlyKey) Decrypt(wrapped []byte) ([]byte, error) {
	if !bytes.Equal(wrapped, k.wrapped) {
		return nil, errors.New("not this one")
	}
	return wrapped, nil
}
func (onlyKey) GetWrapAlgorithm() string { return "KMS/ALICLOUD" }
func (onlyKey) GetMatDesc() string       { return "" }

// TestReadRSA checks which PEM files have keys, that these unwrap both ways to wrap, and that no error quotes the file.
func TestReadRSA(t *testing.T) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte, headers ...string) string {
		p := &pem.Block{Type: kind, Bytes: b, Headers: map[string]string{}}
		if len(headers) > 0 {
			p.Headers["Proc-Type"], p.Headers["DEK-Info"] = "4,ENCRYPTED", headers[0]
		}
		return string(pem.EncodeToMemory(p))
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(k)
	good8, good1 := block("PRIVATE KEY", pkcs8), block("RSA PRIVATE KEY", pkcs1)
	for name, c := range map[string]struct {
		file string
		keys int
		says string
	}{
		"PKCS #8":             {good8, 2, ""},
		"PKCS #1":             {good1, 2, ""},
		"text around it":      {"my key\n" + good8 + "that was it\n", 2, ""},
		"several":             {block("CERTIFICATE", []byte("x")) + good8 + good1, 4, ""},
		"nothing":             {"", 0, "no PEM block"},
		"no PEM":              {base64.StdEncoding.EncodeToString(pkcs8), 0, "no PEM block"},
		"a public key":        {block("PUBLIC KEY", pkcs8), 0, "PUBLIC KEY instead of"},
		"a passphrase":        {block("ENCRYPTED PRIVATE KEY", pkcs8), 0, "passphrase"},
		"an old passphrase":   {block("RSA PRIVATE KEY", pkcs1, "AES-256-CBC,00"), 0, "passphrase"},
		"another kind":        {block("PRIVATE KEY", ec), 0, "another kind than RSA"},
		"malformed PKCS #8":   {block("PRIVATE KEY", pkcs8[:100]), 0, "malformed PRIVATE KEY"},
		"malformed PKCS #1":   {block("RSA PRIVATE KEY", pkcs8), 0, "malformed RSA PRIVATE KEY"},
		"one that is no good": {good8 + block("PRIVATE KEY", []byte("x")), 0, "malformed PRIVATE KEY"},
	} {
		keys, err := ReadRSA([]byte(c.file))
		if len(keys) != c.keys || (err == nil) != (c.keys > 0) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
		if err != nil && !strings.Contains(err.Error(), "PRIVATE KEY (PKCS #8) or RSA PRIVATE KEY (PKCS #1), without a passphrase") {
			t.Errorf("%s: %v does not say what is allowed", name, err)
		}
		for line := range strings.Lines(c.file) {
			if line = strings.TrimSpace(line); err != nil && len(line) > 20 && !strings.HasPrefix(line, "-----") && strings.Contains(err.Error(), line) {
				t.Errorf("%s: %v quotes the file", name, err)
			}
		}
		secret := []byte("0123456789abcdef0123456789abcdef")
		for _, key := range keys {
			var wrapped []byte
			var err error
			switch key.GetWrapAlgorithm() {
			case "RSA/NONE/PKCS1Padding":
				//lint:ignore SA1019 that is how the SDKs wrap
				wrapped, err = rsa.EncryptPKCS1v15(rand.Reader, &k.PublicKey, secret)
			case "RSA/NONE/OAEPWithSHA-1AndMGF1Padding":
				wrapped, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, &k.PublicKey, secret, nil)
			default:
				t.Error(key.GetWrapAlgorithm())
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := key.Decrypt(wrapped); err != nil || !bytes.Equal(got, secret) || key.GetMatDesc() != "" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			wrapped[len(wrapped)-1] ^= 1
			if got, err := key.Decrypt(wrapped); err == nil && bytes.Equal(got, secret) {
				t.Errorf("%s: unwrapped what is damaged", name)
			}
			if strings.Contains(fmt.Sprint(err), string(secret)) {
				t.Error(err)
			}
		}
	}
}

// fakeSource answers each request from an object that is stored, with these headers.
type fakeSource struct {
	stored []byte
	header http.Header
	closed int
}

func (s *fakeSource) Get(_ context.Context, r object.Request) (*object.Answer, error) {
	end := min(r.End, int64(len(s.stored)))
	return &object.Answer{
		Facts: object.Facts{Size: int64(len(s.stored))}, Span: span.Span{Off: r.Off, End: end}, Header: s.header,
		Body: fakeBody{bytes.NewReader(s.stored[r.Off:end]), s},
	}, nil
}

func (s *fakeSource) Ready(context.Context) error { return nil }
func (s *fakeSource) Versions() bool              { return true }
func (s *fakeSource) Identity() object.Identity   { return object.Identity{Key: "k"} }
func (s *fakeSource) String() string              { return "fake" }

type fakeBody struct {
	io.Reader
	s *fakeSource
}

func (b fakeBody) Close() error { b.s.closed++; return nil }

// newOpener returns an opener with a key.
func newOpener(k Key) *Opener {
	return &Opener{Keys: []Key{k}, Guard: func(fn func()) error { fn(); return nil }}
}

// TestSource checks that each answer is decrypted from where it begins, in reads of any size, and that an answer without an
// envelope comes as it is.
func TestSource(t *testing.T) {
	plain := []byte("the quick brown fox jumps over the lazy dog, and again: the quick brown fox")
	stream, err := (&envelope{key: bytes.Repeat([]byte{1}, 32), start: bytes.Repeat([]byte{2}, 16), wrapAlgorithm: "W"}).open([]Key{testKey{algorithm: "W"}})
	if err != nil {
		t.Fatal(err)
	}
	inner := &fakeSource{stored: make([]byte, len(plain)), header: header()}
	stream.At(0).XORKeyStream(inner.stored, plain)
	s := NewSource(inner, newOpener(testKey{algorithm: "W"}))
	for off := range plain {
		for _, size := range []int{1, 7, 16, 100} {
			a, err := s.Get(t.Context(), object.Request{Span: span.Span{Off: int64(off), End: int64(len(plain))}})
			if err != nil || a.Envelope == "" || s.Check(a.Facts) != nil || s.Stream(a.Facts) == nil {
				t.Fatalf("%+v, %v", a, err)
			}
			var got []byte
			for buf := make([]byte, size); ; {
				n, err := a.Body.Read(buf)
				got = append(got, buf[:n]...)
				if err != nil {
					break
				}
			}
			if !bytes.Equal(got, plain[off:]) {
				t.Fatalf("from %d in reads of %d: %q", off, size, got)
			}
			if inner.closed = 0; a.Body.Close() != nil || inner.closed != 1 {
				t.Error("the body is not closed")
			}
		}
	}
	if len(s.opened) != 1 {
		t.Errorf("%d envelopes were opened", len(s.opened))
	}
	inner.header = http.Header{}
	a, err := s.Get(t.Context(), object.Request{Span: span.Span{End: 10}})
	if err != nil || a.Envelope != "" || s.Check(a.Facts) != nil || s.Stream(a.Facts) != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	if got, _ := io.ReadAll(a.Body); !bytes.Equal(got, inner.stored[:10]) {
		t.Errorf("%q", got)
	}
}

// TestSourceWithoutAKey checks that an envelope for which there is no key is an error of Check and of a read, and that nothing of
// the body is given out.
func TestSourceWithoutAKey(t *testing.T) {
	refused := errors.New("refused")
	inner := &fakeSource{stored: make([]byte, 10), header: header()}
	s := NewSource(inner, newOpener(testKey{algorithm: "W", fails: refused}))
	a, err := s.Get(t.Context(), object.Request{Span: span.Span{End: 10}})
	if err != nil || a.Envelope == "" {
		t.Fatal(a, err)
	}
	if err := s.Check(a.Facts); !errors.Is(err, ErrDecryption) || !errors.Is(err, refused) || object.Retryable(err) {
		t.Error(err)
	}
	if n, err := a.Body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, ErrDecryption) || object.Retryable(err) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestSourceThatWaits checks that the end of a context ends the wait for a key, and closes the body.
func TestSourceThatWaits(t *testing.T) {
	release := make(chan struct{})
	inner := &fakeSource{stored: make([]byte, 10), header: header()}
	opener := newOpener(testKey{algorithm: "W"})
	opener.Guard = func(fn func()) error { <-release; fn(); return nil }
	s := NewSource(inner, opener)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if a, err := s.Get(ctx, object.Request{Span: span.Span{End: 10}}); !errors.Is(err, why) || inner.closed != 1 {
		t.Errorf("%v, %v, closed %d times", a, err, inner.closed)
	}
	close(release)
	if a, err := s.Get(t.Context(), object.Request{Span: span.Span{End: 10}}); err != nil || s.Check(a.Facts) != nil {
		t.Error(a, err)
	}
}

// BenchmarkSum is what the proof of a decrypted object costs beside its decryption.
func BenchmarkSum(b *testing.B) {
	s, buf := newStream(b, 1, 2), make([]byte, 256<<10)
	b.SetBytes(64 << 20)
	for b.Loop() {
		s.summed, s.sum = 0, 0
		if err := s.Sum(b.Context(), 64<<20, buf); err != nil {
			b.Fatal(err)
		}
	}
}
