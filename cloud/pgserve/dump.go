package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/core/pgwire"
	"blobpglite/core/store"
)

// dumpFlags are those of dump alone.
func (c *config) dumpFlags(f *flag.FlagSet) {
	c.atFlag(f)
	c.forceFlag(f)
	f.StringVar(&c.output, "o", toStdout, "file to write; it is there when it is whole. -: standard output. pg_dump's own flags come behind --: -Fc, --schema-only, -t table, ... (-- --help names them)")
}

// dump restores the database in memory, starts PostgreSQL on it, and lets pg_dump read it.
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

// dumpEngine runs pg_dump on an open database.
func dumpEngine(ctx context.Context, c *config, rt *pglite.Runtime, e *engine.Engine, args []string, w io.Writer) (err error) {
	server, err := pgwire.New(pgwire.Options{
		Source: opened{e}, Clock: clock.System(), Logger: c.log,
		// There is one client, and a file or a pipe behind it may be slow.
		IdleInTransaction: -1, StallTimeout: 24 * time.Hour,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Shutdown(ctx)) }()
	conn, err := server.Dial(ctx)
	if err != nil {
		return fmt.Errorf("connect pg_dump: %w", err)
	}
	err = rt.Dump(ctx, pglite.DumpOptions{Args: args, Conn: conn, Out: w, Log: func(line string) { fmt.Fprintln(os.Stderr, line) }})
	if refusal := (*pglite.DumpError)(nil); errors.As(err, &refusal) {
		return fmt.Errorf("pg_dump ended with exit code %d; see what it said above", refusal.Code)
	}
	return err
}

// opened is a source of one engine.
type opened struct{ engine *engine.Engine }

func (o opened) Engine(context.Context) (*engine.Engine, error) { return o.engine, nil }
