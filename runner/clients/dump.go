package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The dumped data: static rows, which a dump must return unchanged, and two counters, which a writer advances together.
const dumped = `CREATE TABLE author (id serial PRIMARY KEY, name text NOT NULL UNIQUE, born date);
CREATE TABLE book (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author int REFERENCES author ON DELETE CASCADE, title text, price numeric(9,2) CHECK (price > 0), extra jsonb);
CREATE TABLE page (book bigint REFERENCES book, number int, body text, PRIMARY KEY (book, number)) PARTITION BY HASH (book);
CREATE TABLE page_0 PARTITION OF page FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE page_1 PARTITION OF page FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO author (name, born) SELECT 'author ' || g, '1900-01-01'::date + g FROM generate_series(1, 300) g;
INSERT INTO book (author, title, price, extra) SELECT 1 + g % 300, 'title ' || g, g % 90 + 0.5, jsonb_build_object('n', g) FROM generate_series(1, 3000) g;
INSERT INTO page SELECT 1 + g % 3000, g, repeat(md5(g::text), 8) FROM generate_series(1, 9000) g;
CREATE INDEX ON book (title);
CREATE VIEW priced AS SELECT name, sum(price) AS total FROM author JOIN book ON author = author.id GROUP BY name;
CREATE MATERIALIZED VIEW priced_once AS SELECT * FROM priced;
CREATE FUNCTION longest() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT max(title) FROM book); END $$;
CREATE TYPE mood AS ENUM ('glad', 'sad');
COMMENT ON TABLE author IS 'who writes';
SELECT lo_from_bytea(0, convert_to(repeat('large object ', 5000), 'UTF8'));
CREATE TABLE count_a (n int);
CREATE TABLE count_b (n int);
INSERT INTO count_a VALUES (0);
INSERT INTO count_b VALUES (0)`

// tryDump dumps a database with three processes while a writer runs, restores it with three, and compares.
func tryDump(ctx context.Context, e *Env) (Outcome, error) {
	dump, err := e.tool(ctx, "pg_dump", "Debian: postgresql-client", postgresMajor)
	if err != nil {
		return Outcome{}, err
	}
	restore, err := e.tool(ctx, "pg_restore", "Debian: postgresql-client", postgresMajor)
	if err != nil {
		return Outcome{}, err
	}
	if err := e.statements(ctx, "postgres", "CREATE DATABASE source", "CREATE DATABASE target"); err != nil {
		return Outcome{}, err
	}
	if err := e.statements(ctx, "source", strings.Split(dumped, ";\n")...); err != nil {
		return Outcome{}, err
	}
	folder := filepath.Join(e.Folder, "dump")
	if err := e.besideWriter(ctx, func() error {
		e.Progress("pg_dump -j3", 0, 0)
		_, err := e.do(ctx, dump, "-Fd", "-j3", "-f", folder, "source")
		return err
	}); err != nil {
		return Outcome{}, err
	}
	e.Progress("pg_restore -j3", 0, 0)
	if _, err := e.do(ctx, restore, "-j3", "--exit-on-error", "-d", "target", folder); err != nil {
		return Outcome{}, err
	}
	if err := e.oneIn(ctx, "target", "SELECT (a.n = b.n AND a.n > 0)::text FROM count_a a, count_b b", "true"); err != nil {
		return Outcome{}, fmt.Errorf("the dump is not of one moment: %w", err)
	}
	return Outcome{}, e.sameDumps(ctx, dump)
}

// besideWriter runs f while a writer moves two counters on, a transaction each time.
func (e *Env) besideWriter(ctx context.Context, f func() error) error {
	writing, stop := context.WithCancel(ctx)
	defer stop()
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		conn, err := pgx.Connect(ctx, e.database("postgres", "source"))
		for n := 0; err == nil && writing.Err() == nil; n++ {
			err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				_, errA := tx.Exec(ctx, "UPDATE count_a SET n = n + 1")
				_, errB := tx.Exec(ctx, "UPDATE count_b SET n = n + 1")
				return errors.Join(errA, errB)
			})
			if n == 0 {
				close(started)
			}
		}
		if conn != nil {
			err = errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("the writer: %w", err)
	case <-started:
	}
	err := f()
	stop()
	return errors.Join(err, <-ended)
}

// sameDumps compares pg_dump's output for the source and for the restored database, except the counters.
func (e *Env) sameDumps(ctx context.Context, dump string) error {
	var texts []string
	for _, name := range []string{"source", "target"} {
		file := filepath.Join(e.Folder, name+".sql")
		if _, err := e.do(ctx, dump, "--restrict-key=same", "-T", "count_*", "-f", file, name); err != nil {
			return err
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		texts = append(texts, string(b))
	}
	a, b := strings.Split(texts[0], "\n"), strings.Split(texts[1], "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Errorf("line %d of the restored database's dump is %.100q, and was %.100q", i+1, b[i], a[i])
		}
	}
	if len(a) != len(b) || len(a) < 1000 {
		return fmt.Errorf("the restored database's dump has %d lines, and had %d", len(b), len(a))
	}
	return nil
}

// statements runs statements in a database, one after the other.
func (e *Env) statements(ctx context.Context, database string, all ...string) error {
	conn, err := pgx.Connect(ctx, e.database("postgres", database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range all {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return nil
}
