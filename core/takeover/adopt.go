package takeover

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Adoptable is what a database without its manifest can continue from: its newest layer, and the log after it.
type Adoptable struct {
	DatabaseID string
	Layer      manifest.Layer
	To         uint64 // the last record; Layer.Seq: none follows the layer
	Epoch      uint64 // the highest one found
	Postgres   string // major version of the layer's files
}

// Survey finds out what a prefix without a manifest could continue from, and reads all of it: the newest completely uploaded layer, and
// every record after it. It writes nothing.
//
// Nothing else would do: an older layer would need every record since, and those that the lost manifest's layer covered may be deleted. And
// each layer is the result of the log up to its record, whoever took it and whether or not a manifest ever named it, so the newest is as
// good as the one that was named.
//
// Errors: store.ErrNotFound (nothing of a database is there), store.ErrInvalid (there is a manifest: nothing to adopt), base.ErrCorrupt and
// wal.ErrCorrupt (the newest layer is damaged, or records are missing: a person has to decide), those of an existing manifest, the store's.
func Survey(ctx context.Context, st store.Store) (Adoptable, error) {
	a, err := survey(ctx, st)
	if err != nil {
		return Adoptable{}, fmt.Errorf("look for what could be adopted: %w", err)
	}
	return a, nil
}

func survey(ctx context.Context, st store.Store) (Adoptable, error) {
	m, _, err := manifest.Load(ctx, st)
	switch {
	case err == nil:
		return Adoptable{}, fmt.Errorf("%w: database %s has its manifest", store.ErrInvalid, m.DatabaseID)
	case !errors.Is(err, store.ErrNotFound):
		return Adoptable{}, err
	}
	s := &surveyor{st: st, begun: map[uint64]uint64{}}
	if err := s.layers(ctx); err != nil {
		return Adoptable{}, err
	}
	if err := s.identify(ctx); err != nil {
		return Adoptable{}, err
	}
	if err := s.records(ctx); err != nil {
		return Adoptable{}, err
	}
	return s.a, s.files(ctx)
}

type surveyor struct {
	st     store.Store
	newest base.Object       // the newest layer with an index
	found  []base.Object     // complete layers at newest's record
	begun  map[uint64]uint64 // records at which a layer was begun or completed, with its epoch
	a      Adoptable
}

// layers finds the newest layer.
func (s *surveyor) layers(ctx context.Context) error {
	for a, err := range s.st.List(ctx, base.Prefix(), "") {
		if err != nil {
			return err
		}
		o, ok := base.ParseObject(a.Key)
		if !ok {
			continue
		}
		s.begun[o.Seq] = max(s.begun[o.Seq], o.Epoch)
		if !o.Index || len(s.found) > 0 && o.Seq < s.found[0].Seq {
			continue
		}
		if len(s.found) > 0 && o.Seq > s.found[0].Seq {
			s.found = nil
		}
		s.found = append(s.found, o)
		s.a.Layer.Taken = a.Updated // of one of them, by the store's clock
	}
	return s.segments(ctx)
}

// segments finds layers that were only begun: those with nothing but segments.
func (s *surveyor) segments(ctx context.Context) error {
	for a, err := range s.st.List(ctx, base.SegmentPrefix(), "") {
		if err != nil {
			return err
		}
		if o, ok := base.ParseSegment(a.Key); ok {
			s.begun[o.Seq] = max(s.begun[o.Seq], o.Epoch)
		}
	}
	return nil
}

// identify finds out which database the records belong to, and picks the layer. Fences are never deleted, so a log has at least one.
func (s *surveyor) identify(ctx context.Context) error {
	first, err := s.first(ctx)
	if err != nil {
		return err
	}
	s.a.DatabaseID = first.DatabaseID
	switch {
	case len(s.found) == 0 && first.Seq == 0:
		return fmt.Errorf("%w: there are neither layers nor records", store.ErrNotFound)
	case len(s.found) == 0:
		return fmt.Errorf("%w: there are records of database %s, but no layer before them", base.ErrCorrupt, first.DatabaseID)
	case first.Seq == 0 && s.found[0].ID == "":
		return fmt.Errorf("%w: there is layer %s, but no record that says which database it belongs to (it may be one of mode snapshot): a person has to decide",
			wal.ErrCorrupt, s.found[0].Layer)
	}
	var fits []base.Object
	for _, o := range s.found {
		if o.ID == "" && first.Seq > 0 || o.ID != "" && (first.Seq == 0 || o.ID == first.DatabaseID) {
			fits = append(fits, o)
		}
	}
	if len(fits) != 1 {
		return fmt.Errorf("%w: at record %d there are %d possible layers: a person has to decide", base.ErrCorrupt, s.found[0].Seq, len(fits))
	}
	s.newest = fits[0]
	if first.Seq == 0 {
		s.a.DatabaseID = s.newest.ID
	}
	return nil
}

// first returns the first existing record, without its operations.
func (s *surveyor) first(ctx context.Context) (wal.Record, error) {
	for a, err := range s.st.List(ctx, wal.Prefix(), "") {
		if err != nil {
			return wal.Record{}, err
		}
		if _, err := wal.ParseKey(a.Key); err != nil {
			continue
		}
		o, err := s.st.Get(ctx, a.Key)
		if err != nil {
			return wal.Record{}, err
		}
		return wal.Header(o.Body)
	}
	return wal.Record{}, nil
}

// records reads the log after the layer. It must reach at least as far as every layer that was begun, because a layer is begun only when
// every record up to it is durable.
func (s *surveyor) records(ctx context.Context) error {
	from := wal.Position{Seq: s.newest.Seq, Epoch: s.newest.Epoch}
	if from.Seq == 0 {
		from = wal.Start(s.a.DatabaseID)
	}
	l := &s.a.Layer
	l.Key, l.Seq, l.Epoch = s.newest.Layer, s.newest.Seq, s.newest.Epoch
	s.a.To, s.a.Epoch = from.Seq, from.Epoch
	_, err := wal.Read(ctx, s.st, wal.ReadOptions{From: from, DatabaseID: s.a.DatabaseID}, func(r wal.Record) error {
		// A fence may follow a different record than the one that was there, so it does not prove that record's hash.
		if r.Seq == from.Seq+1 && r.Kind == wal.Data {
			from.Hash = r.Prev
		}
		if epoch, begun := s.begun[r.Seq]; begun && epoch != r.Epoch {
			return fmt.Errorf("record %d: %w: it has epoch %d, but a layer of epoch %d was taken at a different record of that number",
				r.Seq, wal.ErrCorrupt, r.Epoch, epoch)
		}
		s.a.To, s.a.Epoch = r.Seq, max(s.a.Epoch, r.Epoch)
		return nil
	})
	if err != nil {
		return err
	}
	for seq := range s.begun {
		if seq > s.a.To {
			return fmt.Errorf("record %d: %w: it is missing, but a layer was taken at record %d", s.a.To+1, wal.ErrCorrupt, seq)
		}
	}
	if from.Hash != [32]byte{} {
		l.Hash = hex.EncodeToString(from.Hash[:])
	}
	return nil
}

// files reads all of the layer, and keeps only the version of PostgreSQL that its files belong to.
func (s *surveyor) files(ctx context.Context) error {
	const version = "/PG_VERSION"
	l, stats, err := base.Verify(ctx, s.st, s.newest.Layer, base.ReadOptions{
		Expect: base.Expect{Database: s.a.DatabaseID}, HeadOf: version,
		Head: func(chunk []byte) {
			text, _, _ := bytes.Cut(chunk, []byte{0})
			s.a.Postgres = strings.TrimSpace(string(text))
		},
	})
	if err != nil {
		return err
	}
	s.a.Layer.RawBytes, s.a.Layer.StoredBytes, s.a.Layer.Segments = stats.RawBytes, stats.StoredBytes, len(l.Segments())
	if s.a.Postgres == "" {
		return fmt.Errorf("layer %s: %w: it lacks the file %s, which names the version of its files", s.newest.Layer, base.ErrCorrupt, version)
	}
	return nil
}

// AdoptOptions are options of Adopt.
type AdoptOptions struct {
	Store  store.Store
	Writer string // as in Options
	// LeaseTTL and AcquireTimeout are the lease's.
	LeaseTTL, AcquireTimeout time.Duration
	// Retain is how far back earlier states are kept from now on; only the lost manifest said so. States before the layer are given up.
	Retain time.Duration
	Clock  clock.Clock // nil: the system clock
}

// Adopt makes the manifest of a database that has lost it, from what Survey finds. It holds the lease while it does, so that it disturbs no
// writer. A writer that is alive anyway, perhaps asleep, neither does nor suffers harm: nothing it wrote is deleted, what it appends later
// comes after what was read and is found by the next opening, and its epoch is not below the manifest's. The manifest is created, never
// overwritten.
//
// Adopt cannot know of a collection that was stopped midway when the manifest was lost. If that collection resumes long after its lease has
// expired, it deletes layers that its manifest did not name, possibly including the newest one, if its writer was fenced before the
// manifest could name it. So end everything that runs on the prefix before adopting.
//
// Errors: those of Survey and of lease.Acquire, ErrNested, store.ErrConflict (another process was faster), the store's.
func Adopt(ctx context.Context, o AdoptOptions) (a Adoptable, err error) {
	if err := CheckAbove(ctx, o.Store); err != nil {
		return a, fmt.Errorf("adopt: %w", err)
	}
	l, err := lease.Acquire(ctx, lease.Options{Store: o.Store, Holder: o.Writer, TTL: o.LeaseTTL, Clock: o.Clock}, o.AcquireTimeout)
	if err != nil {
		return a, fmt.Errorf("adopt: %w", err)
	}
	defer func() { err = errors.Join(err, l.Release(context.WithoutCancel(ctx))) }()
	if a, err = Survey(ctx, o.Store); err != nil {
		return a, fmt.Errorf("adopt: %w", err)
	}
	if err := l.Ensure(ctx); err != nil {
		return a, fmt.Errorf("adopt: %w", err)
	}
	_, _, err = manifest.Update(ctx, o.Store, manifest.Options{Epoch: a.Epoch, Writer: o.Writer, Create: true, Clock: o.Clock}, func(m *manifest.Manifest) error {
		if m.DatabaseID != "" && m.Writer != o.Writer {
			return fmt.Errorf("%w: %s has created a manifest in the meantime", store.ErrConflict, m.Writer)
		}
		m.DatabaseID, m.Postgres, m.Layers, m.WalStart = a.DatabaseID, a.Postgres, []manifest.Layer{a.Layer}, a.Layer.Seq+1
		if o.Retain > 0 {
			m.Keep(o.Retain)
		}
		return nil
	})
	if err != nil {
		return a, fmt.Errorf("adopt: %w", err)
	}
	// A collection that was running when the manifest was lost may have deleted the layer by now.
	if there, err := exists(ctx, o.Store, base.IndexKey(a.Layer.Key)); err != nil || !there {
		return a, fmt.Errorf("adopt: %w: layer %s has been deleted in the meantime (%v): delete the manifest and try again", base.ErrCorrupt, a.Layer.Key, err)
	}
	return a, nil
}
