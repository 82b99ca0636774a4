// Package machine holds the scenario tests of what is on this side of the wire: disks that fail or lose power, file systems
// that cannot, processes that are killed or meet, users, limits, mounts. Package torture says which test owns which invariant,
// and what its harnesses are: the crashScene and the crashShelf are here.
//
// The test binary is also the process that its tests start, kill and limit; see child.
package machine
