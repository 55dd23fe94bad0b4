package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
)

// dumpFlags adds the flags of dump alone.
func (c *config) dumpFlags(f *flag.FlagSet) {
	c.atFlag(f)
	c.forceFlag(f)
	f.StringVar(&c.database, "db", "", "the database to dump; default: all of them, as SQL")
	f.StringVar(&c.output, "o", toStdout, "file to write; it appears once it is complete. -: standard output. pg_dump's own flags follow --: -Fc, --schema-only, -t table, ... (-- --help lists them)")
}

// dump restores the database in memory, starts PostgreSQL on it, and has pg_dump read it.
func dump(ctx context.Context, c *config, args []string, out io.Writer) error {
	at, err := c.state()
	if err != nil {
		return err
	}
	if _, err := mayWrite(c.output, c.force); err != nil {
		return fmt.Errorf("write the dump: %w", err)
	}
	return withStore(ctx, c, func(st store.Store) (err error) {
		rt, err := pglite.NewRuntime(ctx, pglite.Options{Extensions: c.extensions})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rt.Close()) }()
		e, err := engine.OpenAt(ctx, engine.Options{Runtime: rt, Store: st, MemoryLimit: c.memory, Clock: clock.System(), Logger: c.log}, at)
		if err != nil {
			return err
		}
		defer e.Abandon()
		return writeFile(c.output, out, c.force, func(w io.Writer) error { return dumpEngine(ctx, c, rt, e, args, w) })
	})
}

// dumpEngine runs pg_dump on one database, or on all: in that case the SQL of each, one after the other, also creates it.
func dumpEngine(ctx context.Context, c *config, rt *pglite.Runtime, e *engine.Engine, args []string, w io.Writer) (err error) {
	super, databases, err := surveyDatabases(ctx, e)
	if err != nil {
		return err
	}
	switch {
	case c.database != "":
		databases = []string{c.database}
	case len(databases) > 1 && !isPlain(args):
		return fmt.Errorf("there are %d databases, and only an SQL dump can hold more than one: choose one with -db: %s", len(databases), strings.Join(databases, ", "))
	}
	for i, database := range databases {
		own := []string{"-U", super, "-d", "dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(database) + "'"}
		if i > 0 {
			own = append(own, "--create") // this also makes psql connect to it
		}
		if err := dumpOne(ctx, rt, e, append(own, args...), w); err != nil {
			return fmt.Errorf("dump database %s: %w", database, err)
		}
	}
	return nil
}

// dumpOne runs pg_dump once.
func dumpOne(ctx context.Context, rt *pglite.Runtime, e *engine.Engine, args []string, w io.Writer) error {
	conn, err := e.Dial(ctx, pglite.ConnectOptions{Trusted: true})
	if err != nil {
		return fmt.Errorf("connect pg_dump: %w", err)
	}
	err = rt.Dump(ctx, pglite.DumpOptions{Args: args, Conn: conn, Out: w, Log: func(line string) { fmt.Fprintln(os.Stderr, line) }})
	if refusal := (*pglite.DumpError)(nil); errors.As(err, &refusal) {
		return fmt.Errorf("pg_dump failed with exit code %d; its messages are above", refusal.Code)
	}
	return err
}

// surveyDatabases returns the name of the first superuser and those of all databases, postgres first.
func surveyDatabases(ctx context.Context, e *engine.Engine) (super string, names []string, err error) {
	r, err := e.Query(ctx, `SELECT pg_catalog.pg_get_userbyid(10);
		SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname <> 'postgres', datname`)
	if err != nil {
		return "", nil, fmt.Errorf("list the databases: %w", err)
	}
	for _, row := range r[1].Rows {
		names = append(names, row[0])
	}
	return r[0].Rows[0][0], names, nil
}

// isPlain says whether the arguments make pg_dump write SQL.
func isPlain(args []string) bool {
	for i, arg := range args {
		format, is := strings.CutPrefix(arg, "--format")
		if !is {
			format, is = strings.CutPrefix(arg, "-F")
		}
		if is && format == "" && i+1 < len(args) {
			format = args[i+1]
		}
		if is && !strings.HasPrefix(strings.TrimPrefix(format, "="), "p") {
			return false
		}
	}
	return true
}
