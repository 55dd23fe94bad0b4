package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// keeping is a writer that keeps the log for its readers.
func keeping(o *Options) {
	inLog(o)
	o.Retain = time.Hour
}

// replicaOf opens a replica at the newest layer, with what follows.
func replicaOf(t *testing.T, st store.Store, change ...func(*Options, *Start)) (*Replica, wal.Position) {
	t.Helper()
	past, err := takeover.ReadAt(t.Context(), st, Latest(), 0)
	if err != nil {
		t.Fatal(err)
	}
	m := past.Manifest
	m.Layers = []manifest.Layer{past.Layer}
	at, err := takeover.From(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range past.Records {
		at = wal.Position{Seq: r.Seq, Epoch: r.Epoch, Hash: r.Hash}
	}
	o, s := Options{Runtime: runtime, Store: st}, Start{Manifest: m, Records: past.Records}
	for _, c := range change {
		c(&o, &s)
	}
	r, err := OpenReplica(t.Context(), o, s)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, r.Abandon)
	return r, at
}

// catchUp feeds a replica with the log after a position, and returns where that ends.
func catchUp(t *testing.T, r *Replica, st store.Store, at wal.Position) wal.Position {
	t.Helper()
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	at, err = wal.Read(t.Context(), st, wal.ReadOptions{From: at, DatabaseID: m.DatabaseID, Probe: true}, func(rec wal.Record) error {
		return r.Feed(t.Context(), rec)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return at
}

const digest = "SELECT count(*) || ' ' || md5(string_agg(t::text, ',' ORDER BY t::text)) FROM t"

// TestReplicaFollows: through commits, a large transaction, layers, and a succession of writers, the replica has what the log has.
func TestReplicaFollows(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, keeping)
	must(t, e, "CREATE TABLE t (a int, b text)")
	r, at := replicaOf(t, st)
	check := func(what string) {
		t.Helper()
		position := e.Position()
		at = catchUp(t, r, st, at)
		if got, want := must(t, r.Engine, digest), must(t, e, digest); got != want {
			t.Errorf("%s: %s, the writer has %s", what, got, want)
		}
		if r.Reached() < position {
			t.Errorf("%s: it has come to %x, and the writer's position is %x", what, r.Reached(), position)
		}
	}
	check("at the beginning")
	for i := range 5 {
		must(t, e, fmt.Sprintf("INSERT INTO t SELECT g, 'row %d' FROM generate_series(1, 100) g", i))
		check("after an insert")
	}
	must(t, e, "INSERT INTO t SELECT g, md5(g::text) || repeat('x', 300) FROM generate_series(1, 20000) g")
	check("after a large transaction")
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after a layer")
	for life := range 3 {
		if life == 1 {
			e.Abandon()
		} else if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		e = open(t, st, keeping)
		check("after a hand-over")
		must(t, e, "DELETE FROM t WHERE a % 3 = 0")
		check("of the new writer")
		must(t, e, "INSERT INTO t VALUES (1, 'life')")
	}
	must(t, e, "ALTER SYSTEM SET random_page_cost = 3.5")
	check("after ALTER SYSTEM")
	if got := must(t, r.Engine, "SHOW random_page_cost"); got != "3.5" {
		t.Errorf("random_page_cost is %s", got)
	}
	must(t, e, "VACUUM FULL t")
	must(t, e, "CREATE DATABASE other")
	must(t, e, "DROP DATABASE other")
	check("at the end")
}

// A replica's PostgreSQL that crashes comes back no older than it was.
func TestReplicaCrash(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, keeping)
	must(t, e, "CREATE TABLE t (a int, b text)")
	r, at := replicaOf(t, st)
	for i := range 3 {
		must(t, e, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1000) g")
		at = catchUp(t, r, st, at)
		before := must(t, r.Engine, contents)
		if i == 1 {
			must(t, r.Engine, "CHECKPOINT")
		}
		r.server.cluster.Kill()
		if got := must(t, r.Engine, contents); got != before {
			t.Errorf("after a crash it has %s, it had %s", got, before)
		}
	}
	// Its files are consistent as of a checkpoint, so it could accept clients; but what was shown after the checkpoint is not replayed yet.
	must(t, e, "CHECKPOINT")
	at = catchUp(t, r, st, at)
	must(t, r.Engine, "CHECKPOINT")
	must(t, e, "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 60000) g")
	at = catchUp(t, r, st, at)
	before := must(t, r.Engine, contents)
	r.f.replayed.Store(0)
	r.server.cluster.Kill()
	if got := must(t, r.Engine, contents); got != before {
		t.Errorf("after a crash it has %.60s, it had %.60s", got, before)
	}
	if r.Replayed() == 0 {
		t.Error("clients came, and nobody had looked how far it has replayed")
	}
	must(t, e, "INSERT INTO t VALUES (1, 'y')")
	catchUp(t, r, st, at)
	if got, want := must(t, r.Engine, digest), must(t, e, digest); got != want {
		t.Errorf("%s, the writer has %s", got, want)
	}
}

// Data that is not a valid log is not replayed, and the replica says so.
func TestReplicaStuck(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, keeping)
	must(t, e, "CREATE TABLE t (a int, b text)")
	r, at := replicaOf(t, st)
	before := must(t, r.Engine, contents)
	must(t, e, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 5000) g")
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	var stuck error
	_, err = wal.Read(t.Context(), st, wal.ReadOptions{From: at, DatabaseID: m.DatabaseID}, func(rec wal.Record) error {
		for i := range rec.Ops {
			if n := len(rec.Ops[i].Data); n > 100 && stuck == nil {
				rec.Ops[i].Data[n/2] ^= 1
			}
		}
		if stuck = r.Feed(t.Context(), rec); stuck == nil {
			stuck = r.CatchUp(t.Context())
		}
		return stuck
	})
	if !errors.Is(stuck, ErrStuck) || err == nil {
		t.Errorf("a wrong byte: %v", stuck)
	}
	if got := must(t, r.Engine, contents); got != before {
		t.Errorf("it shows %s, and had %s before", got, before)
	}
}

func TestPositions(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, keeping)
	must(t, e, "CREATE TABLE t (a int)")
	last := e.Position()
	for range 3 {
		must(t, e, "INSERT INTO t VALUES (1)")
		if at := e.Position(); at <= last {
			t.Errorf("the position was %x, and is %x after a commit", last, at)
		} else {
			last = at
		}
	}
	shown := must(t, e, "SHOW blobpglite.position")
	if got := must(t, e, "SET blobpglite.wait_for = '"+shown+"'; SHOW blobpglite.wait_for"); got != shown {
		t.Errorf("%s, %s", got, shown)
	}
	if _, err := e.Query(t.Context(), "SET blobpglite.wait_for = 'FF/0'"); err == nil || !strings.Contains(err.Error(), "not a position of this database") {
		t.Errorf("a position of the future: %v", err)
	}
	if err := e.Await(context.Background(), last); err != nil {
		t.Error(err)
	}
	e.Abandon()
	e = open(t, st, keeping)
	if at := e.Position(); at < last {
		t.Errorf("the position was %x, and is %x in the next life", last, at)
	}
}

// A replica's own log, which it has replayed, does not stay in memory.
func TestReplicaForgetsItsLog(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, keeping)
	must(t, e, "CREATE TABLE t (a int, b text)")
	r, at := replicaOf(t, st)
	most := 0
	for i := range 10 {
		must(t, e, fmt.Sprintf("INSERT INTO t SELECT g, repeat(md5(g::text), 10) FROM generate_series(%d, %d) g", i*20000, i*20000+19999))
		at = catchUp(t, r, st, at)
		list, err := r.server.cluster.Data().ReadDir("/pg_wal")
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(list))
	}
	t.Logf("%d segments at most, of %d bytes", most, r.f.segment)
	if log := uint64(most) * r.f.segment; log > 40<<20 {
		t.Errorf("%d bytes of its log were in memory at once", log)
	}
}
