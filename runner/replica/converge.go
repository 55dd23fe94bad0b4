package replica

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

func replicaConvergesVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "replica_converges",
			Doc: "bursts of rows, large transactions, DDL, new databases and layers at a writer, with kills of the writer and of " +
				"replicas; a client of each replica reads continuously, and its history is judged; after each burst the digests of every " +
				"table of every database are compared",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Required: true, Doc: "bursts"},
				{Name: "replicas", Kind: scenario.KindInt, Default: "2", Doc: "concurrent"},
				{Name: "burst", Kind: scenario.KindDuration, Default: "3s", Doc: "of each burst"},
				{Name: "poll", Kind: scenario.KindDuration, Default: "50ms", Doc: "of the replicas"},
				{Name: "retain", Kind: scenario.KindDuration, Default: "10m", Doc: "how long the log is kept: with 0, slow replicas have to move"},
			},
			Metrics: bench.MetricDocs(
				"commits_count", "acknowledged commits of a burst", "kills_count", "kills of the writer in a burst", "replica_kills_count", "kills of a replica in a burst",
				"moves_count", "moves of a replica to a newer layer since its start",
				"reads_count", "reads judged in a burst", "arrive_ms", "time from the end of a burst until a replica has all of it", "tables_count", "tables compared after a burst",
			),
		},
		Run: replicaConverges,
	}
}

// convergence is one cell of it.
type convergence struct {
	*readers
	random      *rand.Rand
	flags       []string // of replicas
	writerFlags []string
	count       int
	writes      *service.Service
	reads       []*service.Service

	mu      sync.Mutex // guards the services above, which are replaced
	judging sync.Mutex
	sent    atomic.Int64
	acked   atomic.Int64
	seen    atomic.Int64 // the highest number that some replica has shown
	judged  atomic.Int64
}

func replicaConverges(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return withReaders(ctx, r, false, func(w *readers) error {
		c := &convergence{readers: w, random: rand.New(rand.NewPCG(r.Seed, 0x657264)), count: args.Int("replicas")}
		c.flags = []string{"-poll", args.Duration("poll").String()}
		if err := c.prepare(ctx, args.Duration("retain")); err != nil {
			return err
		}
		rounds := args.Int("rounds")
		for round := range rounds {
			r.Progress(r.Cell.Probe+": bursts and kills", int64(round), int64(rounds))
			if err := c.burst(ctx, round, args.Duration("burst")); err != nil {
				return fmt.Errorf("burst %d: %w", round+1, err)
			}
			if err := c.compare(ctx); err != nil {
				return fmt.Errorf("after burst %d: %w", round+1, err)
			}
			if r.Failed() {
				return nil
			}
		}
		return nil
	})
}

func (c *convergence) prepare(ctx context.Context, retain time.Duration) (err error) {
	// Layers are taken all the time, and what they make superfluous is collected. At rest nothing is written, so that digests can be
	// compared.
	c.writerFlags = []string{"-retain", retain.String(), "-restore-budget", "20ms", "-set", "autovacuum=off"}
	if c.writes, err = c.writer(ctx, c.writerFlags...); err != nil {
		return err
	}
	err = c.do(ctx, c.writes,
		"CREATE TABLE seq (n bigint PRIMARY KEY, twin bigint NOT NULL)", "CREATE TABLE twins (n bigint PRIMARY KEY)",
		"CREATE TABLE bank (id int PRIMARY KEY, balance bigint NOT NULL)", "INSERT INTO bank SELECT g, 1000 FROM generate_series(1, 20) g",
		"CREATE TABLE bulk (n int, pad text)", "CREATE INDEX ON bulk (n)")
	if err != nil {
		return err
	}
	for n := range c.count {
		s, err := c.replica(ctx, n, c.flags...)
		if err != nil {
			return err
		}
		c.reads = append(c.reads, s)
	}
	return nil
}

func (c *convergence) theWriter() *service.Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

func (c *convergence) theReplica(n int) *service.Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads[n]
}

// burst is work at the writer, kills, and concurrent clients of the replicas.
func (c *convergence) burst(ctx context.Context, round int, length time.Duration) error {
	inner, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var work sync.WaitGroup
	before, judged := c.acked.Load(), c.judged.Load()
	failures := make(chan error, 16)
	for n := range c.count {
		work.Go(func() { failures <- c.watch(inner, n) })
	}
	work.Go(func() { failures <- c.numbers(inner) })
	seed := c.random.Uint64()
	work.Go(func() { failures <- c.churn(inner, rand.New(rand.NewPCG(seed, uint64(round)))) })
	killed, err := c.kills(ctx, inner, length)
	<-inner.Done()
	work.Wait()
	close(failures)
	for f := range failures {
		err = errors.Join(err, f)
	}
	c.r.Metrics.Value("commits_count", float64(c.acked.Load()-before))
	c.r.Metrics.Value("reads_count", float64(c.judged.Load()-judged))
	c.r.Metrics.Value("kills_count", float64(killed[0]))
	c.r.Metrics.Value("replica_kills_count", float64(killed[1]))
	return err
}

// kills ends the writer once, and a replica twice, each at a moment of its own, with SIGKILL, and starts another one in its place.
func (c *convergence) kills(ctx, inner context.Context, length time.Duration) (killed [2]int, err error) {
	for range 3 {
		pause := time.Duration(c.random.Int64N(int64(length / 3)))
		if c.clk.Sleep(inner, pause) != nil {
			return killed, nil
		}
		c.mu.Lock()
		if killed[0] == 0 && c.random.IntN(3) == 0 || killed[1] == 2 {
			c.writes, err = c.writer(ctx, c.writerFlags...)
			killed[0]++
		} else {
			n := c.random.IntN(c.count)
			c.reads[n], err = c.replica(ctx, n, c.flags...)
			killed[1]++
		}
		c.mu.Unlock()
		if err != nil {
			return killed, err
		}
	}
	return killed, nil
}

// numbers commits one number after the other, each in a transaction with a row of another table.
func (c *convergence) numbers(ctx context.Context) error {
	for ctx.Err() == nil {
		conn, err := c.connectTo(ctx, c.theWriter(), "postgres")
		if err != nil {
			return unlessOver(ctx, err)
		}
		for ctx.Err() == nil && err == nil {
			// The database tells about what a crash left without an answer: numbers have no gaps.
			var last int64
			if err = conn.QueryRow(ctx, "SELECT coalesce(max(n), 0) FROM seq").Scan(&last); err != nil {
				break
			}
			if last < c.acked.Load() {
				c.judge(bench.CheckDurability, fmt.Sprintf("%d was acknowledged, and the writer that came next has %d", c.acked.Load(), last))
			}
			c.sent.Store(last + 1)
			_, err = conn.Exec(ctx, fmt.Sprintf("BEGIN; INSERT INTO seq VALUES (%d, %d); INSERT INTO twins VALUES (%d); COMMIT", last+1, last+1, last+1))
			if err == nil {
				c.acked.Store(last + 1)
			}
		}
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	return nil
}

func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// churn does what else a database is used for.
func (c *convergence) churn(ctx context.Context, random *rand.Rand) error {
	statements := []func() string{
		func() string {
			return fmt.Sprintf("BEGIN; UPDATE bank SET balance = balance - 7 WHERE id = %d; UPDATE bank SET balance = balance + 7 WHERE id = %d; COMMIT", 1+random.IntN(20), 1+random.IntN(20))
		},
		func() string {
			return fmt.Sprintf("INSERT INTO bulk SELECT g, md5(g::text) || repeat('x', 400) FROM generate_series(1, %d) g", 1+random.IntN(6000))
		},
		func() string { return "DELETE FROM bulk WHERE n % 3 = " + strconv.Itoa(random.IntN(3)) },
		func() string { return "VACUUM bulk" }, func() string { return "VACUUM FULL bulk" }, func() string { return "CHECKPOINT" },
		func() string {
			return fmt.Sprintf("CREATE TABLE IF NOT EXISTS extra_%d AS SELECT * FROM bulk LIMIT 500", random.IntN(4))
		},
		func() string { return fmt.Sprintf("DROP TABLE IF EXISTS extra_%d", random.IntN(4)) },
		func() string { return "TRUNCATE bulk" }, func() string { return "CREATE DATABASE other" }, func() string { return "DROP DATABASE IF EXISTS other" },
		func() string { return "REINDEX TABLE bulk" },
		func() string { return fmt.Sprintf("ALTER SYSTEM SET random_page_cost = %d", 1+random.IntN(9)) },
		func() string {
			return "BEGIN; SAVEPOINT a; INSERT INTO bulk VALUES (1, 'rolled back'); ROLLBACK TO a; INSERT INTO bulk VALUES (2, 'kept'); COMMIT"
		},
	}
	for ctx.Err() == nil {
		conn, err := c.connectTo(ctx, c.theWriter(), "postgres")
		if err != nil {
			return unlessOver(ctx, err)
		}
		for ctx.Err() == nil {
			sql := statements[random.IntN(len(statements))]()
			_, err := conn.Exec(ctx, sql)
			if pg := (*pgconn.PgError)(nil); err != nil && (!errors.As(err, &pg) || strings.HasPrefix(pg.Code, "57") || strings.HasPrefix(pg.Code, "08")) {
				break // the writer was killed
			}
		}
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	return nil
}

// watch reads a replica all the while, and judges what it shows: a prefix, no older than before, nothing that was not sent. A replica that
// was killed, or has moved, continues from there.
func (c *convergence) watch(ctx context.Context, n int) error {
	highest := int64(0)
	for ctx.Err() == nil {
		conn, err := c.connectTo(ctx, c.theReplica(n), "postgres")
		if err != nil {
			return unlessOver(ctx, err)
		}
		for err == nil && ctx.Err() == nil {
			err = c.look(ctx, conn, n, &highest)
		}
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	return nil
}

// look is one reading. It is a single statement, and so a single state.
func (c *convergence) look(ctx context.Context, conn *pgx.Conn, n int, highest *int64) error {
	var last, count, twins, total int64
	err := conn.QueryRow(ctx, `SELECT coalesce(max(n), 0), count(*), (SELECT count(*) FROM twins), (SELECT sum(balance)::bigint FROM bank) FROM seq`).Scan(&last, &count, &twins, &total)
	if err != nil {
		return err
	}
	sent := c.sent.Load()
	wrong := ""
	switch {
	case last != count || twins != count:
		wrong = fmt.Sprintf("replica %d shows %d numbers up to %d, and %d twins: no state that was", n, count, last, twins)
	case total != 20*1000:
		wrong = fmt.Sprintf("replica %d shows a bank with %d, and there are 20000", n, total)
	case last < *highest:
		wrong = fmt.Sprintf("replica %d shows %d, and has shown %d", n, last, *highest)
	case last > sent:
		wrong = fmt.Sprintf("replica %d shows %d, and %d was the last that was sent", n, last, sent)
	}
	c.judged.Add(1)
	*highest = max(*highest, last)
	for {
		seen := c.seen.Load()
		if last <= seen || c.seen.CompareAndSwap(seen, last) {
			break
		}
	}
	c.judge(checkPrefix, wrong)
	return nil
}

// moved says whether a client was told to connect again.
func moved(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57P01"
}

// judge records a check, from any goroutine.
func (c *convergence) judge(name, wrong string) {
	c.judging.Lock()
	defer c.judging.Unlock()
	c.r.Check(name, wrong)
}

// compare holds every replica against the writer, at rest.
func (c *convergence) compare(ctx context.Context) error {
	position, err := c.position(ctx, c.writes)
	if err != nil {
		return err
	}
	want, tables, err := c.digests(ctx, c.writes)
	if err != nil {
		return err
	}
	c.r.Metrics.Value("tables_count", float64(tables))
	began := c.clk.Monotonic()
	for n, s := range c.reads {
		if err := c.arrive(ctx, s, position); err != nil {
			c.r.Check(checkConverged, fmt.Sprintf("replica %d does not reach %s: %v: %s", n, position, err, bench.Tail(s.Log())))
			return nil
		}
		c.r.Metrics.Duration("arrive_ms", c.clk.Monotonic()-began)
		moves, err := movesOf(ctx, s)
		if err != nil {
			return err
		}
		c.r.Metrics.Value("moves_count", moves)
		got, _, err := c.digests(ctx, s)
		for try := 0; moved(err) && try < 10; try++ {
			got, _, err = c.digests(ctx, s)
		}
		if err != nil {
			return fmt.Errorf("read replica %d: %w: %s", n, err, bench.Tail(s.Log()))
		}
		wrong := ""
		for name, sum := range want {
			if got[name] != sum {
				wrong = fmt.Sprintf("replica %d differs in %s", n, name)
			}
		}
		if len(got) != len(want) {
			wrong = fmt.Sprintf("replica %d has %d tables, the writer %d", n, len(got), len(want))
		}
		c.r.Check(checkConverged, wrong)
	}
	conn, err := c.connectTo(ctx, c.writes, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var last int64
	if err := conn.QueryRow(ctx, "SELECT coalesce(max(n), 0) FROM seq").Scan(&last); err != nil {
		return err
	}
	wrong := ""
	if seen := c.seen.Load(); last < seen {
		wrong = fmt.Sprintf("a replica has shown %d, and the writer has %d: it was not durable", seen, last)
	} else if last < c.acked.Load() {
		wrong = fmt.Sprintf("%d was acknowledged, and the writer has %d", c.acked.Load(), last)
	}
	c.r.Check(bench.CheckDurability, wrong)
	return nil
}

// movesOf is how often a replica has moved to a newer layer, as its metrics say.
func movesOf(ctx context.Context, s *service.Service) (float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.HTTP()+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	const name = "\nblobpglite_replica_moves_total "
	_, value, found := strings.Cut(string(body), name)
	if !found {
		return 0, errors.New("the replica's metrics do not tell of moves")
	}
	value, _, _ = strings.Cut(value, "\n")
	return strconv.ParseFloat(value, 64)
}

// digests are those of every table of every database, system catalogs included that a transaction writes.
func (c *convergence) digests(ctx context.Context, s *service.Service) (map[string]string, int, error) {
	sums := map[string]string{}
	databases := []string{}
	conn, err := c.connectTo(ctx, s, "postgres")
	if err != nil {
		return nil, 0, err
	}
	list, err := text(ctx, conn, "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE datallowconn")
	_ = conn.Close(context.WithoutCancel(ctx))
	if err != nil {
		return nil, 0, err
	}
	databases = append(databases, strings.Split(list, ",")...)
	for _, database := range databases {
		if err := c.digestsOf(ctx, s, database, sums); err != nil {
			return nil, 0, fmt.Errorf("database %s: %w", database, err)
		}
	}
	return sums, len(sums), nil
}

const allTables = `SELECT string_agg(format('%I.%I', n.nspname, c.relname), ',' ORDER BY 1) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'm') AND (n.nspname = 'public' OR c.relname IN ('pg_class', 'pg_attribute', 'pg_index', 'pg_database', 'pg_authid', 'pg_proc', 'pg_type', 'pg_depend'))`

func (c *convergence) digestsOf(ctx context.Context, s *service.Service, database string, sums map[string]string) error {
	conn, err := c.connectTo(ctx, s, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	list, err := text(ctx, conn, allTables)
	if err != nil {
		return err
	}
	for _, table := range strings.Split(list, ",") {
		if table == "" {
			continue
		}
		h := sha256.New()
		if _, err := conn.PgConn().CopyTo(ctx, h, "COPY (SELECT t.* FROM "+table+" t ORDER BY t::text) TO STDOUT"); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		sums[database+"."+table] = hex.EncodeToString(h.Sum(nil))
	}
	return nil
}
