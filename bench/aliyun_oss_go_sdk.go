package main

import (
	"context"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// sdkPartSize is the size of a request if the job leaves it to the client; DownloadFile has no default of its own.
const sdkPartSize = 8 << 20

// fetchSDK is Bucket.DownloadFile of aliyun-oss-go-sdk with a checkpoint. Its CRC-64 is on by default.
func fetchSDK(ctx context.Context, j *job) error {
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
		part = sdkPartSize
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
