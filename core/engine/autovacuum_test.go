package engine

import (
	"fmt"
	"strings"
	"testing"

	"blobpglite/core/store/mem"
)

// Transaction ids are used up as they would be over years: PostgreSQL's own autovacuum freezes all databases, including those without
// clients, and PostgreSQL keeps taking commands beyond 2^31 and 2^32, across takeovers.
func TestTransactionIDsRunRound(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	often := settings("autovacuum_naptime", "1s")
	e := open(t, st, inLog, often)
	must(t, e, "CREATE TABLE kept (id int); INSERT INTO kept SELECT generate_series(1, 100)")
	must(t, e, "CREATE DATABASE other")
	const steps = 4 // of 1.5 billion each: after the second they are more than 2^31, after the third 2^32
	for step := range steps {
		e.server.cluster.SkipTransactions(1_500_000_000)
		must(t, e, fmt.Sprintf("INSERT INTO kept VALUES (%d)", 1000+step))
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		e = open(t, st, inLog, often)
		becomes(t, e, "SELECT count(*) FROM pg_database WHERE age(datfrozenxid) > 200000000", "0")
		if got, want := must(t, e, "SELECT count(*) FROM kept"), fmt.Sprint(101+step); got != want {
			t.Errorf("step %d: %s rows of %s", step, got, want)
		}
	}
	next := must(t, e, "SELECT pg_current_xact_id()::text")
	if len(next) < 10 || strings.Compare(next, "5900000000") < 0 {
		t.Errorf("only %s ids were given away", next)
	}
}

// Autovacuum cleans up after clients, in the catalogs too, and is off where it is set to off.
func TestAutovacuum(t *testing.T) {
	t.Parallel()
	const done = "SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'plain' AND last_autoanalyze IS NOT NULL AND last_autovacuum IS NOT NULL"
	e := open(t, mem.New(mem.Options{}), inLog, settings("autovacuum_naptime", "1s"), func(o *Options) { o.Durability = Sleep })
	must(t, e, `CREATE TABLE plain (id int); CREATE TABLE refusing (id int) WITH (autovacuum_enabled = off);
		INSERT INTO plain SELECT generate_series(1, 1000); INSERT INTO refusing SELECT generate_series(1, 1000)`)
	must(t, e, "UPDATE plain SET id = id + 1; UPDATE refusing SET id = id + 1")
	becomes(t, e, done, "1")
	if got := must(t, e, "SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'refusing' AND coalesce(last_autoanalyze, last_autovacuum) IS NOT NULL"); got != "0" {
		t.Error("a table that refuses was worked on")
	}
	off := open(t, mem.New(mem.Options{}), inLog, settings("autovacuum_naptime", "1s", "autovacuum", "off"))
	if n := off.Stats().Cluster.Processes["autovacuum launcher"]; n != 0 {
		t.Errorf("autovacuum is off, and %d launchers run", n)
	}
}
