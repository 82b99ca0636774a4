package harness

import (
	"net/http"
	"os"

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

// WithFolderFS replaces the file system of the folder that DownloadPrefix writes to.
func WithFolderFS(f func(*os.Root) fsys.FS) ossdl.Option {
	return testhook.FolderFileSystem.(func(func(*os.Root) fsys.FS) ossdl.Option)(f)
}
