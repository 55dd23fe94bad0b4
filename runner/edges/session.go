package edges

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

func sessionCases() []Case {
	return []Case{
		{"floats", "plans and float arithmetic are those of PostgreSQL: known costs, and random expressions against this machine's own arithmetic", floats},
		{"two-clients", "a client's SET of a custom setting during another's statements does not end the server", twoClients},
		{"pinned", "a client that keeps the session (temporary table, advisory lock) can write as much as it likes", pinned},
		{"other-user", "layers are also taken while only a user without superuser rights works, and the log stays bounded", otherUser},
		{"pipelines", "whatever comes before a Flush is answered before any Sync", pipelines},
		{"statement-names", "more than 100,000 statements with names of their own, each closed, are no problem", statementNames},
		{"trapped-cancel", "a block that traps query_canceled keeps the server no longer than -grace from its end, and the rows are there", trappedCancel},
	}
}

const memoizeExample = `create table mz1(id int, b int); insert into mz1 select generate_series(1,3); set enable_hashjoin=off; set enable_mergejoin=off`

func floats(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	plan, err := s.text(ctx, memoizeExample, "explain select t1.ctid from mz1 t1 join mz1 t2 on t1.ctid=t2.ctid where t1.id=1")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(plan, "\n")
	t.expect(strings.Contains(first, "..82.50 ") && !strings.Contains(plan, "Memoize"), "the plan is not PostgreSQL's (82.50, no Memoize): %s", first)
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	random := rand.New(rand.NewPCG(t.o.Seed, 2))
	for i := range t.size(300) {
		a, b, d := random.NormFloat64()*100, random.NormFloat64(), random.Float64()*10+0.1
		q := fmt.Sprintf("SELECT (CASE WHEN %[1]v::float8 > %[2]v THEN sqrt(%[3]v::float8) * %[1]v::float8 ELSE %[2]v::float8 / %[3]v::float8 END) + greatest(%[1]v::float8, %[2]v::float8) - least(%[2]v::float8, %[3]v::float8) + floor(%[1]v::float8) + sign(%[2]v::float8)", a, b, d)
		want := b / d
		if a > b {
			want = float64(math.Sqrt(d) * a) // never fused with what follows
		}
		sign := map[bool]float64{true: 1, false: -1}[b > 0]
		want = want + math.Max(a, b) - math.Min(b, d) + math.Floor(a) + sign
		var got float64
		if err := c.QueryRow(ctx, q).Scan(&got); err != nil {
			return err
		}
		t.expect(got == want, "expression %d: %v instead of %v: %.200s", i, got, want, q)
	}
	var mean, spread, slope float64
	err = c.QueryRow(ctx, "SELECT avg(x), stddev_pop(x), regr_slope(2 * x + 1, x) FROM (SELECT i::float8 AS x FROM generate_series(1, 1001) i) q").Scan(&mean, &spread, &slope)
	t.expect(err == nil && mean == 501 && math.Abs(spread-288.9636655359978) < 1e-9 && math.Abs(slope-2) < 1e-12, "aggregates: %v %v %v, %v", mean, spread, slope, err)
	return nil
}

func twoClients(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	rounds := t.size(3000)
	var many []string // texts that look like the names of settings take longest to check
	for i := range 90 {
		many = append(many, fmt.Sprintf("n%d.m%d", i, i))
	}
	set := fmt.Sprintf("SET my.x = '%s'", strings.Join(many, " "))
	var all sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]int{}
	for who := range 6 {
		all.Go(func() {
			do := s.ask
			if who%2 == 0 {
				do = s.stream
			}
			if err := do(ctx, rounds, map[bool]string{true: set, false: "SELECT 1"}[who%2 == 0]); err != nil {
				mu.Lock()
				failed[tail(err.Error())]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	select {
	case <-s.Ended():
		t.expect(false, "the server ended: %.300s", firstLine(s.Log(), "fatal error"))
	default:
		t.expect(true, "")
	}
	t.expect(len(failed) == 0, "clients failed: %s", tail(fmt.Sprint(failed)))
	return nil
}

// ask sends a statement repeatedly, each time after the previous answer.
func (s *server) ask(ctx context.Context, rounds int, sql string) error {
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for range rounds {
		if err := execOn(ctx, c, sql); err != nil {
			return err
		}
	}
	return nil
}

// stream sends a statement again and again, many in one write, so that the next is read while others have their turn.
func (s *server) stream(ctx context.Context, rounds int, sql string) error {
	const atOnce = 20
	r, err := s.raw(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	for range max(1, rounds/atOnce) {
		for range atOnce {
			r.front.Send(&pgproto3.Query{String: sql})
		}
		if err := r.front.Flush(); err != nil {
			return err
		}
		for range atOnce {
			if _, err := r.until(statementLimit, "Z"); err != nil {
				return err
			}
		}
	}
	return nil
}

func firstLine(text, with string) string {
	if i := strings.Index(text, with); i >= 0 {
		line, _, _ := strings.Cut(text[i:], "\n")
		return line
	}
	return tail(text)
}

func pinned(ctx context.Context, t *Trial) error {
	megabytes := t.size(30)
	big := fmt.Sprintf("INSERT INTO kept SELECT i, repeat('x', 1000) FROM generate_series(1, %d) i", megabytes*1000)
	tries := map[string]func(context.Context, *server) (int, error){
		"temporary table": func(ctx context.Context, s *server) (int, error) {
			return 2 * megabytes * 1000, s.exec(ctx, "CREATE TEMP TABLE mine (id int)", big, big, "SELECT * FROM mine")
		},
		"advisory lock": func(ctx context.Context, s *server) (int, error) {
			q := []string{"SELECT pg_advisory_lock(1)"}
			const inserts = 1200
			for i := range inserts {
				q = append(q, fmt.Sprintf("INSERT INTO kept VALUES (%d, repeat('x', 500))", i))
			}
			return inserts, s.exec(ctx, append(q, "SELECT pg_advisory_unlock(1)")...)
		},
		"cursor with hold": func(ctx context.Context, s *server) (int, error) {
			return 2 * megabytes * 1000, s.exec(ctx, "DECLARE c CURSOR WITH HOLD FOR SELECT 1", big, big, "FETCH c", "CLOSE c")
		},
	}
	names := []string{"temporary table", "advisory lock", "cursor with hold"}
	return beside(ctx, names, func(ctx context.Context, name string) error {
		s, err := t.start(ctx, t.fresh())
		if err != nil {
			return err
		}
		defer func() { s.Kill() }()
		if err := s.exec(ctx, "CREATE TABLE kept (id int, t text)"); err != nil {
			return err
		}
		rows, err := tries[name](ctx, s)
		t.expect(err == nil, "%s: %v", name, err)
		if err != nil {
			return nil
		}
		if s, err = s.crash(ctx); err != nil {
			return err
		}
		t.rows(name, rows, s.count(ctx, "kept"))
		return nil
	})
}

func otherUser(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-restore-budget", "20ms")
	if err != nil {
		return err
	}
	err = s.exec(ctx, "CREATE ROLE app LOGIN", "CREATE SCHEMA app AUTHORIZATION app", "ALTER ROLE app SET search_path = app")
	if err != nil {
		return err
	}
	rounds := t.size(6)
	const each = 4000
	q := []string{"CREATE TABLE kept (id int, t text)"}
	for range rounds {
		q = append(q, bulk("kept", each), "UPDATE kept SET id = id + 1")
	}
	if err := s.execAs(ctx, "app", q...); err != nil {
		return err
	}
	// The pace of layers also depends on time; while a client is connected and idle nothing more happens.
	for range 10 {
		if err := s.execAs(ctx, "app", "INSERT INTO kept VALUES (0, 'x')"); err != nil {
			return err
		}
		if err := t.clk.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	log := s.Log()
	t.expect(!strings.Contains(log, "permission denied") && !strings.Contains(log, "42501"), "the host's own work fails as the client's: %s", firstLine(log, "permission denied"))
	s.Kill()
	layers, err := t.objects(s.prefix + "/base/")
	if err != nil {
		return err
	}
	taken := 0
	for _, name := range layers {
		if strings.HasSuffix(name, "/index") {
			taken++
		}
	}
	out, code := t.on(ctx, "verify", s.prefix)
	t.expect(code == 0, "verify: %s", tail(out))
	newest := 0 // the last record of the newest layer; the first layer comes with the first commit
	if m := newestLayer.FindStringSubmatch(out); m != nil {
		newest, err = strconv.Atoi(m[1])
	}
	const early = 8
	t.expect(err == nil && newest > early, "no layer was taken after the first one (%d are there): %s", taken, tail(out))
	if s, err = s.again(ctx); err != nil {
		return err
	}
	t.rows("written as app", rounds*each+10, s.count(ctx, "app.kept"))
	return nil
}

func pipelines(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept (id int)"); err != nil {
		return err
	}
	r, err := s.raw(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	group := func(sql string) {
		r.front.Send(&pgproto3.Parse{Query: sql})
		r.front.Send(&pgproto3.Bind{})
		r.front.Send(&pgproto3.Describe{ObjectType: 'P'})
		r.front.Send(&pgproto3.Execute{})
	}
	const limit = 5 * time.Second
	at := t.clk.Monotonic()
	group("SELECT 1")
	r.front.Send(&pgproto3.Flush{})
	group("SELECT 2")
	if err := r.front.Flush(); err != nil { // one write
		return err
	}
	seen, err := r.until(limit, "C")
	t.o.Metrics.Duration("answer_ms", t.clk.Monotonic()-at)
	t.expect(err == nil && seen == "12TDC", "P B D E H P B D E in one write is answered by %q before the Sync: %v", seen, err)
	if err != nil {
		return nil
	}
	r.front.Send(&pgproto3.Sync{})
	if err := r.front.Flush(); err != nil {
		return err
	}
	seen, err = r.until(limit, "Z")
	t.expect(err == nil && seen == "12TDCZ", "and after the Sync by %q: %v", seen, err)
	// A second flush in the same pipeline, after a write.
	group("INSERT INTO kept VALUES (1)")
	r.front.Send(&pgproto3.Flush{})
	group("SELECT count(*) FROM kept")
	r.front.Send(&pgproto3.Flush{})
	if err := r.front.Flush(); err != nil {
		return err
	}
	seen, err = r.until(limit, "TDC")
	t.expect(err == nil, "a write, a Flush, a read and a Flush: %q, %v", seen, err)
	r.front.Send(&pgproto3.Sync{})
	if err := r.front.Flush(); err != nil {
		return err
	}
	if _, err := r.until(limit, "Z"); err != nil {
		t.expect(false, "the Sync after it: %v", err)
	}
	return nil
}

func statementNames(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	r, err := s.raw(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	total := t.size(101_000)
	const each = 1000
	for from := 0; from < total; from += each {
		for i := from; i < from+each; i++ {
			name := fmt.Sprintf("s%d", i)
			r.front.Send(&pgproto3.Parse{Name: name, Query: "SELECT 1"})
			r.front.Send(&pgproto3.Close{ObjectType: 'S', Name: name})
		}
		r.front.Send(&pgproto3.Sync{})
		if err := r.front.Flush(); err != nil {
			t.expect(false, "statement %d: %v", from, err)
			return nil
		}
		if _, err := r.until(statementLimit, "Z"); err != nil {
			t.expect(false, "a statement between %d and %d, all others closed: %v", from, from+each, err)
			return nil
		}
	}
	t.expect(true, "")
	return nil
}

func trappedCancel(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-grace", "2s")
	if err != nil {
		return err
	}
	const rows = 100
	if err := s.exec(ctx, "CREATE TABLE kept (id int)", "INSERT INTO kept SELECT generate_series(1, 100)"); err != nil {
		return err
	}
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	if err := execOn(ctx, c, "DO $$ BEGIN RAISE query_canceled; EXCEPTION WHEN query_canceled THEN NULL; END $$"); err != nil {
		return err
	}
	running := make(chan struct{})
	go func() {
		defer close(running)
		_, _ = c.Exec(context.WithoutCancel(ctx), `DO $$ BEGIN LOOP BEGIN PERFORM count(*) FROM generate_series(1, 3000000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$`)
	}()
	for range 2 { // as an impatient user does
		if err := t.clk.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if err := c.PgConn().CancelRequest(ctx); err != nil {
			return err
		}
	}
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		_ = s.exec(context.WithoutCancel(ctx), "SELECT 1") // waits for its turn
	}()
	if err := t.clk.Sleep(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	at := t.clk.Monotonic()
	ending, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	code, err := s.Stop(ending)
	took := t.clk.Monotonic() - at
	<-running
	<-waiting
	t.o.Metrics.Duration("end_ms", took)
	t.expect(err == nil && code == 0, "SIGTERM during a block that traps cancellation: code %d after %v, %v", code, took, err)
	if s, err = s.again(ctx); err != nil {
		return err
	}
	t.rows("after that end", rows, s.count(ctx, "kept"))
	return nil
}

var newestLayer = regexp.MustCompile(`newest base/\d+-(\d+)`)
