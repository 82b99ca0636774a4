package harness

import (
	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

type IgnoredProgress struct{}

func (IgnoredProgress) ProgressChanged(*oss.ProgressEvent) {}
