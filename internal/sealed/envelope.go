// Package sealed decrypts objects that an encryption client of an SDK has encrypted before it stored them. It knows the envelope
// in an object's metadata, the master keys that open it, and the keystream of AES in counter mode. It must not know retries,
// parts, files or options. Its invariant: a byte is decrypted with the keystream of its own offset in the object, and no key
// leaves the package.
package sealed

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/ossdl/ossdl/internal/object"
)

// ErrDecryption says that an object cannot be decrypted.
var ErrDecryption = errors.New("object cannot be decrypted")

// metaPrefix is what the headers of an envelope begin with. The SDKs in Go, Java and Python write the same ones.
const metaPrefix = "X-Oss-Meta-Client-Side-Encryption-"

// contentAlgorithm is the only one that the SDKs write: https://github.com/aliyun/aliyun-oss-go-sdk, oss/crypto/crypto_const.go.
const contentAlgorithm = "AES/CTR/NoPadding"

// oldHeader is that of an envelope of older SDKs in Python. Those have another form, which the SDKs in Go and Java do not read.
const oldHeader = "X-Oss-Meta-Oss-Crypto-Key"

// envelope is how an object was encrypted, as its metadata says.
type envelope struct {
	key, start    []byte // the object's key and its first counter block, each wrapped by the master key
	wrapAlgorithm string
	description   string // of the master key, as JSON; "": none
}

// nameOf returns a name for the envelope in the headers of an answer; "" if the object was not encrypted by its writer. Two
// envelopes have the same name only if they are the same. It says nothing about the key.
func nameOf(h http.Header) string {
	if !object.IsEncrypted(h) {
		return ""
	}
	all := sha256.New()
	for _, name := range []string{"Key", "Start", "Cek-Alg", "Wrap-Alg", "Matdesc", "Part-Size"} {
		fmt.Fprintf(all, "%q", h.Get(metaPrefix+name))
	}
	fmt.Fprintf(all, "%q", h.Get(oldHeader))
	return hex.EncodeToString(all.Sum(nil)[:16])
}

// readEnvelope reads the envelope in the headers of an answer about an encrypted object.
//
// The other headers of that kind say nothing that is needed: the length of the object is that of its plaintext, and the parts
// of an upload continue one keystream. So the SDKs do not look at them either. But if the size of a part is no multiple of the
// block, nobody can know where the keystream goes on.
func readEnvelope(h http.Header) (*envelope, error) {
	key := h.Get(metaPrefix + "Key")
	if key == "" && h.Get(oldHeader) != "" {
		return nil, errors.New("its metadata x-oss-meta-oss-crypto-key is the envelope of an old Python SDK, which only that SDK can open; without a key the object comes as it is stored")
	}
	e := &envelope{wrapAlgorithm: h.Get(metaPrefix + "Wrap-Alg"), description: h.Get(metaPrefix + "Matdesc")}
	var err error
	if e.key, err = wrapped("Key", key); err != nil {
		return nil, err
	}
	if e.start, err = wrapped("Start", h.Get(metaPrefix+"Start")); err != nil {
		return nil, err
	}
	switch algorithm := h.Get(metaPrefix + "Cek-Alg"); {
	case algorithm != contentAlgorithm:
		return nil, fmt.Errorf("%s is %s; only %s is known", headerName("Cek-Alg"), shown(algorithm), contentAlgorithm)
	case e.wrapAlgorithm == "":
		return nil, fmt.Errorf("%s is missing", headerName("Wrap-Alg"))
	}
	if size := h.Get(metaPrefix + "Part-Size"); size != "" {
		if n, err := strconv.ParseInt(size, 10, 64); err == nil && n%blockSize != 0 {
			return nil, fmt.Errorf("%s is %d; it must be a multiple of %d", headerName("Part-Size"), n, blockSize)
		}
	}
	return e, nil
}

// wrapped decodes a header with something that is wrapped.
func wrapped(name, value string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(value)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s is not in base64", headerName(name))
	case len(b) == 0:
		return nil, fmt.Errorf("%s is missing", headerName(name))
	}
	return b, nil
}

// headerName returns the name of a header for messages.
func headerName(name string) string { return strings.ToLower(metaPrefix + name) }

// maxShown bounds what a message shows of a header, in bytes. A description is what the caller's programs wrote.
const maxShown = 200

// shown returns the value of a header for messages.
func shown(value string) string {
	if value == "" {
		return "missing"
	}
	return fmt.Sprintf("%q", value[:min(len(value), maxShown)])
}

// sameDescription reports whether two descriptions of master keys say the same. They are compared as JSON: the SDKs in Go and
// Python write the same one with other spaces.
func sameDescription(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

// undescribed reports whether a description says nothing.
func undescribed(d string) bool {
	return d == "" || sameDescription(d, "{}") || sameDescription(d, "null")
}
