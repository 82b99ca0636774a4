package main

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// owner is whose an allocation is.
type owner int

const (
	nobody owner = iota
	ours
	theirs
)

// ownerOf says whose a function is. What other packages of the standard library allocate is of whoever calls them.
func ownerOf(function string) owner {
	switch {
	case strings.HasPrefix(function, "github.com/ossdl/ossdl/bench"), strings.HasPrefix(function, "main."):
		return nobody
	case strings.HasPrefix(function, "github.com/ossdl/ossdl"):
		return ours
	case strings.HasPrefix(function, "net/http."), strings.HasPrefix(function, "github.com/aliyun/"):
		return theirs
	}
	return nobody
}

// countAllocations makes the runtime record each allocation from now on, and collect no garbage, since the pools that it empties
// are filled again. The function that it returns reports what was allocated since.
func countAllocations() func(*report) {
	var before, after runtime.MemStats
	debug.SetGCPercent(-1)
	runtime.MemProfileRate = 1
	runtime.ReadMemStats(&before)
	return func(r *report) {
		runtime.ReadMemStats(&after)
		r.Mallocs, r.Allocated = int64(after.Mallocs-before.Mallocs), int64(after.TotalAlloc-before.TotalAlloc) // #nosec G115
		runtime.GC()
		runtime.GC() // the profile is that of the collection before the last one
		for _, a := range allocations() {
			if isOurs(a.Stack()) {
				r.Ours += a.AllocObjects
			}
		}
	}
}

// allocations are those that were recorded, by the places where they were made.
func allocations() []runtime.MemProfileRecord {
	n, _ := runtime.MemProfile(nil, true)
	for {
		records := make([]runtime.MemProfileRecord, n+100) // more may come meanwhile
		var whole bool
		if n, whole = runtime.MemProfile(records, true); whole {
			return records[:n]
		}
	}
}

// isOurs reports whether the library made an allocation: whether its function comes before one of the others, seen from the place.
func isOurs(stack []uintptr) bool {
	for frames := runtime.CallersFrames(stack); ; {
		f, more := frames.Next()
		if o := ownerOf(f.Function); o != nobody || !more {
			return o == ours
		}
	}
}
