package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	firstBytes = 8                      // by which the beginning of an object is known
	lookEvery  = 100 * time.Microsecond // for a file that has them
)

// lookForFirst looks for a file that begins like the job's first object, whatever its name, until there is one or the function
// is called that it returns. That function says how long it took, from start; 0: there was none.
func (j *job) lookForFirst(start time.Time) (found func() time.Duration) {
	if len(j.First) == 0 {
		return func() time.Duration { return 0 }
	}
	var took time.Duration
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for took == 0 {
			if j.hasFirst() {
				took = time.Since(start)
				return
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	return func() time.Duration {
		close(stop)
		looking.Wait()
		return took
	}
}

// hasFirst reports whether a file below the folder of the job begins like the first object.
func (j *job) hasFirst() (has bool) {
	_ = filepath.WalkDir(j.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it was there a moment ago, or is a folder
		}
		if begins(path, j.First) {
			has = true
			return fs.SkipAll
		}
		return nil
	})
	return has
}

// begins reports whether a file begins with these bytes.
func begins(path string, with []byte) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	got := make([]byte, len(with))
	_, err = io.ReadFull(f, got)
	return err == nil && bytes.Equal(got, with)
}
