package main

// pins are the counts that `-guard` compares. They do not depend on time: the number of connections is given, and no garbage is
// collected. A change that makes one smaller lowers its pin. One that needs more says in its commit why it is worth it.
func pins() []pin {
	return []pin{
		// One request for each part, none to begin with.
		{"requests for 64 parts", 64, requestsOf(ossdlClient, oneByOne(64, 256*kib))},
		// One request for each object, and none to learn its size.
		{"requests for 100 small objects, one after another", 100, requestsOf(ossdlClient, smallOnes(100))},
		// One request for each object, and two for a listing whose pages have 1,000 keys.
		{"requests for a prefix of 1,200 objects", 1202, requestsOf(prefixClient, smallOnes(1200))},
		// What was received before a reset is kept.
		{"% of an object sent again after resets", 0, sentAgainAfterResets},
		// All that came before the kill is claimed by the checkpoint and found on the disk.
		{"KiB sent again after a kill in a pause", 0, sentAgainAfterKill},
		// By the library itself: requests, answers, their contexts and timers.
		{"allocations of ossdl a request", 17.2, eachPart(oursOf)},
		// By the SDK, which builds and signs a request, net/http, and the library itself.
		{"allocations a request", 154, eachPart(mallocs)},
		// The same, in bytes.
		{"bytes allocated a request", 10200, eachPart(allocated)},
		// As above, and those for a name, a file, its listing and its result.
		{"allocations of ossdl a small object of a prefix", 94, eachSmallObject(oursOf)},
		// With those of the SDK and net/http.
		{"allocations a small object of a prefix", 221, eachSmallObject(mallocs)},
		// The buffers are used again.
		{"allocations a read", 0, eachRead},
		// Of these one for each file: openat, fstat, flock, pwrite64, fdatasync, sync_file_range, renameat, utimensat, close; four
		// looks at names; write and read of the request. A folder is synced once for many.
		{"system calls a small object of a prefix", 16.2, systemCalls},
	}
}
