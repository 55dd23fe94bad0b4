package clients

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func besideVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "beside",
			Doc: "one client runs a long query, a second is idle in a transaction that has changed a row, and others read by key and " +
				"write other rows at the same time; only a client that wants the changed row waits",
			Args: []scenario.Arg{
				{Name: "seconds", Kind: scenario.KindInt, Default: "10", Doc: "of the query when it runs alone"},
				{Name: "readers", Kind: scenario.KindInt, Default: "10", Doc: "clients that read, one statement after the other"},
				{Name: "pause", Kind: scenario.KindDuration, Default: "1ms", Doc: "of a reader between two statements"},
			},
			Metrics: bench.MetricDocs(
				"read_ms", "a read during the long query", "read_alone_ms", "a read without the long query", "write_ms", "an update of another row "+
					"during the long query",
				"long_alone_ms", "the long query, alone", "long_ms", "the long query, with the readers",
			),
		},
		Run: runBeside,
	}
}

// besideRun is one server with a table of rows.
type besideRun struct {
	r              *bench.Run
	url            string
	clk            clock.Clock
	readers, rows  int
	seconds, pause time.Duration
}

func runBeside(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return r.WithService(ctx, bench.InProcess, func(s *bench.Served) error {
		b := &besideRun{
			r: r, url: s.Now().URL(), clk: clock.System(), readers: args.Int("readers"), rows: 10000,
			seconds: time.Duration(args.Int("seconds")) * time.Second, pause: args.Duration("pause"),
		}
		return answered(ctx, r, b.run(ctx))
	}, "-max-clients", strconv.Itoa(args.Int("readers")+10))
}

func (b *besideRun) run(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{
		"CREATE TABLE item (id int PRIMARY KEY, v text)", fmt.Sprintf("INSERT INTO item SELECT g, 'item ' || g FROM generate_series(1, %d) g", b.rows), "ANALYZE item",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	size, err := b.calibrate(ctx, conn)
	if err != nil {
		return err
	}
	alone, err := b.long(ctx, conn, size)
	if err != nil {
		return err
	}
	b.r.Metrics.Duration("long_alone_ms", alone)
	alone = max(alone/5, time.Second)
	if err := b.read(ctx, "read_alone_ms", func(ctx context.Context) error { return b.clk.Sleep(ctx, alone) }); err != nil {
		return err
	}
	idle, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	defer idle.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{"BEGIN", "UPDATE item SET v = 'changed' WHERE id = 1"} {
		if _, err := idle.Exec(ctx, sql); err != nil {
			return err
		}
	}
	b.r.Progress("a long query with readers", 0, 0)
	if err := b.read(ctx, "read_ms", func(ctx context.Context) error {
		took, err := b.long(ctx, conn, size)
		if err == nil {
			b.r.Metrics.Duration("long_ms", took)
		}
		return err
	}); err != nil {
		return err
	}
	return b.onlyItsRow(ctx, conn, idle)
}

// calibrate finds how much work takes the time wanted.
func (b *besideRun) calibrate(ctx context.Context, conn *pgx.Conn) (int, error) {
	b.r.Progress("how long a query takes", 0, 0)
	for size := 100_000; ; size *= 2 {
		took, err := b.long(ctx, conn, size)
		if err != nil {
			return 0, err
		}
		if took > 200*time.Millisecond {
			return int(float64(size) * b.seconds.Seconds() / took.Seconds()), nil
		}
	}
}

// long runs the query that takes long: nothing but CPU.
func (b *besideRun) long(ctx context.Context, conn *pgx.Conn, size int) (time.Duration, error) {
	at := b.clk.Monotonic()
	var sum string
	err := conn.QueryRow(ctx, fmt.Sprintf("SELECT sum(sqrt(g))::text FROM generate_series(1, %d) g", size)).Scan(&sum)
	if err != nil {
		return 0, fmt.Errorf("the long query: %w", err)
	}
	return b.clk.Monotonic() - at, nil
}

// read has the readers read, and one more client write, while f runs.
func (b *besideRun) read(ctx context.Context, metric string, f func(context.Context) error) error {
	var done atomic.Bool
	all, ctx := errgroup.WithContext(ctx)
	for i := range b.readers {
		all.Go(func() error {
			return b.repeat(ctx, &done, metric, i, func(conn *pgx.Conn, id int) error {
				var v string
				return conn.QueryRow(ctx, "SELECT v FROM item WHERE id = $1", id).Scan(&v)
			})
		})
	}
	if metric == "read_ms" {
		all.Go(func() error {
			return b.repeat(ctx, &done, "write_ms", b.readers, func(conn *pgx.Conn, id int) error {
				_, err := conn.Exec(ctx, "UPDATE item SET v = v || '' WHERE id = $1", max(id, 2))
				return err
			})
		})
	}
	all.Go(func() error {
		defer done.Store(true)
		return f(ctx)
	})
	return all.Wait()
}

// repeat does one thing after the other on a connection of its own, timing each, until it is enough.
func (b *besideRun) repeat(ctx context.Context, done *atomic.Bool, metric string, seed int, one func(*pgx.Conn, int) error) error {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const stride = 7919 // a prime: each reader goes its own way through the rows
	for i := seed; !done.Load(); i++ {
		at := b.clk.Monotonic()
		if err := one(conn, 1+i*stride%b.rows); err != nil {
			return fmt.Errorf("beside the query: %w", err)
		}
		b.r.Metrics.Duration(metric, b.clk.Monotonic()-at)
		if err := b.clk.Sleep(ctx, b.pause); err != nil {
			return err
		}
	}
	return nil
}

// onlyItsRow checks that the open transaction keeps only those waiting that want its row.
func (b *besideRun) onlyItsRow(ctx context.Context, conn, idle *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "SET lock_timeout = '200ms'"); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "UPDATE item SET v = 'mine' WHERE id = 1")
	const notAvailable = "55P03"
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != notAvailable {
		b.r.Check(checkSessions, fmt.Sprintf("an update of a row that another transaction has changed: %v, want SQLSTATE %s", err, notAvailable))
		return nil
	}
	if _, err := conn.Exec(ctx, "UPDATE item SET v = 'mine' WHERE id = 2"); err != nil {
		b.r.Check(checkSessions, fmt.Sprintf("an update of another row: %v", err))
		return nil
	}
	if _, err := idle.Exec(ctx, "COMMIT"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "UPDATE item SET v = 'mine' WHERE id = 1")
	b.r.Check(checkSessions, errorText(err))
	return nil
}

// answered turns an error of the database, which is not the run's fault, into a failed check.
func answered(ctx context.Context, r *bench.Run, err error) error {
	if err != nil && ctx.Err() == nil {
		r.Check(checkSessions, err.Error())
		return nil
	}
	return err
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
