package ossdl

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/ossdl/ossdl/internal/callers"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/manifest"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/tree"
)

// VerifyResult describes what [Downloader.VerifyPrefix] or [Downloader.VerifyManifest] found. It is non-nil as soon as the
// folder is open, even if the error is non-nil.
type VerifyResult struct {
	Same       int   `json:"same"`       // files and folders that are as they should be
	Unverified int   `json:"unverified"` // of them, files of objects without a CRC-64: size and time are right
	Missing    int   `json:"missing"`    // objects without a file, or without the folder that they stand for
	Differing  int   `json:"differing"`  // files with other content, and what is no file although it should be one
	Extra      int   `json:"extra"`      // files that no object has
	Failed     int   `json:"failed"`     // objects whose files could not be compared
	Bytes      int64 `json:"bytes"`      // read from files
	Requests   int   `json:"requests"`   // made, including listings and those that were tried again
	Retries    int   `json:"retries"`    // of them, those that followed a failure
	// Differences are the first 1,000 of Missing, Differing and Extra, in the order in which they were found. [WithDifference]
	// reports all.
	Differences []Difference `json:"differences"`
	// Failures are the first 1,000 of Failed. All are logged.
	Failures []KeyError `json:"failures"`
}

// MarshalJSON writes the names that the tags of the fields give.
func (r VerifyResult) MarshalJSON() ([]byte, error) {
	type fields VerifyResult
	if r.Differences == nil {
		r.Differences = []Difference{} // an empty array, not null
	}
	if r.Failures == nil {
		r.Failures = []KeyError{}
	}
	return marshal(fields(r))
}

// LogValue returns a group with the counts.
func (r *VerifyResult) LogValue() slog.Value {
	if r == nil {
		return slog.AnyValue(nil)
	}
	return slog.GroupValue(
		slog.Int("same", r.Same), slog.Int("unverified", r.Unverified), slog.Int("missing", r.Missing), slog.Int("differing", r.Differing),
		slog.Int("extra", r.Extra), slog.Int("failed", r.Failed), slog.Int64("bytes", r.Bytes),
		slog.Int("requests", r.Requests), slog.Int("retries", r.Retries),
	)
}

// Difference is one file or folder that is not as it should be.
type Difference struct {
	Kind   DifferenceKind `json:"kind"`
	Key    string         `json:"key"`    // of the object; "" for [DifferenceExtra]
	Name   string         `json:"name"`   // of the file, relative to the folder, with slashes; "" if the key can have no file
	Path   string         `json:"path"`   // of the file: Name below dir as that was given; "" if there is no Name
	Reason string         `json:"reason"` // what differs; "" if Kind says all
}

// DifferenceKind says how a file differs. Its text is the same in JSON and in logs.
type DifferenceKind string

// How a file differs.
const (
	DifferenceMissing DifferenceKind = "missing"   // there should be a file or folder
	DifferenceContent DifferenceKind = "differing" // it has other content, or is no file although it should be one
	DifferenceExtra   DifferenceKind = "extra"     // no object has it
)

// String returns the text.
func (k DifferenceKind) String() string { return string(k) }

// VerifyPrefix compares the folder dir with the objects whose keys begin with prefix, as [Downloader.DownloadPrefix] would download
// them. No object is fetched, and nothing is written: neither in dir nor beside it.
//
// The prefix is listed. Each file that has the size of its object is read, several at a time, and compared by CRC-64. The listing
// has no CRC-64, so that takes a HEAD request per file. A file whose object has none is compared by size and time, to two
// seconds; if both are right it counts as Unverified. The permissions oss:ListObjects and oss:GetObject are needed.
//
// The call reports
//
//   - objects without a file, also those whose keys can have none: see Names of files under DownloadPrefix
//   - files of another size or CRC-64, and what is not a regular file although it should be one, such as a folder or a link. Links
//     inside dir are not followed
//   - files, links and other things but folders that no object has. Working files in .ossdl are left out
//
// With [WithDecryption] the file of an encrypted object is compared with what that decrypts to; without it, with the ciphertext.
//
// What [WithInclude], [WithExclude], [WithShard] and [WithKeyRange] leave out is neither compared nor reported, nor is a file whose key
// would not begin with the prefix. A dir on a case-insensitive file system is treated as such. The call remembers 20 to 40 bytes per object.
//
// If there is a difference the error is [ErrDifferent]. A file that cannot be read, and an object whose HEAD request fails, is in
// VerifyResult.Failures, and does not stop the others; the error then wraps the [*KeyError] of the first. If the listing fails, or
// ctx is done, the call ends with that error and reports no extra files. A dir that does not exist is an error before any
// request.
//
// A file or an object that changes during the call may be reported as differing.
func (d *Downloader) VerifyPrefix(ctx context.Context, bucket, prefix, dir string, opts ...Option) (*VerifyResult, error) {
	cfg, err := d.settings(inVerifyPrefix, opts)
	if err != nil {
		return nil, nameError("verify", bucket, prefix, err)
	}
	p, err := d.newPrefixCall(ctx, bucket, prefix, dir, cfg)
	if err != nil {
		return nil, nameError("verify", bucket, prefix, err)
	}
	v := &verification{prefixCall: p}
	return v.verify(ctx, objectName(bucket, prefix), v.fromListing)
}

// VerifyManifest compares the folder dir with a manifest that [WithManifest] has written. It needs no network, so that a
// Downloader without a client will do. Nothing is written.
//
// Each file that has the size in the manifest is read, several at a time, and compared by CRC-64, and by SHA-256 if the manifest has
// one. What is reported is as with [Downloader.VerifyPrefix]: files that are missing, that differ, or that the manifest does not
// have. What [WithInclude] and [WithExclude] leave out is neither compared nor reported.
//
// The manifests of several calls for one folder, for example of shards, can be concatenated. The lines may have any order. A line
// that is malformed, has more than 64 KiB, a name that no file in dir can have, or one that an earlier line has, ends the call with
// an error that has its number. So does a line whose end is missing. Names that are not known are ignored.
//
// If there is a difference the error is [ErrDifferent]; other errors are as with VerifyPrefix.
func (d *Downloader) VerifyManifest(ctx context.Context, manifest, dir string, opts ...Option) (*VerifyResult, error) {
	cfg, err := d.settings(inVerifyManifest, opts)
	switch {
	case err != nil:
	case manifest == "":
		err = errors.New("empty path of the manifest")
	case dir == "":
		err = errors.New("empty folder; the current one is \".\"")
	}
	if err != nil {
		return nil, fmt.Errorf("ossdl: verify manifest %s: %w", manifest, err)
	}
	caught := &callers.Panics{}
	cfg.log, cfg.progress = caught.Logger(cfg.log), callers.Until(caught, "the function of WithProgress", cfg.progress)
	v := &verification{prefixCall: &prefixCall{
		d: d, cfg: cfg, panics: caught, dir: dir, lane: d.newLane(cfg.concurrency, 0), watchdog: engine.NewWatchdog(cfg.stall),
	}}
	return v.verify(ctx, "manifest "+manifest, func(ctx context.Context) iter.Seq2[subject, error] {
		return v.fromManifest(manifest)
	})
}

// verification is one call of VerifyPrefix or VerifyManifest. Its prefixCall has no open folder: opening one makes files.
type verification struct {
	*prefixCall
	audit   *tree.Audit
	readers *semaphore.Weighted // limits the files that are read at the same time
	report  func(Difference)    // nil: to nobody

	counting sync.Mutex // of what follows
	found    VerifyResult
	first    error // the failure that happened first
}

// subject is a file or folder that should be there.
type subject struct {
	item
	refused error  // why it can have no name
	sha256  []byte // nil: not known
	inFull  bool   // the manifest says it all: no request is needed
}

// verify compares the folder with what source yields. name is that of the source.
func (v *verification) verify(ctx context.Context, name string, source func(context.Context) iter.Seq2[subject, error]) (*VerifyResult, error) {
	ctx, done := v.panics.During(ctx)
	defer done()
	v.report = callers.OneByOne(v.panics, "the function of WithDifference", v.cfg.difference)
	err := v.compareAll(ctx, source)
	v.panics.Raise(err)
	if err != nil {
		err = fmt.Errorf("ossdl: verify %s in %s: %w", name, v.dir, err)
	}
	if v.audit == nil {
		return nil, err
	}
	v.found.Requests, v.found.Retries = v.sums.requests, v.sums.retries
	return &v.found, err
}

// compareAll opens the folder, compares everything and looks for what is left over.
func (v *verification) compareAll(ctx context.Context, source func(context.Context) iter.Seq2[subject, error]) error {
	root, err := fsys.OpenExistingFolder(v.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	v.fs = v.cfg.folderFS(root)
	v.audit = tree.NewAudit(v.fs)
	progress := startReporter(v.cfg.progress, v.snapshot, v.received)
	err = v.compare(ctx, source(ctx))
	if err == nil {
		err = v.audit.Others(ctx, v.extra)
	}
	err = v.outcome(withContextError(ctx, err))
	progress.end(err)
	return err
}

// compare compares what source yields, many at a time. It returns once all have ended.
func (v *verification) compare(ctx context.Context, source iter.Seq2[subject, error]) error {
	stop := v.watchdog.Start(v.d.gate.Tick)
	defer stop()
	end := v.lane.Begin()
	defer end()
	room := objectsIn(v.lane)
	v.readers = semaphore.NewWeighted(min(int64(v.lane.Ceiling()), int64(max(8, 2*runtime.GOMAXPROCS(0)))))
	inFlight := semaphore.NewWeighted(room)
	var running sync.WaitGroup
	defer running.Wait()
	for s, err := range source {
		if err != nil {
			return err
		}
		if err := inFlight.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
		running.Go(func() {
			defer inFlight.Release(1)
			v.compareOne(ctx, &s)
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// outcome returns the error of the call; err is that of the source or the context.
func (v *verification) outcome(err error) error {
	r := &v.found
	if v.first != nil {
		failed := fmt.Errorf("%d files could not be compared, the first: %w", r.Failed, v.first)
		err = joined(err, failed)
	}
	if r.Missing+r.Differing+r.Extra > 0 {
		err = joined(err, fmt.Errorf("%w: %d missing, %d differing, %d extra", ErrDifferent, r.Missing, r.Differing, r.Extra))
	}
	return err
}

// joined returns an error in one line that wraps both.
func joined(a, b error) error {
	if a == nil {
		return b
	}
	return fmt.Errorf("%w; %w", a, b)
}

// fromListing yields the wanted objects below the prefix.
func (v *verification) fromListing(ctx context.Context) iter.Seq2[subject, error] {
	return func(yield func(subject, error) bool) {
		// Whether names are case-insensitive is found out by looking at the files, and differs between folders.
		names := tree.NewNames(v.prefix, tree.Rules{Windows: runtime.GOOS == "windows"})
		for group, err := range v.listed(ctx) {
			if err != nil {
				yield(subject{}, err)
				return
			}
			for _, o := range group {
				if s, wanted := v.subject(names, o); wanted && !yield(s, nil) {
					return
				}
			}
		}
	}
}

// subject names the next object of a listing, and reports whether it is to be compared.
func (v *verification) subject(names *tree.Names, o entry) (s subject, wanted bool) {
	if !tree.Match(names.Relative(o.Key), v.cfg.include, v.cfg.exclude) {
		return subject{}, false
	}
	name, err := names.Name(o.Key) // also those of other shards: they have files, too
	return subject{item: item{entry: o, name: name, named: err == nil, start: time.Now()}, refused: err}, v.cfg.shard.Has(o.Key)
}

// fromManifest yields the wanted lines of a manifest.
func (v *verification) fromManifest(path string) iter.Seq2[subject, error] {
	return func(yield func(subject, error) bool) {
		at, err := v.cfg.fs.Resolve(path)
		var file fsys.File
		if err == nil {
			file, err = v.cfg.fs.OpenFile(at, os.O_RDONLY, 0)
		}
		if err != nil {
			yield(subject{}, err)
			return
		}
		defer file.Close() // nothing was written
		names := tree.NewUnordered(tree.Rules{Windows: runtime.GOOS == "windows"})
		for l, err := range manifest.Read(io.NewSectionReader(file, 0, 1<<62)) {
			var s subject
			if err == nil {
				s, err = manifestSubject(names, l)
			}
			if err != nil {
				yield(subject{}, fmt.Errorf("manifest %s: %w", path, err))
				return
			}
			if tree.Match(s.name, v.cfg.include, v.cfg.exclude) && !yield(s, nil) {
				return
			}
		}
	}
}

// manifestSubject returns what a line of a manifest says.
func manifestSubject(names *tree.Names, l manifest.Numbered) (subject, error) {
	s := subject{item: item{name: l.Name, named: true, start: time.Now()}, inFull: true}
	s.Key, s.Size = l.Key, l.Size
	s.found = &object.Facts{Size: l.Size, CRC: l.CRC64, HasCRC: true, LastModified: l.LastModified}
	if l.SHA256 != "" {
		sum, err := hex.DecodeString(l.SHA256)
		if err != nil {
			return s, manifest.LineError(l.N, err)
		}
		s.sha256 = sum
	}
	if _, err := names.Name(l.Name); err != nil {
		return s, manifest.LineError(l.N, fmt.Errorf("name %q: %w", l.Name, err))
	}
	return s, nil
}

// compareOne compares one file or folder, and counts it.
func (v *verification) compareOne(ctx context.Context, s *subject) {
	v.expect(s.Size)
	kind, reason, err := v.differs(ctx, s)
	switch {
	case err != nil && ctx.Err() != nil: // cut off
	case err != nil:
		v.panics.Note(err)
		v.cfg.log.Error("file not compared", "key", s.Key, "name", s.name, "error", err)
		v.fail(KeyError{Key: s.Key, Err: err})
	case kind != "":
		d := Difference{Kind: kind, Key: s.Key, Reason: reason}
		if s.named {
			d.Name, d.Path = s.name, v.pathOf(s.name)
		}
		v.differ(d)
	default:
		v.same(s)
	}
}

func (v *verification) pathOf(name string) string {
	return filepath.Join(v.dir, filepath.FromSlash(name))
}

// differs compares one file or folder. kind is "" if it is as it should be.
func (v *verification) differs(ctx context.Context, s *subject) (kind DifferenceKind, reason string, err error) {
	if s.refused != nil {
		return DifferenceMissing, "it can have no file: " + s.refused.Error(), nil
	}
	if s.name == "" || strings.HasSuffix(s.name, "/") {
		return v.folderDiffers(s)
	}
	fi, why, err := v.audit.File(s.name)
	switch {
	case err != nil:
		return "", "", err
	case why != "":
		return DifferenceContent, why, nil
	case fi == nil:
		return DifferenceMissing, "", nil
	case !s.Symlink && fi.Size() != s.Size:
		return DifferenceContent, otherSize(fi.Size(), s.Size), nil
	}
	reason, err = v.contentDiffers(ctx, s, fi.Size(), fi.ModTime())
	if reason != "" {
		kind = DifferenceContent
	}
	return kind, reason, err
}

func otherSize(is, want int64) string { return fmt.Sprintf("size is %d, want %d", is, want) }

// folderDiffers does it for a folder.
func (v *verification) folderDiffers(s *subject) (kind DifferenceKind, reason string, err error) {
	if s.Size > 0 {
		return DifferenceMissing, fmt.Sprintf("it can have no file: it has %s of content, but its name is that of a folder", byteCount(s.Size)), nil
	}
	there, why, err := v.audit.Folder(path.Clean(s.name))
	switch {
	case err != nil:
		return "", "", err
	case why != "":
		return DifferenceContent, why, nil
	case !there:
		return DifferenceMissing, "", nil
	}
	return "", "", nil
}

// contentDiffers compares the content of a file, of which size and time are given.
func (v *verification) contentDiffers(ctx context.Context, s *subject, size int64, modified time.Time) (reason string, err error) {
	if !s.inFull {
		if _, err := v.head(ctx, &s.item); err != nil {
			return "", err
		}
	}
	f := s.found
	switch {
	case size != f.Size:
		return otherSize(size, f.Size), nil
	case !f.HasCRC:
		return v.timeDiffers(s, modified), nil
	}
	sums, err := v.readFile(ctx, s)
	stored := sums.crc
	if err == nil {
		stored, err = v.storedCRC(ctx, &s.item, sums.crc, sums.size)
	}
	switch {
	case err != nil:
		return "", err
	case sums.size != f.Size:
		return otherSize(sums.size, f.Size), nil
	case stored != f.CRC && f.Symlink: // the CRC-64 may be that of the link, see compareCRC
		return v.timeDiffers(s, modified), nil
	case stored != f.CRC:
		return fmt.Sprintf("CRC-64 is %d, want %d", stored, f.CRC), nil
	case s.sha256 != nil && !bytes.Equal(sums.sha256, s.sha256):
		return fmt.Sprintf("SHA-256 is %x, want %x", sums.sha256, s.sha256), nil
	}
	s.verified = true
	return "", nil
}

// timeTolerance is how far the time of a file may be from that of its object: FAT keeps times to two seconds.
const timeTolerance = 2 * time.Second

// timeDiffers compares the time of a file that there is no CRC-64 for.
func (v *verification) timeDiffers(s *subject, is time.Time) string {
	if want := v.timeOf(*s.found); is.Sub(want).Abs() >= timeTolerance {
		return fmt.Sprintf("its time is %s, want %s; there is no CRC-64 to compare with", is.UTC().Format(time.RFC3339), want.UTC().Format(time.RFC3339))
	}
	return ""
}

// readFile returns the checksums of a file.
func (v *verification) readFile(ctx context.Context, s *subject) (fileSums, error) {
	if err := v.readers.Acquire(ctx, 1); err != nil {
		return fileSums{}, context.Cause(ctx)
	}
	defer v.readers.Release(1)
	sums, err := v.sum(ctx, s.name, s.sha256 != nil)
	v.counting.Lock()
	defer v.counting.Unlock()
	v.found.Bytes += sums.size
	return sums, err
}

// same counts what is as it should be.
func (v *verification) same(s *subject) {
	v.prefixCall.mu.Lock()
	v.sums.done += s.Size
	v.prefixCall.mu.Unlock()
	v.counting.Lock()
	defer v.counting.Unlock()
	v.found.Same++
	if !s.verified && !strings.HasSuffix(s.name, "/") && s.name != "" {
		v.found.Unverified++
	}
}

// fail counts what could not be compared.
func (v *verification) fail(failure KeyError) {
	v.counting.Lock()
	defer v.counting.Unlock()
	v.found.Failed++
	if v.first == nil {
		v.first = &failure
	}
	if len(v.found.Failures) < maxFailures {
		v.found.Failures = append(v.found.Failures, failure)
	}
}

// extra counts a file that no object has, unless it is left out.
func (v *verification) extra(name string) {
	key := v.prefix[:strings.LastIndexByte(v.prefix, '/')+1] + name
	inRange := key > v.cfg.after && (v.cfg.until == "" || key <= v.cfg.until)
	if inRange && strings.HasPrefix(key, v.prefix) && tree.Match(name, v.cfg.include, v.cfg.exclude) && v.cfg.shard.Has(key) {
		v.differ(Difference{Kind: DifferenceExtra, Name: name, Path: v.pathOf(name)})
	}
}

// differ counts and reports a difference.
func (v *verification) differ(d Difference) {
	v.counting.Lock()
	switch d.Kind {
	case DifferenceMissing:
		v.found.Missing++
	case DifferenceContent:
		v.found.Differing++
	case DifferenceExtra:
		v.found.Extra++
	}
	if len(v.found.Differences) < maxFailures {
		v.found.Differences = append(v.found.Differences, d)
	}
	v.counting.Unlock()
	if v.report != nil {
		v.report(d)
	}
}
