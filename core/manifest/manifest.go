// Package manifest says where a database starts: which layers to restore, and from which record of the log to continue. A
// database has one manifest. It changes by compare and swap only.
//
//	m, gen, err := manifest.Load(ctx, st)
//	m, gen, err = manifest.Update(ctx, st, manifest.Options{Epoch: 7, Writer: "host-3"}, func(m *manifest.Manifest) error {
//		m.Layers = []manifest.Layer{layer}
//		m.WalStart = layer.Seq + 1
//		return nil
//	})
//
// The object `manifest` is JSON, in the fields' order below, 64-bit integers written out:
//
//	{"format":2, "database_id":"…", "epoch":7,
//	 "layers":[{"key":"base/7-120","epoch":7,"seq":120,"hash":"…","raw_bytes":…,"stored_bytes":…,"taken":"…", "segments":…}, …],   oldest first
//	 "wal_start":121, "postgres":"18.6", "pglite_sha256":"…", "commits":4711, "retain_seconds":86400,
//	 "writer":"host-3", "write_id":"…", "updated":"2026-01-02T03:04:05Z"}
//
// Every layer is full. An opening starts from the newest; older ones are kept, with every record after the oldest, for
// restores of earlier states: as far back as retain_seconds says, which is a property of the database and is changed by
// SetRetain. wal_start is the oldest layer's seq + 1: no record at or above it is ever deleted.
//
// Decoding is strict: in a format that this version knows, every field is present once, and there are no others
// (retain_seconds is left out where it is 0); a newer format is ErrNewer whatever else it holds. White space is allowed
// anywhere.
//
// # Formats
//
//	1  without retain_seconds: the retention is not stated. The first Publish with Options.Retain states it; with
//	   several layers and no Retain, or only the default, it becomes as far back as they reach
//	2  retain_seconds
//	3  segments, of a layer: how many page segments it needs. Layers may share them, which older versions do not know when
//	   they delete. retain_seconds is always stated
//
// A new field or a new meaning is a new format. A manifest is written in the lowest format that can express it, so that
// older versions can still open a database that uses nothing new; but a manifest's format never falls. Every format ever
// written can be read, and testdata has an example of each.
//
// Survives: rival writers (compare and swap, and a higher epoch fences), a lost reply (the object is read back and the
// write id compared), a writer that died anywhere. Does not survive: an object edited so that it contradicts itself; that
// is ErrCorrupt, and it is not overwritten.
package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"blobpglite/core/store"
)

const (
	// Key of the object, relative to the database's prefix.
	Key = "manifest"
	// Format is the newest format that this version writes and reads.
	Format = 3
	// formatRetain is the first format with retain_seconds.
	formatRetain = 2
	// formatSegments is the first format whose layers share page segments.
	formatSegments = 3
	// MaxBytes bounds the object, in bytes.
	MaxBytes = 1 << 20
	// MaxLayers bounds Manifest.Layers. Compaction keeps it far below.
	MaxLayers = 1024
	// DefaultRetain is what pgserve and the Go package give a new database. It also lets readers finish while a writer
	// runs.
	DefaultRetain = 10 * time.Minute
	// MaxRetain bounds Manifest.RetainSeconds: a hundred years.
	MaxRetain = 100 * 365 * 24 * time.Hour
	// maxText bounds each of the free-text fields, in bytes.
	maxText = 256
)

var (
	// ErrCorrupt: the manifest is damaged. Do not overwrite it: restore an older generation of the object (GCS keeps
	// soft-deleted and noncurrent versions), or let a person decide. It wraps store.ErrCorrupt.
	ErrCorrupt = fmt.Errorf("manifest is damaged: %w", store.ErrCorrupt)
	// ErrNewer: written by a newer version of this program, in a format unknown to this one. Upgrade; nothing is wrong
	// with the database.
	ErrNewer = errors.New("written by a newer version")
	// ErrFenced: the manifest has an epoch above the caller's: another writer has the database. Stop serving; open the
	// database again to take it back.
	ErrFenced = errors.New("fenced by a newer epoch")
)

// Manifest says where a database starts. Update sets Format, Epoch, Writer, WriteID and Updated.
type Manifest struct {
	Format       int     `json:"format"`
	DatabaseID   string  `json:"database_id"`   // set once, at creation
	Epoch        uint64  `json:"epoch"`         // of the last writer
	Layers       []Layer `json:"layers"`        // oldest first; the newest is restored
	WalStart     uint64  `json:"wal_start"`     // first record kept; only rises
	Postgres     string  `json:"postgres"`      // version of the server, as "18.6"
	PGliteSHA256 string  `json:"pglite_sha256"` // of the wasm binary, 64 hexadecimal digits; empty: unknown
	Commits      uint64  `json:"commits"`       // acknowledged up to the newest layer; informational
	// RetainSeconds is how far back layers and records are kept for restores of earlier states, in seconds. 0: only the
	// newest layer is kept, or, before format 2, not stated.
	RetainSeconds int64 `json:"retain_seconds,omitempty"`

	Writer  string    `json:"writer"`   // who wrote it; informational
	WriteID string    `json:"write_id"` // the object's own
	Updated time.Time `json:"updated"`  // wall clock of the writer; informational
}

// Layer is one base layer: the pages of the data directory as of log position Seq.
type Layer struct {
	Key         string `json:"key"` // prefix of its objects, relative to the database's
	Epoch       uint64 `json:"epoch"`
	Seq         uint64 `json:"seq"`
	Hash        string `json:"hash"` // of the record at Seq, 64 hexadecimal digits; empty: there is no log
	RawBytes    int64  `json:"raw_bytes"`
	StoredBytes int64  `json:"stored_bytes"` // of all objects it needs, including shared ones
	// Taken is when it was published, by its writer's wall clock: no earlier than anything in it. Zero: unknown.
	Taken time.Time `json:"taken"`
	// Segments is how many page segments it needs; 0: its format does not share them, or it is empty.
	Segments int `json:"segments,omitempty"`
}

// lowest returns the lowest format, not below m.Format, that can express m.
func (m Manifest) lowest() int {
	if slices.ContainsFunc(m.Layers, func(l Layer) bool { return l.Segments > 0 }) {
		return max(m.Format, formatSegments)
	}
	return max(m.Format, 1)
}

// Encode returns the object's bytes. A manifest that contradicts itself is refused with store.ErrInvalid.
func Encode(m Manifest) ([]byte, error) {
	if m.Layers == nil {
		m.Layers = []Layer{} // not null
	}
	m.Updated = m.Updated.UTC().Round(0)
	m.Layers = slices.Clone(m.Layers)
	for i := range m.Layers {
		m.Layers[i].Taken = m.Layers[i].Taken.UTC().Round(0)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w: %w", store.ErrInvalid, err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w: %w", store.ErrInvalid, err)
	}
	if len(body) > MaxBytes {
		return nil, fmt.Errorf("encode manifest: %w: %d bytes, the limit is %d", store.ErrInvalid, len(body), MaxBytes)
	}
	return body, nil
}

// Decode reads the object's bytes. Errors: ErrCorrupt, ErrNewer.
func Decode(body []byte) (Manifest, error) {
	m, err := decode(body)
	if err != nil {
		return Manifest{}, fmt.Errorf("decode manifest: %w", err)
	}
	return m, nil
}

func decode(body []byte) (Manifest, error) {
	if len(body) > MaxBytes {
		return Manifest{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrCorrupt, len(body), MaxBytes)
	}
	if m, ok := decodeOwn(body); ok {
		return m, nil
	}
	var version struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(body, &version); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	switch {
	case version.Format == nil || *version.Format < 1:
		return Manifest{}, fmt.Errorf("%w: it has no format number", ErrCorrupt)
	case *version.Format > Format:
		return Manifest{}, fmt.Errorf("%w: the manifest has format %d, this program reads up to %d: upgrade it",
			ErrNewer, *version.Format, Format)
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Manifest{}, fmt.Errorf("%w: there is data after the closing brace", ErrCorrupt)
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return m, checkCanonical(body, m)
}

// decodeOwn reads exactly what Encode writes, fast. For everything else, the slow way finds out what is wrong.
func decodeOwn(body []byte) (Manifest, bool) {
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return m, false
	}
	own, err := Encode(m)
	return m, err == nil && bytes.Equal(body, own)
}

// checkCanonical refuses what the decoder accepts: fields that are missing, duplicated or spelled differently.
func checkCanonical(body []byte, m Manifest) error {
	want, err := Encode(m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	var got bytes.Buffer
	if err := json.Compact(&got, body); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		return fmt.Errorf("%w: a field is missing, duplicated, out of order or misspelled", ErrCorrupt)
	}
	return nil
}

// check returns how a manifest contradicts itself.
func (m Manifest) check() error {
	for _, text := range []struct{ name, value string }{
		{"database_id", m.DatabaseID}, {"postgres", m.Postgres}, {"writer", m.Writer}, {"write_id", m.WriteID},
	} {
		if len(text.value) > maxText {
			return fmt.Errorf("%s has %d bytes, the limit is %d", text.name, len(text.value), maxText)
		}
		if !utf8.ValidString(text.value) {
			return fmt.Errorf("%s %q is not UTF-8", text.name, text.value)
		}
	}
	if m.PGliteSHA256 != "" {
		if sum, err := hex.DecodeString(m.PGliteSHA256); err != nil || len(sum) != 32 {
			return fmt.Errorf("pglite_sha256 %.80q is not 64 hexadecimal digits", m.PGliteSHA256)
		}
	}
	switch {
	case m.Format < 1 || m.Format > Format:
		return fmt.Errorf("format is %d, want 1 to %d", m.Format, Format)
	case m.RetainSeconds < 0 || m.RetainSeconds > int64(MaxRetain/time.Second):
		return fmt.Errorf("retain_seconds %d is not in 0 to %d", m.RetainSeconds, int64(MaxRetain/time.Second))
	case m.RetainSeconds != 0 && m.Format < formatRetain:
		return fmt.Errorf("retain_seconds in format %d", m.Format)
	case m.DatabaseID == "":
		return errors.New("database_id is empty")
	case m.WriteID == "":
		return errors.New("write_id is empty")
	case len(m.Layers) > MaxLayers:
		return fmt.Errorf("%d layers, the limit is %d", len(m.Layers), MaxLayers)
	}
	for i, l := range m.Layers {
		if err := l.check(); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		if l.Segments > 0 && m.Format < formatSegments {
			return fmt.Errorf("layer %d (%s): segments in format %d", i, l.Key, m.Format)
		}
		if l.Epoch > m.Epoch {
			return fmt.Errorf("layer %d (%s): its epoch %d is above the manifest's %d", i, l.Key, l.Epoch, m.Epoch)
		}
		if i > 0 && l.Seq <= m.Layers[i-1].Seq {
			return fmt.Errorf("layer %d (%s): seq %d does not follow %d", i, l.Key, l.Seq, m.Layers[i-1].Seq)
		}
	}
	if n := len(m.Layers); n > 0 && m.WalStart > m.Layers[n-1].Seq+1 {
		return fmt.Errorf("wal_start %d leaves a gap after the newest layer, which ends at %d", m.WalStart, m.Layers[n-1].Seq)
	}
	return nil
}

func (l Layer) check() error {
	if err := store.CheckKey(l.Key); err != nil {
		return err
	}
	if l.Seq == 1<<64-1 {
		return errors.New("seq is out of range")
	}
	if sum, err := hex.DecodeString(l.Hash); err != nil || l.Hash != "" && len(sum) != 32 {
		return fmt.Errorf("%s: hash %.80q is not 64 hexadecimal digits", l.Key, l.Hash)
	}
	if l.RawBytes < 0 || l.StoredBytes < 0 || l.Segments < 0 {
		return fmt.Errorf("%s: negative size", l.Key)
	}
	return nil
}
