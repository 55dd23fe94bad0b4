package layers

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/lease"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/takeover"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
	"blobpglite/runner/workload"
)

func carriedOverVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "carriedover",
			Doc: "opens a database written by an older commit's pgserve, which was killed at the end: every row is there; the first layer " +
				"carries all of it over; it is closed, reopened, and verified from end to end. The older commit's pgserve must then " +
				"refuse it with a message that says why, changing nothing except the lease; after that it is opened once more",
			Args: []scenario.Arg{
				{Name: "older", Required: true, Doc: "a commit of this repository. Vacuous if the clone lacks it"},
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "of the rows"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "databases"},
			},
			Metrics: bench.MetricDocs(
				"database_bytes", "size of the database as the older commit stored it", "replayed_count", "records replayed by the first "+
					"opening", "open_ms", "time of the first opening",
				"carried_bytes", "bytes uploaded for the first layer", "reopen_ms", "time to open after the first layer",
				"refused_count", "attempts of the older commit to open it after the first layer, none of which changed anything",
			),
		},
		Run: carriedOver,
	}
}

func carriedOver(ctx context.Context, r *bench.Run, args scenario.Args) error {
	program, err := r.PgserveOf(ctx, args.String("older"))
	if errors.Is(err, bench.ErrMissing) {
		r.Vacuous("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	const bucket = "carried"
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{bucket}, Seed: r.Seed})
	if err != nil {
		return err
	}
	endpoint, stop, err := front.Serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	r.On(front)
	for i := range args.Int("rounds") {
		prefix := fmt.Sprintf("db-%d", i)
		st, err := gcs.Open(ctx, gcs.Options{Bucket: bucket, Prefix: prefix, Endpoint: endpoint})
		if err != nil {
			return err
		}
		c := &carrying{
			r: r, clk: clock.System(), st: st, program: program, data: workload.Dataset{Bytes: int64(args.Size("size")), Seed: r.Seed + uint64(i)},
			args: []string{"-bucket", "gs://" + bucket + "/" + prefix, "-endpoint", endpoint, "-log", "warn", "-lease-ttl", "1s", "-restore-budget", "20ms"},
		}
		if err := errors.Join(c.run(ctx), st.Close()); err != nil {
			return err
		}
	}
	return nil
}

// carrying is one database that goes from the older commit to this one.
type carrying struct {
	r       *bench.Run
	clk     clock.Clock
	st      store.Store
	program string // the older pgserve
	args    []string
	data    workload.Dataset
	layers  map[string]bool // the older one's
}

// formatPart is the format of layers that share nothing; formatShared of those that do.
const (
	formatPart   = 1
	formatShared = 2
)

func (c *carrying) run(ctx context.Context) error {
	for _, do := range []struct {
		step string
		run  func(context.Context) error
	}{
		{"the older commit writes", c.write}, {"looking at what it wrote", c.before}, {"carried over", c.carry},
		{"opened again", c.again}, {"the older commit is to refuse it", c.refused}, {"opened once more", c.again},
	} {
		c.r.Progress(c.r.Cell.Probe+": "+do.step, 0, 0)
		if err := do.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", do.step, err)
		}
	}
	return nil
}

// older runs pgserve of the older commit, and gives work a client.
func (c *carrying) older(ctx context.Context, work func(*service.Service, *pgx.Conn) error) error {
	s, err := service.Start(ctx, c.program, service.Options{Args: c.args, Env: []string{"BLOBPGLITE_CACHE=" + c.r.Runtime.CacheDir()}})
	if err != nil {
		return err
	}
	defer s.Kill()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return fmt.Errorf("%w: %s", err, s.Log())
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return work(s, conn)
}

// write loads all rows except those of the last statement, and ends; then it loads the rest, and is killed.
func (c *carrying) write(ctx context.Context) error {
	statements := c.data.Statements()
	last := len(statements) - 1
	all := func(conn *pgx.Conn, list []string) error {
		for _, sql := range list {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	}
	err := c.older(ctx, func(s *service.Service, conn *pgx.Conn) error {
		if err := all(conn, statements[:last]); err != nil {
			return err
		}
		if err := conn.Close(ctx); err != nil {
			return err
		}
		_, err := s.Stop(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return c.older(ctx, func(_ *service.Service, conn *pgx.Conn) error { return all(conn, statements[last:]) })
}

// before makes sure that there is something to carry over.
func (c *carrying) before(ctx context.Context) error {
	c.layers = map[string]bool{}
	s, err := TakeStock(ctx, c.st)
	if err != nil {
		return err
	}
	for _, l := range s.Layers {
		c.layers[l.Key()] = true
		if format, err := c.format(ctx, l.Key()); err != nil || format != formatPart {
			return errors.Join(fmt.Errorf("the older commit's layer %s has format %d", l.Key(), format), err)
		}
	}
	c.r.Metrics.Value("database_bytes", float64(s.Bytes))
	return nil
}

// format returns the format of a layer's index.
func (c *carrying) format(ctx context.Context, layer string) (uint32, error) {
	const at, size = 8, 4 // after the magic
	o, err := c.st.Get(ctx, base.IndexKey(layer))
	if err != nil || len(o.Body) < at+size {
		return 0, err
	}
	return binary.LittleEndian.Uint32(o.Body[at:]), nil
}

func (c *carrying) open(ctx context.Context) (*engine.Engine, error) {
	return c.r.OpenEngine(ctx, c.st, func(o *engine.Options) { o.Create, o.RestoreBudget = false, -1 })
}

// rows compares every row with what was loaded.
func (c *carrying) rows(ctx context.Context, e *engine.Engine, when string) error {
	results, err := e.Query(ctx, workload.VerifySQL)
	if err != nil {
		return err
	}
	found, err := workload.ParseVerify(results)
	if err != nil {
		return err
	}
	wrong := ""
	if err := c.data.Check(found); err != nil {
		wrong = when + ": " + err.Error()
	}
	c.r.Check(bench.CheckChecksum, wrong)
	c.r.Check(bench.CheckDurability, wrong)
	return nil
}

// carry opens the database, looks at the rows, and takes a layer.
func (c *carrying) carry(ctx context.Context) error {
	at := c.clk.Monotonic()
	e, err := c.open(ctx)
	if err != nil {
		c.r.Check(bench.CheckDurability, fmt.Sprintf("it cannot be opened: %v", err))
		return nil
	}
	defer e.Abandon()
	c.r.Metrics.Duration("open_ms", c.clk.Monotonic()-at)
	c.r.Metrics.Value("replayed_count", float64(e.Opened().Records))
	if err := c.rows(ctx, e, "opened"); err != nil {
		return err
	}
	if err := e.Compact(ctx); err != nil {
		return err
	}
	c.r.Metrics.Value("carried_bytes", float64(e.Stats().Layer.Written.NewBytes))
	wrong, err := c.over(ctx)
	if err != nil {
		return err
	}
	c.r.Check(bench.CheckCollected, wrong)
	if err := c.rows(ctx, e, "carried over"); err != nil {
		return err
	}
	return e.Close(ctx)
}

// over says what is not as it should be once everything was carried over.
func (c *carrying) over(ctx context.Context) (string, error) {
	s, err := TakeStock(ctx, c.st)
	if err != nil {
		return "", err
	}
	l := s.Newest()
	if l == nil {
		return "no layer is there", nil
	}
	format, err := c.format(ctx, l.Key())
	if err != nil {
		return "", err
	}
	switch {
	case format < formatShared || len(l.Segments()) == 0:
		return fmt.Sprintf("the new layer %s has format %d and %d segments", l.Key(), format, len(l.Segments())), nil
	case s.Left() != "":
		return s.Left(), nil
	}
	for key := range s.sizes {
		if o, ok := base.ParseObject(key); ok && c.layers[o.Layer] {
			return key + " is still there", nil
		}
	}
	return "", nil
}

// again opens the database again, and reads everything from end to end.
func (c *carrying) again(ctx context.Context) error {
	at := c.clk.Monotonic()
	e, err := c.open(ctx)
	if err != nil {
		c.r.Check(bench.CheckDurability, fmt.Sprintf("it cannot be opened again: %v", err))
		return nil
	}
	defer e.Abandon()
	c.r.Metrics.Duration("reopen_ms", c.clk.Monotonic()-at)
	if err := c.rows(ctx, e, "opened again"); err != nil {
		return err
	}
	if err := e.Close(ctx); err != nil {
		return err
	}
	return Verify(ctx, c.r, c.st)
}

// Verify reads a database from end to end.
func Verify(ctx context.Context, r *bench.Run, st store.Store) error {
	_, err := takeover.VerifyWith(ctx, st, takeover.VerifyOptions{Deep: true})
	if ctx.Err() != nil {
		return err
	}
	wrong := ""
	if err != nil {
		wrong = err.Error()
	}
	r.Check(bench.CheckVerified, wrong)
	return nil
}

// refused has the older commit open it.
func (c *carrying) refused(ctx context.Context) error {
	before, err := c.digests(ctx)
	if err != nil {
		return err
	}
	s, err := service.Start(ctx, c.program, service.Options{Args: c.args, Env: []string{"BLOBPGLITE_CACHE=" + c.r.Runtime.CacheDir()}})
	if err != nil {
		return err
	}
	defer s.Kill()
	conn, refusal := pgx.Connect(ctx, s.URL())
	if refusal == nil {
		_ = conn.Close(ctx)
	}
	code, err := s.Stop(ctx)
	if err != nil {
		return err
	}
	after, err := c.digests(ctx)
	if err != nil {
		return err
	}
	wrong := ""
	switch {
	case refusal == nil:
		wrong = "the older commit has opened it"
	case !strings.Contains(s.Log(), "newer version") && !strings.Contains(refusal.Error(), "newer version"):
		wrong = fmt.Sprintf("the older commit does not say why: %v: %s", refusal, bench.Tail(s.Log()))
	case !maps.Equal(before, after):
		wrong = "the older commit has changed something: " + changedKey(before, after)
	}
	if c.r.Check(bench.CheckRefused, wrong); wrong == "" {
		c.r.Metrics.Value("refused_count", 1)
		c.r.Notes = append(c.r.Notes, fmt.Sprintf("the older commit's client was told: %v (exit code %d)", refusal, code))
	}
	return nil
}

// digests returns those of all objects, with their generations, except the lease: it says who tries, and is taken before anything is read.
func (c *carrying) digests(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	for a, err := range c.st.List(ctx, "", "") {
		if err != nil {
			return nil, err
		}
		if a.Key == lease.Key {
			continue
		}
		o, err := c.st.Get(ctx, a.Key)
		if err != nil {
			return nil, err
		}
		all[a.Key] = fmt.Sprintf("%v %x", o.Gen, sha256.Sum256(o.Body))
	}
	return all, nil
}

// changedKey is an object that one has and the other has not.
func changedKey(a, b map[string]string) string {
	for _, m := range []map[string]string{a, b} {
		for key := range m {
			if a[key] != b[key] {
				return key
			}
		}
	}
	return ""
}
