//go:build !linux && !darwin

package torture_test

import "errors"

func setLimit(string, string) error { return errors.ErrUnsupported }
