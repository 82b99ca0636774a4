//go:build unix && !solaris && !aix && !linux

package fsys_test

import "errors"

func mknodNull(string) error { return errors.ErrUnsupported }
