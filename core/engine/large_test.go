package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// TestLargeTransactionsAreShippedInParts: while a transaction runs, its log is appended batch by batch, and a client that writes faster
// than the bucket takes it waits: memory use is bounded.
func TestLargeTransactionsAreShippedInParts(t *testing.T) {
	t.Parallel()
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
		case gate <- struct{}{}: // an append may end: the rest ahead of it is bounded then
			if ahead := sent.Load() - taken.Load(); ahead > mostBytes+piece+batchBytes {
				t.Fatalf("%d bytes are ahead of the bucket", ahead)
			}
		case <-added:
			over = true
		}
	}
	close(gate)
	if err := w.wait(t.Context(), w.lastAwaited()); err != nil {
		t.Fatal(err)
	}
	w.close()
	<-shipped
	if taken.Load() != pieces*piece+batchBytes || largest.Load() > batchBytes+piece {
		t.Errorf("%d bytes in records of up to %d", taken.Load(), largest.Load())
	}
}

// TestCrashInALargeTransaction: half of a transaction is in the bucket when the process dies, with or without a layer taken while it was
// open; nothing of it is there afterwards, and a committed one is there completely.
func TestCrashInALargeTransaction(t *testing.T) {
	t.Parallel()
	const insert = "INSERT INTO t SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, %d) g"
	some, most := fmt.Sprintf(insert, 5000), fmt.Sprintf(insert, 15000) // of some all the log is in the files yet
	for _, layer := range []bool{false, true} {
		st := mem.New(mem.Options{})
		e := open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
		must(t, e, "CREATE TABLE t (a int, b text)")
		before := e.LogStats()
		must(t, e, "BEGIN")
		must(t, e, some)
		if layer {
			if err := e.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		must(t, e, most)
		for e.LogStats().Records-before.Records < 2 { // of a transaction that is still open; the test's own time limit is the failure
			if err := clock.System().Sleep(t.Context(), time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		e.Abandon()
		e = open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
		if got := must(t, e, "SELECT count(*) FROM t"); got != "0" {
			t.Errorf("layer %v: %s rows of a transaction that was not committed", layer, got)
		}
		must(t, e, "BEGIN")
		must(t, e, some)
		if layer {
			if err := e.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		must(t, e, most)
		must(t, e, "COMMIT")
		e.Abandon()
		e = open(t, st, inLog, func(o *Options) { o.AcquireTimeout = 10 * time.Second })
		if got := must(t, e, "SELECT count(*) FROM t"); got != "20000" {
			t.Errorf("layer %v: %s rows of a transaction that was committed", layer, got)
		}
		if _, err := takeover.Verify(t.Context(), st); err != nil {
			t.Errorf("layer %v: the log: %v", layer, err)
		}
		e.Abandon()
	}
}

// TestOldLogLeavesMemory: PostgreSQL's own checkpoints make the log of a large transaction superfluous while it runs. A layer that is taken
// within it, together with the log after the layer, holds it completely; so does the log where there is no layer.
func TestOldLogLeavesMemory(t *testing.T) {
	t.Parallel()
	const rows, insert = 45000, "INSERT INTO t SELECT g, repeat(md5(g::text), 50) FROM generate_series(%d, %d) g"
	const digest = "SELECT count(*) || md5(string_agg(a || b, ',' ORDER BY a)) FROM t"
	const most = 4 * checkpointBytes // written when one is requested, and until it is done, twice
	for _, layer := range []bool{false, true} {
		st := mem.New(mem.Options{})
		e := open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
		must(t, e, "CREATE TABLE t (a int, b text); ALTER TABLE t ALTER b SET STORAGE PLAIN")
		must(t, e, "BEGIN; "+fmt.Sprintf(insert, 1, rows))
		if size := logInFiles(t, e); size > most || e.LogBytes() < 2*most {
			t.Errorf("of %d bytes of log %d are in memory", e.LogBytes(), size)
		}
		if layer {
			if err := e.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			must(t, e, fmt.Sprintf(insert, rows+1, rows+10))
		}
		must(t, e, "COMMIT")
		want := must(t, e, digest)
		e.Abandon()
		e = open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
		if got := must(t, e, digest); got != want {
			t.Errorf("layer %v: %s is there, want %s", layer, got, want)
		}
	}
}

// TestOldLogOfPreparedTransactions: a prepared transaction is read from the log when it ends, however much followed it.
func TestOldLogOfPreparedTransactions(t *testing.T) {
	t.Parallel()
	e := open(t, mem.New(mem.Options{}), inLog, func(o *Options) {
		o.RestoreBudget, o.Settings = -1, map[string]string{"max_prepared_transactions": "2"}
	})
	must(t, e, "CREATE TABLE p (a int); CREATE TABLE t (a int, b text); ALTER TABLE t ALTER b SET STORAGE PLAIN")
	must(t, e, "BEGIN; INSERT INTO p VALUES (7); PREPARE TRANSACTION 'one'")
	must(t, e, "INSERT INTO t SELECT g, repeat(md5(g::text), 50) FROM generate_series(1, 45000) g")
	must(t, e, "COMMIT PREPARED 'one'")
	if got := must(t, e, "SELECT a FROM p"); got != "7" {
		t.Errorf("it has left %q", got)
	}
}

// logInFiles is how much memory the segments of PostgreSQL's log take.
func logInFiles(t *testing.T, e *Engine) int64 {
	t.Helper()
	var clone *memfs.FS
	if err := e.server.locked(func(c *pglite.Cluster) { clone = c.Data().Clone() }); err != nil {
		t.Fatal(err)
	}
	entries, err := clone.ReadDir("/pg_wal")
	if err != nil {
		t.Fatal(err)
	}
	before := clone.UsedBytes()
	for _, entry := range entries {
		if path := walDir + entry.Name; segment(path) != "" {
			if err := clone.Forget(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return before - clone.UsedBytes()
}
