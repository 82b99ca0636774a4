package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ossdl/ossdl"
)

// downloadFunc downloads the share of a pod.
type downloadFunc func(context.Context, *ossdl.Downloader, ...ossdl.Option) (*ossdl.PrefixResult, error)

// share finds out what belongs to this pod.
func (j job) share() (downloadFunc, error) {
	part := ossdl.WithShard(j.index, j.count)
	switch {
	case j.inventory != "":
		files, err := j.inventoryFiles()
		return func(ctx context.Context, d *ossdl.Downloader, opts ...ossdl.Option) (*ossdl.PrefixResult, error) {
			return d.DownloadObjects(ctx, j.bucket, j.listed(files), j.dir, opts...)
		}, err
	case j.ranges != "":
		r, err := j.keyRange()
		if r == nil || err != nil {
			return nothing, err
		}
		part = ossdl.WithKeyRange(r.After, r.Until)
	}
	return func(ctx context.Context, d *ossdl.Downloader, opts ...ossdl.Option) (*ossdl.PrefixResult, error) {
		return d.DownloadPrefix(ctx, j.bucket, j.prefix, j.dir, append(opts, part)...)
	}, nil
}

// nothing is the share of a pod if there are fewer ranges than pods.
func nothing(context.Context, *ossdl.Downloader, ...ossdl.Option) (*ossdl.PrefixResult, error) {
	return new(ossdl.PrefixResult), nil
}

// plannedLine is a line of ossget plan --json: a range, or the last one, which says what was planned.
type plannedLine struct {
	Index                *int
	After, Until         string
	Bucket, Prefix, Code string
	Ranges               int
}

// keyRange returns the range of this pod; nil if there is none. A plan that does not have all keys is an error.
func (j job) keyRange() (mine *plannedLine, err error) {
	f, err := os.Open(j.ranges)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := json.NewDecoder(bufio.NewReader(f))
	after := ""
	for n := 0; ; n++ {
		var l plannedLine
		err := lines.Decode(&l)
		switch {
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("-ranges %s: its last line is missing; make it with ossget plan --json", j.ranges)
		case err != nil:
			return nil, fmt.Errorf("-ranges %s: %w", j.ranges, err)
		case l.Index != nil && (*l.Index != n || l.After != after || n > 0 && after == ""):
			return nil, fmt.Errorf("-ranges %s: range %d does not begin where the one before ends", j.ranges, n)
		case l.Index != nil:
			if after = l.Until; n == j.index {
				mine = &l
			}
			continue
		case l.Code != "" || l.Ranges != n || n == 0 || after != "":
			return nil, fmt.Errorf("-ranges %s: it does not have all ranges", j.ranges)
		case l.Bucket != j.bucket || l.Prefix != j.prefix:
			return nil, fmt.Errorf("-ranges %s: it is the plan of oss://%s/%s", j.ranges, l.Bucket, l.Prefix)
		case n > j.count:
			return nil, fmt.Errorf("-ranges %s: there are %d ranges for %d pods", j.ranges, n, j.count)
		}
		return mine, nil
	}
}

// inventoryFiles returns the files of the inventory that belong to this pod.
func (j job) inventoryFiles() (mine []string, err error) {
	all, err := filepath.Glob(filepath.Join(j.inventory, "*.csv.gz")) // sorted
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("-inventory %s: there is no *.csv.gz in it", j.inventory)
	}
	for i := j.index; i < len(all); i += j.count {
		mine = append(mine, all[i])
	}
	return mine, err
}

// listed yields the objects that the inventory has below the prefix. Their files are named as DownloadPrefix names them.
func (j job) listed(files []string) iter.Seq2[ossdl.Object, error] {
	base := j.prefix[:strings.LastIndex(j.prefix, "/")+1]
	return func(yield func(ossdl.Object, error) bool) {
		for _, file := range files {
			for key, err := range keysOf(file, j.bucket) {
				if err == nil && !strings.HasPrefix(key, j.prefix) || key != "" && key == base {
					continue
				}
				if !yield(ossdl.Object{Key: key, Name: strings.TrimPrefix(key, base)}, err) {
					return
				}
			}
		}
	}
}

// keysOf yields the keys of a file of an inventory. Its first two columns are always the bucket and the key, which is
// escaped as in a URL. An inventory of all versions cannot be restored in this way: it has several lines for a key.
func keysOf(file, bucket string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		failed := func(err error) { yield("", fmt.Errorf("%s: %w", file, err)) }
		f, err := os.Open(file)
		if err != nil {
			failed(err)
			return
		}
		defer f.Close()
		text, err := gzip.NewReader(f)
		if err != nil {
			failed(err)
			return
		}
		for rows := csv.NewReader(text); ; {
			row, err := rows.Read()
			switch {
			case err == io.EOF:
				return
			case err == nil && len(row) < 2:
				err = errors.New("a line has no key")
			case err == nil && row[0] != bucket:
				err = fmt.Errorf("it is of the bucket %q", row[0])
			}
			key := ""
			if err == nil {
				key, err = url.QueryUnescape(row[1])
			}
			if err != nil {
				failed(err)
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}
