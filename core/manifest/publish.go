package manifest

import (
	"context"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// retainSteps is how many layers are spread over the time that is kept: a restore of an earlier state replays at most
// about Retain/retainSteps of log, and storage holds no more than a few layers beside the newest, however often one is
// taken.
const retainSteps = 8

// Publish makes a full layer the place where the database starts. Of the layers before it, it keeps those that are needed
// to restore every state of the time that the manifest says: the newest that is as old as that, and some in between. Where
// the manifest does not say it yet, o.Retain becomes what it says. A manifest that starts at or behind the layer's end already is left as it is. A layer without a time is taken now. Errors: those of
// Update.
func Publish(ctx context.Context, st store.Store, o Options, l Layer) (Manifest, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	now := o.Clock.Now()
	if l.Taken.IsZero() {
		l.Taken = now
	}
	m, _, err := Update(ctx, st, o, func(m *Manifest) error {
		if m.WalStart > l.Seq || len(m.Layers) > 0 && m.Layers[len(m.Layers)-1].Seq >= l.Seq {
			return nil
		}
		m.retainFirst(now, o.Retain)
		retain, _ := m.Retain()
		m.Layers = append(retained(*m, now, retain), l)
		m.WalStart = m.Layers[0].Seq + 1
		return nil
	})
	return m, err
}

// retained are the layers that are kept beside a new one.
func retained(m Manifest, now time.Time, retain time.Duration) []Layer {
	if retain <= 0 {
		return nil
	}
	var old []Layer
	for _, l := range m.Layers {
		if l.Seq+1 >= m.WalStart { // otherwise the records behind it are gone
			old = append(old, l)
		}
	}
	first := 0 // the newest that is as old as the time to keep; if there is none, the oldest
	for i, l := range old {
		if !l.Taken.After(now.Add(-retain)) {
			first = i
		}
	}
	var kept []Layer
	for i, l := range old {
		if i == first || i > first && l.Taken.Sub(kept[len(kept)-1].Taken) >= retain/retainSteps {
			kept = append(kept, l)
		}
	}
	if n := len(kept); n >= MaxLayers { // clocks that jump
		kept = kept[n-MaxLayers+1:]
	}
	return kept
}
