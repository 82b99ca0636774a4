// Package osstest provides an Alibaba Cloud OSS server for tests.
//
// [NewServer] starts a server on a loopback port and stops it when the test ends; outside of tests, use [Start]. The server speaks real HTTP, verifies
// real signatures and answers with the error documents of the service. So the code under test runs unchanged, with the
// client it has in production:
//
//	func TestRestore(t *testing.T) {
//		server := osstest.NewServer(t)
//		server.CreateBucket("backups")
//		server.Put("backups", "db.dump", osstest.Random(1, 64<<20))
//		server.Nth(0, osstest.Error(503, "ServiceUnavailable"))
//
//		err := restore(server.Client(), "backups", "db.dump", t.TempDir())
//		...
//	}
//
// # What the server answers
//
// It serves GET and HEAD of objects, with ranges, conditions and versions; PUT, multipart uploads, AppendObject and DELETE;
// RestoreObject; ListObjectsV2 and ListObjectVersions. Other requests are refused with 405 or 501. Signatures may be of
// version 1 or 4, in the Authorization header or in the URL. Requests without a signature can read a bucket that is
// [PublicRead].
//
// Data lives in memory. [Random] and [Zeros] compute their bytes on the fly, so that an object of a terabyte costs nothing.
//
// # Faults
//
// A [Fault] says what goes wrong with one answer: an error, a body that is cut, a connection that stalls, bytes or headers
// that are wrong. [Server.Nth], [Server.Once] and [Server.OnRequest] choose the requests. [Server.Down], [Server.Up] and
// [Server.CutConns] concern the whole server.
//
// A fault that is planned and never happens means that a test did not test what it says. NewServer reports it as an
// error, unless [Fault.Maybe] allows it. [Server.Unfired] lists such faults.
//
// # Time
//
// [Server.Advance] moves the clock of the server, by which signed URLs and temporary credentials expire, and by which objects
// of the archive classes thaw and freeze. [WithThawTime] sets how long they thaw. [Server.ExpireToken] ends one token at once,
// and [Server.Restore] one restore.
//
// # Requests
//
// [Server.Requests] returns what was asked and how many bytes were sent in answer. A test can check there that a resumed
// download does not fetch again what it had.
//
// # Limits
//
// Answers follow the documentation of OSS. Nothing is kept when the server stops. A PUT, or a part, may carry up to 256 MiB.
package osstest
