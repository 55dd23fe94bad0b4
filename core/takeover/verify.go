package takeover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"blobpglite/core/base"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/pgdata"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Report is what a verification found.
type Report struct {
	DatabaseID string
	Layer      string // the newest; empty: none
	Layers     int    // named by the manifest
	LayerBytes int64  // stored size of all layers, counting shared objects once; only of layers that were read and found sound
	From, To   uint64 // records From..To are sound; To < From: there are none
	Epoch      uint64 // the highest one found
	Fences     int
	Bytes      int64 // of the records, without parts
	Lease      error // why the lease object is not a lease; nil: it is one, or absent. The next writer replaces a damaged one
}

// ErrShutDown: a layer's control file says that PostgreSQL was shut down, but records follow, which PostgreSQL would not replay.
// Open the database with this version, which recovers them and takes a new layer.
var ErrShutDown = errors.New("records follow a layer that says PostgreSQL was shut down")

// VerifyOptions are options of VerifyWith.
type VerifyOptions struct {
	// Parallel is how many records are read concurrently; 0: the log's default. 1 makes one request after the other.
	Parallel int
	// Deep reads every layer completely, and the lease; otherwise only the presence of the layers' indexes is checked.
	Deep bool
	// Progress is called with what is being read, and how much of it has been read; total 0: not known. Nil: not called.
	Progress func(step string, done, total int64)
}

// Verify reads a database's manifest and its whole log, writes nothing, and says up to which record it is sound. An error names what is
// damaged.
func Verify(ctx context.Context, st store.Store) (Report, error) {
	return VerifyWith(ctx, st, VerifyOptions{})
}

// VerifyWith is Verify with options. It may run alongside a writer: what is compacted in the meantime is read again. The error joins all
// damage: each layer, and the log from its first bad record on. A damaged lease is not an error: see Report.
func VerifyWith(ctx context.Context, st store.Store, o VerifyOptions) (Report, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	known := &base.Verified{}
	for range maxRestarts {
		m, _, err := manifest.Load(ctx, st)
		if err != nil {
			return Report{}, err
		}
		v := &verifier{st: st, o: o, m: m, known: known}
		err = v.run(ctx)
		now, _, loadErr := manifest.Load(ctx, st)
		switch {
		case loadErr != nil && err != nil:
			return v.report, fmt.Errorf("distinguish damage from a log that was compacted in the meantime (%v): %w", err, loadErr)
		case loadErr != nil:
			return v.report, loadErr
		}
		if now.WalStart == m.WalStart && (err == nil || sameLayers(now, m)) {
			return v.report, err
		}
	}
	return Report{}, fmt.Errorf("verify: the log was compacted %d times while it was read: %w", maxRestarts, store.ErrUnavailable)
}

// sameLayers says whether two manifests name the same layers: a layer that is no longer named may be gone.
func sameLayers(a, b manifest.Manifest) bool {
	return slices.EqualFunc(a.Layers, b.Layers, func(a, b manifest.Layer) bool { return a.Key == b.Key })
}

type verifier struct {
	st     store.Store
	o      VerifyOptions
	m      manifest.Manifest
	report Report
	known  *base.Verified
	ended  []manifest.Layer // layers whose control file says that PostgreSQL was shut down
}

func (v *verifier) run(ctx context.Context) error {
	from, err := Oldest(v.m)
	if err != nil {
		return err
	}
	v.report = Report{
		DatabaseID: v.m.DatabaseID, Layers: len(v.m.Layers), From: from.Seq + 1, To: from.Seq, Epoch: max(v.m.Epoch, from.Epoch),
	}
	if n := len(v.m.Layers); n > 0 {
		v.report.Layer = v.m.Layers[n-1].Key
	}
	layers := v.layers(ctx)
	if ctx.Err() != nil {
		return layers
	}
	return errors.Join(v.walStart(), layers, v.log(ctx, from), v.lease(ctx))
}

// walStart checks that collections keep exactly what the oldest layer needs.
func (v *verifier) walStart() error {
	if len(v.m.Layers) == 0 || v.m.WalStart == v.m.Layers[0].Seq+1 {
		return nil
	}
	return fmt.Errorf("object %q: %w: wal_start is %d, but the oldest layer is that of record %d", manifest.Key, manifest.ErrCorrupt, v.m.WalStart, v.m.Layers[0].Seq)
}

// layers checks each layer; unless Deep, only that its index exists.
func (v *verifier) layers(ctx context.Context) error {
	var damaged error
	objects := map[string]int64{} // sizes, by their keys
	for _, l := range v.m.Layers {
		if !v.o.Deep {
			there, err := exists(ctx, v.st, base.IndexKey(l.Key))
			if err == nil && !there {
				err = fmt.Errorf("layer %q: %w: the manifest names it, but its index does not exist", l.Key, manifest.ErrCorrupt)
			}
			if err != nil {
				return err
			}
			continue
		}
		layer, _, err := base.Verify(ctx, v.st, l.Key, base.ReadOptions{
			Expect:   base.Expected(v.m, l),
			Verified: v.known,
			Progress: func(done, total int64) { v.o.Progress("reading layer "+l.Key, done, total) },
			HeadOf:   pgdata.ControlPath,
			Head: func(chunk []byte) {
				if c, err := pgdata.ParseControl(chunk); err != nil {
					damaged = errors.Join(damaged, fmt.Errorf("layer %q: %w: %w", l.Key, base.ErrCorrupt, err))
				} else if c.ShutDown() {
					v.ended = append(v.ended, l)
				}
			},
		})
		if err == nil {
			objects[base.IndexKey(l.Key)] = layer.IndexBytes()
			maps.Copy(objects, layer.ObjectBytes())
		}
		if errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("the manifest names layer %q, but one of its objects is gone: %w: %w", l.Key, base.ErrCorrupt, err)
		}
		damaged = errors.Join(damaged, err)
	}
	for _, size := range objects {
		v.report.LayerBytes += size
	}
	return damaged
}

// log checks every record, and that each layer's position is in the log.
func (v *verifier) log(ctx context.Context, from wal.Position) error {
	layers := v.m.Layers
	var skipped error
	_, err := wal.Read(ctx, v.st, wal.ReadOptions{From: from, DatabaseID: v.m.DatabaseID, Parallel: v.o.Parallel}, func(rec wal.Record) error {
		skipped = errors.Join(skipped, v.skipped(rec))
		for len(layers) > 0 && layers[0].Seq < rec.Seq {
			layers = layers[1:]
		}
		if len(layers) > 0 && layers[0].Seq == rec.Seq {
			at, err := position(layers[0])
			if err != nil {
				return err
			}
			if at.Hash != [32]byte{} && at.Hash != rec.Hash || at.Epoch != rec.Epoch {
				return fmt.Errorf("record %d: %w: layer %q was taken at a different record of that number", rec.Seq, wal.ErrCorrupt, layers[0].Key)
			}
		}
		v.report.To, v.report.Epoch = rec.Seq, max(v.report.Epoch, rec.Epoch)
		v.report.Bytes += int64(rec.Bytes)
		if rec.Kind == wal.Fence {
			v.report.Fences++
		}
		v.o.Progress("reading records", int64(rec.Seq-from.Seq), 0)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: an object that was listed is gone: %w", wal.ErrCorrupt, err)
	}
	if err == nil {
		err = skipped
	}
	if err == nil && len(v.m.Layers) > 0 {
		if newest := v.m.Layers[len(v.m.Layers)-1]; newest.Seq > v.report.To && newest.Hash != "" {
			return fmt.Errorf("record %d: %w: it is missing, but layer %q was taken at it", v.report.To+1, wal.ErrCorrupt, newest.Key)
		}
	}
	return err
}

// skipped returns ErrShutDown at the first record after a layer that PostgreSQL would not replay.
func (v *verifier) skipped(rec wal.Record) error {
	logged := slices.ContainsFunc(rec.Ops, func(op wal.Op) bool { return op.Kind == wal.OpWrite && strings.HasPrefix(op.Path, "/pg_wal/") })
	var err error
	v.ended = slices.DeleteFunc(v.ended, func(l manifest.Layer) bool {
		if !logged || l.Seq >= rec.Seq {
			return false
		}
		err = errors.Join(err, fmt.Errorf("layer %q: %w: the first is %d", l.Key, ErrShutDown, rec.Seq))
		return true
	})
	return err
}

// lease reads the lease.
func (v *verifier) lease(ctx context.Context) error {
	if !v.o.Deep {
		return nil
	}
	o, err := v.st.Get(ctx, lease.Key)
	if errors.Is(err, store.ErrNotFound) {
		return nil // it has never been opened, or only in mode snapshot
	}
	if err == nil {
		_, err = lease.Decode(o.Body)
	}
	if err != nil {
		err = fmt.Errorf("object %q: %w", lease.Key, err)
	}
	if errors.Is(err, lease.ErrCorrupt) {
		v.report.Lease, err = err, nil
	}
	return err
}

// exists says whether there is an object, without reading it.
func exists(ctx context.Context, st store.Store, key string) (bool, error) {
	for a, err := range st.List(ctx, key, "") {
		return err == nil && a.Key == key, err
	}
	return false, nil
}
