package serverless

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func twinGrowthVerb() bench.Verb {
	v := bench.Verb{
		Cloud: bench.NotOnCloudRun("two databases of one service take turns there only with a deployment each"),
		Verb: scenario.Verb{
			Name: "twingrowth",
			Doc: "pgserve as a service, alternating between a small and a large database: a request finds no instance, so one is started; " +
				"timed until the first row of a lookup. Nothing is written after the databases are created. The first turn, in which each " +
				"learns its boot set, is reported separately",
			Args: []scenario.Arg{
				{Name: "small", Kind: scenario.KindSize, Required: true, Doc: "rows of the small database"},
				{Name: "large", Kind: scenario.KindSize, Required: true, Doc: "rows of the large database"},
				{Name: "memory", Kind: scenario.KindInt, Default: "512", Doc: "an instance's limit, in MiB"},
				{Name: "making", Kind: scenario.KindInt, Default: "1024", Doc: "the limit while the databases are created, in MiB"},
				{Name: "turns", Kind: scenario.KindInt, Default: "15", Doc: "of each"},
			},
			Metrics: bench.MetricDocs(
				"small_first_row_ms", "the small database's time from the request that starts the process to the first row over HTTP",
				"large_first_row_ms", "the large database's time from the request that starts the process to the first row over HTTP",
				"growth_ratio", "time to the first row of the large database over the small one's, turn by turn",
				"small_first_wake_ms", "the small database's first cold start after its creation",
				"large_first_wake_ms", "the large database's first cold start after its creation",
				"load_ms", "time to create one of the databases", "load_peak_bytes", "resident memory while one of the databases was created",
				"peak_bytes", "resident memory of an instance",
			),
		},
		Run: twinGrowth,
	}
	for _, name := range []string{"small", "large"} {
		for _, step := range bootSteps() {
			v.Metrics = append(v.Metrics, scenario.MetricDoc{Name: name + "_" + step + "_ms", Doc: "the " + name + " database's part of a cold start: " + step})
		}
		v.Metrics = append(v.Metrics, scenario.MetricDoc{Name: name + "_records_count", Doc: "records that the " + name + " database replayed at a cold start"})
	}
	return v
}

// grown is one of the databases.
type grown struct {
	name string
	size int64
	rows int
}

func twinGrowth(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		folder, err := os.MkdirTemp("", "blobpglite-sorts-")
		if err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer os.RemoveAll(folder)
		making := args.Int("making")
		both := []*grown{{name: "small", size: int64(args.Size("small"))}, {name: "large", size: int64(args.Size("large"))}}
		for _, g := range both {
			// Nothing is kept of earlier states, for the bucket is in this machine's memory.
			t.Fresh(g.name, "-retain", "0s", "-temp-dir", folder, "-container-memory", strconv.Itoa(making<<20))
			if g.rows, err = t.fillPages(ctx, making, g.size); err != nil {
				return fmt.Errorf("make the %s database: %w", g.name, err)
			}
		}
		turns := args.Int("turns")
		for turn := range turns + 1 {
			r.Progress(r.Cell.Probe+": waking, in turns", int64(turn), int64(turns))
			var took [2]time.Duration
			for i := range both {
				side := (turn + i) % 2
				if took[side], err = t.wakeGrown(ctx, both[side], args.Int("memory")); err != nil {
					return fmt.Errorf("wake the %s database: %w", both[side].name, err)
				}
			}
			what := "_first_row_ms"
			if turn == 0 {
				what = "_first_wake_ms"
			} else {
				r.Metrics.Value("growth_ratio", float64(took[1])/float64(took[0]))
			}
			for side, g := range both {
				r.Metrics.Duration(g.name+what, took[side])
			}
		}
		return nil
	})
}

// wakeGrown starts an instance on a database by a lookup, lets it end, and returns how long the lookup took.
func (t *Service) wakeGrown(ctx context.Context, g *grown, mib int) (took time.Duration, err error) {
	if err := t.Clock.Sleep(ctx, nameRest); err != nil {
		return 0, err
	}
	t.Fresh(g.name, "-retain", "0s", "-container-memory", strconv.Itoa(mib<<20))
	return took, t.On(ctx, platform.Options{MemoryMiB: mib}, func() error {
		at := t.Clock.Monotonic()
		n, err := t.number(ctx, fmt.Sprintf("SELECT id FROM p WHERE id = %d", g.rows/2))
		if err != nil {
			return err
		}
		took = t.Clock.Monotonic() - at
		t.Run.Check(bench.CheckDurability, bench.Wrongf(n != int64(g.rows/2), "the %s database: row %d, not %d", g.name, n, g.rows/2))
		s, err := t.split(ctx)
		if err != nil {
			return err
		}
		for _, step := range bootSteps() {
			if ms, ok := s.BootMS[step]; ok {
				t.Run.Metrics.Value(g.name+"_"+step+"_ms", ms)
			}
		}
		t.Run.Metrics.Value(g.name+"_records_count", float64(s.Records))
		if _, err := t.Leave(ctx); err != nil {
			return err
		}
		t.tellPeak()
		return nil
	})
}
