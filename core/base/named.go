package base

import (
	"fmt"

	"blobpglite/core/manifest"
)

// named is what an index says about itself: which layer it belongs to. Without it, an earlier layer's index in the place of a later one's
// would be accepted, since the objects it needs may still exist. Indexes of earlier versions do not say it: zero.
type named struct {
	layer    string // its key
	database string // the database's ID; empty: the writer did not say
}

// Expect is what is known about a layer before its index is read. An index that contradicts it is not that layer's: ErrCorrupt. Zero fields
// are unknown. The sizes also tell apart indexes without a name, which an earlier version wrote.
type Expect struct {
	Database              string // the ID
	Seq                   uint64 // of the record that its key must name
	RawBytes, StoredBytes int64  // as in Stats
	Segments              int    // how many page segments it shares or may share; known if RawBytes is
}

// Expected returns what a manifest says about one of its layers.
func Expected(m manifest.Manifest, l manifest.Layer) Expect {
	return Expect{Database: m.DatabaseID, Seq: l.Seq, RawBytes: l.RawBytes, StoredBytes: l.StoredBytes, Segments: l.Segments}
}

// check returns what is wrong with a layer.
func (e Expect) check(l *Layer) error {
	if own := l.index.named.database; own != "" && e.Database != "" && own != e.Database {
		return fmt.Errorf("%w: it belongs to database %s, not to %s", ErrCorrupt, own, e.Database)
	}
	switch o, _ := ParseObject(IndexKey(l.key)); {
	case e.isOthers(o):
		return fmt.Errorf("%w: by its name it belongs to database %s, not to %s", ErrCorrupt, o.ID, e.Database)
	case e.Seq != 0 && e.Seq != o.Seq:
		return fmt.Errorf("%w: the manifest names it as a layer taken at record %d", ErrCorrupt, e.Seq)
	}
	for _, key := range l.Segments() {
		if o, _ := ParseSegment(key); e.isOthers(o) {
			return fmt.Errorf("%w: it needs segment %s, which belongs to database %s, not to %s", ErrCorrupt, key, o.ID, e.Database)
		}
	}
	use := l.Use()
	switch raw, segments := l.RawBytes(), len(l.Segments()); { // parts of a layer of format 1 do not count: a manifest does not count them
	case e.StoredBytes != 0 && use.StoredBytes != e.StoredBytes:
		return fmt.Errorf("%w: it is not the one that the manifest names: with its segments it has %d bytes, not %d", ErrCorrupt, use.StoredBytes, e.StoredBytes)
	case e.RawBytes != 0 && (raw != e.RawBytes || segments != e.Segments):
		return fmt.Errorf("%w: it is not the one that the manifest names: it describes %d bytes in %d segments, not %d in %d",
			ErrCorrupt, raw, segments, e.RawBytes, e.Segments)
	}
	return nil
}

// isOthers reports whether an object's key has the ID of another database.
func (e Expect) isOthers(o Object) bool { return e.Database != "" && o.ID != "" && o.ID != e.Database }

// isLater reports whether a segment was written for a layer of a later record or a later writer than this one. No layer can need such a
// segment: a layer shares with the previous one, by the same writer or one with a lower epoch.
func isLater(segment Object, layer string) bool {
	own, ok := ParseObject(IndexKey(layer))
	return !ok || segment.Epoch > own.Epoch || segment.Seq > own.Seq
}
