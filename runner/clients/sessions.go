package clients

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

func sessionsVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "sessions",
			Doc: "connects to pgserve many times, one after the other and concurrently, and measures the memory of idle sessions; nothing " +
				"may be left of them afterwards",
			Args: []scenario.Arg{
				{Name: "connects", Kind: scenario.KindInt, Default: "1000", Doc: "one after the other, each with a login and a " +
					"session-level lock; a third of them disappear without closing"},
				{Name: "at_once", Kind: scenario.KindInt, Default: "200", Doc: "concurrent connections, each with a query"},
			},
			Metrics: bench.MetricDocs(
				"connect_ms", "time to connect, up to the answer to the login", "session_bytes", "memory of an idle session: "+
					"what all concurrent ones add, divided by their number",
				"idle_bytes", "memory without sessions, before the first", "left_bytes", "memory after all sessions have ended, above "+
					"that before; 0 if less",
				"at_once_ms", "time until all concurrent sessions had an answer",
			),
		},
		Run: runSessions,
	}
}

func runSessions(ctx context.Context, r *bench.Run, args scenario.Args) error {
	atOnce := args.Int("at_once")
	var memory *service.Memory
	err := r.WithService(ctx, bench.InProcess, func(s *bench.Served) error {
		memory = s.Now().Memory()
		r.Notes = append(r.Notes, "memory is counted by "+memory.How)
		t := &sessionsRun{r: r, url: s.Now().URL(), clk: clock.System(), memory: memory}
		return answered(ctx, r, t.run(ctx, args.Int("connects"), atOnce))
	}, "-max-clients", strconv.Itoa(atOnce+10))
	if memory != nil {
		err = errors.Join(err, memory.Close())
	}
	return err
}

func (t *sessionsRun) run(ctx context.Context, connects, atOnce int) error {
	r := t.r
	// The first connections fill what all share: caches, the heap's slack.
	if err := t.oneByOne(ctx, "warming up", atOnce, leavesTable, ""); err != nil {
		return err
	}
	before, err := t.memory.Bytes()
	if err != nil {
		r.Vacuous("%v", err)
		return nil
	}
	r.Metrics.Value("idle_bytes", float64(before))
	if err := t.allAtOnce(ctx, atOnce, func() error {
		full, err := t.memory.Bytes()
		r.Metrics.Value("session_bytes", float64(max(0, full-before))/float64(atOnce))
		return err
	}); err != nil {
		return err
	}
	if err := t.oneByOne(ctx, "connecting", connects, leavesLock, "connect_ms"); err != nil {
		return err
	}
	after, err := t.memory.Bytes()
	r.Metrics.Value("left_bytes", float64(max(0, after-before)))
	return errors.Join(err, t.nothingLeft(ctx))
}

// sessionsRun connects to one server.
type sessionsRun struct {
	r      *bench.Run
	url    string
	clk    clock.Clock
	memory *service.Memory
}

// What a client has when it leaves. Temporary tables are rows of the catalogs, which grow until they are vacuumed: only the first
// connections have some.
const (
	leavesTable = "CREATE TEMP TABLE mine AS SELECT 1 AS one; SELECT pg_advisory_lock(1)"
	leavesLock  = "SELECT pg_advisory_lock(1)"
)

// oneByOne connects, runs sql and disconnects, and records how long connecting took, if there is a metric for it.
func (t *sessionsRun) oneByOne(ctx context.Context, what string, times int, sql, metric string) error {
	for i := range times {
		t.r.Progress(what, int64(i), int64(times))
		at := t.clk.Monotonic()
		conn, err := pgx.Connect(ctx, t.url)
		if err != nil {
			return fmt.Errorf("connect for the %dth time: %w", i+1, err)
		}
		if metric != "" {
			t.r.Metrics.Duration(metric, t.clk.Monotonic()-at)
		}
		_, err = conn.Exec(ctx, sql)
		if i%3 == 0 && err == nil { // some vanish without a word
			err = conn.PgConn().Conn().Close()
		}
		closeErr := conn.Close(context.WithoutCancel(ctx))
		if i%3 == 0 {
			closeErr = nil // it has vanished
		}
		if err := errors.Join(err, closeErr); err != nil {
			return fmt.Errorf("the %dth connection: %w", i+1, err)
		}
	}
	return nil
}

// allAtOnce opens many connections, each of which has sent a request, and calls f while they are idle.
func (t *sessionsRun) allAtOnce(ctx context.Context, n int, f func() error) error {
	t.r.Progress(fmt.Sprintf("%d concurrent connections", n), 0, 0)
	conns := make([]*pgx.Conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close(context.WithoutCancel(ctx))
			}
		}
	}()
	at := t.clk.Monotonic()
	var all errgroup.Group
	for i := range conns {
		all.Go(func() (err error) {
			if conns[i], err = pgx.Connect(ctx, t.url); err != nil {
				return fmt.Errorf("connection %d of %d: %w", i, n, err)
			}
			var count int
			return conns[i].QueryRow(ctx, "SELECT count(*) FROM pg_class").Scan(&count)
		})
	}
	if err := all.Wait(); err != nil {
		t.r.Check(checkSessions, err.Error())
		return nil
	}
	t.r.Metrics.Duration("at_once_ms", t.clk.Monotonic()-at)
	return f()
}

// nothingLeft looks for what the connections could have left, until there is nothing or a time has passed.
func (t *sessionsRun) nothingLeft(ctx context.Context) error {
	const left = `SELECT concat_ws(', ',
		(SELECT count(*) || ' sessions' FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() HAVING count(*) > 0),
		(SELECT count(*) || ' locks' FROM pg_locks WHERE pid <> pg_backend_pid() HAVING count(*) > 0),
		(SELECT count(*) || ' temporary tables' FROM pg_class WHERE relpersistence = 't' HAVING count(*) > 0))`
	conn, err := pgx.Connect(ctx, t.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const tries, pause = 200, 50 * time.Millisecond
	found := ""
	for range tries {
		if err := conn.QueryRow(ctx, left).Scan(&found); err != nil {
			return err
		}
		if found == "" {
			break
		}
		if err := t.clk.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	if found != "" {
		found = "after all connections are left: " + found
	}
	t.r.Check(checkSessions, found)
	return nil
}
