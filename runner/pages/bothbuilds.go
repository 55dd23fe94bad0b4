package pages

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/model"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
	"blobpglite/runner/workload"
)

func bothBuildsVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "both_builds",
			Doc: "on the modeled bucket, over HTTP: pgserve alternates with an older commit's, each on a database of the same rows that " +
				"it has made itself: from the start of the process to the first row of a lookup, and from there to the end of a scan of " +
				"everything. Each has a cache that is set up",
			Args: []scenario.Arg{
				{Name: "older", Required: true, Doc: "a commit of this repository. Vacuous if the clone lacks it"},
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows"},
				{Name: "turns", Kind: scenario.KindInt, Default: "7", Doc: "starts of each"},
			},
			Metrics: bench.MetricDocs(
				"wake_ms", "time from the start of the process to the first row", "wake_older_ms", "time from the start of the older commit's process to the first row", "wake_ratio", "time to the first row here over the older commit, turn by turn",
				"scan_ms", "time from the start of the process to the end of the scan", "scan_older_ms", "time from the start of the older commit's process to the end of the scan", "scan_ratio", "time to the end of the scan here over the older commit, turn by turn",
				"class_a_count", "class A requests until the first row", "class_a_older_count", "class A requests of the older commit until the first row", "more_class_a_count", "class A requests until the "+
					"first row beyond the older commit's, turn by turn; 0 if fewer",
				"class_b_count", "class B requests until the first row", "class_b_older_count", "class B requests of the older commit until the first row",
				"read_bytes", "bytes read from the bucket until the first row", "read_older_bytes", "bytes that the older commit read from the bucket until the first row",
				"rss_bytes", "resident memory after the scan", "rss_older_bytes", "resident memory of the older commit after the scan",
			),
		},
		Run: bothBuilds,
	}
}

// build is one of the two programs, with a database of its own.
type build struct {
	waker
	front *gcsfront.Front
	rows  int
}

// buildTook is how long one start took.
type buildTook struct {
	wake, scan time.Duration
	counted    gcsfront.Counters // until the first row
	used       service.Used
}

func bothBuilds(ctx context.Context, r *bench.Run, args scenario.Args) error {
	older, err := r.PgserveOf(ctx, args.String("older"))
	if errors.Is(err, bench.ErrMissing) {
		r.Vacuous("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	o := gcsfront.Options{Buckets: []string{"builds"}, Latency: model.DefaultLatency(), Rate: model.DefaultRate()}
	return withPgserve(ctx, r, o, func(here built) error {
		var both [2]*build
		for i, program := range []string{here.program, older} {
			name := []string{"here", "older"}[i]
			b := &build{front: here.front, rows: int(int64(args.Size("size")) / workload.PageRowBytes), waker: waker{
				r: r, program: program, cache: filepath.Join(here.folder, "cache-"+name), suffix: []string{"_", "_older_"}[i],
				args: []string{"-bucket", "gs://builds/" + name, "-endpoint", here.base, "-log", "warn"},
			}}
			r.Progress(fmt.Sprintf("setting up and loading, %s", name), int64(i), 2)
			if _, err := b.setUp(ctx); err != nil {
				return err
			}
			if err := b.load(ctx); err != nil {
				return fmt.Errorf("load, %s: %w", name, err)
			}
			both[i] = b
		}
		return buildsInTurns(ctx, r, both, args.Int("turns"))
	})
}

func buildsInTurns(ctx context.Context, r *bench.Run, both [2]*build, turns int) error {
	for turn := range turns + 1 { // of the first one the boot set is noted
		r.Progress("waking and scanning, in turns", int64(turn), int64(turns))
		var took [2]buildTook
		for i := range both {
			side := (turn + i) % 2
			var err error
			if took[side], err = both[side].life(ctx, turn); err != nil {
				return err
			}
		}
		if turn == 0 {
			continue
		}
		m := r.Metrics
		for side, b := range both {
			t := took[side]
			m.Duration("wake"+b.suffix+"ms", t.wake)
			m.Duration("scan"+b.suffix+"ms", t.scan)
			m.Value("class_a"+b.suffix+"count", float64(t.counted.ClassA))
			m.Value("class_b"+b.suffix+"count", float64(t.counted.ClassB))
			m.Value("read"+b.suffix+"bytes", float64(t.counted.BytesDown))
			m.Value("rss"+b.suffix+"bytes", float64(t.used.ResidentBytes))
		}
		m.Value("wake_ratio", float64(took[0].wake)/float64(took[1].wake))
		m.Value("scan_ratio", float64(took[0].scan)/float64(took[1].scan))
		m.Value("more_class_a_count", float64(max(0, took[0].counted.ClassA-took[1].counted.ClassA)))
	}
	return nil
}

// start starts the process and connects.
func (b *build) start(ctx context.Context) (*service.Service, *pgx.Conn, error) {
	s, err := service.Start(ctx, b.program, service.Options{Args: b.args, Env: []string{"BLOBPGLITE_CACHE=" + b.cache}})
	if err != nil {
		return nil, nil, err
	}
	c, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		s.Kill()
		return nil, nil, fmt.Errorf("%w: %s", err, s.Log())
	}
	return s, c, nil
}

// end ends the process, in good order.
func (b *build) end(ctx context.Context, s *service.Service, c *pgx.Conn) error {
	err := c.Close(ctx)
	code, stopErr := s.Stop(ctx)
	if err = errors.Join(err, stopErr); err != nil || code != 0 {
		return fmt.Errorf("pgserve ended with code %d: %w: %s", code, err, s.Log())
	}
	return nil
}

// load creates the rows.
func (b *build) load(ctx context.Context) error {
	s, c, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer s.Kill()
	for _, sql := range workload.PageStatements(b.rows) {
		if _, err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return b.end(ctx, s, c)
}

// life is one start: a lookup, a scan, and the end.
func (b *build) life(ctx context.Context, turn int) (t buildTook, err error) {
	clk := clock.System()
	before, at := b.front.Counters(), clk.Monotonic()
	s, c, err := b.start(ctx)
	if err != nil {
		return t, err
	}
	defer s.Kill()
	var n int
	if err := c.QueryRow(ctx, fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+b.rows/2+turn)).Scan(&n); err != nil {
		return t, err
	}
	t.wake, t.counted = clk.Monotonic()-at, b.front.Counters()
	t.counted.ClassA -= before.ClassA
	t.counted.ClassB -= before.ClassB
	t.counted.BytesDown -= before.BytesDown
	if err := c.QueryRow(ctx, "SELECT count(*) FROM p WHERE length(pad) = 768").Scan(&n); err != nil {
		return t, err
	}
	t.scan = clk.Monotonic() - at
	b.r.Check(bench.CheckChecksum, bench.Wrongf(n != b.rows, "a scan finds %d rows of %d", n, b.rows))
	if t.used, err = s.Used(); err != nil {
		return t, err
	}
	return t, b.end(ctx, s, c)
}
