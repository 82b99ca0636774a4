package harness

import (
	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// IgnoredProgress is a listener of the SDK that does nothing.
type IgnoredProgress struct{}

func (IgnoredProgress) ProgressChanged(*oss.ProgressEvent) {}
