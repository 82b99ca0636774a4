package harness

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ossdl/ossdl/internal/osstest"
)

// Sealer encrypts objects as the encryption clients of the SDKs do, with an object's key and a start that follow from Seed.
type Sealer struct {
	Seed        string
	Description string // of the master key; "": none
}

// SealedPrefix is what the metadata of an encrypted object begins with.
const SealedPrefix = "client-side-encryption-"

// Key returns the object's key, and the first counter block.
func (s Sealer) Key() (key, start []byte) {
	k, iv := sha256.Sum256([]byte("key "+s.Seed)), sha256.Sum256([]byte("start "+s.Seed))
	clear(iv[8:12]) // as the SDKs do
	return k[:], iv[:aes.BlockSize]
}

// Seal returns the ciphertext.
func (s Sealer) Seal(plain []byte) []byte {
	key, start := s.Key()
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	sealed := make([]byte, len(plain))
	cipher.NewCTR(block, start).XORKeyStream(sealed, plain)
	return sealed
}

// Meta returns the metadata of an encrypted object, without x-oss-meta-.
func (s Sealer) Meta() map[string]string {
	key, start := s.Key()
	m := map[string]string{
		"key": wrap(key), "start": wrap(start), "cek-alg": "AES/CTR/NoPadding", "wrap-alg": MasterKeyAlgorithm,
	}
	if s.Description != "" {
		m["matdesc"] = s.Description
	}
	meta := map[string]string{}
	for name, value := range m {
		meta[SealedPrefix+name] = value
	}
	return meta
}

// Options returns the metadata as options for an object of a server.
func (s Sealer) Options() (opts []osstest.ObjectOption) {
	meta := s.Meta()
	for _, name := range slices.Sorted(maps.Keys(meta)) {
		opts = append(opts, osstest.Meta(name, meta[name]))
	}
	return opts
}

// Put stores an object encrypted.
func (s Sealer) Put(on *osstest.Server, key string, plain []byte, opts ...osstest.ObjectOption) *osstest.Object {
	return on.Put("bkt", key, osstest.Bytes(s.Seal(plain)), append(s.Options(), opts...)...)
}

// Secrets returns the object's key and start in every form that a text could have them in.
func (s Sealer) Secrets() (all []string) {
	key, start := s.Key()
	for _, b := range [][]byte{key, start} {
		all = append(all, string(b), fmt.Sprintf("%x", b), strings.ToUpper(fmt.Sprintf("%x", b)), fmt.Sprint(b), strings.Trim(fmt.Sprint(b), "[]"),
			base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), fmt.Sprintf("%q", b))
	}
	return all
}

// MasterKeyAlgorithm is how a [MasterKey] wraps.
const MasterKeyAlgorithm = "TEST/XOR"

// MasterKey is a master key that unwraps what a [Sealer] has wrapped.
type MasterKey struct {
	Description string
	Algorithm   string                // "": MasterKeyAlgorithm
	Unwrapping  func(wrapped []byte)  // nil, or called before
	Err         error                 // instead of what was wrapped
	Changes     func(b []byte) []byte // nil, or changes what was wrapped
}

// ErrNotWrapped says that a [MasterKey] was given what no [Sealer] has wrapped.
var ErrNotWrapped = errors.New("wrapped by another key")

const wrapMark = 0xa5

func wrap(b []byte) string {
	wrapped := []byte{wrapMark}
	for _, c := range b {
		wrapped = append(wrapped, c^wrapMark)
	}
	return base64.StdEncoding.EncodeToString(wrapped)
}

// Decrypt unwraps.
func (k *MasterKey) Decrypt(wrapped []byte) ([]byte, error) {
	if k.Unwrapping != nil {
		k.Unwrapping(wrapped)
	}
	if k.Err != nil {
		return nil, k.Err
	}
	if len(wrapped) == 0 || wrapped[0] != wrapMark {
		return nil, ErrNotWrapped
	}
	var b []byte
	for _, c := range wrapped[1:] {
		b = append(b, c^wrapMark)
	}
	if k.Changes != nil {
		b = k.Changes(b)
	}
	return b, nil
}

// GetWrapAlgorithm returns the way to wrap.
func (k *MasterKey) GetWrapAlgorithm() string {
	if k.Algorithm != "" {
		return k.Algorithm
	}
	return MasterKeyAlgorithm
}

// GetMatDesc returns the description.
func (k *MasterKey) GetMatDesc() string { return k.Description }
