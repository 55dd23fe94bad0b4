package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// TestLargeTransactionsAreShippedInParts: while a transaction runs its log is appended, batch by batch, and who writes faster than
// the bucket takes it waits: what is held in memory is bounded.
func TestLargeTransactionsAreShippedInParts(t *testing.T) {
	const piece, pieces = 1 << 20, 200
	var largest, taken atomic.Int64
	gate := make(chan struct{})
	w := newLogWriter(clock.System(), wal.Position{}, func(_ context.Context, ops []wal.Op) (wal.Position, error) {
		<-gate
		n := int64(0)
		for _, op := range ops {
			n += int64(len(op.Data))
		}
		largest.Store(max(largest.Load(), n))
		return wal.Position{Seq: uint64(taken.Add(n))}, nil
	})
	shipped := make(chan struct{})
	go func() { defer close(shipped); w.ship(t.Context(), func(error) {}) }()
	var sent atomic.Int64
	w.add(wal.Op{Kind: wal.OpWrite, Data: make([]byte, batchBytes)}, false)
	sent.Add(batchBytes)
	gate <- struct{}{} // it ships
	added := make(chan struct{})
	go func() {
		defer close(added)
		for range pieces {
			w.add(wal.Op{Kind: wal.OpWrite, Data: make([]byte, piece)}, false)
			sent.Add(piece)
		}
	}()
	for over := false; !over; {
		select {
		case gate <- struct{}{}: // an append may end: what is ahead of it then is bounded
			if ahead := sent.Load() - taken.Load(); ahead > pendingBytes+piece+batchBytes {
				t.Fatalf("%d bytes are ahead of the bucket", ahead)
			}
		case <-added:
			over = true
		}
	}
	close(gate)
	if err := w.wait(t.Context(), w.mark()); err != nil {
		t.Fatal(err)
	}
	w.close()
	<-shipped
	if taken.Load() != pieces*piece+batchBytes || largest.Load() > batchBytes+piece {
		t.Errorf("%d bytes in records of up to %d", taken.Load(), largest.Load())
	}
}

// TestCrashInALargeTransaction: half of a transaction is in the bucket when the process dies, behind a layer that was taken
// while it was open or not; nothing of it is there afterwards, and all of one that was committed is.
func TestCrashInALargeTransaction(t *testing.T) {
	const insert = "INSERT INTO t SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 20000) g"
	for _, layer := range []bool{false, true} {
		st := mem.New(mem.Options{})
		e := open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
		must(t, e, "CREATE TABLE t (a int, b text)")
		before := e.LogStats()
		must(t, e, "BEGIN")
		must(t, e, insert)
		if layer {
			if err := e.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		must(t, e, insert)
		if n := e.LogStats().Records - before.Records; n < 4 {
			t.Errorf("%d records of a transaction that is open yet", n)
		}
		e.Abandon()
		e = open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
		if got := must(t, e, "SELECT count(*) FROM t"); got != "0" {
			t.Errorf("layer %v: %s rows of a transaction that was not committed", layer, got)
		}
		must(t, e, "BEGIN")
		must(t, e, insert)
		if layer {
			if err := e.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		must(t, e, insert)
		must(t, e, "COMMIT")
		e.Abandon()
		e = open(t, st, inLog, func(o *Options) { o.AcquireTimeout = 10 * time.Second })
		if got := must(t, e, "SELECT count(*) FROM t"); got != "40000" {
			t.Errorf("layer %v: %s rows of a transaction that was committed", layer, got)
		}
		if _, err := takeover.Verify(t.Context(), st); err != nil {
			t.Errorf("layer %v: the log: %v", layer, err)
		}
		e.Abandon()
	}
}
