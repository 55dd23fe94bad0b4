package main

import (
	"testing"
	"time"

	"blobpglite/core/manifest"
)

// TestKeptText: existing earlier states are reported, even where no retention was ever set, or none is set any more.
func TestKeptText(t *testing.T) {
	t.Parallel()
	one := []manifest.Layer{{Seq: 8, Taken: time.Date(2026, 11, 28, 21, 14, 33, 0, time.UTC)}}
	two := append(one, manifest.Layer{Seq: 9})
	keep := func(d time.Duration) *time.Duration { return &d }
	for _, tt := range []struct {
		layers []manifest.Layer
		retain *time.Duration // nil: not set
		want   string
	}{
		{one, nil, "the present only; keeping earlier states has not been set yet"},
		{two, nil, "earlier states since 2026-11-28T21:14:33Z; how long to keep them has not been set yet"},
		{one, keep(0), "the present only"},
		{two, keep(0), "earlier states since 2026-11-28T21:14:33Z, until the next layer drops them"},
		{one, keep(time.Hour), "earlier states of the last 1h0m0s"},
		{two, keep(time.Hour), "earlier states of the last 1h0m0s"},
	} {
		m := manifest.Manifest{Layers: tt.layers}
		if tt.retain != nil {
			m.Keep(*tt.retain)
		}
		if got := keptText(m); got != tt.want {
			t.Errorf("%d layers, retention %v: %q, want %q", len(tt.layers), tt.retain, got, tt.want)
		}
	}
}
