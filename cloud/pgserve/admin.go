package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/location"
	"blobpglite/core/takeover"
)

// withStore opens the store for a command, and closes it.
func withStore(ctx context.Context, c *config, f func(st store.Store) error) (err error) {
	if c.bucket == "" {
		return errors.New("there is nothing to look at: give -bucket " + location.Forms)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	st, err := c.open(ctx)
	if err != nil {
		return err
	}
	return f(st)
}

// verify checks everything.
func verify(ctx context.Context, c *config, _ []string, out io.Writer) error {
	return withStore(ctx, c, func(st store.Store) error {
		last := ""
		report, err := takeover.VerifyWith(ctx, st, takeover.VerifyOptions{Deep: true, Progress: func(step string, done, total int64) {
			if step != last {
				last = step
				fmt.Fprintln(os.Stderr, step, "...")
			}
		}})
		if errors.Is(err, store.ErrNotFound) && report.DatabaseID == "" {
			return noManifest(ctx, c, st, out)
		}
		fmt.Fprintf(out, "database   %s\nlayers     %d, %d bytes stored; newest %s\nrecords    %d to %d are sound: %d fences, %d bytes; epoch %d\n",
			report.DatabaseID, report.Layers, report.LayerBytes, report.Layer, report.From, report.To, report.Fences, report.Bytes, report.Epoch)
		if report.Lease != nil {
			fmt.Fprintf(out, "lease      %v; the next writer replaces it\n", report.Lease)
		}
		if err != nil {
			return fmt.Errorf("not sound: %w", err)
		}
		fmt.Fprintln(out, "sound")
		return nil
	})
}

// noManifest says what could be done about a prefix without a manifest.
func noManifest(ctx context.Context, c *config, st store.Store, out io.Writer) error {
	a, err := takeover.Survey(ctx, st)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("no database in %s", c.bucket)
	case err != nil:
		return fmt.Errorf("the manifest is lost, and what is there cannot be adopted as it is: %w", err)
	}
	printAdoptable(out, a)
	return errors.New("not sound: the manifest is lost. What is listed here can be adopted: pgserve adopt")
}

func printAdoptable(out io.Writer, a takeover.Adoptable) {
	fmt.Fprintf(out, "database   %s, PostgreSQL %s\nlayer      %s: up to record %d, %d bytes, %d stored\n",
		a.DatabaseID, a.Postgres, a.Layer.Key, a.Layer.Seq, a.Layer.RawBytes, a.Layer.StoredBytes)
	if a.To > a.Layer.Seq {
		fmt.Fprintf(out, "records    %d to %d, epoch %d\n", a.Layer.Seq+1, a.To, a.Epoch)
	} else {
		fmt.Fprintln(out, "records    none behind the layer")
	}
}

// adopt makes the manifest of a database that has lost it.
func adopt(ctx context.Context, c *config, _ []string, out io.Writer) error {
	return withStore(ctx, c, func(st store.Store) error {
		a, err := takeover.Adopt(ctx, takeover.AdoptOptions{
			Store: st, Writer: "pgserve-adopt/" + store.NewWriteID(), LeaseTTL: c.leaseTTL, AcquireTimeout: c.acquire, Retain: c.retain,
		})
		if errors.Is(err, store.ErrNotFound) && a.DatabaseID == "" {
			return fmt.Errorf("nothing to adopt in %s: %w", c.bucket, err)
		}
		if err != nil {
			return err
		}
		printAdoptable(out, a)
		fmt.Fprintln(out, "adopted; states before the layer can not be restored any more")
		return nil
	})
}

// printUse tells what is stored for the layers, which share it, and how much of that the newest one uses.
func printUse(ctx context.Context, st store.Store, m manifest.Manifest, out io.Writer) {
	segments := map[string]bool{}
	var newest base.Use
	for _, l := range m.Layers {
		layer, err := base.ReadIndex(ctx, st, l.Key)
		if err != nil { // it may have been replaced since
			fmt.Fprintf(out, "segments   not known: %v\n", err)
			return
		}
		for _, key := range layer.Objects() {
			segments[key] = true
		}
		newest = layer.Use()
	}
	if newest.Chunks > 0 {
		fmt.Fprintf(out, "segments   %d for all layers; the newest needs %d, and uses %.0f %% of what they hold\n",
			len(segments), newest.Segments, 100*float64(newest.LiveChunks)/float64(newest.Chunks))
	}
}

// status tells what is there, by reading manifest, lease and the layers' indexes.
func status(ctx context.Context, c *config, _ []string, out io.Writer) error {
	return withStore(ctx, c, func(st store.Store) error {
		m, _, err := manifest.Load(ctx, st)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("no database in %s, or one that has lost its manifest: pgserve verify looks", c.bucket)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "database   %s, PostgreSQL %s\nmanifest   epoch %d by %s, log from record %d\n", m.DatabaseID, m.Postgres, m.Epoch, m.Writer, m.WalStart)
		fmt.Fprintf(out, "kept       %s\n", keptText(m))
		for _, l := range m.Layers {
			fmt.Fprintf(out, "layer      %s: up to record %d, %d bytes, %d stored\n", l.Key, l.Seq, l.RawBytes, l.StoredBytes)
		}
		printUse(ctx, st, m, out)
		fmt.Fprintln(out, "not kept   rows of unlogged and temporary tables: they end with the process that has the database open")
		o, err := st.Get(ctx, lease.Key)
		if errors.Is(err, store.ErrNotFound) {
			fmt.Fprintln(out, "lease      never taken")
			return nil
		}
		if err != nil {
			return err
		}
		s, err := lease.Decode(o.Body)
		switch {
		case errors.Is(err, lease.ErrCorrupt):
			fmt.Fprintf(out, "lease      free: %v; the next writer replaces it\n", err)
		case err != nil:
			return err
		case s.Holder == "":
			fmt.Fprintln(out, "lease      free")
		case clock.System().Now().Before(s.Expires):
			fmt.Fprintf(out, "lease      held by %s (%s) until %s\n", s.Holder, s.Address, s.Expires.Format(time.RFC3339))
		default:
			fmt.Fprintf(out, "lease      run out at %s, last held by %s\n", s.Expires.Format(time.RFC3339), s.Holder)
		}
		return nil
	})
}

// keptText says how far back earlier states are kept.
func keptText(m manifest.Manifest) string {
	switch d, said := m.Retain(); {
	case said && d > 0:
		return "earlier states of the last " + d.String()
	case said:
		return "the present only"
	}
	return "the present only; nothing was said of earlier states yet"
}

// retain says how far back earlier states are kept.
func retain(ctx context.Context, c *config, args []string, out io.Writer) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("retain %q: write a time such as 24h, or 0", args[0])
	}
	return withStore(ctx, c, func(st store.Store) error {
		m, err := manifest.SetRetain(ctx, st, d, clock.System())
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "kept       %s\n", keptText(m))
		return nil
	})
}

// collect becomes the writer, so that no other one is disturbed, and deletes what nothing reaches.
func collect(ctx context.Context, c *config, _ []string, out io.Writer) error {
	return withStore(ctx, c, func(st store.Store) (err error) {
		writer := "pgserve-gc/" + store.NewWriteID()
		o, err := takeover.Open(ctx, takeover.Options{Store: st, Writer: writer, LeaseTTL: c.leaseTTL, AcquireTimeout: c.acquire})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, o.Lease.Release(context.WithoutCancel(ctx))) }()
		stats, err := gc.Collect(ctx, gc.Options{Store: st, Epoch: o.Epoch, Writer: writer, Clock: clock.System()})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%+v\n", stats)
		return nil
	})
}
