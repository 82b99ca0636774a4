package ossdl

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/sealed"
	"github.com/ossdl/ossdl/internal/testhook"
	"github.com/ossdl/ossdl/internal/thaw"
	"github.com/ossdl/ossdl/internal/transport"
	"github.com/ossdl/ossdl/internal/tree"
	"github.com/ossdl/ossdl/internal/weburl"
)

// Limits and defaults of the options.
const (
	// MinPartSize and MaxPartSize limit [WithPartSize], in bytes.
	MinPartSize = 1
	MaxPartSize = 5 << 30
	// MaxConcurrency is the highest value that [WithConcurrency] accepts. Each request in flight has a buffer of 256 KiB.
	MaxConcurrency = 256
	// AdaptiveConcurrency is the most requests in flight without [WithConcurrency]. Their number starts at 8 and grows as long
	// as that makes the download faster.
	AdaptiveConcurrency = 64
	// DefaultAttempts is the default of [RetryPolicy].Attempts: a range is retried up to 11 times in a row without progress.
	DefaultAttempts = 12
	// DefaultStallTimeout is the default of [WithStallTimeout], MinStallTimeout the lowest value that it accepts.
	DefaultStallTimeout = 30 * time.Second
	MinStallTimeout     = 100 * time.Millisecond
	// DefaultReadAhead is the default of [WithReadAhead], in bytes.
	DefaultReadAhead = 64 << 20
	// MinReadAhead is the lowest value that [WithReadAhead] accepts, in bytes.
	MinReadAhead = 1 << 20
	// MaxRestoreDays is the highest value of [RestorePolicy].Days. Objects of class Archive allow 7.
	MaxRestoreDays = thaw.MaxDays
	// MinRestorePoll and MaxRestorePoll limit [RestorePolicy].PollMin and PollMax.
	MinRestorePoll = 100 * time.Millisecond
	MaxRestorePoll = 6 * time.Hour
)

// Option changes how a [Downloader] or one of its calls works.
//
// Options given to [New] are the defaults of all calls that they apply to, and have no effect on others. An option given to a call
// replaces the default for that call. Concurrency and rate are different: those of the Downloader limit all its calls together, and those of a call
// limit that call further.
//
// An option that does not apply to the function it is given to is an error that names both. If an option is given twice, the
// last one counts. The zero Option is an error.
type Option struct {
	name  string
	where entryPoints
	apply func(*settings) error
}

// Check returns the error of a value that no call accepts, such as a negative part size. A program can so check what a user has
// given before it makes a call. Whether the option applies to a function is not checked.
func (o Option) Check() error {
	s := defaults()
	_, err := s.with(o.where, []Option{o})
	return err
}

// WithPartSize limits how much one request asks for, in bytes: [MinPartSize] to [MaxPartSize].
//
// Without it, sizes are chosen that hide round trips: 8 MiB at first, then what a connection delivers in four seconds, from
// 1 MiB to 256 MiB. Requests at the end of a download may be smaller. Resuming does not depend on the part size: it
// continues at the exact byte. A server that does not support ranges sends everything in one answer, whatever the part
// size.
//
// It applies to [New] and all downloads.
func WithPartSize(bytes int64) Option {
	return Option{"WithPartSize", inNew | inDownloads, func(s *settings) error {
		if bytes < MinPartSize || bytes > MaxPartSize {
			return fmt.Errorf("part size %d is outside %d to %d bytes", bytes, int64(MinPartSize), int64(MaxPartSize))
		}
		s.partSize = bytes
		return nil
	}}
}

// WithConcurrency limits the number of requests in flight: 1 to [MaxConcurrency]. For [Downloader.VerifyPrefix] and
// [Downloader.VerifyManifest] it also decides how many files are read at the same time.
//
// Without it the number adapts to the network, up to [AdaptiveConcurrency]. Given to [New], it limits all calls of the
// Downloader together. Given to a call, it limits that call alone; it may then exceed AdaptiveConcurrency, unless New was
// given less.
//
// It applies to [New] and all calls.
func WithConcurrency(n int) Option {
	return Option{"WithConcurrency", inNew | inAll, func(s *settings) error {
		if n < 1 || n > MaxConcurrency {
			return fmt.Errorf("concurrency %d is outside 1 to %d", n, MaxConcurrency)
		}
		s.concurrency = n
		return nil
	}}
}

// WithRateLimit limits how many bytes per second are read from the network. The minimum is 1; without the option there is no
// limit. Given to [New], it limits all calls of the Downloader together, and one given to a call limits that call further.
//
// It applies to [New], all downloads, [Downloader.VerifyPrefix] and [Downloader.PlanRanges].
func WithRateLimit(bytesPerSecond int64) Option {
	return Option{"WithRateLimit", inNew | inDownloads | inListing, func(s *settings) error {
		if bytesPerSecond < 1 {
			return fmt.Errorf("rate limit %d is below 1 byte per second", bytesPerSecond)
		}
		s.rateLimit = bytesPerSecond
		return nil
	}}
}

// WithCheckpoint names the checkpoint file of this call. Its folder must exist. The default is a file in the working folder
// PATH.cp; naming PATH.cp itself has the same effect.
//
// Calls that run at the same time need different files, since only the destination is locked. If the name is a symbolic link,
// the file it points to is used. If there is a file that is not a checkpoint, that is an error, and the file is not replaced.
// An empty path is an error.
//
// It applies to [Downloader.Download] and [Downloader.DownloadURL].
func WithCheckpoint(path string) Option {
	return Option{"WithCheckpoint", inFile, func(s *settings) error {
		if path == "" {
			return errors.New("empty path; omit the option for the default")
		}
		s.checkpoint = checkpointPlace{placeFile, path}
		return nil
	}}
}

// WithCheckpointDir keeps checkpoints in the folder dir, each under a name made from source and destination. If dir does not
// exist it is created with mode 0700; its parent must exist.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadURL] and [Downloader.DownloadAll].
func WithCheckpointDir(dir string) Option {
	return Option{"WithCheckpointDir", inNew | inFiles, func(s *settings) error {
		if dir == "" {
			return errors.New("empty path; omit the option for the default")
		}
		s.checkpoint = checkpointPlace{placeFolder, dir}
		return nil
	}}
}

// WithoutCheckpoint keeps no checkpoint, so an interrupted download starts over. A call that fails leaves nothing behind, and
// also removes what an earlier call with a checkpoint had left. A process that is killed leaves its partial file.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadURL], [Downloader.DownloadPrefix],
// [Downloader.DownloadObjects] and [Downloader.DownloadAll].
func WithoutCheckpoint() Option {
	return Option{"WithoutCheckpoint", inNew | inFiles | inMany, func(s *settings) error {
		s.checkpoint = checkpointPlace{kind: placeNone}
		return nil
	}}
}

// WithVersionID asks for one version of the object instead of the current one. It needs the permission oss:GetObjectVersion.
// An object that was written before versioning was enabled has the version "null".
//
// It applies to [Downloader.Download], [Downloader.DownloadTo] and [Downloader.Open].
func WithVersionID(id string) Option {
	return Option{"WithVersionID", inDownload | inDownloadTo | inOpen, func(s *settings) error {
		if id == "" {
			return errors.New("empty version; omit the option for the current one")
		}
		s.object.versionID = id
		return nil
	}}
}

// WithAsOf asks for what was current at a time: of each key the newest version that was not written after it. What was deleted
// since comes back, and what was deleted by then does not exist: as a single object it is [ErrNotFound].
//
// It is for buckets with versioning. The versions are listed, of a single object its own alone, and each object is downloaded by its
// version. That needs the permissions oss:ListObjectVersions and oss:GetObjectVersion. The times of versions are in whole seconds,
// by the clock of OSS.
//
// Versions that are no longer there are unknown. In a bucket without versioning each object has one version, "null", with the time
// of its last write. While versioning is suspended, a write replaces the version "null". If that happens during the call, or if
// something is appended to an Appendable object, the object is [ErrObjectChanged]. A symbolic link leads to the current version of
// its target.
//
// It excludes [WithVersionID].
//
// It applies to [Downloader.Download], [Downloader.DownloadTo], [Downloader.Open], [Downloader.DownloadPrefix] and
// [Downloader.VerifyPrefix].
func WithAsOf(t time.Time) Option {
	return Option{"WithAsOf", inDownload | inDownloadTo | inOpen | inDownloadPrefix | inVerifyPrefix, func(s *settings) error {
		if t.IsZero() {
			return errors.New("zero time; omit the option for the current versions")
		}
		s.object.asOf = t
		return nil
	}}
}

// WithIfMatch downloads the object only while it has this ETag; otherwise the call fails with [ErrObjectChanged]. The ETag is
// written as the service sends it; its quotes may be omitted.
//
// It applies to all downloads except [Downloader.DownloadPrefix], [Downloader.DownloadObjects] and [Downloader.DownloadAll], and not
// to [New].
func WithIfMatch(etag string) Option {
	return Option{"WithIfMatch", inOne, func(s *settings) error {
		tag, err := strongETag(etag)
		s.object.ifMatch = tag
		return err
	}}
}

// strongETag returns an ETag in quotes, unless it is none or weak.
func strongETag(etag string) (string, error) {
	if etag == "" || strings.ContainsAny(etag, "\r\n,") || strings.HasPrefix(etag, "W/") {
		return "", fmt.Errorf("%q is not one strong ETag", etag)
	}
	if !strings.HasPrefix(etag, `"`) {
		etag = `"` + etag + `"`
	}
	return etag, nil
}

// WithRange asks for length bytes of the object, starting at offset. A length of -1 means everything up to the end. The first
// byte asked for is written at offset 0 of the file or writer. If part of the range is outside the object the call fails with
// [ErrRange].
//
// The service's CRC-64 covers only the whole object. Unless the range does so, too, Result.Verified depends on [WithChecksum]:
// without it, it is false.
//
// It applies to all downloads except [Downloader.DownloadPrefix], [Downloader.DownloadObjects] and [Downloader.DownloadAll], and not
// to [New].
func WithRange(offset, length int64) Option {
	return Option{"WithRange", inOne, func(s *settings) error {
		if offset < 0 || length == 0 || length < -1 || length > 0 && offset+length < 0 {
			return fmt.Errorf("offset %d, length %d: the offset must be 0 or more, the length 1 or more, or -1 for all to the end", offset, length)
		}
		s.object.asked = &rangeAsked{offset, length}
		return nil
	}}
}

// WithSnapshot downloads of an Appendable object, such as a log, the bytes that it had at the first answer, whatever is appended
// meanwhile. They are verified with the CRC-64 of that answer. Without the option such an object is [ErrObjectChanged] as soon as
// something was appended to it.
//
// A download to a file that is resumed finishes the snapshot of the call that began it, even if the object has grown since; the
// call after that downloads what is there then. An object that was replaced meanwhile, be it by a shorter one, by one that is not
// Appendable, or by one with other bytes, is [ErrObjectChanged]. If that has happened between two calls, the download starts over.
//
// It has no effect on other objects, on symbolic links, on answers without a CRC-64, and together with [WithRange].
//
// It applies to [New] and all downloads.
func WithSnapshot() Option {
	return Option{"WithSnapshot", inNew | inDownloads, func(s *settings) error {
		s.snapshot = true
		return nil
	}}
}

// WithRestore restores archived objects before they are downloaded, which costs money: OSS charges for each restore by the size
// of the object. Without the option such an object is [ErrArchived].
//
// A restore is asked for only if the object is frozen. If one is under way, also one that an interrupted call has asked for,
// the call waits for it, whatever its tier. A restored object is downloaded at once. So is an object of class Archive in a bucket
// with direct reading.
//
// The call waits until the object can be read, a minute or days, depending on class and tier. End it by its context: the same call
// made again asks for nothing twice. The first look comes within a minute. The pauses between looks then double, from PollMin to
// PollMax. Each look is a HEAD request. If the object freezes again before it is downloaded, it is restored again.
//
// [Downloader.DownloadPrefix] asks for the restore of all frozen objects first, up to 100 a second, and downloads others
// meanwhile. The listing is read up to 100,000 readable objects ahead for that. An object that waits or thaws takes some 500 bytes of
// memory. In a round of looks, 1,000 objects in a row that still thaw end the round, and the next one goes on behind them.
// [Downloader.DownloadObjects] makes a HEAD request for each object that it does not skip, to find out the class.
//
// The permission oss:RestoreObject is needed, and oss:RestoreObjectVersion for versions that the caller names. Days and tiers that
// the class of an object does not have are [ErrArchived], before the restore is asked for.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadTo], [Downloader.Open], [Downloader.DownloadPrefix] and
// [Downloader.DownloadObjects]. A signed URL can restore nothing.
func WithRestore(p RestorePolicy) Option {
	name, where := "WithRestore", inNew|inSDK
	if p.StartOnly {
		name, where = "WithRestore with StartOnly", inNew|inMany
	}
	return Option{name, where, func(s *settings) error {
		r, err := p.withDefaults()
		s.restore = &r
		return err
	}}
}

// RestorePolicy says how archived objects are restored; see [WithRestore]. A zero field means its default.
type RestorePolicy struct {
	// Days is how long an object can be read after its restore; the default is 1. Class Archive allows 1 to 7, the others 1 to
	// [MaxRestoreDays].
	Days int
	// Tier is how fast objects of class ColdArchive or DeepColdArchive are restored, and how much that costs: Expedited, Standard
	// or Bulk. DeepColdArchive has no Bulk. The default is OSS's, Standard. Class Archive has no tiers.
	Tier string
	// PollMin and PollMax limit the pauses between looks; the defaults are 20 s and 10 min. [MinRestorePoll] to [MaxRestorePoll]
	// are allowed. If only one of the two is given and the default of the other contradicts it, the default gives way.
	PollMin, PollMax time.Duration
	// StartOnly makes DownloadPrefix and DownloadObjects ask for restores and return. They download nothing, and write nothing to
	// the folder. The call returns [ErrRestoring] if an object still thaws. Such a policy applies to these calls alone.
	StartOnly bool
}

// defaultRestore is the policy whose fields are the defaults.
var defaultRestore = RestorePolicy{Days: 1, PollMin: 20 * time.Second, PollMax: 10 * time.Minute}

// withDefaults returns the policy with a default for each field that is zero.
func (p RestorePolicy) withDefaults() (RestorePolicy, error) {
	r := defaultRestore
	if p.Days != 0 {
		r.Days = p.Days
	}
	r.Tier, r.StartOnly = p.Tier, p.StartOnly
	if p.PollMin != 0 {
		r.PollMin = p.PollMin
		r.PollMax = max(r.PollMax, r.PollMin)
	}
	if p.PollMax != 0 {
		r.PollMax = p.PollMax
		if p.PollMin == 0 {
			r.PollMin = min(r.PollMin, r.PollMax)
		}
	}
	switch {
	case r.PollMin < MinRestorePoll || r.PollMin > MaxRestorePoll:
		return r, fmt.Errorf("PollMin %v is outside %v to %v", r.PollMin, MinRestorePoll, MaxRestorePoll)
	case r.PollMax < MinRestorePoll || r.PollMax > MaxRestorePoll:
		return r, fmt.Errorf("PollMax %v is outside %v to %v", r.PollMax, MinRestorePoll, MaxRestorePoll)
	case r.PollMin > r.PollMax:
		return r, fmt.Errorf("PollMin %v is more than PollMax %v", r.PollMin, r.PollMax)
	}
	return r, r.thaw().Check()
}

// thaw returns the policy as package thaw has it.
func (p RestorePolicy) thaw() thaw.Policy {
	return thaw.Policy{Days: p.Days, Tier: p.Tier, PollMin: p.PollMin, PollMax: p.PollMax}
}

// WithChecksum gives a digest that the bytes must have, for example sha256.New and the 32 bytes of a SHA-256. If they have
// another, the call fails with [ErrChecksum]. If there was no CRC-64 to compare with, the bytes are downloaded once more
// before the call fails. A digest whose length is not that of the hash is an error.
//
// The digest is computed in order before a file appears at its path. A [Reader] computes it from the bytes that are read.
// [Downloader.DownloadTo] reads the bytes back, so its writer must also be an [io.ReaderAt].
//
// It applies to all downloads except [Downloader.DownloadPrefix], [Downloader.DownloadObjects] and [Downloader.DownloadAll], and not
// to [New].
func WithChecksum(newHash func() hash.Hash, want []byte) Option {
	return Option{"WithChecksum", inOne, func(s *settings) error {
		if newHash == nil {
			return errors.New("nil hash function")
		}
		h := newHash()
		if h == nil {
			return errNilHash
		}
		if n := h.Size(); n != len(want) {
			return fmt.Errorf("the digest has %s, the hash makes %d", byteCount(int64(len(want))), n)
		}
		s.object.newHash, s.object.want = newHash, slices.Clone(want)
		return nil
	}}
}

var errNilHash = errors.New("the hash function returned nil")

// makeHash returns a new hash of the caller's.
func (o *objectOptions) makeHash() (hash.Hash, error) {
	if h := o.newHash(); h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("WithChecksum: %w", errNilHash)
}

// WithDecryption decrypts objects that an encryption client of an SDK has encrypted with one of these master keys; see [Unwrapper]
// and [ReadRSAKeys]. Other objects come as they are stored. Without the option that goes for all objects: Result.Encrypted and a
// warning say that the bytes are ciphertext.
//
// The metadata of an object says how its key is wrapped, and may have a description (matdesc) of the master key. The keys
// with the same description are tried. If there are none, those without one are tried; for an object without a
// description, all. A key for another way to wrap is never tried.
//
// If no key opens the object, or its metadata is not what the SDKs write, the call fails with [ErrDecryption]. Nothing is written
// then: an old file stays, and so does what an earlier call has left.
//
// Sizes, offsets, Result.CRC64 and the digest of [WithChecksum] are those of the plaintext. The service's CRC-64, and that of an
// [Object], is that of the ciphertext. It verifies the plaintext all the same, because one follows from the other, and also what an
// earlier call has written. It cannot show that the key is the right one. RSA and KMS refuse to unwrap with another key, and
// WithChecksum verifies both. What an earlier call has left is continued only if it was decrypted in the same way.
//
// A processed object, of a URL with x-oss-process, comes as the service sends it.
//
// It applies to [New], all downloads and [Downloader.VerifyPrefix].
func WithDecryption(keys ...Unwrapper) Option {
	return Option{"WithDecryption", inNew | inDownloads | inVerifyPrefix, func(s *settings) error {
		if len(keys) == 0 {
			return errors.New("no keys; omit the option to leave objects encrypted")
		}
		s.keys = nil
		for _, k := range keys {
			if k == nil {
				return errors.New("nil key")
			}
			s.keys = append(s.keys, k)
		}
		return nil
	}}
}

// Unwrapper is a master key for [WithDecryption]. A MasterCipher of aliyun-oss-go-sdk/oss/crypto or of
// alibabacloud-oss-go-sdk-v2/oss/crypto is one, for RSA and KMS alike.
//
// Its methods must be safe for concurrent use. Decrypt is called twice for each object. It has no context: when that of the
// call ends, the call does not wait for it. A panic ends the call, and is raised again in the caller's goroutine.
type Unwrapper interface {
	// Decrypt unwraps what the key has wrapped.
	Decrypt(wrapped []byte) ([]byte, error)
	// GetWrapAlgorithm returns the way to wrap, as it is in the metadata of objects: RSA/NONE/PKCS1Padding, KMS/ALICLOUD.
	GetWrapAlgorithm() string
	// GetMatDesc returns the description of the key, as JSON; "" if it has none.
	GetMatDesc() string
}

// ReadRSAKeys returns the keys in a PEM file, for [WithDecryption]: those of each RSA private key in it, as PRIVATE KEY (PKCS #8) or
// RSA PRIVATE KEY (PKCS #1). They have no description. A file without such a key, and a key with a passphrase, is an error, which
// quotes nothing of the file.
func ReadRSAKeys(pem []byte) ([]Unwrapper, error) {
	keys, err := sealed.ReadRSA(pem)
	if err != nil {
		return nil, fmt.Errorf("ossdl: read RSA keys: %w", err)
	}
	all := make([]Unwrapper, len(keys))
	for i, k := range keys {
		all[i] = k
	}
	return all, nil
}

// WithProgress calls fn as the download progresses: at most ten times a second, and once more when it has succeeded or failed.
//
// For one call fn never runs concurrently. Given to [New], it may run for several calls at the same time. It runs in a
// goroutine of this package. A slow fn delays only its own next call and the return of the download.
//
// A panic of fn ends the call, and is raised again in the caller's goroutine once nothing of the call is left.
//
// The download waits for fn, so fn must not wait for the download. For [Downloader.Open] and [Downloader.OpenURL], fn must
// not call Read, WriteTo or Close of the [Reader], nor wait for a goroutine that does. To give up from within fn, cancel the
// context.
//
// It applies to [New] and all calls.
func WithProgress(fn func(Progress)) Option {
	return Option{"WithProgress", inNew | inAll, func(s *settings) error {
		if fn == nil {
			return errors.New("nil function")
		}
		s.progress = fn
		return nil
	}}
}

// WithObjectResult calls fn once for each object when it is settled, and for each file deleted; in a dry run, for what would be
// done. An object is settled if it is downloaded, was there already, has failed, or is a folder that was made. Keys that
// [WithInclude], [WithExclude], [WithShard] or [WithKeyRange] leave out are not reported, nor are objects that the end of ctx has
// cut off.
//
// fn never runs concurrently, and no longer once the call has returned. It runs in goroutines of this package, in the order in
// which objects are settled, which is not that of the keys. Downloads wait for it, so it should be quick, and must not wait for
// the call. To give up from within fn, cancel the context.
//
// A panic of fn ends the call, and is raised again in the caller's goroutine once nothing of the call is left. fn is not called
// again then.
//
// It applies to [Downloader.DownloadPrefix], [Downloader.DownloadObjects] and [Downloader.DownloadAll].
func WithObjectResult(fn func(ObjectResult)) Option {
	return Option{"WithObjectResult", inMany | inDownloadAll, func(s *settings) error {
		if fn == nil {
			return errors.New("nil function")
		}
		s.objectResult = fn
		return nil
	}}
}

// WithManifest writes a manifest to the file path: one line of JSON for each object whose file or folder is in place, whether it
// was downloaded or was there. [Downloader.VerifyManifest] compares a folder with it.
//
// A line has name (of the file, relative and with slashes; that of a folder ends in one), key, size, etag, version, crc64 (a
// decimal string), lastModified and, with [WithManifestSHA256], sha256. Those of objects that the call has restored have
// restored, which is true. The lines are in the order in which objects are settled.
// size and crc64 are those of the file. A file that was there is read for them, unless it was compared by CRC-64 anyway; if a list
// names a CRC-64 that it does not have, it is downloaded.
//
// The manifest is written beside path, and replaces what is there when the call ends: by one rename, once its lines are on
// stable storage. If objects have failed, or the call was cut short, it has what is in place. A call that fails before
// any object is settled leaves the old manifest, and so does a process that is killed. If the manifest cannot be written, the
// objects are downloaded all the same, and the call returns the error at its end.
//
// A dry run writes nothing, so together with [WithDryRun] it is an error.
//
// The folder of path must exist, and must not be dir or below it: a key could have the same name. A symbolic link at path is
// followed. A file that is there and neither a manifest nor empty is an error, and is not replaced. While another call is
// writing the same manifest the call fails with [ErrInUse], before any request.
//
// It applies to [Downloader.DownloadPrefix] and [Downloader.DownloadObjects].
func WithManifest(path string) Option {
	return Option{"WithManifest", inMany, func(s *settings) error {
		if path == "" {
			return errors.New("empty path; omit the option for no manifest")
		}
		s.manifest = path
		return nil
	}}
}

// WithManifestSHA256 adds the SHA-256 of each file to the manifest of [WithManifest]. It is computed as the bytes arrive, or else
// from the file before it gets its name. Files that are there already are read. It has no effect without a manifest.
//
// It applies to [New], [Downloader.DownloadPrefix] and [Downloader.DownloadObjects].
func WithManifestSHA256() Option {
	return Option{"WithManifestSHA256", inNew | inMany, func(s *settings) error {
		s.manifestSHA256 = true
		return nil
	}}
}

// WithDifference calls fn for each [Difference], when it is found. fn never runs concurrently, and no longer once the call has
// returned. It runs in goroutines of this package, which wait for it.
//
// A panic of fn ends the call, and is raised again in the caller's goroutine once nothing of the call is left. fn is not called
// again then.
//
// It applies to [Downloader.VerifyPrefix] and [Downloader.VerifyManifest].
func WithDifference(fn func(Difference)) Option {
	return Option{"WithDifference", inVerify, func(s *settings) error {
		if fn == nil {
			return errors.New("nil function")
		}
		s.difference = fn
		return nil
	}}
}

// WithRetry replaces the retry policy. A zero field keeps its default; a negative one is an error, and so is a MinDelay above
// MaxDelay.
//
// It applies to [New], all downloads, [Downloader.VerifyPrefix] and [Downloader.PlanRanges].
func WithRetry(p RetryPolicy) Option {
	return Option{"WithRetry", inNew | inDownloads | inListing, func(s *settings) error {
		r, err := p.withDefaults()
		s.retry = r
		return err
	}}
}

// RetryPolicy says how often and how fast failed requests are retried. A zero field means its default.
type RetryPolicy struct {
	// Attempts is how many requests in a row may make no progress on one range before the call fails; the default is
	// [DefaultAttempts]. With 1 nothing is retried, whether or not there was progress. A request makes progress if it
	// delivers 64 KiB, or all that was left if that is less.
	Attempts int
	// MinDelay and MaxDelay limit the delays between attempts; the defaults are 200 ms and 10 s. The first retry after
	// progress is immediate. After that each delay is random, between zero and a limit that doubles from MinDelay to
	// MaxDelay. After a 429 or 503 there is always a delay. The server's Retry-After is honored up to one minute, or up to
	// MaxDelay if that is longer. If only one of the two is given and the default of the other contradicts it, the default
	// gives way.
	MinDelay, MaxDelay time.Duration
	// MaxElapsed is how long one range may make no progress before the call fails, counted from its last progress. Without it,
	// Attempts alone decide. With it, Attempts has no default: there are as many as fit in. If both are given, whichever comes
	// first ends the call. A delay is cut short at this time, for one last attempt. A request that is being answered is not:
	// [WithStallTimeout] ends it, or the context, which is also what bounds a whole call.
	MaxElapsed time.Duration
}

// defaultRetry outlasts a server that is down for about ten seconds, even with the maximum number of workers. Delays are
// random, and the unluckiest worker decides.
var defaultRetry = RetryPolicy{Attempts: DefaultAttempts, MinDelay: 200 * time.Millisecond, MaxDelay: 10 * time.Second}

// withDefaults returns the policy with a default for each field that is zero.
func (p RetryPolicy) withDefaults() (RetryPolicy, error) {
	r := defaultRetry
	if p.Attempts < 0 || p.MinDelay < 0 || p.MaxDelay < 0 || p.MaxElapsed < 0 {
		return r, fmt.Errorf("negative field in %+v", p)
	}
	if r.MaxElapsed = p.MaxElapsed; p.MaxElapsed > 0 {
		r.Attempts = math.MaxInt
	}
	if p.Attempts > 0 {
		r.Attempts = p.Attempts
	}
	if p.MinDelay > 0 {
		r.MinDelay = p.MinDelay
		r.MaxDelay = max(r.MaxDelay, r.MinDelay)
	}
	if p.MaxDelay > 0 {
		if p.MinDelay > p.MaxDelay {
			return r, fmt.Errorf("MinDelay %v is more than MaxDelay %v", p.MinDelay, p.MaxDelay)
		}
		r.MaxDelay = p.MaxDelay
		r.MinDelay = min(r.MinDelay, r.MaxDelay)
	}
	return r, nil
}

// WithStallTimeout abandons a request that delivers less than 1 KiB/s over this time, and continues it on a new connection.
// Only time spent waiting for the network counts. The minimum is [MinStallTimeout], the default [DefaultStallTimeout]. After a
// request that stalled without a byte, the next ones ask for less and have more time, up to four times as much: a virus scanner
// on the way may forward a body once it has all of it.
//
// It applies to [New], all downloads, [Downloader.VerifyPrefix] and [Downloader.PlanRanges].
func WithStallTimeout(d time.Duration) Option {
	return Option{"WithStallTimeout", inNew | inDownloads | inListing, func(s *settings) error {
		if d < MinStallTimeout {
			return fmt.Errorf("time-out %v is below %v", d, MinStallTimeout)
		}
		s.stall = d
		return nil
	}}
}

// WithRequestOptions adds options of the SDK to each request: request payer, traffic limit, other headers and parameters.
//
// Options for what the library decides itself are refused by name. These are Range, conditions, Accept-Encoding, the version,
// processing, the context, progress, pointers to response headers, and whatever belongs to signatures.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadTo], [Downloader.Open], [Downloader.DownloadPrefix],
// [Downloader.DownloadObjects], [Downloader.DownloadAll], [Downloader.VerifyPrefix] and [Downloader.PlanRanges]. A URL is sent as
// it was signed.
func WithRequestOptions(opts ...oss.Option) Option {
	return Option{"WithRequestOptions", inNew | inSDK | inDownloadAll | inListing, func(s *settings) error {
		r, err := bucket.ReadExtra(opts)
		if err != nil {
			return err
		}
		s.request = r
		return nil
	}}
}

// WithFallback gives clients that reach the same buckets over other endpoints, in order: for example one of the public endpoint,
// while that of New has the internal one.
//
// Requests go to one endpoint until that fails: no connection, no TLS, a request that stalls, a body that breaks off before 64 KiB,
// or a 502, 503 or 504, each only if nothing else has come from the endpoint since the request began. Then the next requests go to
// the next endpoint, and after the last to the first. No other answer has that effect. The change is a retry, so it counts as
// one of [RetryPolicy].Attempts, and with Attempts 1 it helps the next call. All calls of the Downloader follow it. After 30 s,
// and then after pauses that double up to 10 minutes, one request tries the first endpoint again, for up to 5 s until it answers.
// If it brings bytes, all requests go there again.
//
// The first answer decides which object a download is of: its ETag, size and CRC-64. If another endpoint has another object, none,
// or refuses the request, that endpoint is not asked for this object again, and a warning is logged. So a download from an
// endpoint with older objects is never mixed with that of another.
//
// When the first endpoint is left, a warning says so, since traffic of public endpoints is charged.
//
// The clients are checked as [New] checks its own. Either all have credentials or none. A nil client, and one that is given twice,
// is an error.
//
// It applies to [New]. URLs have an endpoint of their own.
func WithFallback(clients ...*oss.Client) Option {
	return Option{"WithFallback", inNew, func(s *settings) error {
		if len(clients) == 0 {
			return errors.New("no client; omit the option")
		}
		s.fallback = slices.Clone(clients)
		return nil
	}}
}

// WithObjectTime gives the file the object's Last-Modified, as [Downloader.DownloadPrefix] always does. Without it the file has the
// time of the download.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadURL] and [Downloader.DownloadAll].
func WithObjectTime() Option {
	return Option{"WithObjectTime", inNew | inFiles, func(s *settings) error {
		s.objectTimes = true
		return nil
	}}
}

// Metadata are properties of a file that a tool has kept with the object it made of the file; see [WithMetadata].
type Metadata uint8

const (
	MetadataTime  Metadata = 1 << iota // the modification time, in x-oss-meta-mtime
	MetadataMode                       // the permissions, in x-oss-meta-mode
	MetadataOwner                      // the user and the group, in x-oss-meta-uid and -gid; for root alone
)

// WithMetadata gives the file the properties of the one that the object was made of, if the object has them. They are read as
// rclone, ossfs and s3fs write them: the time in seconds since 1970, with or without a fraction, and the mode of a regular file
// in decimal (33188) or octal (100644, 0644). Set-user-ID, set-group-ID and sticky bits are dropped, and the
// owner may always read and write the file: it could not be replaced otherwise. A value that is none of these is
// ignored, with a warning. Several properties are joined by |.
//
// The owner is a number of a user and one of a group, in decimal, as rclone, ossfs and s3fs write them; an object may have one
// of them alone. Only root may give files away, so MetadataOwner is an error of the option for anybody else. What is in the
// metadata comes from whoever wrote the object: with MetadataOwner that one decides whose file it is. A file that could not be
// given away is a warning.
//
// If the object has no time, the file has the one that it has without this option. A mode from metadata is given even to a file
// that replaces one with a narrower mode. Until the file is complete, its data has the mode that it has without this option. On Windows
// the mode is ignored.
//
// A listing has no metadata. So [Downloader.DownloadPrefix] with MetadataTime makes a HEAD request for each existing file of the right
// size whose time is not Last-Modified. It skips a file with the time in the metadata or, if the time differs, with the CRC-64. The
// mode and the owner of a file that is skipped stay as they are.
//
// [Downloader.VerifyPrefix] with MetadataTime compares the time of a file that there is no CRC-64 for with the one in the metadata.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadURL], [Downloader.DownloadPrefix],
// [Downloader.DownloadObjects], [Downloader.DownloadAll] and [Downloader.VerifyPrefix].
func WithMetadata(m Metadata) Option {
	return Option{"WithMetadata", inNew | inFiles | inMany | inVerifyPrefix, func(s *settings) error {
		if m == 0 || m&^(MetadataTime|MetadataMode|MetadataOwner) != 0 {
			return fmt.Errorf("metadata %#x is not one or several of MetadataTime, MetadataMode and MetadataOwner", uint8(m))
		}
		if m&MetadataOwner != 0 && os.Geteuid() != 0 {
			return errors.New("MetadataOwner is for root alone, who may give files to other users; omit it, or run as root")
		}
		s.metadata = m
		return nil
	}}
}

// WithURLRefresh gives a function that returns a new URL of the same object once the old one has expired, by its own date or
// because the temporary key that signed it has expired.
//
// fn is called once per expiry, however many requests wait for the new URL; meanwhile no request is made. Its ctx is derived
// from that of the call. The call fails with [ErrExpired] if fn returns an error or a malformed URL, or if three new URLs in
// a row have expired as well.
//
// It applies to [Downloader.DownloadURL] and [Downloader.OpenURL].
func WithURLRefresh(fn func(context.Context) (string, error)) Option {
	return Option{"WithURLRefresh", inURL, func(s *settings) error {
		if fn == nil {
			return errors.New("nil function")
		}
		s.refresh = fn
		return nil
	}}
}

// WithHTTPClient sets the client for URLs, for example to use your own certificate authority or proxy. The default is one
// made by [HTTPClient].
//
// A Timeout of the client cuts off long bodies. HTTP/2 puts all ranges on one connection. A CheckRedirect replaces the rules
// of this package. Closing its idle connections is up to the caller.
//
// It applies to [New], [Downloader.DownloadURL], [Downloader.OpenURL] and [Downloader.DownloadAll].
func WithHTTPClient(c *http.Client) Option {
	return Option{"WithHTTPClient", inNew | inURL | inDownloadAll, func(s *settings) error {
		if c == nil {
			return errors.New("nil client")
		}
		s.httpClient = c
		return nil
	}}
}

// WithHeader adds a header to each request for the URL, such as Authorization, PRIVATE-TOKEN or Referer. Several options add up;
// of those with the same name the last one counts.
//
// The header is for the host of the URL alone. It is not sent to another host that a redirect or [WithURLRefresh] leads to, nor from
// https to http, and no longer once a redirect has left the host. The value is in no error, log line or file.
//
// Names that the library or net/http decides about are an error, such as Range, conditions, Accept-Encoding, Host and User-Agent, and
// so are values with control characters. A header whose name begins with x-oss- invalidates the signature of a signed URL.
//
// It applies to [Downloader.DownloadURL], [Downloader.OpenURL] and [Downloader.DownloadAll], whose URLs must all be of one host then.
func WithHeader(name, value string) Option {
	return Option{"WithHeader", inURL | inDownloadAll, func(s *settings) error {
		canonical, err := weburl.CheckHeader(name, value)
		if err != nil {
			return err
		}
		headers := s.headers.Clone() // calls share the settings of their Downloader
		if headers == nil {
			headers = http.Header{}
		}
		headers.Set(canonical, value)
		s.headers = headers
		return nil
	}}
}

// WithReadAhead limits the memory that a [Reader] may hold, in bytes. The minimum is [MinReadAhead], the default
// [DefaultReadAhead].
//
// Up to a quarter of it is for the buffers of requests, 256 KiB each. More than 64 requests in flight therefore need more
// than the default.
//
// It applies to [New], [Downloader.Open] and [Downloader.OpenURL].
func WithReadAhead(bytes int64) Option {
	return Option{"WithReadAhead", inNew | inReader, func(s *settings) error {
		if bytes < MinReadAhead {
			return fmt.Errorf("read-ahead %d is below %d bytes", bytes, MinReadAhead)
		}
		s.readAhead = bytes
		return nil
	}}
}

// WithInclude downloads only the keys of a prefix whose local name matches one of the patterns. The local name is the key
// without the prefix up to its last slash. For a list it is the Name of an [Object], else its whole key; for a manifest, the name
// in the line.
//
// Patterns have the syntax of [path.Match]. One with a slash is compared with the whole local name, any other with its last
// element. The patterns of several options add up, including those given to [New]. A malformed pattern is an error.
//
// It applies to [New], [Downloader.DownloadPrefix], [Downloader.DownloadObjects], [Downloader.VerifyPrefix] and
// [Downloader.VerifyManifest].
func WithInclude(patterns ...string) Option {
	return Option{"WithInclude", inNew | inMany | inVerify, func(s *settings) error {
		s.include = append(slices.Clone(s.include), patterns...)
		return tree.CheckPatterns(patterns)
	}}
}

// WithExclude skips the keys of a prefix whose local name matches one of the patterns, even if they match [WithInclude]. The
// patterns are as described there.
//
// It applies to [New], [Downloader.DownloadPrefix], [Downloader.DownloadObjects], [Downloader.VerifyPrefix] and
// [Downloader.VerifyManifest].
func WithExclude(patterns ...string) Option {
	return Option{"WithExclude", inNew | inMany | inVerify, func(s *settings) error {
		s.exclude = append(slices.Clone(s.exclude), patterns...)
		return tree.CheckPatterns(patterns)
	}}
}

// WithShard downloads only one share of a prefix: the keys whose FNV-1a 64 hash, modulo count, is index. The hash is of the
// whole key, and index is 0 to count-1.
//
// Each key is in exactly one share, and always in the same. The shares may be downloaded at the same time, even by several
// machines, into one folder or several.
//
// It applies to [New], [Downloader.DownloadPrefix], [Downloader.DownloadObjects] and [Downloader.VerifyPrefix].
func WithShard(index, count int) Option {
	return Option{"WithShard", inNew | inMany | inVerifyPrefix, func(s *settings) error {
		if count < 1 || index < 0 || index >= count {
			return fmt.Errorf("shard %d of %d: the count must be 1 or more, the index 0 to count-1", index, count)
		}
		s.shard = tree.Shard{Index: index, Count: count}
		return nil
	}}
}

// WithKeyRange downloads only the keys of a prefix that come after the key after and not after the key until, in the order of their
// bytes: after is not in the range, until is. An empty one means no bound. Both are whole keys, and need not exist.
//
// Only that part is listed, so many workers share a large prefix without each listing all of it, as they do with [WithShard]. Ranges
// of which each begins with the until of the one before cover all keys once; [Downloader.PlanRanges] finds balanced ones. A call does not know the keys of other ranges:
//
//   - of a key that is a file and one that would lie below it, in different ranges, whichever comes later finds what the other
//     has made, and fails
//   - in a case-insensitive folder, of keys in different ranges that differ only by case, the later one replaces the file of the
//     other; such ranges need folders of their own
//
// Two bounds between which there is nothing are an error. Together with [WithDelete], WithKeyRange is an error, too.
//
// It applies to [Downloader.DownloadPrefix] and [Downloader.VerifyPrefix].
func WithKeyRange(after, until string) Option {
	return Option{"WithKeyRange", inDownloadPrefix | inVerifyPrefix, func(s *settings) error {
		for _, key := range []string{after, until} {
			if len(key) > bucket.MaxKey || !utf8.ValidString(key) {
				return fmt.Errorf("key %q: up to %d bytes of UTF-8 are allowed", key, bucket.MaxKey)
			}
		}
		if until != "" && until <= after {
			return fmt.Errorf("no key comes after %q and not after %q", after, until)
		}
		s.after, s.until = after, until
		return nil
	}}
}

// WithCompareCRC64 compares an existing file that has the object's size by CRC-64 instead of time. For each such file the call
// makes a HEAD request, unless an [Object] has the CRC-64, and reads the file. If the service has no CRC-64 of the object, the
// time decides.
//
// It applies to [New], [Downloader.DownloadPrefix] and [Downloader.DownloadObjects].
func WithCompareCRC64() Option {
	return Option{"WithCompareCRC64", inNew | inMany, func(s *settings) error {
		s.compareCRC = true
		return nil
	}}
}

// WithDryRun finds out what a call would do, and does nothing: it lists, compares the files that are there, and asks for what it
// needs for that, but nothing on the disk is made, changed or removed. A folder that is missing stays so.
//
// [WithObjectResult] reports what would be downloaded as [ObjectWouldDownload], and what would be deleted as
// [ObjectWouldDelete]. The counts of the [PrefixResult] are those of what would be done; Bytes are as they were listed. What shows
// only while bytes arrive or are written is not found out. In a missing or empty folder it is not known which names are one
// file. Files whose times differ by less than two seconds are compared by CRC-64, since the file system may round times.
//
// It applies to [Downloader.DownloadPrefix] and [Downloader.DownloadObjects].
func WithDryRun() Option {
	return Option{"WithDryRun", inMany, func(s *settings) error {
		s.dryRun = true
		return nil
	}}
}

// WithDelete makes the folder a mirror of the prefix: it deletes files without a key, up to most. If there are more, it
// deletes none, and the call returns an error that says how many there are. Each is reported as [ObjectDeleted].
//
// Files are deleted last, and only if everything was listed and no object failed. Never deleted are names that
// [WithInclude] or [WithExclude] leave out, names that cannot belong to a key with the prefix, whatever is not a regular file,
// links and what they lead to, .ossdl and what is in it, the working files of downloads to single files in folders NAME.cp, and
// in a case-insensitive folder a file whose name a key has in another case. Folders that become empty are removed, unless a key stands for them; those that were empty before stay.
//
// If a file system lists files under other names than they were given, such as another normal form of Unicode, that is an error,
// and nothing is deleted. The call remembers 16 to 40 bytes per key, and the names of most files. Calls for several prefixes
// need folders of their own. Together with [WithShard] or [WithKeyRange], WithDelete is an error: a part of the keys does not know the others.
//
// It applies to [Downloader.DownloadPrefix].
func WithDelete(most int) Option {
	return Option{"WithDelete", inDownloadPrefix, func(s *settings) error {
		if most < 0 {
			return fmt.Errorf("%d files: 0 or more may be deleted", most)
		}
		s.mirror, s.deleteMost = true, most
		return nil
	}}
}

// WithoutPreallocation leaves the partial file sparse instead of reserving its space. A full disk is then found only while
// writing: [ErrNoSpace] may come at any byte.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadURL], [Downloader.DownloadPrefix],
// [Downloader.DownloadObjects] and [Downloader.DownloadAll].
func WithoutPreallocation() Option {
	return Option{"WithoutPreallocation", inNew | inFiles | inMany, func(s *settings) error {
		s.sparse = true
		return nil
	}}
}

// WithMkdirAll makes the folder of the file, with its parents, if it is missing, with mode 0777 less the umask. Without the option
// that is an error. Links on the way are followed by the same rule as those to the file. The folders above are synced, as far as an
// earlier call may have made one there.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadURL] and [Downloader.DownloadAll]. [Downloader.DownloadPrefix]
// always makes its folder.
func WithMkdirAll() Option {
	return Option{"WithMkdirAll", inNew | inFiles, func(s *settings) error {
		s.mkdir = true
		return nil
	}}
}

// WithIfChanged downloads nothing if the file at the path is what would be downloaded. Result.Skipped says so then, and the file is
// synced. It must be a regular file, and in a sticky folder, such as /tmp, a file of the user's. Its time and mode stay as they are,
// whatever other options say of them.
//
// With [WithChecksum] the file is compared by that digest, and no request is made. Otherwise one HEAD request asks for the object's
// CRC-64. Of a URL, which may be good for GET alone, and with [WithDecryption], the first byte is asked for instead. If the object
// has no CRC-64, the file must have its size and its Last-Modified; see [WithObjectTime]. For a symbolic link these are not enough:
// its time may be older than what it leads to. A file of the right size is read in full. If it differs, the object is downloaded as
// without the option.
//
// With [WithRange], and for a URL with x-oss-process, WithChecksum is needed: the CRC-64 of the object is not that of the file.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadURL] and [Downloader.DownloadAll], where the SHA256 or CRC64 of an
// [Item] has the effect of WithChecksum. [Downloader.DownloadPrefix] and [Downloader.DownloadObjects] compare in their own way.
func WithIfChanged() Option {
	return Option{"WithIfChanged", inNew | inFiles, func(s *settings) error {
		s.ifChanged = true
		return nil
	}}
}

// WithWait waits up to d if another call or process is writing the file. If that succeeds, and the file is what this call was to
// download, it is taken without bytes: it is compared as by [WithIfChanged], and Result.Skipped says so. If the other one fails or is
// killed, this call goes on where that has ended. After d the error is [ErrInUse]. Without the option it is that at once, but
// [Downloader.DownloadAll] tries such items once more after all others.
//
// With [WithChecksum], a file that another one has brought meanwhile without that digest is [ErrChecksum]. It is left alone, because
// two calls that want different files at one path would otherwise take turns.
//
// It applies to [New], [Downloader.Download], [Downloader.DownloadURL] and [Downloader.DownloadAll], where each item waits up to d.
func WithWait(d time.Duration) Option {
	return Option{"WithWait", inNew | inFiles, func(s *settings) error {
		if d <= 0 {
			return fmt.Errorf("%v is no time to wait; omit the option", d)
		}
		s.wait = d
		return nil
	}}
}

// WithLogger sets the logger. Without it nothing is logged.
//
// Resumed downloads and retries are logged as Info. Ignored checkpoints, a missing permission to ask for the version of the
// first answer, and anything else that costs something are logged as Warn. Objects of a prefix that failed are logged as
// Error, those that came without any checksum as Warn, and each that is settled as Debug.
//
// It applies to [New] and all calls.
func WithLogger(l *slog.Logger) Option {
	return Option{"WithLogger", inNew | inAll, func(s *settings) error {
		if l == nil {
			return errors.New("nil logger")
		}
		s.log = l
		return nil
	}}
}

// HTTPClient makes an HTTP client for ranges: give it to the SDK's client with oss.HTTPClient. Make one and use it for
// everything, because every client has its own pool of connections.
//
//   - Its pool keeps a connection for each request in flight, and spreads them over the addresses of the endpoint.
//   - It speaks HTTP/1.1 only, because HTTP/2 would put all ranges on one connection. It asks for no compression.
//   - Proxies come from the environment. Dialing and the TLS handshake end after 10 s each. A body has no time limit; see
//     [WithStallTimeout].
//   - A redirect is followed only for a request without credentials, and never from https to http. Headers of OSS are dropped
//     if it leads to another host.
//   - A proxy that refuses a connection with a 4xx ends the call, with its status and host; after a 5xx it is asked again.
//   - The header of an answer may have up to 256 KiB. Of the body of an error, up to 1 MiB is read.
//   - Errors do not show the credentials of a request, even if a server sends them back.
//   - A connection ends when a server sends bytes that belong to no answer, and net/http does not print them with package log.
//     Through a proxy's tunnel, and with a DialTLSContext of the caller, this holds without TLS only. Over TLS, the Conn that
//     a trace of net/http sees is no *tls.Conn; the TLS field of answers is as ever.
//
// The functions change the transport before it is used; they are called in order. A nil function panics. Set in them what the
// SDK's options cannot set together with oss.HTTPClient:
//
//	ossdl.HTTPClient(func(t *http.Transport) {
//		t.Proxy = http.ProxyURL(proxy)
//		t.TLSClientConfig = &tls.Config{RootCAs: roots, Certificates: certificates}
//		t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, LocalAddr: local}).DialContext
//	})
//
// HTTP/1.1, no compression and the limits hold whatever the functions set. If they replace DialContext, connections are no
// longer spread over the addresses, unless the new one calls the old one. Dial, which is deprecated, has no effect. A
// DialTLSContext must negotiate HTTP/1.1. A smaller pool than the default costs handshakes.
func HTTPClient(changes ...func(*http.Transport)) *http.Client {
	return transport.NewClient(MaxConcurrency, changes...)
}

// settings are the options of one call, laid over those of its Downloader, in one group for each part that reads them. They
// hold what the caller asked for; what an entry point finds out is in the job of the call.
type settings struct {
	fetchOptions
	fileOptions
	requestOptions
	prefixOptions
	object objectOptions // not embedded: a call reads its own copy, in its job
	hooks

	progress     func(Progress)     // nil: no reports
	objectResult func(ObjectResult) // of a prefix; nil: no reports
	difference   func(Difference)   // nil: no reports
	log          *slog.Logger
}

// fetchOptions say how bytes are fetched.
type fetchOptions struct {
	partSize    int64 // bytes; 0: chosen for each request
	concurrency int   // requests; 0: adaptive
	rateLimit   int64 // bytes per second; 0: none
	retry       RetryPolicy
	stall       time.Duration
	readAhead   int64          // bytes, for a Reader
	snapshot    bool           // of an object that grows, the bytes that it had at first
	keys        []sealed.Key   // for encrypted objects; nil: those come as they are stored
	restore     *RestorePolicy // of archived objects; nil: they are not restored
}

// startsOnly reports whether the call only asks for restores.
func (o *fetchOptions) startsOnly() bool { return o.restore != nil && o.restore.StartOnly }

// objectOptions say which bytes of which version are wanted.
type objectOptions struct {
	asked     *rangeAsked // nil: the whole object
	versionID string      // "": the current one
	asOf      time.Time   // the version that was current then; zero: the current one
	ifMatch   string      // the only ETag to accept, in quotes; "": any
	newHash   func() hash.Hash
	want      []byte // digest by newHash
}

// fileOptions say how files are written.
type fileOptions struct {
	checkpoint  checkpointPlace
	sparse      bool          // do not reserve space
	mkdir       bool          // make the folder of the file
	ifChanged   bool          // download nothing if the file is there
	wait        time.Duration // for another call that writes the file; 0: not at all
	objectTimes bool          // Download gives the file the object's Last-Modified, as DownloadPrefix does
	metadata    Metadata      // what the file gets from the object's metadata
}

// wantsTime reports whether a file gets the time in its object's metadata.
func (o *fileOptions) wantsTime() bool { return o.metadata&MetadataTime != 0 }

// requestOptions say what requests carry, and which client makes them.
type requestOptions struct {
	request    bucket.Extra                          // for buckets
	fallback   []*oss.Client                         // for buckets, after the client of New
	refresh    func(context.Context) (string, error) // for URLs; nil: none
	httpClient *http.Client                          // for URLs; nil: the Downloader's own
	headers    http.Header                           // for URLs
}

// prefixOptions say which keys of a prefix are wanted.
type prefixOptions struct {
	include    []string
	exclude    []string
	shard      tree.Shard
	after      string // only keys behind this one; "": all
	until      string // only keys up to this one; "": all
	compareCRC bool   // compare files by CRC-64 instead of time
	dryRun     bool   // do nothing
	mirror     bool   // delete files that no key has
	deleteMost int    // at most so many

	manifest       string // the file for it; "": none
	manifestSHA256 bool   // with a SHA-256 of each file
}

// rangeAsked is what WithRange asks for: length bytes from offset on, or all from there if length is -1.
type rangeAsked struct{ offset, length int64 }

// checkpointPlace says where the checkpoint of a download goes. The zero value is the default, the working folder.
type checkpointPlace struct {
	kind placeKind
	path string // of the file or folder
}

// none reports whether no checkpoint is kept.
func (p checkpointPlace) none() bool { return p.kind == placeNone }

type placeKind uint8

const (
	placeBeside placeKind = iota // in the working folder beside the file
	placeFile                    // a file of a given name
	placeFolder                  // a file in a given folder, named by source and destination
	placeNone                    // no checkpoint
)

// hooks are what tests outside this package may replace.
type hooks struct {
	fs       fsys.FS
	folderFS func(*fsys.Root) fsys.FS // of the folder of DownloadPrefix and DownloadObjects
}

// defaults returns the settings without any options.
func defaults() settings {
	return settings{
		fetchOptions: fetchOptions{retry: defaultRetry, stall: DefaultStallTimeout, readAhead: DefaultReadAhead},
		hooks:        hooks{fs: fsys.OS(), folderFS: fsys.Rooted},
		log:          slog.New(slog.DiscardHandler),
	}
}

// settings returns those of a call: the defaults given to New that apply to it, and its own options.
func (d *Downloader) settings(where entryPoints, opts []Option) (settings, error) {
	apply := make([]Option, 0, len(d.given)+len(opts))
	for _, o := range d.given {
		if o.where&where != 0 {
			apply = append(apply, o)
		}
	}
	s, err := defaults().with(where, apply)
	if err != nil {
		return s, err
	}
	// The Downloader's own bounds are kept by gate and limits; a call starts without one of its own.
	s.concurrency, s.rateLimit = 0, 0
	return s.with(where, opts)
}

// with returns a copy of the settings with the options of an entry point applied.
func (s settings) with(where entryPoints, opts []Option) (settings, error) {
	for _, o := range opts {
		if o.apply == nil {
			return s, errors.New("zero Option; use one of the With functions")
		}
		if o.where&where == 0 {
			return s, fmt.Errorf("%s does not apply to %v; it applies to %v", o.name, where, o.where)
		}
		if err := o.apply(&s); err != nil {
			return s, fmt.Errorf("%s: %w", o.name, err)
		}
	}
	return s, nil
}

// entryPoints is a set of the functions that take options.
type entryPoints uint16

// One for each function, in the order of names, and some sets of them.
const (
	inNew entryPoints = 1 << iota
	inDownload
	inDownloadURL
	inDownloadTo
	inOpen
	inOpenURL
	inDownloadPrefix
	inDownloadObjects
	inDownloadAll
	inVerifyPrefix
	inVerifyManifest
	inPlanRanges

	inFile      = inDownload | inDownloadURL
	inFiles     = inFile | inDownloadAll
	inURL       = inDownloadURL | inOpenURL
	inReader    = inOpen | inOpenURL
	inMany      = inDownloadPrefix | inDownloadObjects
	inSDK       = inDownload | inDownloadTo | inOpen | inMany
	inOne       = inFile | inDownloadTo | inReader
	inDownloads = inOne | inMany | inDownloadAll
	inVerify    = inVerifyPrefix | inVerifyManifest
	inListing   = inVerifyPrefix | inPlanRanges
	inAll       = inDownloads | inVerify | inPlanRanges
)

var entryPointNames = [...]string{
	"New", "Download", "DownloadURL", "DownloadTo", "Open", "OpenURL", "DownloadPrefix", "DownloadObjects", "DownloadAll", "VerifyPrefix",
	"VerifyManifest", "PlanRanges",
}

// names returns the names of the functions, in the order of the constants.
func (e entryPoints) names() (names []string) {
	for i, name := range entryPointNames {
		if e&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func (e entryPoints) String() string { return strings.Join(e.names(), ", ") }

// init sets the hooks of package testhook.
func init() {
	testhook.FileSystem = func(f fsys.FS) Option {
		return Option{"FileSystem", inNew | inFiles | inMany | inVerifyManifest, func(s *settings) error {
			s.fs = f
			return nil
		}}
	}
	testhook.FolderFileSystem = func(f func(*fsys.Root) fsys.FS) Option {
		return Option{"FolderFileSystem", inMany | inVerify, func(s *settings) error {
			s.folderFS = f
			return nil
		}}
	}
	testhook.Transport = func(c *http.Client) *http.Transport { return c.Transport.(*transport.Transport).Transport }
	testhook.Network = func(c *http.Client, lookup func(context.Context, string) ([]net.IPAddr, error), connect func(context.Context, string, string) (net.Conn, error)) {
		c.Transport.(*transport.Transport).SetNetwork(lookup, connect)
	}
}
