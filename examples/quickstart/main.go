// Command quickstart shows what ossdl is for, with nothing but Go installed: no account, no network, no flags.
//
//	go run ./examples/quickstart
//
// It starts an OSS server in this process, downloads an object from it in a process of its own, kills that process
// half-way, and starts it again. Then it prints what was kept and what was sent twice, and verifies the file. It fails if
// less than half of the object was kept.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/examples/internal/hold"
	"github.com/ossdl/ossdl/examples/internal/show"
	"github.com/ossdl/ossdl/osstest"
)

const (
	bucket = "quickstart"
	key    = "backups/disk.img"

	size = 384 << 20 // bytes
	rate = 80 << 20  // bytes per second, of the server: so that there is something to see

	patience = 2 * time.Minute // how long the checkpoint may take to reach half of the object
)

func main() {
	var err error
	if len(os.Args) == 4 && os.Args[1] == "download" {
		err = download(os.Args[2], os.Args[3])
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err = demo(ctx, os.Stdout, size, rate)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// download is the whole use of the library, here in the process that gets killed. It reports its progress to the other
// process on standard output.
func download(endpoint, path string) error {
	client, err := oss.New(endpoint, osstest.AccessKeyID, osstest.AccessKeySecret,
		oss.AuthVersion(oss.AuthV4), oss.Region(osstest.Region), oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		return err
	}
	downloader, err := ossdl.New(client)
	if err != nil {
		return err
	}
	progress := show.NewProgress(os.Stderr, filepath.Base(path))
	tell := json.NewEncoder(os.Stdout)
	result, err := downloader.Download(context.Background(), bucket, key, path, ossdl.WithProgress(func(p ossdl.Progress) {
		progress.Update(p)
		_ = tell.Encode(message{Done: p.Done}) // if nobody listens, this process is about to be killed
	}))
	progress.Close()
	if err != nil {
		return err
	}
	return tell.Encode(message{Done: result.Size, Result: result})
}

// message is a report of the downloading process.
type message struct {
	Done   int64         // bytes
	Result *ossdl.Result // with the last one
}

// demo is the other process.
func demo(ctx context.Context, out *os.File, size, rate int64) (err error) {
	began := time.Now()
	server, err := osstest.Start(osstest.WithRate(rate))
	if err != nil {
		return err
	}
	defer server.Close()
	server.CreateBucket(bucket)
	object := server.Put(bucket, key, osstest.Random(1, size))

	dir, err := os.MkdirTemp("", "ossdl-quickstart-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, filepath.Base(key))
	fmt.Fprintf(out, "An OSS server in this process holds oss://%s/%s, %s.\n\n", bucket, key, show.Bytes(size))

	fmt.Fprintln(out, "1. Another process downloads it and is killed half-way.")
	half := size / 2
	hold.After(server, size-size/4, func(*osstest.Request) bool { return true })
	bounded, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("half of the object was not in the checkpoint after %v", patience))
	killed, err := child(bounded, out, server.Endpoint(), path, func() bool { return claimed(path) >= half })
	cancel()
	if err != nil {
		return err
	}
	server.ClearFaults()
	if killed.Result != nil {
		return errors.New("the download ended before it could be killed")
	}
	if _, err := os.Stat(path); err == nil {
		return errors.New("the killed download left a file at the final path")
	}
	fmt.Fprintf(out, "\n   Killed at %s. There is nothing at the final path.\n\n", show.Bytes(killed.Done))

	fmt.Fprintln(out, "2. The same download again.")
	second, err := child(ctx, out, server.Endpoint(), path, func() bool { return false })
	if err != nil {
		return err
	}
	if second.Result == nil {
		return errors.New("the second download ended without a result")
	}
	result, sent := second.Result, server.Sent()

	crc, err := checksum(path)
	if err != nil {
		return err
	}
	if crc != object.CRC64() {
		return fmt.Errorf("CRC-64 of the file is %d, of the object %d", crc, object.CRC64())
	}
	if result.ResumedBytes < half {
		return fmt.Errorf("only %s were kept from the killed process", show.Bytes(result.ResumedBytes))
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(left) != 1 {
		return fmt.Errorf("there is more than the file: %v", left)
	}

	share := func(n int64) string { return fmt.Sprintf("%10s  %5.1f%%", show.Bytes(n), 100*float64(n)/float64(size)) }
	fmt.Fprintf(out, `
   kept from the killed process  %s
   fetched by the second         %s
   sent twice by the server      %s
   CRC-64 of the file            %016x, as the object's
   left beside the file          nothing

Done in %.1f s.
`, share(result.ResumedBytes), share(result.DownloadedBytes), share(sent-size), crc, time.Since(began).Seconds())
	return nil
}

// claimed returns how many bytes the checkpoint of a download claims; 0 if there is none yet.
func claimed(path string) (n int64) {
	data, err := os.ReadFile(filepath.Join(path+".cp", "checkpoint.json"))
	if err != nil {
		return 0
	}
	var checkpoint struct {
		Parts []struct {
			Done int64 `json:"done"`
		} `json:"parts"`
	}
	if err := json.Unmarshal(data, &checkpoint); err != nil {
		return 0
	}
	for _, p := range checkpoint.Parts {
		n += p.Done
	}
	return n
}

// child downloads in a process of its own, which is killed as soon as kill returns true. It asks kill after each report of
// the process, and returns the last report.
func child(ctx context.Context, out *os.File, endpoint, path string, kill func() bool) (last message, err error) {
	self, err := os.Executable()
	if err != nil {
		return last, err
	}
	cmd := exec.CommandContext(ctx, self, "download", endpoint, path)
	cmd.Stderr = out
	told, err := cmd.StdoutPipe()
	if err != nil {
		return last, err
	}
	if err := cmd.Start(); err != nil {
		return last, err
	}
	killed := false
	for d := json.NewDecoder(told); ; {
		var m message
		if err := d.Decode(&m); err != nil {
			break // it ended, perhaps in the middle of a message; Wait returns how
		}
		if last = m; !killed && kill() {
			killed = true
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return last, err
			}
		}
	}
	switch err := cmd.Wait(); {
	case ctx.Err() != nil:
		return last, context.Cause(ctx)
	case err != nil && !killed:
		return last, fmt.Errorf("the downloading process: %w", err)
	}
	return last, nil
}

// checksum reads the file again and uses the standard library, not ours.
func checksum(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := crc64.New(crc64.MakeTable(crc64.ECMA))
	if _, err := io.Copy(h, f); err != nil {
		return 0, err
	}
	return h.Sum64(), nil
}
