package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
)

// progressEvery is how often a restore or an opening reports its progress; a shorter one reports nothing.
const progressEvery = 2 * time.Second

// tellProgress reports the progress of a long read of a database: how many bytes it has read, and how many the newest layer has stored (0:
// unknown). It returns a function that ends that.
func tellProgress(ctx context.Context, st store.Store, read func() int64, clk clock.Clock, tell func(read, stored int64)) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		asked, stored := false, int64(0)
		for clk.Sleep(ctx, progressEvery) == nil {
			if !asked {
				asked = true
				if m, _, err := manifest.Load(ctx, st); err == nil && len(m.Layers) > 0 {
					stored = m.Layers[len(m.Layers)-1].StoredBytes
				}
			}
			tell(read(), stored)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// printRestore prints the progress of a restore for people.
func printRestore(out io.Writer) func(read, stored int64) {
	return func(read, stored int64) {
		of := ""
		if stored > 0 {
			of = fmt.Sprintf(" of about %d MB", stored/1e6)
		}
		fmt.Fprintf(out, "restoring: %d MB%s read\n", read/1e6, of)
	}
}

// tellOpening logs the progress of a long opening of the database. It returns a function that ends that.
func (s *service) tellOpening(ctx context.Context) (done func()) {
	if s.store == nil {
		return func() {}
	}
	began, before := s.clock.Monotonic(), s.store.Received()
	return tellProgress(ctx, s.store, s.store.Received, s.clock, func(read, stored int64) {
		s.c.log.Info("still opening the database", "seconds", int64((s.clock.Monotonic() - began).Seconds()), "read_mb", (read-before)/1e6, "layer_mb", stored/1e6)
	})
}
