package ossdl

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/span"
)

const (
	checkpointVersion = 1
	checkpointFormat  = "ossdl checkpoint"
	// checkpointHead is how every version of a checkpoint begins. A file that begins otherwise is not ours.
	checkpointHead = `{"format":"` + checkpointFormat + `","version":`
)

// checkpoint is the JSON document that says which bytes of which object an earlier run wrote. Its parts are claims: none
// counts until the bytes on disk were found to have its CRC-64.
type checkpoint struct {
	Format       string           `json:"format"` // the first, see checkpointHead
	Version      int              `json:"version"`
	URL          bool             `json:"url,omitempty"` // bucket and key are host and path of a URL
	Bucket       string           `json:"bucket"`
	Key          string           `json:"key"`
	VersionID    string           `json:"versionId"`
	ETag         string           `json:"etag"`
	LastModified string           `json:"lastModified,omitempty"`
	Size         int64            `json:"size"` // of the object
	Range        *checkpointRange `json:"range,omitempty"`
	CRC64        *uint64          `json:"crc64,string,omitempty"` // of the object, as the service says
	Encryption   string           `json:"encryption,omitempty"`   // a name for how the object was encrypted, if the data is decrypted
	Path         string           `json:"path"`                   // of the destination, seen from the checkpoint's folder
	Parts        []checkpointPart `json:"parts"`

	sum   uint64           // CRC-64 of the document that was read; 0: there is only a recent save
	older []checkpointPart // claims that count where one of Parts, which they lie in, does not hold
}

// checkpointRange is the range that WithRange asked for.
type checkpointRange struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"` // -1: to the end
}

// checkpointPart says that the first Done bytes of a range have this CRC-64. Offsets are those of the file.
type checkpointPart struct {
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Done   int64  `json:"done"`
	CRC64  uint64 `json:"crc64,string"`
}

// done returns what the part claims.
func (p checkpointPart) done() span.Span { return span.Span{Off: p.Offset, End: p.Offset + p.Done} }

// decodeCheckpoint reads a document. It accepts only what a run could have written.
func decodeCheckpoint(data []byte) (*checkpoint, error) {
	var c checkpoint
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.Version != checkpointVersion {
		return nil, fmt.Errorf("format version %d, want %d", version.Version, checkpointVersion)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	return &c, c.check()
}

// maxETag bounds the ETag of a checkpoint, in bytes, since it is sent in a request. Those of OSS have some 40.
const maxETag = 1 << 10

// check returns an error unless the numbers are within bounds and the parts are in order and do not overlap.
func (c *checkpoint) check() error {
	if len(c.ETag) > maxETag || strings.ContainsFunc(c.ETag, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("an ETag that no service sends")
	}
	if c.Size < 1 || len(c.Parts) == 0 {
		return fmt.Errorf("%d parts of %d bytes: no run saves before there is something to save", len(c.Parts), c.Size)
	}
	length, err := c.length()
	if err != nil {
		return err
	}
	end := int64(0)
	for i, p := range c.Parts {
		if p.Offset < end || p.Size < 1 || p.Size > length-p.Offset || p.Done < 1 || p.Done > p.Size {
			return fmt.Errorf("part %d (offset %d, size %d, done %d) does not fit", i, p.Offset, p.Size, p.Done)
		}
		end = p.Offset + p.Size
	}
	return nil
}

// length returns how many bytes the download has: those of the range, if there is one.
func (c *checkpoint) length() (int64, error) {
	r := c.Range
	switch {
	case r == nil:
		return c.Size, nil
	case r.Offset < 0 || r.Offset >= c.Size || r.Length < -1 || r.Length == 0 || r.Length > c.Size-r.Offset:
		return 0, fmt.Errorf("range of %d bytes at %d in %d bytes", r.Length, r.Offset, c.Size)
	case r.Length < 0:
		return c.Size - r.Offset, nil
	}
	return r.Length, nil
}

// complete reports whether the parts claim every byte.
func (c *checkpoint) complete() bool {
	length, err := c.length()
	return err == nil && c.claimed() == length
}

// claimed returns how many bytes the parts claim.
func (c *checkpoint) claimed() (n int64) {
	for _, p := range c.Parts {
		n += p.Done
	}
	return n
}

// isOfSame reports whether two documents are of the same download, so that they differ in their parts at most.
func (c *checkpoint) isOfSame(other *checkpoint) bool {
	a, b := *c, *other
	a.Parts, b.Parts = nil, nil
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// facts returns what identifies the object.
func (c *checkpoint) facts() *object.Facts {
	f := &object.Facts{Size: c.Size, ETag: c.ETag, Envelope: c.Encryption}
	if c.CRC64 != nil {
		f.CRC, f.HasCRC = *c.CRC64, true
	}
	if t, err := time.Parse(time.RFC3339, c.LastModified); err == nil {
		f.LastModified = t
	}
	return f
}

// partsMap returns a map of parts with the claims of the document.
func (c *checkpoint) partsMap() (*parts.Map, error) {
	length, err := c.length()
	if err != nil {
		return nil, err
	}
	m := parts.New(length)
	for _, p := range c.Parts {
		if err := m.Claim(p.done(), p.CRC64); err != nil {
			return nil, err
		}
	}
	for _, p := range c.older {
		m.ClaimWithin(p.done(), p.CRC64)
	}
	return m, nil
}

// encode writes the document with the parts of a snapshot. If it would exceed [localfile.CheckpointLimit] it takes a coarser
// snapshot.
func (c *checkpoint) encode(snapshot func(limit int) []parts.Claim) ([]byte, error) {
	for limit := parts.MaxClaims; ; limit /= 2 {
		claims := snapshot(limit)
		c.Parts = make([]checkpointPart, len(claims))
		for i, claim := range claims {
			c.Parts[i] = checkpointPart{claim.Off, claim.Size, claim.Done, claim.CRC}
		}
		data, err := json.Marshal(c)
		if err != nil || len(data) < localfile.CheckpointLimit || limit <= 1 {
			return append(data, '\n'), err
		}
	}
}

// isCheckpoint reports whether a file that begins with data is a checkpoint of any version. A torn one counts: a file cut short,
// and one of nothing but zeros, which some file systems leave after a power loss. It is no longer than any checkpoint: disk images
// begin with zeros, too.
func isCheckpoint(data []byte) bool {
	n := min(len(data), len(checkpointHead))
	return string(data[:n]) == checkpointHead[:n] || localfile.IsZeros(data) && len(data) <= localfile.CheckpointLimit
}

// loadCheckpoint returns the checkpoint of an interrupted run, with its partial file opened. It returns nil if there is
// none that this call can use, and logs why. An error says that the checkpoint could not be read at all.
func (c *call) loadCheckpoint(dst *localfile.Destination) (*checkpoint, error) {
	cp, ignored, err := findCheckpoint(dst, c.src.Identity(), &c.objectOptions)
	if ignored != nil {
		c.cfg.log.Warn("ignoring checkpoint; starting over", "checkpoint", dst.CheckpointPath(), "reason", ignored)
	}
	if cp == nil || err != nil {
		return nil, err
	}
	return c.adopt(dst, cp)
}

// findCheckpoint returns what an interrupted run of a download says it has done: its checkpoint, or the recent save that counts in
// place of that. It returns nil if there is none; ignored says why a checkpoint that is there is of no use. err says that it could
// not be read at all.
func findCheckpoint(dst *localfile.Destination, id object.Identity, want *objectOptions) (cp *checkpoint, ignored, err error) {
	data, err := dst.ReadCheckpoint()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return firstRecent(dst, id, want), nil, nil
	case errors.Is(err, fsys.ErrTooLarge): // the next save replaces it
		return nil, err, nil
	case err != nil:
		return nil, nil, err
	}
	if cp, err = decodeCheckpoint(data); err == nil {
		err = cp.fits(dst.NameInCheckpoint(), id, want)
	}
	if err != nil {
		return nil, err, nil
	}
	cp.sum = crc64.Update(0, data)
	return withRecent(dst, cp, data), nil, nil
}

// withRecent returns the newest recent save that continues the checkpoint cp, of which data is the document, or else cp. A save
// that claims no more than cp does not count.
func withRecent(dst *localfile.Destination, cp *checkpoint, data []byte) *checkpoint {
	newest := cp
	dst.FindRecent(func(r *localfile.Recent) bool {
		if !r.Continues(data) {
			return false
		}
		later, err := decodeCheckpoint(r.Data)
		if err != nil || !later.isOfSame(cp) {
			return false
		}
		later.keepClaims(cp.Parts)
		if later.claimed() <= cp.claimed() {
			return false
		}
		later.sum, newest = cp.sum, later
		return true
	})
	return newest
}

// firstRecent returns the newest recent save of a run that was killed before it had saved a checkpoint, or nil.
func firstRecent(dst *localfile.Destination, id object.Identity, want *objectOptions) (newest *checkpoint) {
	dst.FindRecent(func(r *localfile.Recent) bool {
		if !r.Continues(nil) {
			return false
		}
		cp, err := decodeCheckpoint(r.Data)
		if err != nil || cp.fits(dst.NameInCheckpoint(), id, want) != nil {
			return false
		}
		newest = cp
		return true
	})
	return newest
}

// keepClaims adds the claims of an older document, so that none of them is lost, whatever of c turns out not to hold: a power loss
// may leave c, and not the bytes that it claims. An older claim that lies in one of c counts if that one does not hold. Where claims
// overlap in any other way, the older one counts.
func (c *checkpoint) keepClaims(older []checkpointPart) {
	within := func(p, q checkpointPart) bool { return q.Offset <= p.Offset && p.done().End <= q.done().End }
	kept := slices.DeleteFunc(c.Parts, func(p checkpointPart) bool {
		return slices.ContainsFunc(older, func(o checkpointPart) bool {
			return o.Offset < p.done().End && p.Offset < o.done().End && !within(o, p)
		})
	})
	c.Parts, c.older = kept, nil
	for _, o := range older {
		if slices.ContainsFunc(kept, func(p checkpointPart) bool { return within(o, p) }) {
			c.older = append(c.older, o)
		} else {
			c.Parts = append(c.Parts, o)
		}
	}
	slices.SortFunc(c.Parts, func(p, q checkpointPart) int { return cmp.Compare(p.Offset, q.Offset) })
}

// adopt opens the file that a checkpoint is of. It returns nil if there is none.
func (c *call) adopt(dst *localfile.Destination, cp *checkpoint) (*checkpoint, error) {
	length, err := cp.length()
	if err != nil {
		return nil, err
	}
	found, err := dst.Adopt(length, cp.complete())
	if !found || err != nil {
		return nil, err
	}
	c.cfg.log.Info("resuming", "path", dst.Path(), "parts", len(cp.Parts))
	return cp, nil
}

// fits returns an error that says why the checkpoint is not of this call. name is what it must call the destination.
func (c *checkpoint) fits(name string, id object.Identity, want *objectOptions) error {
	switch {
	case c.URL != id.URL || c.Bucket != id.Bucket || c.Key != id.Key:
		return errors.New("of another object")
	case want.versionID != "" && c.VersionID != want.versionID:
		return fmt.Errorf("of version %q", c.VersionID)
	case want.ifMatch != "" && !object.SameETag(want.ifMatch, c.ETag):
		return fmt.Errorf("of ETag %s", object.OrNone(c.ETag))
	case (c.Range == nil) != (want.asked == nil), c.Range != nil && *c.Range != (checkpointRange{want.asked.offset, want.asked.length}):
		return errors.New("of another range")
	case c.Path != name:
		return fmt.Errorf("of another destination, %q", c.Path)
	case c.ETag == "" && c.CRC64 == nil && c.LastModified == "":
		return errors.New("nothing in it identifies the object")
	}
	return nil
}

// When a keeper saves and syncs.
const (
	saveBytes      = 4 << 20                // so many new bytes are worth a save
	saveTime       = 50 * time.Millisecond  // least time between two saves
	saveLongTime   = time.Second            // after this long any new byte is worth a save
	recentTime     = 25 * time.Millisecond  // least time between two recent saves
	recentLongTime = 200 * time.Millisecond // after this long any new byte is worth a recent save
	saveShare      = 20                     // saves take at most one part in so many of the time
	recentShare    = 1                      // and recent saves, which mostly wait, half of it
	syncTime       = time.Second            // least time between two syncs of the data
	syncShare      = 4                      // syncs take at most one part in so many of the time
)

// keeper saves the checkpoint of an attempt and syncs its data in the background. A failed save is logged once and does not
// stop the download; only the resume point is older.
type keeper struct {
	dst    *localfile.Destination
	parts  *parts.Map
	engine engineState // set before the engine runs
	id     object.Identity
	want   *objectOptions
	log    *slog.Logger
	active bool  // there is something to save
	saved  int64 // bytes that the last save covered
	failed bool  // a save failed

	bases atomic.Pointer[localfile.Bases] // the checkpoints that a recent save continues
}

// engineState is what a keeper asks of an [engine.Engine].
type engineState interface {
	Facts() (f object.Facts, fixed bool)
	Total() (n int64, known bool) // bytes to download in all
	IsReady() bool                // the destination holds what may be claimed
}

// newKeeper makes the keeper of an attempt that fetches what is missing in m.
func newKeeper(dst *localfile.Destination, m *parts.Map, id object.Identity, want *objectOptions, log *slog.Logger) *keeper {
	k := &keeper{dst: dst, parts: m, id: id, want: want, log: log, active: dst.Saves()}
	k.bases.Store(new(localfile.Bases))
	return k
}

// saves saves the checkpoint now and then, until ctx is done.
func (k *keeper) saves(ctx context.Context) error {
	if !k.active {
		return nil
	}
	k.saved = k.parts.Totals().Have
	return everySoOften(ctx, saveTime, saveShare, k.saveIsDue, func() error {
		k.save()
		return nil
	})
}

// savesRecent makes recent saves, which are not synced, until ctx is done or one fails. They are what a kill between two saves leaves.
// A write that waits for the disk costs the others little, so only the time for the document counts as that of a save.
func (k *keeper) savesRecent(ctx context.Context) error {
	if !k.active || !k.dst.SavesRecent() {
		return nil
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	last, base, cost := k.parts.Totals().Have, k.bases.Load(), time.Duration(0)
	due := func(idle time.Duration) bool {
		fresh := k.parts.Totals().Have - last
		outdated := k.parts.Undecided() && k.bases.Load() != base // the checkpoint claims less than there may be
		if fresh < saveBytes && (fresh == 0 || idle < recentLongTime) && !outdated {
			return false
		}
		return idle >= cost*saveShare && k.engine.IsReady() && k.resumable()
	}
	return everySoOften(ctx, recentTime, recentShare, due, func() error {
		have := k.parts.Totals().Have
		base = k.bases.Load()
		begun := time.Now()
		data, err := k.document().encode(k.parts.Snapshot)
		cost = time.Since(begun)
		if err == nil {
			err = k.dst.SaveRecent(*base, data)
		}
		if err != nil {
			k.log.Warn("no more saves between those of the checkpoint", "checkpoint", k.dst.CheckpointPath(), "error", err)
			end()
			return nil
		}
		last = have
		return nil
	})
}

// endRecent leaves a recent save beside the last checkpoint if that claims less than there may be, or else none.
func (k *keeper) endRecent() {
	if !k.parts.Undecided() {
		k.dst.DropRecent()
		return
	}
	data, err := k.document().encode(k.parts.Snapshot)
	if err == nil {
		err = k.dst.SaveRecent(*k.bases.Load(), data)
	}
	if err != nil {
		k.log.Warn("what a killed run did after its last checkpoint may be fetched again", "checkpoint", k.dst.CheckpointPath(), "error", err)
	}
}

// saveIsDue reports whether there is enough to save. idle is how long ago the last save ended.
func (k *keeper) saveIsDue(idle time.Duration) bool {
	// Negative: claims of an earlier run were disproved.
	fresh := k.parts.Totals().Have - k.saved
	return fresh >= saveBytes || fresh != 0 && idle >= saveLongTime
}

// syncs puts the data on stable storage now and then, until ctx is done. So little is lost if power is lost, and synced ranges
// may be joined in the checkpoint. A failed sync ends the attempt: what it was to cover may be lost from memory and disk
// alike.
func (k *keeper) syncs(ctx context.Context) error {
	if !k.active {
		return nil
	}
	due := func(time.Duration) bool { return k.parts.BeginSync() }
	return everySoOften(ctx, syncTime, syncShare, due, func() error {
		if err := k.dst.Sync(); err != nil {
			return err
		}
		k.parts.EndSync()
		return nil
	})
}

// everySoOften calls do whenever due reports true, until ctx is done or do fails. It calls due at each interval, with how long
// ago the last call of do ended. A call of do that took long is followed by share times as long without one.
func everySoOften(ctx context.Context, interval time.Duration, share int, due func(idle time.Duration) bool, do func() error) error {
	last, cost := time.Now(), time.Duration(0)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		idle := time.Since(last)
		if idle < cost*time.Duration(share) || !due(idle) {
			continue
		}
		begun := time.Now()
		if err := do(); err != nil {
			return err
		}
		last = time.Now()
		cost = last.Sub(begun)
	}
}

// save saves the checkpoint while the attempt goes on.
func (k *keeper) save() { k.write(false) }

// saveLast saves the checkpoint once nothing else of the attempt is running.
func (k *keeper) saveLast() { k.write(true) }

// write saves the checkpoint. A failure is logged once.
func (k *keeper) write(last bool) {
	if !k.active || !k.engine.IsReady() { // not ready: the file does not hold what would be claimed
		return
	}
	if !k.resumable() {
		return
	}
	have := k.parts.Totals().Have
	data, err := k.document().encode(k.parts.SafeSnapshot)
	if err == nil {
		sum := crc64.Update(0, data)
		k.bases.Store(&localfile.Bases{k.bases.Load()[0], sum})
		if err = k.dst.Save(data, last); err == nil {
			k.bases.Store(&localfile.Bases{sum, sum})
		}
	}
	switch {
	case err == nil:
		k.saved = have
		if last {
			k.endRecent()
		}
	case !k.failed:
		k.failed = true
		k.log.Warn("checkpoint not saved", "checkpoint", k.dst.CheckpointPath(), "error", err)
	}
}

// resumable reports whether a later run could continue. It could not if nothing identifies the object, or nobody knows its size.
func (k *keeper) resumable() bool {
	f, known := k.engine.Facts()
	return !known || !f.Nameless() && f.Size != object.UnknownSize
}

// document returns the checkpoint without its parts.
func (k *keeper) document() *checkpoint {
	f, _ := k.engine.Facts()
	id := k.id
	c := &checkpoint{
		Format: checkpointFormat, Version: checkpointVersion, URL: id.URL, Bucket: id.Bucket, Key: id.Key, VersionID: f.VersionID, ETag: f.ETag,
		Size: f.Size, Encryption: f.Envelope, Path: k.dst.NameInCheckpoint(),
	}
	if k.want.versionID != "" {
		c.VersionID = k.want.versionID
	}
	if !f.LastModified.IsZero() {
		c.LastModified = f.LastModified.UTC().Format(time.RFC3339)
	}
	if f.HasCRC {
		c.CRC64 = &f.CRC
	}
	if r := k.want.asked; r != nil {
		c.Range = &checkpointRange{r.offset, r.length}
	}
	return c
}

// abandon ends an attempt that failed with err. It leaves a checkpoint of everything that was done, or nothing. It returns err,
// with the figures of the disk if that is full.
func (k *keeper) abandon(err error) error {
	if k.dst.SyncFailed() {
		k.parts.Distrust()
		k.dst.DropCheckpoint() // if the last save fails as well, no claims are better than wrong ones
	}
	sums := k.parts.Totals()
	left := keepWhat(err)
	if (sums.Have == 0 || !k.resumable()) && left == localfile.Partial {
		left = localfile.Nothing
	}
	if left == localfile.Partial {
		k.saveLast() // while the partial file is open: on a full disk its ballast makes room
	}
	k.dst.Abandon(left)
	missing := int64(0)
	if n, known := k.engine.Total(); known {
		missing = n - sums.Have
	}
	return k.dst.NoSpace(missing, err)
}

// keepWhat returns what an attempt leaves after an error.
func keepWhat(err error) localfile.Keep {
	switch {
	case startsOver(err):
		return localfile.AsFound
	case errors.Is(err, ErrChecksum), errors.Is(err, errReplaced):
		return localfile.Nothing
	}
	return localfile.Partial
}

// startsOver reports whether an error says that what an earlier run left cannot be used: it is of another object, or the file
// at the path is not what the checkpoint says.
func startsOver(err error) bool {
	return errors.Is(err, engine.ErrStale) || errors.Is(err, localfile.ErrNotOurs)
}
