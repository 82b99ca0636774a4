//go:build !linux && !darwin

package ossdl

import "errors"

func setLimit(string, string) error { return errors.ErrUnsupported }
