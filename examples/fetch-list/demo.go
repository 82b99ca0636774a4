package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// demo fetches a list of which one object was swapped for another, and once more when that is right again.
func demo(ctx context.Context, out io.Writer) (err error) {
	server, err := osstest.Start()
	if err != nil {
		return err
	}
	defer server.Close()
	server.CreateBucket("builds")
	server.CreateBucket("web", osstest.PublicRead())
	client := server.Client(oss.HTTPClient(ossdl.HTTPClient()))
	top, err := os.MkdirTemp("", "ossdl-fetch-list-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(top)) }()
	dir := filepath.Join(top, "cache")

	var lock strings.Builder
	pin := func(name, content, source string) {
		fmt.Fprintf(&lock, "%s %x %s\n", name, sha256.Sum256([]byte(content)), source)
	}
	server.Put("builds", "app-1.2.3", osstest.Bytes([]byte("app 1.2.3")))
	server.Put("builds", "lib-4.5.6", osstest.Bytes([]byte("something else")))
	server.Put("web", "tool", osstest.Bytes([]byte("a tool of the web")))
	pin("app", "app 1.2.3", "oss://builds/app-1.2.3")
	pin("lib/lib", "lib 4.5.6", "oss://builds/lib-4.5.6")
	pin("bin/tool", "a tool of the web", server.URL("web", "tool"))

	fmt.Fprintln(out, "1. Two objects and a URL, one of which is not what is pinned.")
	if err := fetch(ctx, client, strings.NewReader(lock.String()), dir, out); !errors.Is(err, ossdl.ErrChecksum) {
		return fmt.Errorf("the swapped object was not noticed: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "lib", "lib")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the swapped object has its file: %w", err)
	}

	fmt.Fprintln(out, "2. It is right again: only that one is fetched.")
	server.Put("builds", "lib-4.5.6", osstest.Bytes([]byte("lib 4.5.6")))
	if err := fetch(ctx, client, strings.NewReader(lock.String()), dir, out); err != nil {
		return err
	}

	fmt.Fprintln(out, "3. Everything is there: no request.")
	if err := fetch(ctx, client, strings.NewReader(lock.String()), dir, out); err != nil {
		return err
	}

	fmt.Fprintln(out, "4. A line that is wrong: nothing of the list is fetched.")
	pin("../evil", "", "oss://builds/app-1.2.3")
	if err := fetch(ctx, client, strings.NewReader(lock.String()), filepath.Join(top, "other"), out); err == nil {
		return errors.New("the wrong line was not noticed")
	} else {
		fmt.Fprintln(out, "  ", err)
	}
	if _, err := os.Stat(filepath.Join(top, "other")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("something was fetched: %w", err)
	}
	return nil
}
