package ossdl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ossdl/ossdl/internal/fsys"
)

const (
	checkpointVersion = 1
	checkpointMode    = 0o600
	// checkpointLimit bounds what is written, checkpointReadLimit what is read: nobody's document makes us use memory.
	checkpointLimit     = 64 << 10
	checkpointReadLimit = 1 << 20
)

// checkpoint is the JSON document: what of which object an earlier run has written. It is a set of claims to be proved
// against the disk, and nothing else is believed of it.
type checkpoint struct {
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
	Path         string           `json:"path"`                   // of the destination, seen from the checkpoint's folder
	Parts        []checkpointPart `json:"parts"`
}

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

// decodeCheckpoint reads a document, and accepts only what a run could have written.
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

// maxETag bounds the ETag of a checkpoint, which goes into a request; in bytes. Those of OSS have some 40.
const maxETag = 1 << 10

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

// length is how many bytes the download has.
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

// complete reports whether the parts cover everything.
func (c *checkpoint) complete() bool {
	n := int64(0)
	for _, p := range c.Parts {
		n += p.Done
	}
	length, err := c.length()
	return err == nil && n == length
}

func (c *checkpoint) facts() *facts {
	f := &facts{size: c.Size, etag: c.ETag}
	if c.CRC64 != nil {
		f.crc, f.hasCRC = *c.CRC64, true
	}
	if t, err := time.Parse(time.RFC3339, c.LastModified); err == nil {
		f.lastModified = t
	}
	return f
}

// set lays out what the document claims.
func (c *checkpoint) set() (*set, error) {
	length, err := c.length()
	if err != nil {
		return nil, err
	}
	s := newSet(length)
	for _, p := range c.Parts {
		if err := s.claim(span{p.Offset, p.Offset + p.Done}, p.CRC64); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// encode writes the document with the parts that a snapshot gives, coarser ones where it would be too long.
func (c *checkpoint) encode(snapshot func(limit int) []claim) ([]byte, error) {
	for limit := maxClaims; ; limit /= 2 {
		claims := snapshot(limit)
		c.Parts = make([]checkpointPart, len(claims))
		for i, cl := range claims {
			c.Parts[i] = checkpointPart{cl.off, cl.size, cl.done, cl.crc}
		}
		data, err := json.Marshal(c)
		if err != nil || len(data) < checkpointLimit || limit <= 1 {
			return append(data, '\n'), err
		}
	}
}

// readCheckpoint loads the checkpoint of a destination. It returns nil where there is none that fits the call, which is
// logged; an error says that the file could not be read at all.
func readCheckpoint(d *destination, id identity, cfg *objectOptions) (*checkpoint, error) {
	if d.cpPath == "" {
		return nil, nil
	}
	data, err := fsys.ReadFile(d.fs, d.cpPath, checkpointReadLimit)
	var c *checkpoint
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, fsys.ErrNotRegular):
		if fi, lerr := d.fs.Lstat(d.cpPath); lerr == nil && fi.IsDir() {
			return nil, fmt.Errorf("checkpoint %s is a folder", d.cpPath)
		}
	case errors.Is(err, fsys.ErrTooLarge):
	case err != nil:
		return nil, fmt.Errorf("checkpoint: %w", err)
	default:
		if c, err = decodeCheckpoint(data); err == nil {
			err = c.fits(d, id, cfg)
		}
	}
	if err != nil {
		d.log.Warn("checkpoint of no use, fresh start", "checkpoint", d.cpPath, "reason", err)
		return nil, nil
	}
	return c, nil
}

// fits says why the checkpoint is not of this call.
func (c *checkpoint) fits(d *destination, id identity, cfg *objectOptions) error {
	switch {
	case c.URL != id.url || c.Bucket != id.bucket || c.Key != id.key:
		return errors.New("of another object")
	case cfg.versionID != "" && c.VersionID != cfg.versionID:
		return fmt.Errorf("of version %q", c.VersionID)
	case cfg.ifMatch != "" && !sameETag(cfg.ifMatch, c.ETag):
		return fmt.Errorf("of ETag %s", orNone(c.ETag))
	case (c.Range == nil) != (cfg.window == nil), c.Range != nil && *c.Range != (checkpointRange{cfg.window.offset, cfg.window.length}):
		return errors.New("of another range")
	case c.Path != d.pathFromCheckpoint():
		return fmt.Errorf("of another destination, %q", c.Path)
	case c.ETag == "" && c.CRC64 == nil && c.LastModified == "":
		return errors.New("nothing in it identifies the object")
	}
	return nil
}

// dropStray removes the checkpoint that an earlier call with other options has left at the default place: it is of the
// file that was just replaced. What is there and is no checkpoint of this path is somebody else's.
func (d *destination) dropStray() {
	stray := d.base + checkpointSuffix
	if d.cpPath == stray {
		return
	}
	data, err := fsys.ReadFile(d.fs, stray, checkpointReadLimit)
	if err != nil {
		return
	}
	beside := destination{path: d.path, cpPath: stray}
	if c, err := decodeCheckpoint(data); err == nil && c.Path == beside.pathFromCheckpoint() {
		if err := d.fs.Remove(stray); err != nil {
			d.log.Warn("checkpoint left behind", "error", err)
		}
	}
}

// pathFromCheckpoint names the destination as seen from the checkpoint's folder, so that both can be moved together.
func (d *destination) pathFromCheckpoint() string {
	name := d.path
	if rel, err := filepath.Rel(filepath.Dir(d.cpPath), d.path); err == nil {
		name = filepath.ToSlash(rel)
	}
	if !utf8.ValidString(name) {
		return strconv.Quote(name) // JSON cannot hold it as it is
	}
	return name
}

const (
	saveBytes    = 4 << 20               // as much must be new for a save
	saveTime     = 50 * time.Millisecond // between saves at the least
	saveLongTime = time.Second           // after which any new byte is worth a save
	saveShare    = 20                    // at most one part in so many of the time goes into saving
	syncTime     = time.Second           // between syncs of the data at the least
	syncShare    = 4                     // likewise for syncs
)

// keeper saves the checkpoint of a transfer while it runs, in nobody's way. A save that fails is logged once and ends
// nothing: it costs what an interruption would have kept.
type keeper struct {
	d      *destination
	t      *transfer
	cfg    *objectOptions
	saved  int64 // bytes that the last save covered
	failed bool
}

// run saves until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	if k.d.cpPath == "" || k.d.committed {
		return nil
	}
	k.saved = k.t.set.totals().have
	last, cost := time.Now(), time.Duration(0)
	tick := time.NewTicker(saveTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		fresh := k.t.set.totals().have - k.saved
		idle := time.Since(last)
		if fresh == 0 || idle < cost*saveShare || fresh < saveBytes && idle < saveLongTime {
			continue
		}
		begun := time.Now()
		k.save(false)
		last = time.Now()
		cost = last.Sub(begun)
	}
}

// save writes the checkpoint now. Where the disk is full the last of a run takes the spare. An earlier one does so only if
// the data has all of its blocks: otherwise the data that still comes would take what is given up, and the last save would
// find nothing.
func (k *keeper) save(last bool) {
	select {
	case <-k.t.ready: // before, the file does not hold what would be claimed
	default:
		return
	}
	have := k.t.set.totals().have
	data, err := k.document().encode(k.t.set.snapshot)
	if err == nil {
		err = fsys.WriteFile(k.d.fs, k.d.cpPath, data, checkpointMode)
	}
	if fsys.IsNoSpace(err) && (last || k.d.reserved.Load()) {
		if given, gerr := k.d.giveSpare(); given && gerr == nil {
			err = fsys.WriteFile(k.d.fs, k.d.cpPath, data, checkpointMode)
		}
	}
	switch {
	case err == nil:
		k.saved = have
	case !k.failed:
		k.failed = true
		k.d.log.Warn("checkpoint not saved", "checkpoint", k.d.cpPath, "error", err)
	}
}

func (k *keeper) document() *checkpoint {
	f, _ := k.t.pin.now()
	id := k.t.src.identity()
	c := &checkpoint{
		Version: checkpointVersion, URL: id.url, Bucket: id.bucket, Key: id.key, VersionID: f.versionID, ETag: f.etag,
		Size: f.size, Path: k.d.pathFromCheckpoint(),
	}
	if k.cfg.versionID != "" {
		c.VersionID = k.cfg.versionID
	}
	if !f.lastModified.IsZero() {
		c.LastModified = f.lastModified.UTC().Format(time.RFC3339)
	}
	if f.hasCRC {
		c.CRC64 = &f.crc
	}
	if w := k.cfg.window; w != nil {
		c.Range = &checkpointRange{w.offset, w.length}
	}
	return c
}

// syncs puts the data on stable storage now and then, so that ranges may be joined in the checkpoint and little is lost
// with the power. A sync that fails ends the run: what it was to cover may be gone from memory and disk alike.
func (k *keeper) syncs(ctx context.Context) error {
	if k.d.committed || k.d.cpPath == "" {
		return nil
	}
	last, cost := time.Now(), time.Duration(0)
	tick := time.NewTicker(syncTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if time.Since(last) < cost*syncShare || !k.t.set.beginSync() {
			continue
		}
		begun := time.Now()
		if err := k.d.sync(); err != nil {
			return err
		}
		k.t.set.endSync()
		last = time.Now()
		cost = last.Sub(begun)
	}
}
