package manifest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// Retain returns how far back layers and records are kept. said is false if the manifest does not state it; the first
// Publish with a Retain then does.
func (m Manifest) Retain() (d time.Duration, said bool) {
	return time.Duration(m.RetainSeconds) * time.Second, m.Format >= formatRetain
}

// Keep sets the retention, rounded up to seconds; call it in a change within Update. See SetRetain.
func (m *Manifest) Keep(d time.Duration) {
	d = min(max(d, 0), MaxRetain)
	m.RetainSeconds = int64((d + time.Second - 1) / time.Second)
	m.Format = max(m.Format, formatRetain)
}

// SetRetain changes how far back a database keeps what is needed to restore earlier states, and returns the new manifest.
// A writer may be running: from its next layer on the new value applies, and what is no longer kept is deleted. d is at
// most MaxRetain; 0: only the newest layer is kept. clk may be nil: the system's. Errors: store.ErrInvalid, those of
// Update except ErrFenced.
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
		fenced = err // a new writer swapped in between
	}
	return Manifest{}, fmt.Errorf("keep earlier states: new writers interfered %d times: %w (%v)", DefaultAttempts, store.ErrConflict, fenced)
}

// retainFirst sets the retention if none is stated yet: to what the writer was given. If that is nothing, or only the
// default, and there are several layers, it becomes as far back as they reach, so that nothing is given up.
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
		if !l.Taken.IsZero() { // the oldest layer with a known time
			m.Keep(max(now.Sub(l.Taken), time.Second))
			return
		}
	}
	m.Keep(MaxRetain)
}
