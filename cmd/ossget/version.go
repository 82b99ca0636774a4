package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/ossdl/ossdl"
)

// commit is set by the linker in the binaries of a release: -X main.commit=HASH.
var commit string

// version returns what --version prints: the version, the commit and Go's own version.
func version() string {
	c := commit
	if c == "" {
		c = commitOf(debug.ReadBuildInfo())
	}
	return fmt.Sprintf("ossget %s (commit %s, %s %s/%s)\n", ossdl.Version, c, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commitOf returns the commit that go build recorded. It records one in a clone, and none for a version from a module proxy.
func commitOf(info *debug.BuildInfo, ok bool) string {
	revision, modified := "unknown", ""
	if !ok {
		return revision
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-changed"
		}
	}
	return revision + modified
}
