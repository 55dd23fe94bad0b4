package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/location"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// withStore opens the store for a command, and closes it.
func withStore(ctx context.Context, c *config, f func(st store.Store) error) (err error) {
	if c.bucket == "" {
		return errors.New("no database is named: give -bucket " + location.Forms)
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
		lost := errors.Is(err, store.ErrNotFound) && report.DatabaseID == ""
		switch {
		case c.json && lost:
			a, surveyErr := takeover.Survey(ctx, st)
			return verifyJSON(report, noManifest(c, surveyErr), adoptableOf(a, surveyErr), out)
		case c.json:
			return verifyJSON(report, err, nil, out)
		case lost:
			a, surveyErr := takeover.Survey(ctx, st)
			if surveyErr == nil {
				printAdoptable(out, a)
			}
			return noManifest(c, surveyErr)
		}
		if report.DatabaseID != "" { // else nothing could be read
			fmt.Fprintf(out, "database   %s\nlayers     %d, %d bytes stored; newest %s\n", report.DatabaseID, report.Layers, report.LayerBytes, report.Layer)
			if report.To < report.From {
				fmt.Fprintf(out, "records    none after record %d; epoch %d\n", report.To, report.Epoch)
			} else {
				fmt.Fprintf(out, "records    %d to %d are sound: %d fences, %d bytes; epoch %d\n", report.From, report.To, report.Fences, report.Bytes, report.Epoch)
			}
		}
		if report.Lease != nil {
			fmt.Fprintf(out, "lease      %v; the next writer replaces it\n", report.Lease)
		}
		if err != nil {
			return verdict(err)
		}
		fmt.Fprintln(out, "sound")
		return nil
	})
}

// verdict says what an error of a verification means: damage, or that the store did not allow reading everything.
func verdict(err error) error {
	if unread(err) {
		return fmt.Errorf("not everything could be read, so it is unknown whether the database is sound: %w", err)
	}
	return fmt.Errorf("not sound: %w", err)
}

// unread says whether an error of a verification names not damage, but what kept it from reading on: an interrupt, or the store.
func unread(err error) bool {
	for _, damage := range []error{store.ErrCorrupt, wal.ErrForeign, wal.ErrNewer, manifest.ErrNewer, lease.ErrNewer, takeover.ErrShutDown} {
		if errors.Is(err, damage) {
			return false
		}
	}
	for _, reason := range []error{
		context.Canceled, context.DeadlineExceeded, store.ErrUnavailable, store.ErrThrottled, store.ErrDenied, store.ErrUnknown,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// noManifest says what can be done about a prefix without a manifest, given the outcome of the search for something to adopt.
func noManifest(c *config, surveyed error) error {
	switch {
	case errors.Is(surveyed, store.ErrNotFound):
		return fmt.Errorf("no database in %s", c.bucket)
	case unread(surveyed):
		return fmt.Errorf("the manifest is lost, and not everything that is there could be read: %w", surveyed)
	case surveyed != nil:
		return fmt.Errorf("the manifest is lost, and what is there cannot be adopted as it is: %w", surveyed)
	}
	return errors.New("not sound: the manifest is lost. The database listed here can be adopted: run pgserve adopt")
}

func printAdoptable(out io.Writer, a takeover.Adoptable) {
	fmt.Fprintf(out, "database   %s, PostgreSQL %s\nlayer      %s: up to record %d, %d bytes, %d stored\n",
		a.DatabaseID, a.Postgres, a.Layer.Key, a.Layer.Seq, a.Layer.RawBytes, a.Layer.StoredBytes)
	if a.To > a.Layer.Seq {
		fmt.Fprintf(out, "records    %d to %d, epoch %d\n", a.Layer.Seq+1, a.To, a.Epoch)
	} else {
		fmt.Fprintln(out, "records    none after the layer")
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
		fmt.Fprintln(out, "adopted; states before this layer can no longer be restored")
		return nil
	})
}

// retain changes how far back earlier states are kept.
func retain(ctx context.Context, c *config, args []string, out io.Writer) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("retain %q is not a duration: write one such as 24h, or 0", args[0])
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

// collect becomes the writer, so that it disturbs no other one, and deletes what is no longer reachable.
func collect(ctx context.Context, c *config, _ []string, out io.Writer) error {
	return withStore(ctx, c, func(st store.Store) (err error) {
		writer := "pgserve-gc/" + store.NewWriteID()
		o, err := takeover.Open(ctx, takeover.Options{
			Store: st, Writer: writer, LeaseTTL: c.leaseTTL, AcquireTimeout: c.acquire,
			LeaseWaits: func(held *lease.LockedError, atMost time.Duration) {
				fmt.Fprintf(os.Stderr, "waiting for the lease, for at most %v: %v ...\n", atMost.Round(time.Second), held)
			},
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, o.Lease.Release(context.WithoutCancel(ctx))) }()
		stats, err := gc.Collect(ctx, gc.Options{Store: st, Epoch: o.Epoch, Writer: writer, Clock: clock.System()})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "deleted    %d records, %d layers, %d segments, %d parts\nlog        from record %d; %d fences before it stay\n",
			stats.Records, stats.Layers, stats.Segments, stats.Parts, stats.WalStart, stats.Fences)
		return nil
	})
}
