// Package kms stands in for the client of Alibaba's key management service, of which aliyun-oss-go-sdk's crypto package
// needs some types. The real module is 17 MB of code for services that no test here uses. This client keeps its key itself.
package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
)

// Client wraps with one key.
type Client struct{ Key [32]byte }

// RpcRequest has the settings of a request, which mean nothing here.
type RpcRequest struct{ Scheme, Method, AcceptFormat string }

type EncryptRequest struct {
	*RpcRequest
	KeyId, Plaintext string
}

type EncryptResponse struct{ CiphertextBlob string }

type DecryptRequest struct {
	*RpcRequest
	CiphertextBlob string
}

type DecryptResponse struct{ Plaintext string }

func CreateEncryptRequest() *EncryptRequest { return &EncryptRequest{RpcRequest: new(RpcRequest)} }
func CreateDecryptRequest() *DecryptRequest { return &DecryptRequest{RpcRequest: new(RpcRequest)} }

// Encrypt wraps the plaintext, which is a text to the service, into a blob that names the key.
func (c *Client) Encrypt(r *EncryptRequest) (*EncryptResponse, error) {
	aead, err := c.aead()
	if err != nil {
		return nil, err
	}
	blob := aead.Seal(nil, nil, []byte(r.Plaintext), nil)
	return &EncryptResponse{base64.StdEncoding.EncodeToString(blob)}, nil
}

// Decrypt unwraps what Encrypt has made with the same key.
func (c *Client) Decrypt(r *DecryptRequest) (*DecryptResponse, error) {
	aead, err := c.aead()
	if err != nil {
		return nil, err
	}
	blob, err := base64.StdEncoding.DecodeString(r.CiphertextBlob)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, blob, nil)
	if err != nil {
		return nil, errors.New("kms: InvalidCiphertext")
	}
	return &DecryptResponse{string(plain)}, nil
}

func (c *Client) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(c.Key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
