package localfile

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
)

// A file of recent saves has two slots, which are overwritten in turn. Nothing in it is synced: a kill leaves what was written,
// a power loss leaves anything. So a slot has its own checksum, and says which checkpoint it continues. As the data of a partial
// file, what is under the name in a working folder of ours may be replaced and removed, whatever it holds.
//
// A slot is, with big-endian numbers: magic (8 bytes), sequence (8), the CRC-64 of two checkpoints that it may continue (8 each),
// the length of its data (8), the CRC-64 of all these and the data (8), the data.
const (
	recentMagic = "ossdlrs1"
	slotHead    = 48
	slotSum     = 40 // where the CRC-64 is
	slotSize    = CheckpointLimit + 4<<10
	slotCount   = 2
)

// Bases are the CRC-64 of the checkpoints that a recent save may continue: the one in place, and one that is being put there. 0 is
// that of no checkpoint.
type Bases [2]uint64

// Recent is a save that no sync has covered.
type Recent struct {
	Bases Bases
	Data  []byte // as given to SaveRecent
	seq   uint64
	slot  int
}

// Continues reports whether the save was made after this checkpoint; nil: before there was one.
func (r *Recent) Continues(checkpoint []byte) bool {
	return slices.Contains(r.Bases[:], crc64.Update(0, checkpoint))
}

// recent is the file of recent saves during an attempt.
type recent struct {
	file fsys.File // nil: not open
	keep bool      // the file that is there has a save that counts
	seq  uint64    // of the last save
	slot int       // of the next one
}

// encodeSlot returns the bytes of a slot.
func encodeSlot(seq uint64, bases Bases, data []byte) []byte {
	b := make([]byte, 0, slotHead+len(data))
	b = append(b, recentMagic...)
	for _, n := range []uint64{seq, bases[0], bases[1], uint64(len(data)), 0} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(b, data...)
	binary.BigEndian.PutUint64(b[slotSum:], sumOfSlot(b))
	return b
}

// sumOfSlot returns the checksum of a slot: that of all its bytes but the checksum.
func sumOfSlot(b []byte) uint64 { return crc64.Update(crc64.Update(0, b[:slotSum]), b[slotHead:]) }

// decodeSlot reads a slot; ok is false if it is empty or torn.
func decodeSlot(b []byte) (r Recent, ok bool) {
	if len(b) < slotHead || string(b[:len(recentMagic)]) != recentMagic {
		return r, false
	}
	number := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	length := number(32)
	if length > CheckpointLimit || length > uint64(len(b)-slotHead) {
		return r, false
	}
	b = b[:slotHead+length]
	if sumOfSlot(b) != number(slotSum) {
		return r, false
	}
	return Recent{Bases: Bases{number(16), number(24)}, Data: b[slotHead:], seq: number(8)}, true
}

// FindRecent returns the newest of the recent saves that fits, or nil. A file that cannot be read counts as none.
func (d *Destination) FindRecent(fits func(r *Recent) bool) *Recent {
	name := d.work.recent
	if name == "" || d.checkpoint == "" {
		return nil
	}
	fi, err := d.ourFile(name)
	if err != nil || fi == nil {
		return nil
	}
	data, err := fsys.ReadFile(d.fs, name, slotCount*slotSize)
	if err != nil {
		return nil
	}
	var newest *Recent
	for i := range slotCount {
		if len(data) <= i*slotSize {
			break
		}
		r, ok := decodeSlot(data[i*slotSize : min(len(data), (i+1)*slotSize)])
		if r.slot = i; !ok || newest != nil && newest.seq >= r.seq || !fits(&r) {
			continue
		}
		newest = &r
	}
	if newest != nil {
		d.recent.keep, d.recent.seq, d.recent.slot = true, newest.seq, (newest.slot+1)%slotCount
	}
	return newest
}

// SavesRecent reports whether there is a file for recent saves.
func (d *Destination) SavesRecent() bool { return d.Saves() && d.work.recent != "" }

// SaveRecent writes data, at most [CheckpointLimit] bytes, beside the last recent save. It syncs nothing. Between two calls of
// Begin and Abandon it must not run twice at a time.
func (d *Destination) SaveRecent(bases Bases, data []byte) error {
	if len(data) > CheckpointLimit {
		return errors.New("too large for a recent save")
	}
	if d.recent.file == nil {
		if err := d.openRecent(); err != nil {
			return err
		}
	}
	r := &d.recent
	if _, err := r.file.WriteAt(encodeSlot(r.seq+1, bases, data), int64(r.slot)*slotSize); err != nil {
		return err
	}
	r.seq++
	r.slot = (r.slot + 1) % slotCount
	return nil
}

// openRecent opens the file of recent saves that counts, or makes one.
func (d *Destination) openRecent() error {
	name := d.work.recent
	fi, err := d.ourFile(name)
	if err != nil {
		return err
	}
	switch {
	case fi == nil:
	case d.recent.keep && fsys.Links(fi) == 1: // otherwise what is under its other names stays as it is
		return d.reopenRecent(name, fi)
	default:
		if err := d.fs.Remove(name); err != nil {
			return err
		}
	}
	dir, err := d.fs.Lstat(d.placeOf(name))
	if err != nil {
		return err
	}
	d.recent.file, err = d.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fsys.ModeIn(dir, fileMode))
	return err
}

// reopenRecent opens the file of an earlier run, of which fi is known.
func (d *Destination) reopenRecent(name string, fi fs.FileInfo) error {
	f, err := d.fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	opened, err := f.Stat()
	if err == nil && (!fsys.SameFile(fi, opened) || fsys.Links(opened) > 1) {
		err = changedMeanwhile(name)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.recent.file = f
	return nil
}

// closeRecent closes the file of recent saves. What is in it stays.
func (d *Destination) closeRecent() {
	if f := d.recent.file; f != nil {
		d.recent.file = nil
		if err := f.Close(); err != nil {
			d.log.Warn("closing recent saves failed", "error", err)
		}
	}
}

// DropRecent removes the recent saves. A later run ignores them if they stay, so a failure is logged and no more.
func (d *Destination) DropRecent() {
	d.closeRecent()
	d.recent = recent{}
	name := d.work.recent
	if name == "" {
		return
	}
	fi, err := d.ourFile(name)
	if err != nil || fi == nil {
		return
	}
	if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("recent saves left behind", "error", err)
	}
}
