package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	err := run(t.Context(), nil, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"67108864 bytes with 2 URLs", "verified: true", "their URL had expired"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(out.String(), "Signature") {
		t.Error("a signature was printed")
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestErrors(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/nothing", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ask later") })
	issuer := httptest.NewServer(mux)
	defer issuer.Close()
	dir := t.TempDir()
	for _, c := range []struct {
		want string
		args []string
	}{
		{"usage", []string{issuer.URL}},
		{"404", []string{issuer.URL + "/none", filepath.Join(dir, "file")}},
		{"the form is", []string{issuer.URL + "/nothing", filepath.Join(dir, "file")}},
		{"unsupported protocol", []string{"ftp://issuer", filepath.Join(dir, "file")}},
	} {
		if err := run(t.Context(), c.args, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
