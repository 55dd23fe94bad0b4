package manifest

import (
	"context"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// retainSteps is how many layers are spread over the retention: restoring an earlier state replays at most about
// Retain/retainSteps of log, and only a few layers are kept in addition to the newest, however often one is taken.
const retainSteps = 8

// A layer that was just replaced stays for readTime, or one of these steps if that is less, even if it is not one of
// those that are spread: readers may have taken it for the newest (a dump, a branch, a replica). Only the last
// recentLayers do.
const (
	readTime     = DefaultRetain / retainSteps
	recentLayers = 8
)

// Publish makes a full layer the place where the database starts. Of the earlier layers it keeps those from which every
// state within the retention can be restored: the newest that is as old as the retention, and some in between. It also
// keeps each replaced layer for a while, for its readers. If the manifest does not state a retention yet, it becomes
// o.Retain. If the manifest already starts at this layer or after it, it is left unchanged. A layer without Taken gets
// the current time. Errors: those of Update.
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

// retained returns the layers to keep in addition to a new one.
func retained(m Manifest, now time.Time, retain time.Duration) []Layer {
	if retain <= 0 {
		return nil
	}
	var old []Layer
	for _, l := range m.Layers {
		if l.Seq+1 >= m.WalStart { // otherwise the records after it are gone
			old = append(old, l)
		}
	}
	taken, believed := times(old, now)
	first := 0 // the newest that is as old as the retention; if none is, the oldest
	for i := range old {
		if !taken[i].After(now.Add(-retain)) {
			first = i
		}
	}
	var kept []Layer
	last := first // of these
	for i := first; i < len(old); i++ {
		replaced := now // by the new one
		if i+1 < len(old) {
			replaced = taken[i+1]
		}
		switch {
		case i == first || believed[i] && (!believed[last] || taken[i].Sub(taken[last]) >= retain/retainSteps):
			kept, last = append(kept, old[i]), i
		case i >= len(old)-recentLayers && now.Sub(replaced) < min(readTime, retain/retainSteps):
			kept = append(kept, old[i])
		}
	}
	if n := len(kept); n >= MaxLayers { // possible only if clocks jump
		kept = kept[n-MaxLayers+1:]
	}
	return kept
}

// times returns when layers were taken at the latest, and which of their own times are believed. A time after now is from
// a clock that was ahead for a while: it must not keep a layer, and the log after it, until that time has come. A time
// before an earlier layer's is from a clock that was behind: it must not make the layer look so old that all before it
// may go. Neither is believed: such a layer was taken before the next one that is.
func times(layers []Layer, now time.Time) (taken []time.Time, believed []bool) {
	taken, believed = make([]time.Time, len(layers)), make([]bool, len(layers))
	var latest time.Time
	for i, l := range layers {
		if !l.Taken.After(now) && !l.Taken.Before(latest) {
			latest, believed[i] = l.Taken, true
		}
	}
	next := now
	for i := len(layers) - 1; i >= 0; i-- {
		if believed[i] {
			next = layers[i].Taken
		}
		taken[i] = next
	}
	return taken, believed
}
