// Package hold stops downloads in the middle, for demonstrations and tests that kill a process there.
package hold

import "github.com/ossdl/ossdl/osstest"

// After makes the server send objects only up to offset, in the answers to the requests for which match returns true. The
// rest does not come, so a process that needs it cannot end before it is killed. [osstest.Server.ClearFaults] ends this.
func After(server *osstest.Server, offset int64, match func(*osstest.Request) bool) {
	server.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if 0 <= r.End && r.End <= offset || !match(r) {
			return nil
		}
		return osstest.Inject().StallAfter(max(0, offset-max(0, r.Start))).Maybe() // the process may be killed before
	})
}
