package harness

import (
	"context"
	"net"
	"net/http"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/testhook"
)

// WithFS replaces the file system.
func WithFS(f fsys.FS) ossdl.Option {
	return testhook.FileSystem.(func(fsys.FS) ossdl.Option)(f)
}

// TransportOf returns the transport below a client that the library has made.
func TransportOf(c *http.Client) *http.Transport {
	return testhook.Transport.(func(*http.Client) *http.Transport)(c)
}

// SetNetwork replaces how a client that the library has made looks up names and connects to addresses.
func SetNetwork(c *http.Client, lookup func(context.Context, string) ([]net.IPAddr, error), connect func(context.Context, string, string) (net.Conn, error)) {
	testhook.Network.(func(*http.Client, func(context.Context, string) ([]net.IPAddr, error), func(context.Context, string, string) (net.Conn, error)))(c, lookup, connect)
}

// WithFolderFS replaces the file system of the folder that DownloadPrefix writes to.
func WithFolderFS(f func(*fsys.Root) fsys.FS) ossdl.Option {
	return testhook.FolderFileSystem.(func(func(*fsys.Root) fsys.FS) ossdl.Option)(f)
}
