package main

import (
	"context"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"

	"github.com/ossdl/ossdl/internal/osstest"
)

// fetchSDKV2 is the Downloader of oss-go-sdk-v2 with a checkpoint. Its CRC-64 is on by default.
func fetchSDKV2(ctx context.Context, j *job) error {
	d := oss.NewDownloader(oss.NewClient(j.sdkV2Config()), func(o *oss.DownloaderOptions) {
		if j.Conns > 0 {
			o.ParallelNum = j.Conns
		}
		if j.PartSize > 0 {
			o.PartSize = j.PartSize
		}
		o.EnableCheckpoint, o.CheckpointDir = true, j.Scratch
	})
	for i, key := range j.Keys {
		req := &oss.GetObjectRequest{Bucket: oss.Ptr(j.Bucket), Key: oss.Ptr(key)}
		if _, err := d.DownloadFile(ctx, req, j.Paths[i]); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) sdkV2Config() *oss.Config {
	return oss.LoadDefaultConfig().WithRegion(osstest.Region).WithEndpoint(j.Endpoint).WithUsePathStyle(true).
		WithCredentialsProvider(credentials.NewStaticCredentialsProvider(j.AccessKeyID, j.AccessKeySecret))
}
