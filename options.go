package ossdl

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/testhook"
)

// Bounds and defaults of the options.
const (
	// MinPartSize and MaxPartSize bound WithPartSize, in bytes.
	MinPartSize = 1
	MaxPartSize = 5 << 30
	// MaxConcurrency is the most that WithConcurrency takes. Each request in flight has a buffer of 256 KiB.
	MaxConcurrency = 256
	// AdaptiveConcurrency is the ceiling where no concurrency is given: the number of requests in flight starts at 8,
	// grows while that makes the whole faster, and does not pass this.
	AdaptiveConcurrency = 64
	// DefaultAttempts is RetryPolicy.Attempts where that is zero: with it a range is tried again 11 times.
	DefaultAttempts = 12
	// DefaultStallTimeout is what WithStallTimeout is without the option, MinStallTimeout the least that it takes.
	DefaultStallTimeout = 30 * time.Second
	MinStallTimeout     = 100 * time.Millisecond
	// DefaultReadAhead is the memory, in bytes, that a Reader may hold without WithReadAhead.
	DefaultReadAhead = 64 << 20
	// MinReadAhead is the least that WithReadAhead takes, in bytes.
	MinReadAhead = 1 << 20
)

// defaultRetry survives a listener that is gone for some ten seconds, also where the most requests there are meet it: the
// waits of all are random, and the shortest of their sums counts.
var defaultRetry = RetryPolicy{Attempts: DefaultAttempts, MinDelay: 200 * time.Millisecond, MaxDelay: 10 * time.Second}

// RetryPolicy says how often a range is tried again. A zero field means its default.
type RetryPolicy struct {
	// Attempts is how many requests in a row may bring no progress, for one range, before the call fails; the default is
	// DefaultAttempts. With 1 nothing is tried again, progress or not. Progress is 64 KiB, or what was left where that is
	// less.
	Attempts int
	// MinDelay and MaxDelay bound the waits between them: 200 ms and 10 s. After one attempt without progress the next is
	// made at once; from then on each wait is random, between zero and a bound that doubles from MinDelay to MaxDelay.
	// After a 429 or 503 there is always a wait. A Retry-After of the server is honoured up to a minute, or to MaxDelay
	// where that is longer. One of the two that contradicts the default of the other changes that, too.
	MinDelay, MaxDelay time.Duration
}

// entrances is a set of the ways into the library, for the options that apply to them.
type entrances uint8

const (
	inNew entrances = 1 << iota
	inDownload
	inDownloadURL
	inDownloadTo
	inOpen
	inOpenURL
	inDownloadPrefix

	inFile   = inDownload | inDownloadURL
	inURL    = inDownloadURL | inOpenURL
	inReader = inOpen | inOpenURL
	inSDK    = inDownload | inDownloadTo | inOpen | inDownloadPrefix
	inOne    = inFile | inDownloadTo | inReader
	inAll    = inOne | inDownloadPrefix
)

func (e entrances) String() string {
	var names []string
	for i, name := range []string{"New", "Download", "DownloadURL", "DownloadTo", "Open", "OpenURL", "DownloadPrefix"} {
		if e&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Option changes how a Downloader, or one call of it, works. Options given to New are the defaults of the calls that they
// apply to; an option given to a call replaces them for that call, except that concurrency and rate of the Downloader bound
// all its calls together and those of a call bound that call further. An option that does not apply to the call it is given
// to is an error that names it. Where the same option comes twice the last one counts.
type Option struct {
	name  string
	where entrances
	apply func(*settings) error
}

// settings are the options of one call, over those of its Downloader.
type settings struct {
	partSize     int64 // 0: the engine chooses
	concurrency  int   // 0: adaptive
	rateLimit    int64 // bytes per second; 0: none
	checkpoint   string
	cpDir        string
	noCheckpoint bool
	versionID    string
	ifMatch      string
	window       *window
	newHash      func() hash.Hash
	want         []byte
	progress     func(Progress)
	retry        RetryPolicy
	stall        time.Duration
	request      requestOptions
	refresh      func(context.Context) (string, error)
	httpClient   *http.Client
	readAhead    int64
	include      []string
	exclude      []string
	shard        shard
	compareCRC   bool
	sparse       bool
	objectTimes  bool // the file gets the object's Last-Modified
	knownEmpty   bool // the object is said to have no bytes: no range is asked for
	oneStream    bool // neither ranges nor conditions are asked for
	log          *slog.Logger

	fs     fsys.FS
	within func(*os.Root) fsys.FS // the file system of a folder, for DownloadPrefix
}

// window is what WithRange asks for: length bytes from offset, or all from there where length is -1.
type window struct{ offset, length int64 }

// shard is one of count equal shares of a prefix.
type shard struct{ index, count int }

// requestOptions are what WithRequestOptions adds to each request.
type requestOptions struct {
	headers map[string]string
	params  map[string]any
}

func defaults() settings {
	return settings{
		retry:     defaultRetry,
		stall:     DefaultStallTimeout,
		readAhead: DefaultReadAhead,
		log:       slog.New(slog.DiscardHandler),
		fs:        fsys.OS(),
		within:    fsys.Rooted,
	}
}

// with applies the options of an entrance to a copy of the settings.
func (s settings) with(where entrances, opts []Option) (settings, error) {
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

// WithPartSize bounds what one request asks for, in bytes: MinPartSize to MaxPartSize. Without it the engine chooses, so
// that round trips do not show: 8 MiB at first, then what a connection brings in four seconds, 1 to 256 MiB. The end of a
// download may be fetched by smaller requests, and an interrupted one resumes whatever the part size was. A server that
// does not know ranges sends everything in one answer.
func WithPartSize(bytes int64) Option {
	return Option{"WithPartSize", inNew | inAll, func(s *settings) error {
		if bytes < MinPartSize || bytes > MaxPartSize {
			return fmt.Errorf("part size %d is outside %d to %d bytes", bytes, int64(MinPartSize), int64(MaxPartSize))
		}
		s.partSize = bytes
		return nil
	}}
}

// WithConcurrency bounds the requests in flight, 1 to MaxConcurrency. Without it the number adapts itself, up to
// AdaptiveConcurrency. Given to a call of a Downloader that was made without it, it is that call's alone.
func WithConcurrency(n int) Option {
	return Option{"WithConcurrency", inNew | inAll, func(s *settings) error {
		if n < 1 || n > MaxConcurrency {
			return fmt.Errorf("concurrency %d is outside 1 to %d", n, MaxConcurrency)
		}
		s.concurrency = n
		return nil
	}}
}

// WithRateLimit bounds the bytes read from the network, per second; at least 1. Without it there is no bound.
func WithRateLimit(bytesPerSecond int64) Option {
	return Option{"WithRateLimit", inNew | inAll, func(s *settings) error {
		if bytesPerSecond < 1 {
			return fmt.Errorf("rate limit %d is below 1 byte per second", bytesPerSecond)
		}
		s.rateLimit = bytesPerSecond
		return nil
	}}
}

// WithCheckpoint names this call's checkpoint file, whose folder must exist. The default is the local path + ".cp". Calls
// at the same time need files of their own: only the destination is locked. A link at the name is resolved first, and
// whatever is there is replaced. For Download and DownloadURL; not for New.
func WithCheckpoint(path string) Option {
	return Option{"WithCheckpoint", inFile, func(s *settings) error {
		if path == "" {
			return errors.New("empty path; omit the option for the default")
		}
		s.checkpoint, s.cpDir, s.noCheckpoint = path, "", false
		return nil
	}}
}

// WithCheckpointDir keeps checkpoints in dir, under one name for each source and destination. The folder is made, with
// mode 0700, where it does not exist; the one that it is in must. For New, Download and DownloadURL.
func WithCheckpointDir(dir string) Option {
	return Option{"WithCheckpointDir", inNew | inFile, func(s *settings) error {
		if dir == "" {
			return errors.New("empty path; omit the option for the default")
		}
		s.checkpoint, s.cpDir, s.noCheckpoint = "", dir, false
		return nil
	}}
}

// WithoutCheckpoint keeps no checkpoint: an interrupted download starts anew, and a failed one leaves nothing behind, nor
// what an earlier call with a checkpoint had left; a killed one leaves its partial file. For New, Download, DownloadURL and
// DownloadPrefix.
func WithoutCheckpoint() Option {
	return Option{"WithoutCheckpoint", inNew | inFile | inDownloadPrefix, func(s *settings) error {
		s.checkpoint, s.cpDir, s.noCheckpoint = "", "", true
		return nil
	}}
}

// WithVersionID asks for this version instead of the current one. It needs the permission oss:GetObjectVersion; "null"
// is the version an object has from before versioning was switched on. For Download, DownloadTo and Open; not for New.
func WithVersionID(id string) Option {
	return Option{"WithVersionID", inDownload | inDownloadTo | inOpen, func(s *settings) error {
		if id == "" {
			return errors.New("empty version; omit the option for the current one")
		}
		s.versionID = id
		return nil
	}}
}

// WithIfMatch downloads the object only while it has this ETag, given as the service writes it; quotes may be left away.
// Otherwise the call fails with ErrObjectChanged. For all calls but DownloadPrefix; not for New.
func WithIfMatch(etag string) Option {
	return Option{"WithIfMatch", inOne, func(s *settings) error {
		if etag == "" || strings.ContainsAny(etag, "\r\n,") || strings.HasPrefix(etag, "W/") {
			return fmt.Errorf("%q is not one strong ETag", etag)
		}
		if !strings.HasPrefix(etag, `"`) {
			etag = `"` + etag + `"`
		}
		s.ifMatch = etag
		return nil
	}}
}

// WithRange asks for length bytes of the object from offset on; a length of -1 means all from there to the end. The first
// byte asked for is at offset 0 of the file or writer. Bytes outside the object are ErrRange. The service's CRC-64 covers
// the whole object only: unless the range does too, Result.Verified is false or rests on WithChecksum. For all calls but
// DownloadPrefix; not for New.
func WithRange(offset, length int64) Option {
	return Option{"WithRange", inOne, func(s *settings) error {
		if offset < 0 || length == 0 || length < -1 || length > 0 && offset+length < 0 {
			return fmt.Errorf("offset %d, length %d: the offset must be 0 or more, the length 1 or more, or -1 for all to the end", offset, length)
		}
		s.window = &window{offset, length}
		return nil
	}}
}

// WithChecksum gives a digest that the caller knows, for example sha256.New and its 32 bytes. It is computed in order
// before the result is committed, in passing for a Reader, and a mismatch is ErrChecksum; where no CRC-64 vouches for the
// bytes they are fetched once more before. DownloadTo takes it only for a writer that is also an io.ReaderAt. For all calls
// but DownloadPrefix; not for New.
func WithChecksum(newHash func() hash.Hash, want []byte) Option {
	return Option{"WithChecksum", inOne, func(s *settings) error {
		if newHash == nil {
			return errors.New("nil hash function")
		}
		if n := newHash().Size(); n != len(want) {
			return fmt.Errorf("digest of %d bytes, the hash makes %d", len(want), n)
		}
		s.newHash, s.want = newHash, slices.Clone(want)
		return nil
	}}
}

// WithProgress calls fn as the download gets on: never concurrently for one call, at most ten times a second, and a last
// time once its outcome is settled, however it ended. fn runs in a goroutine of the library; given to New it may be called
// for several calls at once. A slow fn delays nothing but its next call and the return. Since the call waits for fn, fn
// must not wait for the call: for that of Open, fn must not call Read, WriteTo or Close of the Reader, nor wait for a
// goroutine that does. To give up from within fn, cancel the context.
func WithProgress(fn func(Progress)) Option {
	return Option{"WithProgress", inNew | inAll, func(s *settings) error {
		if fn == nil {
			return errors.New("nil function")
		}
		s.progress = fn
		return nil
	}}
}

// WithRetry replaces the retry policy; a zero field keeps its default.
func WithRetry(p RetryPolicy) Option {
	return Option{"WithRetry", inNew | inAll, func(s *settings) error {
		if p.Attempts < 0 || p.MinDelay < 0 || p.MaxDelay < 0 {
			return fmt.Errorf("negative field in %+v", p)
		}
		r := defaultRetry
		if p.Attempts > 0 {
			r.Attempts = p.Attempts
		}
		if p.MinDelay > 0 {
			r.MinDelay = p.MinDelay
			r.MaxDelay = max(r.MaxDelay, r.MinDelay)
		}
		if p.MaxDelay > 0 {
			r.MaxDelay = p.MaxDelay
			if p.MinDelay > p.MaxDelay {
				return fmt.Errorf("MinDelay %v is more than MaxDelay %v", p.MinDelay, p.MaxDelay)
			}
			r.MinDelay = min(r.MinDelay, r.MaxDelay)
		}
		s.retry = r
		return nil
	}}
}

// WithStallTimeout gives a request up, to continue on a new connection, when it brought less than 1 KiB/s over this long;
// at least MinStallTimeout. Only time spent waiting for the network counts. The default is DefaultStallTimeout.
func WithStallTimeout(d time.Duration) Option {
	return Option{"WithStallTimeout", inNew | inAll, func(s *settings) error {
		if d < MinStallTimeout {
			return fmt.Errorf("time-out %v is below %v", d, MinStallTimeout)
		}
		s.stall = d
		return nil
	}}
}

// WithRequestOptions adds options of the SDK to each request: request payer, traffic limit, other headers and parameters.
// What the library decides itself is refused by name: Range, conditions, Accept-Encoding, the version, processing, context,
// progress, pointers to response headers, and what belongs to signatures. Not for DownloadURL, whose URL is signed as it is.
func WithRequestOptions(opts ...oss.Option) Option {
	return Option{"WithRequestOptions", inNew | inSDK, func(s *settings) error {
		r, err := readRequestOptions(opts)
		if err != nil {
			return err
		}
		s.request = r
		return nil
	}}
}

// WithURLRefresh gives DownloadURL and OpenURL a new URL of the same object once the old one has expired, by its own date or
// because the temporary key that signed it has. It is called once for each expiry, however many requests wait for it; no
// request is made meanwhile. Its own error, a malformed URL, or three new ones in a row that have expired as well end the
// call with ErrExpired. ctx is that of the call. Not for New.
func WithURLRefresh(fn func(context.Context) (string, error)) Option {
	return Option{"WithURLRefresh", inURL, func(s *settings) error {
		if fn == nil {
			return errors.New("nil function")
		}
		s.refresh = fn
		return nil
	}}
}

// WithHTTPClient is the client of DownloadURL and OpenURL, for a certificate authority or proxy of your own. The default is
// HTTPClient(). A Timeout of the client cuts long bodies, HTTP/2 puts all ranges on one connection, and a CheckRedirect
// replaces the rules of this package. Its idle connections are the caller's.
func WithHTTPClient(c *http.Client) Option {
	return Option{"WithHTTPClient", inNew | inURL, func(s *settings) error {
		if c == nil {
			return errors.New("nil client")
		}
		s.httpClient = c
		return nil
	}}
}

// WithReadAhead is the memory, in bytes, that a Reader may hold: MinReadAhead or more; the default is DefaultReadAhead. A
// quarter of it may go into buffers of requests, 256 KiB each: more than 64 in flight take more than the default. For New,
// Open and OpenURL.
func WithReadAhead(bytes int64) Option {
	return Option{"WithReadAhead", inNew | inReader, func(s *settings) error {
		if bytes < MinReadAhead {
			return fmt.Errorf("read-ahead %d is below %d bytes", bytes, MinReadAhead)
		}
		s.readAhead = bytes
		return nil
	}}
}

// WithInclude keeps only the keys of a prefix whose local name matches one of the patterns. A pattern is one of
// path.Match, compared with the whole local name where it has a slash and with its last element where it has none; the
// local name is the key without the prefix up to its last slash. Patterns of several options add up, those of New too.
func WithInclude(patterns ...string) Option {
	return Option{"WithInclude", inNew | inDownloadPrefix, func(s *settings) error {
		s.include = append(slices.Clone(s.include), patterns...)
		return checkPatterns(patterns)
	}}
}

// WithExclude leaves out the keys of a prefix whose local name matches one of the patterns; it wins over WithInclude.
// Patterns of several options add up, those of New too.
func WithExclude(patterns ...string) Option {
	return Option{"WithExclude", inNew | inDownloadPrefix, func(s *settings) error {
		s.exclude = append(slices.Clone(s.exclude), patterns...)
		return checkPatterns(patterns)
	}}
}

func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("pattern %q is malformed; allowed are *, ?, [class] and \\ as in path.Match", p)
		}
	}
	return nil
}

// WithShard keeps only one share of a prefix: the keys whose FNV-1a 64 hash modulo count is index, 0 to count-1; the hash
// is of the whole key. All shares together are the whole prefix, each key in one, for ever in the same. They may be
// fetched at the same time, by several machines too, into one folder or into many.
func WithShard(index, count int) Option {
	return Option{"WithShard", inNew | inDownloadPrefix, func(s *settings) error {
		if count < 1 || index < 0 || index >= count {
			return fmt.Errorf("shard %d of %d: the count must be 1 or more, the index 0 to count-1", index, count)
		}
		s.shard = shard{index, count}
		return nil
	}}
}

// WithCompareCRC64 makes DownloadPrefix compare the CRC-64 of a file that is there already, and has the object's size,
// with the object's, instead of its time. It costs a HEAD request and the reading of the file. Where the service has no
// CRC-64 of the object, the time decides.
func WithCompareCRC64() Option {
	return Option{"WithCompareCRC64", inNew | inDownloadPrefix, func(s *settings) error {
		s.compareCRC = true
		return nil
	}}
}

// WithoutPreallocation leaves the partial file sparse instead of reserving its space: ErrNoSpace may then come at any byte.
// For New, Download, DownloadURL and DownloadPrefix.
func WithoutPreallocation() Option {
	return Option{"WithoutPreallocation", inNew | inFile | inDownloadPrefix, func(s *settings) error {
		s.sparse = true
		return nil
	}}
}

// WithLogger logs resumes and retries (as Info), fresh starts, version pins that were dropped for want of a permission and
// whatever else costs something (Warn), and objects of a prefix that failed (Error). Without it nothing is logged.
func WithLogger(l *slog.Logger) Option {
	return Option{"WithLogger", inNew | inAll, func(s *settings) error {
		if l == nil {
			return errors.New("nil logger")
		}
		s.log = l
		return nil
	}}
}

// What tests outside this package may replace.
func init() {
	testhook.FileSystem = func(f fsys.FS) Option {
		return Option{"FileSystem", inNew | inFile | inDownloadPrefix, func(s *settings) error {
			s.fs = f
			return nil
		}}
	}
	testhook.FolderFileSystem = func(f func(*os.Root) fsys.FS) Option {
		return Option{"FolderFileSystem", inDownloadPrefix, func(s *settings) error {
			s.within = f
			return nil
		}}
	}
	testhook.ObjectTimes = func() Option {
		return Option{"ObjectTimes", inDownload, func(s *settings) error {
			s.objectTimes = true
			return nil
		}}
	}
	testhook.Transport = func(c *http.Client) *http.Transport { return c.Transport.(*transport).Transport }
}
