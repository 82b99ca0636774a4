package torture_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// childEnv names the endpoint for a process of this test binary that does the job its arguments name, and nothing else.
const childEnv = "OSSDL_TEST_CHILD_ENDPOINT"

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(childEnv); endpoint != "" {
		if err := child(endpoint, os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Little is kept and much is made anew: collected as often as usual, garbage would take a third of the time.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(1 << 30)
	code := m.Run()
	if n := liesTold.Load(); n > 0 {
		harness.Tried.Add("lies told", n)
	}
	if name := os.Getenv(harness.CountsEnv); name != "" {
		if err := harness.Tried.AppendTo(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(code)
}

// child does a job:
//
//	download PATH KEY
//	prefix DIR              downloads the whole bucket
//	list DIR KEY...         downloads the objects to files with their names
//	hammer PATH N KEY...    downloads to one path until N times it was not refused, and prints how often it was; see inuse_test.go
//	enter ENTRYPOINT PATH KEY downloads the object to the path through any entry point; see limits_test.go
//	limit NAME N JOB...     does the job with a resource limit; see limits_unix_test.go
//	group DIR JOB...        does the job in a control group; see field_memory_linux_test.go
func child(endpoint, job string, args []string) error {
	if job == "limit" {
		if err := setLimit(args[0], args[1]); err != nil {
			return err
		}
		return child(endpoint, args[2], args[3:])
	}
	if job == "group" {
		if err := joinGroup(args[0]); err != nil {
			return err
		}
		return child(endpoint, args[1], args[2:])
	}
	client, err := oss.New(endpoint, osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(ossdl.HTTPClient()))
	if err != nil {
		return err
	}
	d, err := ossdl.New(client, ossdl.WithRetry(ossdl.RetryPolicy{MinDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond}))
	if err != nil {
		return err
	}
	switch job {
	case "download":
		_, err = d.Download(context.Background(), "bkt", args[1], args[0])
		return err
	case "prefix":
		_, err = d.DownloadPrefix(context.Background(), "bkt", "", args[0])
		return err
	case "list":
		_, err = d.DownloadAll(context.Background(), listOf(args[0], args[1:]), ossdl.WithIfChanged())
		return err
	case "enter":
		return enterChild(d, client, args[0], args[1], args[2])
	case "hammer":
		refused, err := hammer(d, args[0], args[1], args[2:])
		fmt.Print(refused)
		return err
	}
	return fmt.Errorf("no such job: %s", job)
}

// newChild is a process that does a job, not yet started.
func newChild(t *testing.T, s *osstest.Server, job ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, job...)
	// Under the race detector a process would wait a second before it ends.
	cmd.Env = append(os.Environ(), childEnv+"="+s.Endpoint(), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

func startChild(t *testing.T, s *osstest.Server, job ...string) *exec.Cmd {
	t.Helper()
	cmd := newChild(t, s, job...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}
