package sealed

import (
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// How the SDKs wrap keys with RSA. The second way is that of the Python SDK.
const (
	wrapPKCS1 = "RSA/NONE/PKCS1Padding"
	wrapOAEP  = "RSA/NONE/OAEPWithSHA-1AndMGF1Padding"
)

// rsaKey is a private key, for one way to wrap.
type rsaKey struct {
	*rsa.PrivateKey
	algorithm string
}

// ReadRSA returns keys for each RSA private key in a PEM file, one for each way to wrap. They have no description.
func ReadRSA(file []byte) (keys []Key, err error) {
	var other string // what is there that is no such key
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		k, err := parseRSA(block)
		if err != nil {
			return nil, err
		}
		if k == nil {
			other = block.Type
			continue
		}
		keys = append(keys, &rsaKey{k, wrapPKCS1}, &rsaKey{k, wrapOAEP})
	}
	switch {
	case keys != nil:
		return keys, nil
	case other != "":
		return nil, fmt.Errorf("%s instead of %s", other, allowedPEM)
	}
	return nil, errors.New("no PEM block; allowed is " + allowedPEM)
}

const allowedPEM = "an RSA private key in PEM: PRIVATE KEY (PKCS #8) or RSA PRIVATE KEY (PKCS #1), without a passphrase"

// parseRSA returns the private key in a block; nil if the block is something else.
func parseRSA(block *pem.Block) (*rsa.PrivateKey, error) {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
		return nil, fmt.Errorf("%s with a passphrase; allowed is %s", block.Type, allowedPEM)
	case block.Type == "RSA PRIVATE KEY":
		k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, malformed(block)
		}
		return k, nil
	case block.Type == "PRIVATE KEY":
		any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, malformed(block)
		}
		k, ok := any.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%s of another kind than RSA; allowed is %s", block.Type, allowedPEM)
		}
		return k, nil
	}
	return nil, nil
}

// malformed returns the error of a block that cannot be parsed. It omits that of the parser, which may quote the block.
func malformed(block *pem.Block) error {
	return fmt.Errorf("malformed %s; allowed is %s", block.Type, allowedPEM)
}

// Decrypt implements [Key].
func (k *rsaKey) Decrypt(wrapped []byte) ([]byte, error) {
	if k.algorithm == wrapOAEP {
		return rsa.DecryptOAEP(sha1.New(), nil, k.PrivateKey, wrapped, nil)
	}
	//lint:ignore SA1019 the padding is that of the objects, and nobody learns from outside whether it is right
	return rsa.DecryptPKCS1v15(nil, k.PrivateKey, wrapped)
}

// GetWrapAlgorithm implements [Key].
func (k *rsaKey) GetWrapAlgorithm() string { return k.algorithm }

// GetMatDesc implements [Key].
func (k *rsaKey) GetMatDesc() string { return "" }
