package ossdl

import "runtime"

// Version is the version of this library. Every request names it in its User-Agent: after what the SDK's client sends
// there, or alone where the library makes the request itself. A User-Agent given with [WithRequestOptions] is sent as it is.
const Version = "0.1.0"

// userAgent names the library in requests that the SDK does not make.
var userAgent = "ossdl/" + Version + " (" + runtime.GOOS + "/" + runtime.GOARCH + "; " + runtime.Version() + ")"
