package osstest

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsent is the number of bytes that wait in the kernel because the client does not read.
func unsent(tcp *net.TCPConn) (n int) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // fails on a closed connection only
		v, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD)
		if err != nil { // qemu's user mode knows only the other count, which has what is sent and not acknowledged, too
			v, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		}
		if err == nil {
			n = v
		}
	})
	return n
}
