// Command fetch-list fetches what a lock file lists, from OSS and from the web, into a folder: each file with the SHA-256 that the lock
// file pins. Run it again and it fetches what is missing or wrong, and nothing else.
//
//	fetch-list LOCKFILE DIR    with OSS_ENDPOINT, OSS_REGION, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET
//	fetch-list                 a demonstration, against a server in this process
//
// A line of the lock file is NAME SHA256 SOURCE.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fetch-list:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return demo(ctx, out)
	}
	if len(args) != 2 {
		return errors.New("usage: fetch-list LOCKFILE DIR")
	}
	client, err := oss.New(os.Getenv("OSS_ENDPOINT"), os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"),
		oss.AuthVersion(oss.AuthV4), oss.Region(os.Getenv("OSS_REGION")), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		return err
	}
	lock, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer lock.Close()
	return fetch(ctx, client, lock, args[1], out)
}

// fetch downloads what the lock file lists. A file that has its digest costs no request.
func fetch(ctx context.Context, client *oss.Client, lock io.Reader, dir string, out io.Writer) error {
	d, err := ossdl.New(client)
	if err != nil {
		return err
	}
	res, err := d.DownloadAll(ctx, items(lock, dir), ossdl.WithIfChanged(), ossdl.WithMkdirAll(), ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
		fmt.Fprintf(out, "   %-7s %s\n", r.Status, r.Name)
	}))
	if res != nil {
		fmt.Fprintf(out, "   %d fetched, %d there, %d failed; %d requests\n", res.Done, res.Skipped, res.Failed, res.Requests)
	}
	return err
}

// items reads the lines of a lock file. An error ends the list, and nothing is downloaded then.
func items(lock io.Reader, dir string) iter.Seq2[ossdl.Item, error] {
	return func(yield func(ossdl.Item, error) bool) {
		lines := bufio.NewScanner(lock)
		for n := 1; lines.Scan(); n++ {
			item, err := parse(lines.Text(), dir)
			if err != nil {
				err = fmt.Errorf("line %d: %w", n, err)
			}
			if !yield(item, err) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(ossdl.Item{}, err)
		}
	}
}

// parse parses NAME SHA256 SOURCE. The name must not lead out of the folder: whoever writes the lock file may write nowhere else.
func parse(line, dir string) (ossdl.Item, error) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return ossdl.Item{}, errors.New("expected NAME SHA256 SOURCE")
	}
	name := filepath.FromSlash(words[0])
	if !filepath.IsLocal(name) {
		return ossdl.Item{}, fmt.Errorf("the name %q leads out of the folder", words[0])
	}
	sum, err := hex.DecodeString(words[1])
	if err != nil {
		return ossdl.Item{}, fmt.Errorf("SHA-256 %q: %w", words[1], err)
	}
	return ossdl.Item{Source: words[2], Path: filepath.Join(dir, name), SHA256: sum}, nil
}
