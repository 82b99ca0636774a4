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
func fetchOssdl(ctx context.Context, j *job) error {
	hc := ossdl.HTTPClient()
	defer hc.CloseIdleConnections()
	options := []oss.ClientOption{oss.HTTPClient(hc)}
	if j.V4 {
		options = append(options, oss.AuthVersion(oss.AuthV4), oss.Region(osstest.Region))
	}
	client, err := oss.New(j.Endpoint, j.AccessKeyID, j.AccessKeySecret, options...)
	if err != nil {
		return err
	}
	var opts []ossdl.Option
	if j.Conns > 0 {
		opts = append(opts, ossdl.WithConcurrency(j.Conns))
	}
	if j.PartSize > 0 {
		opts = append(opts, ossdl.WithPartSize(j.PartSize))
	}
	d, err := ossdl.New(client, opts...)
	if err != nil {
		return err
	}
	for i, key := range j.Keys {
		res, err := j.download(ctx, d, key, j.Paths[i])
		if err != nil {
			return err
		}
		if !res.Verified {
			return fmt.Errorf("%s: done, and not verified", key)
		}
	}
	return nil
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
