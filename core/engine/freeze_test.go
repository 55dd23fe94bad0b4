package engine

import (
	"fmt"
	"strings"
	"testing"

	"blobpglite/core/store/mem"
)

// Ids of transactions are given away as they would be in years: each opening finds those of all databases old, the ones that
// nobody connects to included, and PostgreSQL goes on taking commands beyond 2^31 and 2^32.
func TestTransactionIDsRunRound(t *testing.T) {
	st := mem.New(mem.Options{})
	logged := func(o *Options) { o.Mode = ModeLog }
	e := open(t, st, logged)
	must(t, e, "CREATE TABLE kept (id int); INSERT INTO kept SELECT generate_series(1, 100)")
	must(t, e, "CREATE DATABASE other")
	const steps = 4 // of 1.5 thousand million each: behind the second they are more than 2^31, behind the third 2^32
	for step := range steps {
		<-e.turn
		e.in.SkipTransactions(1_500_000_000)
		e.give()
		must(t, e, fmt.Sprintf("INSERT INTO kept VALUES (%d)", 1000+step))
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		e = open(t, st, logged)
		if got := must(t, e, "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname <> 'postgres' AND age(datfrozenxid) > 200000000"); got != "\x00null" {
			t.Errorf("step %d: the transaction ids of %s are old", step, got)
		}
		must(t, e, "CREATE TABLE wakes (id int); DROP TABLE wakes")
		becomes(t, e, "SELECT max(age(datfrozenxid)) < 1000000 FROM pg_database", "t") // upkeep may come behind a layer
		if got, want := must(t, e, "SELECT count(*) FROM kept"), fmt.Sprint(101+step); got != want {
			t.Errorf("step %d: %s rows of %s", step, got, want)
		}
	}
	next := must(t, e, "SELECT pg_current_xact_id()::text")
	if len(next) < 10 || strings.Compare(next, "5900000000") < 0 {
		t.Errorf("only %s ids were given away", next)
	}
}

// becomes asks until the answer is as it is to be: what works on it takes turns with these statements.
func becomes(t *testing.T, e *Engine, sql, want string) {
	t.Helper()
	const most = 20000
	got := ""
	for range most {
		if got = must(t, e, sql); got == want {
			return
		}
	}
	t.Errorf("%s: %q after %d tries, want %q", sql, got, most, want)
}

// upkeepEnds waits for a round that has begun: its statements take turns with these.
func upkeepEnds(t *testing.T, e *Engine) {
	t.Helper()
	for e.commits.(*logMode).upkeep.running.Load() {
		must(t, e, "SELECT 1")
	}
}

// A client without rights, whose session has odd settings, keeps nobody from the host's own work, and its session is as it was.
func TestTheHostWorksUnderItsOwnIdentity(t *testing.T) {
	e := open(t, mem.New(mem.Options{}), func(o *Options) { o.Mode = ModeLog })
	must(t, e, `CREATE ROLE app LOGIN; CREATE SCHEMA app AUTHORIZATION app;
		CREATE TABLE public.mine (id int PRIMARY KEY, t text); INSERT INTO public.mine SELECT i, 'x' FROM generate_series(1, 1000) i;
		UPDATE public.mine SET t = 'y'`)
	must(t, e, `CREATE FUNCTION app.never(float8, float8) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'this is not for the host'; END $$;
		CREATE OPERATOR app.> (LEFTARG = float8, RIGHTARG = float8, FUNCTION = app.never);
		CREATE OPERATOR app.+ (LEFTARG = float8, RIGHTARG = float8, FUNCTION = app.never)`)
	must(t, e, "SET SESSION AUTHORIZATION app")
	must(t, e, `SET search_path = app, pg_catalog; SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1; SET default_transaction_read_only = on;
		SET client_min_messages = error; SET default_statistics_target = 1`)
	const state = `SELECT string_agg(name || '=' || setting || '/' || source, ' ' ORDER BY name) || ' ' || current_user || ' ' || session_user
		FROM pg_settings WHERE source = 'session' AND name NOT LIKE 'transaction_%'`
	before := must(t, e, state)
	m := e.commits.(*logMode)
	if err := m.maintain(t.Context()); err != nil {
		t.Errorf("maintenance: %v", err)
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Errorf("a layer: %v", err)
	}
	if after := must(t, e, state); after != before {
		t.Errorf("the client's session was\n%s\nand is\n%s", before, after)
	}
	must(t, e, "RESET SESSION AUTHORIZATION; RESET ALL")
	if got := must(t, e, "SELECT last_vacuum IS NOT NULL AND last_analyze IS NOT NULL FROM pg_stat_all_tables WHERE relname = 'mine'"); got != "t" {
		t.Error("the table was not vacuumed and analyzed")
	}
}

// Where autovacuum is off, for the server or for a table, nothing is vacuumed or analyzed but what has grown old.
func TestAutovacuumOff(t *testing.T) {
	for _, off := range []bool{false, true} {
		e := open(t, mem.New(mem.Options{}), func(o *Options) {
			if o.Mode = ModeLog; off {
				o.Settings = map[string]string{"autovacuum": "off"}
			}
		})
		must(t, e, `CREATE TABLE plain (id int); CREATE TABLE refusing (id int) WITH (autovacuum_enabled = off);
			INSERT INTO plain SELECT generate_series(1, 1000); INSERT INTO refusing SELECT generate_series(1, 1000)`)
		if err := e.commits.(*logMode).maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		const done = `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL`
		want := map[bool]string{false: "plain", true: "\x00null"}[off]
		if got := must(t, e, done); got != want {
			t.Errorf("with autovacuum off %v, %q were analyzed, want %q", off, got, want)
		}
	}
}

// The catalogs are worked on like any table: many objects that come and go leave them small.
func TestCatalogsStaySmall(t *testing.T) {
	e := open(t, mem.New(mem.Options{}), func(o *Options) { o.Mode, o.Durability = ModeLog, Sleep })
	const size = "SELECT sum(pg_total_relation_size(oid))::bigint / 1048576 FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'"
	before := must(t, e, size)
	for range 12 {
		var sql strings.Builder
		for i := range 150 {
			fmt.Fprintf(&sql, "CREATE TABLE passing%d (id int PRIMARY KEY, a text, b text, c text); DROP TABLE passing%d;", i, i)
		}
		must(t, e, sql.String())
		upkeepEnds(t, e) // before more is made
	}
	after := must(t, e, size)
	t.Logf("%s MB before, %s after 1,800 tables", before, after)
	var mb int
	if _, err := fmt.Sscan(after, &mb); err != nil || mb > 14 {
		t.Errorf("the catalogs have grown from %s to %s MB", before, after)
	}
}
