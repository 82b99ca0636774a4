//go:build !linux

package machine_test

import "errors"

// joinGroup moves this process to a control group. Only Linux has them.
func joinGroup(string) error { return errors.ErrUnsupported }
