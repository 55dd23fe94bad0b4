package clients

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"blobpglite/runner/service"
)

// The npm packages of clients, pinned.
const (
	npmPG   = "pg@8.23.1"
	npmKnex = "knex@3.3.0"
)

// crashTrials do what a driver is for, and have the server killed while they insert.
func crashTrials() []Trial {
	const doc = "schema, rows, errors, concurrent transactions; then the server is killed while rows are inserted"
	return []Trial{
		{Name: "psql", Doc: doc, Crash: true, run: tryPSQL},
		{Name: "pgx", Doc: doc, Crash: true, run: tryPGX},
		{Name: "database_sql", Doc: doc, Crash: true, run: tryDatabaseSQL},
		{Name: "node_pg", Doc: doc, Crash: true, run: node("node_pg.mjs", npmPG)},
		{Name: "knex", Doc: doc + "; migrations", Crash: true, run: node("knex.mjs", npmPG, npmKnex)},
		{Name: "psycopg2", Doc: doc, Crash: true, run: python("py_psycopg2.py", "psycopg2", "python3-psycopg2")},
	}
}

// tryPSQL runs a script by psql, and inserts one row after the other until the server is gone.
func tryPSQL(ctx context.Context, e *Env) (Outcome, error) {
	if err := missing("psql", "Debian: postgresql-client"); err != nil {
		return Outcome{}, err
	}
	psql := func(sql string) (string, error) {
		cmd := exec.CommandContext(ctx, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", e.URL)
		service.OwnGroup(cmd)
		cmd.Stdin = strings.NewReader(sql)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, tail(string(out)))
		}
		return strings.TrimSpace(string(out)), err
	}
	got, err := psql(`CREATE TABLE ps (id int PRIMARY KEY, v text);
COPY ps FROM STDIN;
1	one
2	two
\.
BEGIN; INSERT INTO ps VALUES (3, 'three'); ROLLBACK;
\set ON_ERROR_STOP 0
INSERT INTO ps VALUES (1, 'again');
\echo :SQLSTATE
\set ON_ERROR_STOP 1
\d ps
PREPARE q(int) AS SELECT v FROM ps WHERE id = $1; EXECUTE q(2);
SELECT string_agg(id || v, ',' ORDER BY id) FROM ps;
CREATE TABLE acked_psql (id int PRIMARY KEY);`)
	if err != nil {
		return Outcome{}, err
	}
	for _, want := range []string{"23505", "ps_pkey", "\ntwo", "1one,2two"} {
		if !strings.Contains(got, want) {
			return Outcome{}, fmt.Errorf("no %q in its output: %s", want, got)
		}
	}
	var acked []int
	const rows = 20
	for i := range rows {
		if _, err := psql(fmt.Sprintf("INSERT INTO acked_psql VALUES (%d)", i)); err != nil {
			return Outcome{}, err
		}
		acked = append(acked, i)
	}
	if err := e.Crash(ctx); err != nil {
		return Outcome{}, err
	}
	text, err := psql("SELECT id FROM acked_psql")
	if err != nil {
		return Outcome{}, err
	}
	return compareAcked(acked, strings.Fields(text), rows)
}

// compareAcked compares what was acknowledged with what was found; numbers from sent on were never sent.
func compareAcked(acked []int, found []string, sent int) (Outcome, error) {
	there := map[int]bool{}
	s := Outcome{Acked: len(acked)}
	for _, text := range found {
		id, err := strconv.Atoi(text)
		if err != nil {
			return s, fmt.Errorf("a row %q", text)
		}
		there[id] = true
		if id >= sent {
			s.Invented++
		}
	}
	for _, id := range acked {
		if !there[id] {
			s.Lost++
		}
	}
	return s, nil
}
