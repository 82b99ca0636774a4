//go:build unix && !solaris && !aix

package fsys_test

import (
	"net"
	"os"
	"syscall"
)

// special makes files that are neither plain nor folders nor links. Some need privileges.
var special = map[string]func(name string) error{
	"pipe": func(name string) error { return syscall.Mkfifo(name, 0o600) },
	"socket": func(name string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	},
	"device": func(name string) error {
		return os.NewSyscallError("mknod", mknodNull(name))
	},
}
