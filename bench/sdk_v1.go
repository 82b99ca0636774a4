package main

import (
	"context"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// v1PartSize is the size of a request where the job leaves it to the client; DownloadFile has no default of its own.
const v1PartSize = 8 << 20

// fetchV1 is Bucket.DownloadFile with a checkpoint. Its CRC-64 is on by default.
func fetchV1(ctx context.Context, j *job) error {
	client, err := oss.New(j.Endpoint, j.AccessKeyID, j.AccessKeySecret)
	if err != nil {
		return err
	}
	bucket, err := client.Bucket(j.Bucket)
	if err != nil {
		return err
	}
	part := j.PartSize
	if part == 0 {
		part = v1PartSize
	}
	for i, key := range j.Keys {
		opts := []oss.Option{oss.Checkpoint(true, j.Paths[i]+".cp"), oss.WithContext(ctx)}
		if j.Conns > 0 {
			opts = append(opts, oss.Routines(j.Conns))
		}
		if err := bucket.DownloadFile(key, j.Paths[i], part, opts...); err != nil {
			return err
		}
	}
	return nil
}
