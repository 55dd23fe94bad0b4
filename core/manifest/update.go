package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

const (
	// DefaultAttempts is Options.Attempts if that is 0.
	DefaultAttempts = 8
	// firstPause is the wait after the first undecided or throttled swap; each further wait is twice as long, up to
	// maxPause. GCS takes about one write per second and object name.
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// Options of Update.
type Options struct {
	Epoch  uint64 // the caller's own, from its fence; written into the manifest
	Writer string // the caller's name; informational
	// Create lets Update make the manifest if there is none: change then gets an empty one. Without it, that is
	// store.ErrNotFound.
	Create bool
	// Attempts bounds the swaps of one call, lost races and undecided ones together; not positive: DefaultAttempts.
	Attempts int
	// Retain is used by Publish if the manifest does not state its retention: it becomes this. Zero: as far back as
	// layers reach. It does not change what a manifest states.
	Retain time.Duration
	// Seen is the manifest from an earlier read: the first swap is tried on it, without reading again. Nil: it is read.
	Seen  *Seen
	Hook  point.Hook  // fired at manifest/before-cas and manifest/after-cas
	Clock clock.Clock // nil: the system's
}

// Seen is a manifest that was read, with its object's generation.
type Seen struct {
	Manifest
	Gen store.Gen
}

// Load reads the manifest. Errors: store.ErrNotFound (there is no database here), ErrNewer, ErrCorrupt, and the store's.
func Load(ctx context.Context, st store.Store) (Manifest, store.Gen, error) {
	o, err := st.Get(ctx, Key)
	if errors.Is(err, store.ErrNotFound) {
		return Manifest{}, 0, fmt.Errorf("load manifest: there is no database at this prefix: %w", err)
	}
	if err != nil {
		return Manifest{}, 0, fmt.Errorf("load manifest: %w", err)
	}
	m, err := Decode(o.Body)
	if err != nil {
		return Manifest{}, 0, fmt.Errorf("load manifest (generation %d): %w", o.Gen, err)
	}
	return m, o.Gen, nil
}

// Update changes the manifest by compare and swap and returns the one now in force. change gets a copy of the current
// one. After a lost race it is called again with a newer one, and must accept that this may already hold its effect: our
// swap may have been applied, its reply lost, and a rival's swap made on top of it.
//
// Errors: ErrFenced (nothing was changed), store.ErrConflict (the attempts ran out against rivals; nothing was changed),
// store.ErrUnknown (it may have been changed, or may still be: call again), store.ErrInvalid (change's result contradicts
// itself; nothing was changed), what change or the hook returned, those of Load, and the store's. An error of the hook at
// manifest/after-cas comes after the change.
func Update(ctx context.Context, st store.Store, o Options, change func(*Manifest) error) (Manifest, store.Gen, error) {
	if o.Attempts <= 0 {
		o.Attempts = DefaultAttempts
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	u := updater{st: st, o: o, left: o.Attempts, pause: firstPause}
	for {
		m, gen, err := u.next(ctx, change)
		if err != nil {
			return Manifest{}, 0, err
		}
		gen, err = u.swap(ctx, m, gen)
		if err == nil {
			if err := o.Hook.Fire(ctx, point.ManifestAfterCAS); err != nil {
				return Manifest{}, 0, fmt.Errorf("update manifest: %w", err)
			}
			return m, gen, nil
		}
		if !errors.Is(err, store.ErrConflict) || u.left == 0 {
			return Manifest{}, 0, fmt.Errorf("update manifest (%d of %d attempts made): %w", o.Attempts-u.left, o.Attempts, err)
		}
	}
}

type updater struct {
	st    store.Store
	o     Options
	left  int // remaining swaps; not 0 when a swap begins
	pause time.Duration
}

// next loads the manifest and changes it. It also returns the generation to replace; 0: there is no manifest.
func (u *updater) next(ctx context.Context, change func(*Manifest) error) (Manifest, store.Gen, error) {
	old, gen, err := u.load(ctx)
	if err != nil && !(u.o.Create && errors.Is(err, store.ErrNotFound)) {
		return Manifest{}, 0, err
	}
	if old.Epoch > u.o.Epoch {
		return Manifest{}, 0, fmt.Errorf("update manifest: %w: its epoch is %d (writer %q), ours is %d",
			ErrFenced, old.Epoch, old.Writer, u.o.Epoch)
	}
	m := old
	m.Layers = slices.Clone(m.Layers)
	if err := change(&m); err != nil {
		return Manifest{}, 0, fmt.Errorf("update manifest: make the change: %w", err)
	}
	if old.DatabaseID != "" && m.DatabaseID != old.DatabaseID {
		return Manifest{}, 0, fmt.Errorf("update manifest: %w: database id %q would become %q",
			store.ErrInvalid, old.DatabaseID, m.DatabaseID)
	}
	if m.WalStart < old.WalStart {
		return Manifest{}, 0, fmt.Errorf("update manifest: %w: wal_start would fall from %d to %d",
			store.ErrInvalid, old.WalStart, m.WalStart)
	}
	m.Format, m.Epoch, m.Writer = m.lowest(), u.o.Epoch, u.o.Writer
	m.WriteID, m.Updated = store.NewWriteID(), u.o.Clock.Now().UTC().Round(0)
	return m, gen, nil
}

// load returns Options.Seen the first time, and then reads the manifest.
func (u *updater) load(ctx context.Context) (Manifest, store.Gen, error) {
	if seen := u.o.Seen; seen != nil {
		u.o.Seen = nil
		return seen.Manifest, seen.Gen, nil
	}
	return Load(ctx, u.st)
}

// swap replaces generation old by m. It repeats the same bytes under the same write id until it has seen the outcome:
// nil, or ErrConflict if the manifest is now another one and this swap can no longer be applied.
//
// It cannot use store.CreateOnce, which can decide "another writer's, and never ours". After a swap, a manifest that is
// not ours may be one that a rival made on top of ours; that is why change is called again and must recognize its own
// effect. Here the old generation means "not applied yet", there an absent object does; and all swaps of an update share
// the tries.
func (u *updater) swap(ctx context.Context, m Manifest, old store.Gen) (store.Gen, error) {
	body, err := Encode(m)
	if err != nil {
		return 0, err
	}
	cond := store.IfAbsent()
	if old != 0 {
		cond = store.IfGen(old)
	}
	var unknown error // a put whose outcome was not seen
	for {
		u.left--
		if err := u.o.Hook.Fire(ctx, point.ManifestBeforeCAS); err != nil {
			return 0, errors.Join(err, unknown)
		}
		gen, err := u.st.Put(ctx, Key, body, m.WriteID, cond)
		switch {
		case err == nil:
			return gen, nil
		case errors.Is(err, store.ErrUnknown):
			unknown = err
		case !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrThrottled):
			return 0, errors.Join(err, unknown)
		}
		gen, decided, lookErr := u.look(ctx, m.WriteID, old)
		if decided {
			return gen, lookErr
		}
		if u.left == 0 {
			if unknown != nil {
				err = unknown
			}
			return 0, fmt.Errorf("the outcome is unknown: %w", errors.Join(err, lookErr))
		}
		if waitErr := u.wait(ctx); waitErr != nil {
			return 0, errors.Join(waitErr, unknown, err, lookErr)
		}
	}
}

// look reads the manifest back after a put that did not plainly succeed. Not decided: it is still the old one, or
// unreadable.
func (u *updater) look(ctx context.Context, writeID string, old store.Gen) (gen store.Gen, decided bool, err error) {
	o, err := u.st.Get(ctx, Key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		o.Gen = 0
	case err != nil:
		return 0, false, fmt.Errorf("read it back: %w", err)
	}
	// By the write id in the body, not the one in the metadata, which may be lost or edited.
	if m, decodeErr := Decode(o.Body); err == nil && decodeErr == nil && m.WriteID == writeID {
		return o.Gen, true, nil
	}
	if o.Gen != old {
		return 0, true, fmt.Errorf("%w: the manifest is now at generation %d, not %d", store.ErrConflict, o.Gen, old)
	}
	return 0, false, nil
}

func (u *updater) wait(ctx context.Context) error {
	pause := u.pause
	u.pause = min(2*u.pause, maxPause)
	return u.o.Clock.Sleep(ctx, pause)
}
