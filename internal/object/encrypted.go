package object

import (
	"net/http"
	"strings"
)

// IsEncrypted reports whether the headers of an answer say that the object was encrypted before it was stored. Its bytes,
// and so its CRC-64 and its length, are those of the ciphertext. The encryption clients of all SDKs write the wrapped key into
// the metadata, as x-oss-meta-client-side-encryption-key; older ones of Python wrote x-oss-meta-oss-crypto-key.
func IsEncrypted(h http.Header) bool {
	if h.Get("X-Oss-Meta-Oss-Crypto-Key") != "" {
		return true
	}
	for name := range h {
		if strings.HasPrefix(name, "X-Oss-Meta-Client-Side-Encryption-") {
			return true
		}
	}
	return false
}
