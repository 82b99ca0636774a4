package main

// The codes of --json: one word for each cause that a script can act on, whether or not a server explains it. Besides them there are
// codes of OSS, for refusals whose status does not tell the cause, and HTTP with the status. docs/ossget.md has all of them.
const (
	codeNotFound         = "NotFound"
	codeArchived         = "Archived"
	codeRestoring        = "Restoring"
	codeDecryption       = "Decryption"
	codeAccessDenied     = "AccessDenied"
	codeExpired          = "Expired"
	codeObjectChanged    = "ObjectChanged"
	codeRangeRefused     = "RangeRefused"
	codeChecksumMismatch = "ChecksumMismatch"
	codeInUse            = "InUse"
	codeNoSpace          = "NoSpace"
	codeTooLarge         = "TooLarge"
	codeTimeout          = "Timeout"
	codeRequestTimeout   = "RequestTimeout" // also that of OSS, for a request that came too slowly, with the status 400
	codeBadList          = "BadList"
	codeUsage            = "Usage"
	codeNoCredentials    = "NoCredentials"
	codeLocal            = "Local"
	codeDifferent        = "Different"
	codeSomeFailed       = "SomeFailed"
	codeInterrupted      = "Interrupted"
	codeBrokenPipe       = "BrokenPipe"
	codeFailed           = "Failed"
)
