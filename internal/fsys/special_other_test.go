//go:build !unix || solaris || aix

package fsys_test

var special map[string]func(name string) error
