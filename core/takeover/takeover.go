// Package takeover makes a process the writer of a database: lease, fence, and a reading of the log that no other process can have changed
// in between. It is the opening of the protocol, without PostgreSQL.
//
//	o, err := takeover.Open(ctx, takeover.Options{Store: st, Writer: "host-3", AcquireTimeout: 10 * time.Second})
//	restore(o.Manifest, o.Records)             // only now
//	at, err := o.Log.Append(ctx, ops)
//	err = o.Lease.Release(ctx)
//
// The steps, and why in this order:
//
//	lease      so that two writers do not keep fencing each other; not needed for safety
//	read       manifest and records: where the log ends, and its highest epoch
//	fence      create the next name with a higher epoch: from here on the predecessor cannot commit. If a record was
//	           faster, read it and fence after it
//	swap       the manifest to our epoch. While this process was stalled, the live writer may have compacted the log and
//	           deleted what was read, even past the name of the fence: then the fence fences no writer, nothing is swapped,
//	           and everything starts over. After the swap no older writer can publish a layer, or delete what this manifest
//	           names
//	restore    left to the caller; it comes last, and uses exactly what the swap returned: everything that the predecessor
//	           wrote before the fence has been read
//
// A fence is tried only with an unexpired lease. An opener that is fenced while it holds the lease starts over: the rival had the lease
// before it, and was asleep.
//
// The first reading runs while the lease is being acquired: safety comes from the fence after it, whenever the reading was made. If the
// lease had to be waited for, the reading is repeated, so that the fence is not tried at a long outdated name.
//
// The rule for every other reader of the log: records read between two readings of the manifest with equal wal_start are authentic;
// otherwise read again.
package takeover

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// ErrRival: another opener has fenced at the same time, or has taken the lease. Try again: it has won, or its lease will expire.
var ErrRival = errors.New("another process was faster at opening the database")

// maxRestarts bounds how often an opening starts over because the log moved under it.
const maxRestarts = 32

// Options are options of Open.
type Options struct {
	Store   store.Store
	Writer  string // unique: one opening of one process
	Address string // where the writer can be reached; for people
	Process string // process of the writer; see lease.Options
	// LeaseTTL is the lease's TTL, zero: its default; AcquireTimeout is how long to wait for another holder, zero: not at all.
	LeaseTTL, AcquireTimeout time.Duration
	// Patience is how long one step of small requests may take with a bucket that refuses them or does not answer; acquiring the lease may
	// take AcquireTimeout longer. 0: DefaultPatience. Reading records is not limited.
	Patience time.Duration
	// Create makes the database if there is none, with these versions.
	Create                 bool
	Postgres, PGliteSHA256 string
	// Retain is how far back a newly made database keeps earlier states; see manifest.Manifest.
	Retain time.Duration
	// BeforeCreate is called before the database is made, and returns PGliteSHA256. Nil: the field above holds it.
	BeforeCreate func(context.Context) (pgliteSHA256 string, err error)
	// Check may reject the manifest before anything is fenced; Open returns its error. Nil: every manifest is accepted.
	Check func(manifest.Manifest) error
	// OnManifest is called, on another goroutine, as soon as the manifest has been read once, before anything is fenced: layers are written
	// once, so they may be fetched ahead. But only what Opened.Manifest names may be restored. Nil: not called.
	OnManifest func(manifest.Manifest)
	// LeaseDamaged is called about a lease object that is not a valid lease and is replaced. Nil: not called.
	LeaseDamaged func(error)
	// LeaseWaits is called, once per holder, with the lease being waited for, and for how long at most. Nil: not called.
	LeaseWaits func(held *lease.LockedError, atMost time.Duration)
	// Parallel is how many records are read concurrently; 0: the log's default. With 1, requests are made one after the other, and the
	// first reading comes before the lease.
	Parallel int
	// Deadline is that of one append; see wal.Options.
	Deadline time.Duration
	Clock    clock.Clock
	Hook     point.Hook
	WriteID  func() string // nil: store.NewWriteID
}

// Opened is what the writer starts from.
type Opened struct {
	Manifest manifest.Manifest
	Lease    *lease.Lease
	Log      *wal.Log // its tail is the fence
	Epoch    uint64
	Records  []wal.Record // after the newest layer, except our own fence
	Created  bool

	LeaseTime, ReadTime, FenceTime time.Duration
}

// Open makes this process the writer. Errors: lease.ErrLocked (a *lease.LockedError), store.ErrNotFound (no database), ErrNested,
// ErrNotEmpty and ErrManifestLost (with Create), ErrRival, ErrBusy, wal.ErrFenced, those of the log and of the manifest, those of Check and
// BeforeCreate, the store's. After an error the lease, if it was taken, is released.
func Open(ctx context.Context, o Options) (*Opened, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.WriteID == nil {
		o.WriteID = store.NewWriteID
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	op := &opening{o: o, out: &Opened{}}
	stop := op.readBesideLease(ctx)
	defer stop()
	at := o.Clock.Monotonic()
	var l *lease.Lease
	asked := 0
	err := patiently(ctx, o.AcquireTimeout+o.Patience, func(ctx context.Context) (err error) {
		asked++
		l, err = lease.Acquire(ctx, lease.Options{
			Store: o.Store, Holder: o.Writer, Address: o.Address, Process: o.Process, TTL: o.LeaseTTL, Clock: o.Clock, Hook: o.Hook, WriteID: o.WriteID,
			New: op.place, Damaged: o.LeaseDamaged, Waits: o.LeaseWaits,
		}, o.AcquireTimeout)
		return err
	})
	if err != nil {
		return nil, err
	}
	op.waited = asked > 1 || l.Waited()
	op.out.Lease, op.out.LeaseTime = l, o.Clock.Monotonic()-at
	for range maxRestarts {
		err := op.once(ctx)
		if err == nil {
			return op.out, nil
		}
		// A rival that fenced while we hold the lease had it before us, and was asleep: it will notice that and give up.
		if !errors.Is(err, errCompacted) && !(errors.Is(err, ErrRival) && l.Ensure(ctx) == nil) {
			return nil, errors.Join(err, op.release(ctx))
		}
	}
	err = fmt.Errorf("the log changed %d times while it was read: %w", maxRestarts, store.ErrUnavailable)
	return nil, errors.Join(err, op.release(ctx))
}

// errCompacted: the log was compacted during the opening, which has to start over.
var errCompacted = errors.New("the log was compacted while it was read")

type opening struct {
	o      Options
	out    *Opened
	beside <-chan reading // the first reading; nil: there is none
	waited bool           // the lease had to be waited for, so what was read during that may be out of date
	made   store.Gen      // generation of the manifest, if this opening has made the database
}

// once runs the steps after the lease once.
func (op *opening) once(ctx context.Context) error {
	at := op.o.Clock.Monotonic()
	seen, tail, err := op.firstReading(ctx)
	if err != nil {
		return err
	}
	op.out.ReadTime = op.o.Clock.Monotonic() - at
	at = op.o.Clock.Monotonic()
	log, err := wal.NewLog(op.o.Store, tail, wal.Options{
		Epoch: max(tail.Epoch, seen.Epoch) + 1, DatabaseID: seen.DatabaseID, Writer: op.o.Writer, Deadline: op.o.Deadline,
		Clock: op.o.Clock, Hook: op.o.Hook, WriteID: op.o.WriteID,
	})
	if err != nil {
		return err
	}
	// If the lease has expired by now and another process holds it, a fence would only disturb that process.
	if err := patiently(ctx, op.o.Patience, op.out.Lease.Ensure); errors.Is(err, lease.ErrLost) {
		return fmt.Errorf("%w: %w", ErrRival, err)
	} else if err != nil {
		return err
	}
	if err := op.fence(ctx, log, seen.Manifest); err != nil {
		return err
	}
	m, err := op.confirm(ctx, log, seen)
	op.out.FenceTime = op.o.Clock.Monotonic() - at
	op.out.Manifest, op.out.Log, op.out.Epoch = m, log, log.Epoch()
	return err
}

// load reads the manifest, or makes the first one.
func (op *opening) load(ctx context.Context) (manifest.Seen, error) {
	m, err := op.manifest(ctx)
	if errors.Is(err, store.ErrNotFound) && op.o.Create {
		m, err = op.create(ctx)
	}
	if err == nil && op.o.Check != nil {
		err = op.o.Check(m.Manifest)
	}
	return m, err
}

// errExists: a rival has made the database.
var errExists = errors.New("the database exists")

// create makes the first manifest and returns it, or a rival's, if the rival was faster.
func (op *opening) create(ctx context.Context) (manifest.Seen, error) {
	id, sum := op.o.WriteID(), op.o.PGliteSHA256
	var asked errgroup.Group // concurrent with the check of the place: each takes some round trips
	if op.o.BeforeCreate != nil {
		asked.Go(func() (err error) {
			sum, err = op.o.BeforeCreate(ctx)
			return err
		})
	}
	err := CheckPlace(ctx, op.o.Store)
	if err := errors.Join(err, asked.Wait()); err != nil {
		return manifest.Seen{}, err
	}
	m, gen, err := manifest.Update(ctx, op.o.Store, manifest.Options{Writer: op.o.Writer, Create: true, Clock: op.o.Clock, Hook: op.o.Hook},
		func(m *manifest.Manifest) error {
			if m.DatabaseID != "" && m.DatabaseID != id {
				return errExists
			}
			m.DatabaseID, m.WalStart = id, 1
			m.Postgres, m.PGliteSHA256 = op.o.Postgres, sum
			if op.o.Retain > 0 {
				m.Keep(op.o.Retain)
			}
			return nil
		})
	if errors.Is(err, errExists) || errors.Is(err, manifest.ErrFenced) {
		m, gen, err = manifest.Load(ctx, op.o.Store)
	}
	if op.out.Created = err == nil && m.DatabaseID == id; op.out.Created {
		op.made = gen
	}
	return manifest.Seen{Manifest: m, Gen: gen}, err
}

// From is the position in the log where a manifest's newest layer ends: an opening restores that layer, and reads the log after it.
func From(m manifest.Manifest) (wal.Position, error) {
	if len(m.Layers) == 0 {
		return wal.Start(m.DatabaseID), nil
	}
	return position(m.Layers[len(m.Layers)-1])
}

// Oldest is the position in the log where a manifest's oldest layer ends: no record after it has been deleted.
func Oldest(m manifest.Manifest) (wal.Position, error) {
	if len(m.Layers) == 0 {
		return wal.Start(m.DatabaseID), nil
	}
	return position(m.Layers[0])
}

// position is the position of the record at which a layer was taken.
func position(l manifest.Layer) (wal.Position, error) {
	at := wal.Position{Seq: l.Seq, Epoch: l.Epoch}
	sum, err := hex.DecodeString(l.Hash)
	if err != nil {
		return at, fmt.Errorf("%w: hash %q of layer %s", manifest.ErrCorrupt, l.Hash, l.Key)
	}
	copy(at.Hash[:], sum)
	return at, nil
}

// read keeps the records after the manifest's layer, only those before the fence if that is not zero.
func (op *opening) read(ctx context.Context, m manifest.Manifest, fence uint64) (wal.Position, error) {
	records, tail, err := op.records(ctx, m, fence)
	op.out.Records = records
	return tail, op.moved(ctx, m, err)
}

// records returns the records after the manifest's layer.
func (op *opening) records(ctx context.Context, m manifest.Manifest, fence uint64) ([]wal.Record, wal.Position, error) {
	from, err := From(m)
	if err != nil {
		return nil, from, err
	}
	var records []wal.Record
	tail, err := wal.Read(ctx, op.o.Store, wal.ReadOptions{
		From: from, DatabaseID: m.DatabaseID, Parallel: op.o.Parallel,
	}, func(r wal.Record) error {
		if fence == 0 || r.Seq < fence {
			records = append(records, r)
		}
		return nil
	})
	return records, tail, err
}

// moved distinguishes damage from a log that was compacted and collected while it was read. In that case a listed record is gone, or
// replaced by another one, or a part is gone. If the manifest has not changed, it is damage.
func (op *opening) moved(ctx context.Context, seen manifest.Manifest, err error) error {
	if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, wal.ErrCorrupt) {
		return err
	}
	now, _, loadErr := manifest.Load(ctx, op.o.Store)
	switch {
	case loadErr != nil:
		return fmt.Errorf("distinguish damage from a log that was compacted in the meantime (%v): %w", err, loadErr)
	case now.WalStart != seen.WalStart:
		return errCompacted
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: an object that was listed is gone: %v", wal.ErrCorrupt, err)
	}
	return err
}

// ErrBusy: a live writer, whose lease has expired, appended faster than this opener could fence it, maxFences times in a row. Try again, or
// stop that writer.
var ErrBusy = errors.New("the running writer was faster every time")

// maxFences bounds how often an opening tries to fence a writer that keeps appending. Each try reads what was appended in the meantime, all
// of it together, and then needs one PUT to beat the writer's next.
const maxFences = 256

// fence writes the fence after the last record. Whenever a record is faster, it reads on and tries again.
func (op *opening) fence(ctx context.Context, log *wal.Log, m manifest.Manifest) error {
	for range maxFences {
		_, err := log.Fence(ctx)
		var taken *wal.TakenError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &taken):
			return err
		case taken.Record.Kind == wal.Fence:
			return fmt.Errorf("%w: %w: %w", ErrRival, &lease.LockedError{Holder: taken.Record.Writer}, err)
		}
		last := wal.Record{}
		_, err = wal.Read(ctx, op.o.Store, wal.ReadOptions{
			From: log.Tail(), DatabaseID: m.DatabaseID, Parallel: op.o.Parallel, Probe: true,
		}, func(r wal.Record) error {
			op.out.Records = append(op.out.Records, r)
			last = r
			return nil
		})
		switch {
		case err == nil && last.Seq == 0:
			return errCompacted // the record was there and is gone: collected
		case err != nil:
			return op.moved(ctx, m, err)
		}
		log.Advance(last)
	}
	return fmt.Errorf("fence after record %d: %w: %d tries: %w", log.Tail().Seq, ErrBusy, maxFences, store.ErrUnavailable)
}

// sameStart says whether a database starts at the same place by two manifests: with the same first record, and from the same layer.
func sameStart(a, b manifest.Manifest) bool {
	newest := func(m manifest.Manifest) (l manifest.Layer) {
		if n := len(m.Layers); n > 0 {
			l = m.Layers[n-1]
		}
		return l
	}
	return a.WalStart == b.WalStart && newest(a).Key == newest(b).Key
}

// confirm swaps the manifest to this writer's epoch, and makes sure that what was read is authentic and that the fence's epoch is above
// every epoch in it.
func (op *opening) confirm(ctx context.Context, log *wal.Log, seen manifest.Seen) (manifest.Manifest, error) {
	for range maxRestarts {
		fence := log.Tail()
		now, err := op.swap(ctx, log, seen)
		if err != nil && !errors.Is(err, errAbove) {
			return now.Manifest, err
		}
		highest := uint64(0)
		if err != nil {
			highest = now.Epoch
		} else {
			if err := op.readAgain(ctx, now.Manifest, seen.Manifest, fence); err != nil {
				return now.Manifest, err
			}
			for _, r := range op.out.Records {
				highest = max(highest, r.Epoch)
			}
			if highest < fence.Epoch {
				return now.Manifest, nil
			}
			seen = now
		}
		log.Raise(highest + 1)
		if _, err := log.Fence(ctx); err != nil {
			var taken *wal.TakenError
			if errors.As(err, &taken) {
				return now.Manifest, fmt.Errorf("%w: %w", ErrRival, &wal.FencedError{Seq: taken.Record.Seq, Epoch: taken.Record.Epoch, Ours: fence.Epoch, By: taken.Record.Writer})
			}
			return now.Manifest, err
		}
	}
	return seen.Manifest, errCompacted
}

// errAbove: the manifest's epoch is not below our fence's.
var errAbove = errors.New("the manifest has a higher epoch")

// swap swaps the manifest to our epoch, and returns it. From here on no older writer can publish a layer, or delete what this manifest
// names: its layers may be read, and shared by new ones, for as long as this writer lives.
//
// A manifest that this opening has made, and that has not been swapped since, stays as it is: there is no older writer.
//
// Errors: errCompacted: the fence is in a part of the log that was collected, so it fences no writer, and nothing was swapped; errAbove,
// with the current manifest.
func (op *opening) swap(ctx context.Context, log *wal.Log, seen manifest.Seen) (now manifest.Seen, err error) {
	fence := log.Tail()
	if op.made != 0 && seen.Gen == op.made {
		if seen, err = op.manifest(ctx); err != nil || seen.Gen == op.made {
			return seen, err
		}
	}
	err = patiently(ctx, op.o.Patience, func(ctx context.Context) (err error) {
		now.Manifest, now.Gen, err = manifest.Update(ctx, op.o.Store, manifest.Options{
			Epoch: log.Epoch(), Writer: op.o.Writer, Seen: &seen, Clock: op.o.Clock, Hook: op.o.Hook,
		}, func(m *manifest.Manifest) error {
			switch {
			case m.WalStart > fence.Seq:
				return errCompacted
			case m.Epoch >= log.Epoch() && m.Writer != op.o.Writer:
				return errAbove
			}
			return nil
		})
		return err
	})
	if !errors.Is(err, manifest.ErrFenced) && !errors.Is(err, errAbove) {
		return now, err
	}
	now, err = op.manifest(ctx)
	switch {
	case err != nil:
		return now, err
	case now.WalStart > fence.Seq:
		return now, errCompacted
	}
	return now, errAbove
}

// readAgain reads the records again if the manifest now starts elsewhere than the one they were read by, or names a newer layer to restore.
func (op *opening) readAgain(ctx context.Context, now, seen manifest.Manifest, fence wal.Position) error {
	if sameStart(now, seen) {
		return nil
	}
	tail, err := op.read(ctx, now, fence.Seq)
	switch {
	case err != nil:
		return err
	case tail.Seq < fence.Seq:
		return fmt.Errorf("record %d: %w: our own fence is gone, and wal_start is %d", fence.Seq, wal.ErrCorrupt, now.WalStart)
	case tail.Seq > fence.Seq:
		return fmt.Errorf("%w: %w", ErrRival, &wal.FencedError{Seq: tail.Seq, Epoch: tail.Epoch, Ours: fence.Epoch, By: "a later opener"})
	}
	return nil
}
