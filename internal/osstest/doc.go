// Package osstest is an OSS service in the test's own process: real HTTP on a loopback port, real signatures, and every
// fault a network or a server can have, on demand.
//
// The package github.com/ossdl/ossdl/osstest shows a small part of it to everybody, and promises to keep that part as it
// is. The rest is for the tests of this repository alone: lies in every header, quirks of the service, lines of a shape.
//
// It imitates what the protocol notes say about GET, HEAD, PUT, DELETE and ListObjectsV2, and it is strict where the
// service is strict: a wrong signature, a range in the wrong form or a missing permission gets the service's own answer.
// Where the service's behaviour is not documented, a Quirk chooses.
//
//	s, err := osstest.New()
//	defer s.Close()
//	s.CreateBucket("bkt")
//	s.Put("bkt", "k", osstest.Random(1, 64<<20))
//	client, err := s.Client()
//
// Three things make it an oracle. Requests tells what was asked and how many bytes were really sent. OnRequest and Nth
// break chosen answers with a Fault, and Unfired names the planned faults that never happened. Objects come from
// generators (Random, Zeros), so that their size costs nothing and their CRC-64 is known.
//
// It has an HTTP/1.1 loop of its own rather than net/http's: a fault may stand at any byte of an answer, the head
// included, and what is counted as sent is what the kernel took.
package osstest
