//go:build aix

package fsys

import "errors"

func freeAt(string) (int64, error) { return 0, errors.ErrUnsupported }

func freeFd(int) (int64, error) { return 0, errors.ErrUnsupported }
