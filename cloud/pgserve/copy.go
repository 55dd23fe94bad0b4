package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/location"
)

// The commands below copy a database out of its prefix. A writer may run at the same time: they take no lease, fence no writer, and write
// nothing to the prefix they read.

// atFlag lets a command read an earlier state.
func (c *config) atFlag(f *flag.FlagSet) {
	f.StringVar(&c.atState, "at", "", "an earlier state, if it is still kept: a record's number, or a time such as 2026-01-31T15:04:05Z. Default: what is durable now")
}

// restoreFlags adds the flags of restore-to.
func (c *config) restoreFlags(f *flag.FlagSet) {
	c.atFlag(f)
	c.forceFlag(f)
}

// state is the one named by -at.
func (c *config) state() (engine.RecoveryTarget, error) {
	if c.atState == "" {
		return engine.Latest(), nil
	}
	if seq, err := strconv.ParseUint(c.atState, 10, 64); err == nil && seq > 0 {
		return engine.RecoveryTarget{Seq: seq}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, c.atState)
	if err != nil {
		return engine.RecoveryTarget{}, fmt.Errorf("-at %q is neither a record's number nor a time such as 2026-01-31T15:04:05Z", c.atState)
	}
	return engine.RecoveryTarget{Time: t}, nil
}

// withFiles restores the database's files.
func withFiles(ctx context.Context, c *config, f func(engine.Restored) error) error {
	at, err := c.state()
	if err != nil {
		return err
	}
	return withStore(ctx, c, func(st store.Store) error {
		read := store.Count(st)
		done := tellProgress(ctx, read, func() int64 { return read.Ops().BytesDown }, clock.System(), printRestore(os.Stderr))
		r, err := engine.Restore(ctx, read, at, clock.System())
		done()
		if err != nil {
			return err
		}
		return f(r)
	})
}

// restoreTo writes the data directory as a tar archive.
func restoreTo(ctx context.Context, c *config, args []string, out io.Writer) error {
	if _, err := mayWrite(args[0], c.force); err != nil {
		return fmt.Errorf("write the data directory: %w", err)
	}
	return withFiles(ctx, c, func(r engine.Restored) error {
		err := writeFile(args[0], out, c.force, func(w io.Writer) error { return pglite.WriteTar(w, r.Files, "") })
		if err != nil {
			return fmt.Errorf("write the data directory: %w", err)
		}
		if args[0] != toStdout {
			fmt.Fprintf(out, "%s: database %s as of record %d, PostgreSQL %s\n", args[0], r.Manifest.DatabaseID, r.Seq, r.Manifest.Postgres)
		}
		return nil
	})
}

// copiesTold is the number of copied objects per line of progress.
const copiesTold = 200

// branch copies the database to an empty prefix.
func branch(ctx context.Context, c *config, args []string, out io.Writer) error {
	at, err := location.Parse(args[0])
	if err != nil {
		return fmt.Errorf("branch to %w", err)
	}
	if c.at.Overlaps(at) {
		return fmt.Errorf("branch to %s: it and the source, %s, contain one another, and a database's prefix belongs to it alone: choose another prefix or folder", args[0], c.bucket)
	}
	state, err := c.state()
	if err != nil {
		return err
	}
	return withStore(ctx, c, func(st store.Store) error {
		to, err := c.openAt(ctx, at, true)
		if err != nil {
			return err
		}
		b, err := engine.Branch(ctx, to, st, engine.BranchOptions{At: state, Writer: "pgserve-branch/" + store.NewWriteID(), Progress: func(done, total int) {
			if done%copiesTold == 0 {
				fmt.Fprintf(os.Stderr, "copying: %d of %d objects\n", done, total)
			}
		}})
		if err != nil {
			return fmt.Errorf("branch to %s: %w", args[0], err)
		}
		fmt.Fprintf(out, "%s: database %s, a copy of %s as of record %d\n", args[0], b.ID, b.From.DatabaseID, b.Seq)
		return nil
	})
}
