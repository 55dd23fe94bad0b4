package crash

import (
	"slices"
	"testing"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/runner/bench"
	"blobpglite/runner/cluster"
)

// TestEveryPointIsDiedAt: the modes' lists, together with that of a database larger than its cache, contain every fault point.
func TestEveryPointIsDiedAt(t *testing.T) {
	var died []point.Point
	for _, list := range [][]faultSite{cacheSites(), faultSites(engine.ModeLog, false), faultSites(engine.ModeLog, true), faultSites(engine.ModeSnapshot, false)} {
		for _, s := range list {
			died = append(died, s.point)
		}
	}
	for _, p := range point.All() {
		if !slices.Contains(died, p) {
			t.Errorf("nobody dies at %s", p)
		}
	}
}

// TestSharesCoverEverything: the two cells of a small run hold all points between them, whatever the seed.
func TestSharesCoverEverything(t *testing.T) {
	for seed := range uint64(20) {
		got := map[point.Point]bool{}
		for _, c := range []struct {
			compaction   bool
			skip, sample int
		}{{false, 0, 9}, {true, 9, 0}} {
			k := &killRun{Lifeline: cluster.Lifeline{Run: &bench.Run{Seed: seed}, Mode: engine.ModeLog}, compaction: c.compaction}
			list, err := k.chosen(nil, c.skip, c.sample)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				got[s.point] = true
			}
		}
		for _, s := range faultSites(engine.ModeLog, true) {
			if !got[s.point] {
				t.Errorf("seed %d leaves out %s", seed, s.point)
			}
		}
	}
}

// TestLayerSites: every point that a layer, its publication and its collection pass is died at, and both sides of an opening's swap.
func TestLayerSites(t *testing.T) {
	want := map[point.Point]int{
		point.BaseBeforeSegment: 1, point.BaseAfterSegment: 1, point.BaseAfterLastSegment: 1, point.BaseAfterIndex: 1,
		point.ManifestBeforeCAS: 2, point.ManifestAfterCAS: 2, point.GCBeforeCollect: 1, point.GCBeforeDelete: 1, point.GCAfterDelete: 1,
	}
	for _, s := range layerSites() {
		want[s.point]--
	}
	for p, n := range want {
		if n != 0 {
			t.Errorf("%s: %d too few", p, n)
		}
	}
}
