package ossdl_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestErrorsAsFindsPointers checks that errors.As finds a *KeyError and a *PartError in the errors of every entry point that
// can return them, and a KeyError by value, too.
func TestErrorsAsFindsPointers(t *testing.T) {
	const size = 4 * harness.PartSize
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	s.Put("bkt", "p/k", osstest.Random(1, size))
	forbidSecond := func() {
		s.ResetLog()
		s.Nth(1, osstest.Error(http.StatusForbidden, "AccessDenied"))
	}

	forbidSecond()
	_, err := d.Download(t.Context(), "bkt", "p/k", filepath.Join(t.TempDir(), "file"))
	var part *ossdl.PartError
	if !errors.As(err, &part) || part.Bucket != "bkt" || part.Key != "p/k" || part.Offset != harness.PartSize || part.Attempts != 1 {
		t.Errorf("Download: %+v in %v", part, err)
	}

	forbidSecond()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", t.TempDir())
	var key *ossdl.KeyError
	if !errors.As(err, &key) || key.Key != "p/k" {
		t.Fatalf("DownloadPrefix: %+v in %v", key, err)
	}
	if len(res.Failures) != 1 || *key != res.Failures[0] {
		t.Fatalf("%+v, and the failures are %+v", key, res.Failures)
	}
	var value ossdl.KeyError
	if !errors.As(err, &value) || value != *key {
		t.Errorf("by value: %+v", value)
	}
	if part = nil; !errors.As(err, &part) || part.Key != "p/k" || part.Offset != harness.PartSize {
		t.Errorf("no *PartError in the *KeyError: %+v in %v", part, err)
	}
	if !errors.As(err, new(oss.ServiceError)) {
		t.Errorf("no oss.ServiceError in %v", err)
	}
}

// TestKeyErrorByPointerAndByValue checks that it does not matter to errors.As whether an error holds the one or the other.
func TestKeyErrorByPointerAndByValue(t *testing.T) {
	want := ossdl.KeyError{Key: "k", Err: ossdl.ErrArchived}
	for name, err := range map[string]error{"pointer": &want, "value": want} {
		err = fmt.Errorf("wrapped: %w", err)
		var p *ossdl.KeyError
		if !errors.As(err, &p) || *p != want {
			t.Errorf("%s: *KeyError %+v", name, p)
		}
		var v ossdl.KeyError
		if !errors.As(err, &v) || v != want {
			t.Errorf("%s: KeyError %+v", name, v)
		}
		if !errors.Is(err, ossdl.ErrArchived) || errors.As(err, new(*ossdl.PartError)) {
			t.Errorf("%s: %v", name, err)
		}
		if text := err.Error(); text != `wrapped: "k": object is archived` {
			t.Errorf("%s: %s", name, text)
		}
	}
}
