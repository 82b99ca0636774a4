// Command signedurl downloads with signed URLs that someone else issues, as programs without credentials of their own do:
// a GET of ISSUER answers with a URL. One that expires on the way is replaced by the next.
//
//	signedurl ISSUER PATH
//	signedurl                a demonstration, against an issuer and a server in this process
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"

	"github.com/ossdl/ossdl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "signedurl:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] == "-demo" {
		return demo(ctx, out)
	}
	if len(args) != 2 {
		return errors.New("usage: signedurl ISSUER PATH")
	}
	return download(ctx, args[0], args[1], out)
}

func download(ctx context.Context, issuer, path string, out io.Writer) error {
	d, err := ossdl.New(nil) // no client: there are no credentials
	if err != nil {
		return err
	}
	defer d.CloseIdleConnections()
	issued := 0
	next := func(ctx context.Context) (string, error) {
		issued++
		return ask(ctx, issuer)
	}
	first, err := next(ctx)
	if err != nil {
		return err
	}
	res, err := d.DownloadURL(ctx, first, path, ossdl.WithURLRefresh(next))
	if err != nil {
		return err // the same command continues
	}
	fmt.Fprintf(out, "%s: %d bytes with %d URLs, in %d requests and %.1f s; verified: %t\n",
		res.Path, res.Size, issued, res.Requests, res.Duration.Seconds(), res.Verified)
	return nil
}

// ask gets a signed URL. No error names one: whoever has it has the object.
func ask(ctx context.Context, issuer string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s", issuer, resp.Status)
	}
	url, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	return strings.TrimSpace(string(url)), err
}
