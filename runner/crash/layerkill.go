package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/runner/bench"
	"blobpglite/runner/cluster"
	"blobpglite/runner/layers"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
)

func layerKillVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "layerkill",
			Doc: "like killpoint, at the points of a layer, its publication and its collection, and of an opening's swap: several layers " +
				"that share data are taken between two deaths, while clients work. What each death leaves is read from end to end; the " +
				"next process finds what was acknowledged, and after it has taken a layer and collected, the bucket holds nothing " +
				"unreachable",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "deaths at each point"},
				{Name: "layers", Kind: scenario.KindInt, Default: "3", Doc: "taken before each death"},
				{Name: "retain", Kind: scenario.KindDuration, Default: "10m", Doc: "how far back layers are kept"},
				{Name: "clients", Kind: scenario.KindInt, Default: "3", Doc: "that work concurrently"},
			},
			Metrics: append(killpointVerb().Metrics, bench.MetricDocs(
				"garbage_bytes", "unreachable bytes left by a death", "garbage_ratio", "unreachable bytes left by a death, over "+
					"everything stored",
				"shared_count", "segments of earlier layers that the newest one needs, after a death", "kept_count", "layers named by the manifest "+
					"after a death",
			)...),
		},
		Run: layerKill,
	}
}

// layerSites are the points along a layer's way, and how each is reached. A small layer passes each once, so the third passing belongs to
// the third layer; a collection passes the points of deletions several times.
func layerSites() []faultSite {
	list := []faultSite{{point.ManifestBeforeCAS, atOpening, 1}, {point.ManifestAfterCAS, atOpening, 1}}
	for _, p := range []point.Point{
		point.BaseBeforeSegment, point.BaseAfterSegment, point.BaseAfterLastSegment, point.BaseAfterIndex, point.ManifestBeforeCAS,
		point.ManifestAfterCAS, point.GCBeforeCollect, point.GCBeforeDelete, point.GCAfterDelete,
	} {
		list = append(list, faultSite{p, atLayer, 3})
	}
	return list
}

func layerKill(ctx context.Context, r *bench.Run, args scenario.Args) error {
	random := rand.New(rand.NewPCG(r.Seed, 0x6c617965))
	k := &killRun{
		Lifeline: cluster.Lifeline{Run: r, Mode: engine.ModeLog, Random: random, Change: func(o *node.OpenArgs) { o.Retain = args.Duration("retain") }},
		clients:  args.Int("clients"), compaction: true, several: max(args.Int("layers"), 1), inspect: true,
	}
	return k.all(ctx, layerSites(), args.Int("rounds"))
}

// afterDeath looks at what a death has left: it is sound, and the garbage is no more than a layer and a collection leave.
func (k *killRun) afterDeath(ctx context.Context) error {
	if !k.inspect {
		return nil
	}
	if err := layers.Verify(ctx, k.Run, k.Cluster.Store); err != nil || k.Run.FailureOf(bench.CheckVerified) != "" {
		return err
	}
	s, err := layers.TakeStock(ctx, k.Cluster.Store)
	if err != nil {
		return err
	}
	k.Run.Metrics.Value("garbage_bytes", float64(s.UnreachedBytes))
	k.Run.Metrics.Value("garbage_ratio", float64(s.UnreachedBytes)/float64(max(s.Bytes, 1)))
	return nil
}

// afterReopening has the process that has opened the database take a layer and collect: no garbage may be left.
func (k *killRun) afterReopening(ctx context.Context) error {
	if !k.inspect || k.Serving == nil || k.Run.Failed() {
		return nil
	}
	if err := k.Serving.Do(ctx, node.Compact, nil, nil); err != nil {
		return k.Run.Blame(bench.CheckCollected, "the next process cannot take a layer", err)
	}
	if err := layers.Verify(ctx, k.Run, k.Cluster.Store); err != nil || k.Run.FailureOf(bench.CheckVerified) != "" {
		return err
	}
	s, err := layers.TakeStock(ctx, k.Cluster.Store)
	if err != nil {
		return err
	}
	wrong := s.Left()
	if wrong == "" && s.SharedSegments() == 0 {
		wrong = fmt.Sprintf("the newest layer shares nothing: %s", strings.Join(slices.Sorted(slices.Values(s.Newest().Segments())), " "))
	}
	k.Run.Check(bench.CheckCollected, wrong)
	k.Run.Metrics.Value("shared_count", float64(s.SharedSegments()))
	k.Run.Metrics.Value("kept_count", float64(len(s.Layers)))
	return nil
}
