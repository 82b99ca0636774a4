// Package osstest is an OSS service in the test's own process: real HTTP on a loopback port, real signatures, and every
// fault a network or a server can have, on demand.
//
// It knows the protocol of OSS, and must not know the library: a server with the mistakes of its client would confirm them.
// Its invariant: a planned fault either happens or is named by Unfired.
//
// The package github.com/ossdl/ossdl/osstest makes a small part of it public, and promises to keep that part as it is. The
// rest is for the tests of this repository alone: lies in every header, quirks of the service, lines with a rate and delay.
//
// It follows the documentation of OSS for GET, HEAD, PUT and DELETE of objects and their versions, multipart uploads,
// AppendObject, RestoreObject, ListObjectsV2 and ListObjectVersions, and it is as strict as the service: a wrong signature, a
// range in the wrong form or a missing permission gets the service's own answer. If the behaviour of the service is not
// documented, a Quirk chooses.
//
//	s, err := osstest.New()
//	defer s.Close()
//	s.CreateBucket("bkt")
//	s.Put("bkt", "k", osstest.Random(1, 64<<20))
//	client, err := s.Client()
//
// Three things make it an oracle. Requests returns what was asked and how many bytes were really sent. OnRequest and Nth
// break chosen answers with a Fault, and Unfired names the planned faults that never happened. Objects come from
// generators (Random, Zeros), so that their size costs nothing and their CRC-64 is known.
//
// It has an HTTP/1.1 loop of its own instead of net/http's. So a fault can be at any byte of an answer, the head included,
// and a byte counts as sent once the kernel has taken it.
package osstest
