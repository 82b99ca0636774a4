package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// fetchOssdl is ossdl as a program would use it, with the options that the job names and no other.
func fetchOssdl(ctx context.Context, j *job) error { return j.withOssdl(ctx, j.download) }

// streamOssdl reads in order what fetchOssdl fetches.
func streamOssdl(ctx context.Context, j *job) error { return j.withOssdl(ctx, j.stream) }

// withOssdl downloads each object with fn.
func (j *job) withOssdl(
	ctx context.Context, fn func(ctx context.Context, d *ossdl.Downloader, key, path string) (*ossdl.Result, error),
) error {
	d, done, err := j.downloader()
	if err != nil {
		return err
	}
	defer done()
	for i, key := range j.Keys {
		res, err := fn(ctx, d, key, j.Paths[i])
		if err != nil {
			return err
		}
		if !res.Verified {
			return fmt.Errorf("%s: done, and not verified", key)
		}
	}
	return nil
}

// downloader returns a Downloader with the options that the job names. done closes its connections.
func (j *job) downloader() (d *ossdl.Downloader, done func(), err error) {
	hc := ossdl.HTTPClient()
	options := []oss.ClientOption{oss.HTTPClient(hc)}
	if j.V4 {
		options = append(options, oss.AuthVersion(oss.AuthV4), oss.Region(osstest.Region))
	}
	client, err := oss.New(j.Endpoint, j.AccessKeyID, j.AccessKeySecret, options...)
	if err != nil {
		return nil, nil, err
	}
	var opts []ossdl.Option
	if j.Conns > 0 {
		opts = append(opts, ossdl.WithConcurrency(j.Conns))
	}
	if j.PartSize > 0 {
		opts = append(opts, ossdl.WithPartSize(j.PartSize))
	}
	d, err = ossdl.New(client, opts...)
	return d, hc.CloseIdleConnections, err
}

// download fetches one object, into a file of its own or over a warm one.
func (j *job) download(ctx context.Context, d *ossdl.Downloader, key, path string) (*ossdl.Result, error) {
	if !j.Warm {
		return d.Download(ctx, j.Bucket, key, path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	res, err := d.DownloadTo(ctx, j.Bucket, key, f)
	return res, errors.Join(err, f.Close())
}

// stream writes an object to a file in the order in which a Reader gives it out.
func (j *job) stream(ctx context.Context, d *ossdl.Downloader, key, path string) (*ossdl.Result, error) {
	r, err := d.Open(ctx, j.Bucket, key)
	if err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err == nil {
		_, err = r.WriteTo(f)
		err = errors.Join(err, f.Close())
	}
	err = errors.Join(err, r.Close())
	return r.Result(), err
}
