//go:build !linux && !darwin

package machine_test

import "errors"

func setLimit(string, string) error { return errors.ErrUnsupported }
