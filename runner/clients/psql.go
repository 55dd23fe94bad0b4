package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func psqlTrials() []Trial {
	return []Trial{
		{Name: "psql_session", Doc: `psql's \c, \watch, \gdesc, \gexec, \copy, large objects, cancel`, run: tryPSQLSession},
		{Name: "psql_password", Doc: `psql's \password, and logging in with the new password`, Password: true, run: tryPSQLPassword},
	}
}

// A session on two databases. Its output must contain psqlWants, in this order.
const psqlSession = `CREATE DATABASE second;
CREATE TABLE first (id serial PRIMARY KEY, v text);
CREATE TEMP TABLE mine (i int);
\c
SELECT 'temporary: ' || coalesce(to_regclass('pg_temp.mine')::text, 'gone');
\c second
SELECT 'database: ' || current_database() || ', ' || coalesce(to_regclass('first')::text, 'no table');
CREATE TABLE other (i int);
\c postgres
SELECT 'database: ' || current_database() || ', ' || coalesce(to_regclass('first')::text, 'no table');
SELECT 1 AS one, 'x'::varchar(7) AS "the text", NULL::numeric(8,3)[] AS many, now() AS at \gdesc
CREATE SEQUENCE turns;
\set ON_ERROR_STOP 0
SELECT 'turn ' || nextval('turns'), 1 / (3 - currval('turns')) \watch 0.05
\set ON_ERROR_STOP 1
SELECT 'watched ' || last_value FROM turns;
SELECT format('CREATE TABLE made_%s (i int)', g) FROM generate_series(1, 3) g \gexec
SELECT 'made ' || count(*) FROM pg_tables WHERE tablename LIKE 'made%';
SELECT 42 AS answer, 'kept' AS word \gset
\echo variables :answer :word
COPY first (v) FROM STDIN;
copied one
copied\ttwo
\.
\copy first (v) FROM 'rows.csv' CSV
\copy (SELECT v FROM first ORDER BY id) TO 'out.csv' CSV
COPY (SELECT 'to standard output') TO STDOUT;
\lo_import large.bin 'a large object'
\lo_list
\lo_export :LASTOID back.bin
SELECT 'large ' || length(lo_get(:LASTOID));
\lo_unlink :LASTOID
SELECT 'large objects ' || count(*) FROM pg_largeobject_metadata;
\t off
\d first
\t on
BEGIN;
\set ON_ERROR_STOP 0
SELECT 1 / 0;
\set ON_ERROR_STOP 1
\echo in a failed transaction :ERROR
ROLLBACK;
\set FETCH_COUNT 10
SELECT 'row ' || g FROM generate_series(1, 25) g;
\unset FETCH_COUNT
\l
\echo the end
`

// psqlWants are texts that the session prints, one after the other.
var psqlWants = []string{
	"temporary: gone", "database: second, no table", "database: postgres, first", `the text\|character varying\(7\)`, `many\|numeric\(8,3\)\[\]`,
	"turn 1", "turn 2", "division by zero", "watched 3", "made 3", "variables 42 kept", "to standard output", "a large object", "large 300000",
	"large objects 0", "first_pkey", "division by zero", "in a failed transaction true", "row 1\n", "row 25\n", `\nsecond\|`, "the end",
}

func tryPSQLSession(ctx context.Context, e *Env) (Outcome, error) {
	path, err := e.tool(ctx, "psql", "Debian: postgresql-client", 0)
	if err != nil {
		return Outcome{}, err
	}
	large := bytes.Repeat([]byte("0123456789\x00\xff\\\n\r"), 20000)
	for name, body := range map[string][]byte{"session.sql": []byte(psqlSession), "rows.csv": []byte("by file\n\"quoted, \"\"so\"\"\"\n"), "large.bin": large} {
		if err := os.WriteFile(filepath.Join(e.Folder, name), body, 0o600); err != nil {
			return Outcome{}, err
		}
	}
	cmd := e.command(ctx, path, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "session.sql")
	cmd.Dir = e.Folder
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Outcome{}, fmt.Errorf("psql: %w: %s", err, tail(string(out)))
	}
	rest := string(out)
	for _, want := range psqlWants {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			return Outcome{}, fmt.Errorf("psql printed no %q after what came before it: %s", want, tail(string(out)))
		}
		rest = rest[at[1]:]
	}
	if got, err := os.ReadFile(filepath.Join(e.Folder, "out.csv")); err != nil || string(got) != "copied one\ncopied\ttwo\nby file\n\"quoted, \"\"so\"\"\"\n" {
		return Outcome{}, errors.Join(fmt.Errorf("\\copy TO wrote %q", got), err)
	}
	if got, err := os.ReadFile(filepath.Join(e.Folder, "back.bin")); err != nil || !bytes.Equal(got, large) {
		return Outcome{}, errors.Join(fmt.Errorf("a large object came back with %d bytes of %d, or others", len(got), len(large)), err)
	}
	return Outcome{}, e.canceled(ctx, path, e.URL)
}

// tryPSQLPassword sets a role's password and logs in with it.
func tryPSQLPassword(ctx context.Context, e *Env) (Outcome, error) {
	path, err := e.tool(ctx, "psql", "Debian: postgresql-client", 0)
	if err != nil {
		return Outcome{}, err
	}
	script := filepath.Join(e.Folder, "password.sql")
	if err := os.WriteFile(script, []byte("CREATE ROLE app LOGIN;\n\\password app\n"), 0o600); err != nil {
		return Outcome{}, err
	}
	// Without a terminal psql reads the new password from its input, twice.
	cmd := e.command(ctx, path, "-X", "-v", "ON_ERROR_STOP=1", "-f", script)
	cmd.Stdin = strings.NewReader("of the app\nof the app\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Outcome{}, fmt.Errorf("psql: %w: %s", err, tail(string(out)))
	}
	for _, c := range []struct{ user, password, want string }{
		{"app", "of the app", "I am app"}, {"app", e.Password, "password authentication failed"}, {"app", "", "password"},
		{"postgres", "of the app", "password authentication failed"}, {"postgres", e.Password, "I am postgres"},
	} {
		cmd := e.command(ctx, path, "-X", "-w", "-A", "-t", "-U", c.user, "-c", "SELECT 'I am ' || current_user")
		cmd.Env = append(cmd.Env, "PGPASSWORD="+c.password)
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), c.want) {
			return Outcome{}, fmt.Errorf("%s with the password %q: %s, want %q", c.user, c.password, tail(string(out)), c.want)
		}
	}
	return Outcome{}, nil
}
