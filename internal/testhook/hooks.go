// Package testhook holds what tests outside the library's own package may replace. It knows nothing but the names of the
// hooks, which have the type any because this package must not import the library. Its invariant: the library sets each of
// them once, when it is initialized. The type assertions are in one place, internal/harness, and a test of the library checks
// the types.
package testhook

var (
	// FileSystem replaces the file system of a Downloader or of a call.
	// It is a func(fsys.FS) ossdl.Option.
	FileSystem any

	// FolderFileSystem replaces the file system of the folder that DownloadPrefix writes to.
	// It is a func(func(*fsys.Root) fsys.FS) ossdl.Option.
	FolderFileSystem any

	// Transport is the transport below an HTTP client that the library has made.
	// It is a func(*http.Client) *http.Transport.
	Transport any

	// Network replaces how an HTTP client that the library has made looks up names and connects to addresses.
	// It is a func(*http.Client, func(context.Context, string) ([]net.IPAddr, error), func(context.Context, string, string) (net.Conn, error)).
	Network any
)
