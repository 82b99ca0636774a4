package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ossdl/ossdl"
)

// maxInput is far more than a URL, a list of headers or a bundle of certificates has, in bytes.
const maxInput = 4 << 20

// readInput returns what a flag's file has, which may have so many bytes; - is standard input, which may block its reader indefinitely. Its errors do not quote
// the content.
func readInput(ctx context.Context, name string, most int64) (text []byte, err error) {
	type content struct {
		text []byte
		err  error
	}
	in := os.Stdin
	if name != stdoutName {
		if in, err = os.Open(name); err != nil {
			return nil, err
		}
		defer in.Close()
	}
	read := make(chan content, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(in, most+1))
		read <- content{bytes.TrimPrefix(text, []byte("\ufeff")), err}
	}()
	select {
	case c := <-read:
		if c.err == nil && int64(len(c.text)) > most {
			c.err = fmt.Errorf("%s is longer than %d bytes", name, most)
		}
		return c.text, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// readURL returns the URL in a file. Its errors do not quote it.
func readURL(ctx context.Context, name string) (string, error) {
	text, err := readInput(ctx, name, maxInput)
	if err != nil {
		return "", err
	}
	switch fields := strings.Fields(string(text)); {
	case len(fields) != 1:
		return "", fmt.Errorf("%s: expected one URL, and nothing else", name)
	case !isURL(fields[0]):
		return "", fmt.Errorf("%s: not a URL; %s", name, urlForm)
	default:
		return fields[0], nil
	}
}

// parseHeader parses NAME: VALUE. Its errors do not quote the value.
func parseHeader(s string) (ossdl.Option, error) {
	name, value, ok := strings.Cut(s, ":")
	if !ok {
		return ossdl.Option{}, errors.New("expected 'NAME: VALUE', in quotes")
	}
	o := ossdl.WithHeader(strings.TrimSpace(name), strings.TrimSpace(value))
	return o, o.Check()
}

// parseHeaders parses lines of NAME: VALUE. Empty lines are skipped.
func parseHeaders(from, text string) (headers []ossdl.Option, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		o, err := parseHeader(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", from, n, err)
		}
		headers = append(headers, o)
	}
	return headers, nil
}

// readRoots returns the certificates of the system and those in a file.
func readRoots(name string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // there are none, as in a container with nothing but ossget
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("there is no certificate in it; expected PEM, which begins with -----BEGIN CERTIFICATE-----")
	}
	return roots, nil
}
