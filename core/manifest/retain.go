package manifest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// Retain is how far back layers and records are kept. Said is false where the manifest says nothing of it: what is kept then
// is what Publish is given first.
func (m Manifest) Retain() (d time.Duration, said bool) {
	return time.Duration(m.RetainSeconds) * time.Second, m.Format >= formatRetain
}

// Keep says how far back is kept, to the second above; it is for a change within Update. See SetRetain.
func (m *Manifest) Keep(d time.Duration) {
	d = min(max(d, 0), MaxRetain)
	m.RetainSeconds = int64((d + time.Second - 1) / time.Second)
	m.Format = max(m.Format, formatRetain)
}

// SetRetain changes how far back a database keeps what is needed for restores of earlier states, and returns the manifest.
// It may be done beside a writer, whose next layer goes by it: what is kept no longer is deleted then. d is up to MaxRetain; 0:
// the newest layer only. Errors: store.ErrInvalid, those of Update, less ErrFenced.
func SetRetain(ctx context.Context, st store.Store, d time.Duration, clk clock.Clock) (Manifest, error) {
	if d < 0 || d > MaxRetain {
		return Manifest{}, fmt.Errorf("keep earlier states: %w: %v is not in 0 to %v", store.ErrInvalid, d, MaxRetain)
	}
	var fenced error
	for range DefaultAttempts {
		seen, _, err := Load(ctx, st)
		if err != nil {
			return Manifest{}, err
		}
		m, _, err := Update(ctx, st, Options{Epoch: seen.Epoch, Writer: seen.Writer, Clock: clk}, func(m *Manifest) error {
			m.Keep(d)
			return nil
		})
		if !errors.Is(err, ErrFenced) {
			return m, err
		}
		fenced = err // a new writer came between
	}
	return Manifest{}, fmt.Errorf("keep earlier states: new writers came between %d times: %w (%v)", DefaultAttempts, store.ErrConflict, fenced)
}

// retainFirst says what is kept where nothing is said yet: what the writer was given, or everything that there is. The default is no
// reason to give up what is kept.
func (m *Manifest) retainFirst(now time.Time, given time.Duration) {
	if _, said := m.Retain(); said {
		return
	}
	if given > 0 && (given != DefaultRetain || len(m.Layers) < 2) {
		m.Keep(given)
		return
	}
	if len(m.Layers) < 2 {
		return
	}
	for _, l := range m.Layers {
		if !l.Taken.IsZero() { // the oldest of which it is known
			m.Keep(max(now.Sub(l.Taken), time.Second))
			return
		}
	}
	m.Keep(MaxRetain)
}
