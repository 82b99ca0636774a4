package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// aria2MaxConns is the most connections to one server that aria2c takes.
const aria2MaxConns = 16

// fetchAria2 runs aria2c on the public URL. If the number of connections is given, so is the smallest split that
// it accepts: with its default of 20 MiB it would not use them.
func fetchAria2(ctx context.Context, j *job) error {
	args := []string{
		"--no-conf", "--quiet", "--dir=" + filepath.Dir(j.Paths[0]), "--out=" + filepath.Base(j.Paths[0]), "--continue=true",
	}
	if j.Conns > 0 {
		n := strconv.Itoa(min(j.Conns, aria2MaxConns))
		args = append(args, "--max-connection-per-server="+n, "--split="+n, "--min-split-size=1M", "--file-allocation=none",
			"--max-tries=0")
	}
	if j.CAFile != "" {
		args = append(args, "--ca-certificate="+j.CAFile)
	}
	cmd := exec.CommandContext(ctx, "aria2c", append(args, j.url(j.Keys[0]))...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	o := new(outside)
	for {
		select {
		case <-tick.C:
			o.peak = max(o.peak, peakMemory(cmd.Process.Pid))
			continue
		case o.err = <-done:
		}
		if o.err != nil {
			o.err = fmt.Errorf("aria2c: %w: %s", o.err, strings.Join(strings.Fields(said.String()), " "))
		}
		return o
	}
}

// haveAria2 reports whether aria2c is installed.
func haveAria2() bool {
	_, err := exec.LookPath("aria2c")
	return !errors.Is(err, exec.ErrNotFound) && err == nil
}
