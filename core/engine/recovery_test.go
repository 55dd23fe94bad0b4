package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// settings sets server parameters.
func settings(pairs ...string) func(*Options) {
	return func(o *Options) {
		o.Settings = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			o.Settings[pairs[i]] = pairs[i+1]
		}
	}
}

// TestNewDatabaseWithSettings: a new database made with server parameters starts from the files of a PostgreSQL that was shut down. Its
// first layer must not say so, or the records that follow would be overwritten.
func TestNewDatabaseWithSettings(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeLog, ModeSnapshot} {
		for _, crash := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s crash=%t", mode, crash), func(t *testing.T) {
				st := mem.New(mem.Options{})
				in := func(o *Options) { inLog(o); o.Mode = mode }
				e := open(t, st, in, settings("work_mem", "8MB"))
				must(t, e, "CREATE TABLE t AS SELECT generate_series(1, 1000) id")
				if crash {
					e.Abandon()
				} else if err := e.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				for _, s := range manifestLayers(t, st) {
					if c := layerControl(t, st, s.Key); c.ShutDown() {
						t.Errorf("layer %s says that PostgreSQL was shut down", s.Key)
					}
				}
				if _, err := takeover.VerifyWith(t.Context(), st, takeover.VerifyOptions{Deep: true}); err != nil {
					t.Error(err)
				}
				e = open(t, st, in, settings("work_mem", "8MB"))
				if got := must(t, e, "SELECT count(*) FROM t"); got != "1000" {
					t.Errorf("%s rows are left of 1000", got)
				}
			})
		}
	}
}

func manifestLayers(t *testing.T, st store.Store) []manifest.Layer {
	t.Helper()
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	return m.Layers
}

// layerFiles are the files of a layer.
func layerFiles(t *testing.T, st store.Store, key string) *memfs.FS {
	t.Helper()
	files := memfs.New(memfs.Options{})
	if _, _, err := base.Read(t.Context(), st, key, files, base.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
	return files
}

func layerControl(t *testing.T, st store.Store, key string) pgdata.Control {
	t.Helper()
	body, err := layerFiles(t, st, key).ReadFile(pgdata.ControlPath)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgdata.ParseControl(body)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sayShutDown makes a database's only layer like one that an older version wrote: its control file says that PostgreSQL was shut down.
func sayShutDown(t *testing.T, st store.Store) {
	t.Helper()
	layers := manifestLayers(t, st)
	if len(layers) != 1 {
		t.Fatalf("there are %d layers, want one", len(layers))
	}
	key := layers[0].Key
	files := layerFiles(t, st, key)
	for _, prefix := range []string{key, base.SegmentPrefix()} {
		for a, err := range st.List(t.Context(), prefix, "") {
			if err == nil {
				err = st.Delete(t.Context(), a.Key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	body, err := files.ReadFile(pgdata.ControlPath)
	if err != nil {
		t.Fatal(err)
	}
	body = pgdata.InProduction(body)
	const state, checksum = 16, 292
	body[state] = 1
	binary.LittleEndian.PutUint32(body[checksum:], crc32.Checksum(body[:checksum], crc32.MakeTable(crc32.Castagnoli)))
	if err := files.WriteFile(pgdata.ControlPath, body, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stats, err := base.Write(t.Context(), st, key, files, base.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := manifest.Load(t.Context(), st)
	if err == nil {
		_, _, err = manifest.Update(t.Context(), st, manifest.Options{Epoch: m.Epoch, Writer: m.Writer}, func(m *manifest.Manifest) error {
			m.Layers[0].StoredBytes = stats.StoredBytes
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLayerThatSaysShutDown: an older version wrote such layers. Every kind of reader finds the log that follows one.
func TestLayerThatSaysShutDown(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, settings("work_mem", "8MB"), func(o *Options) { o.RestoreBudget = -1 })
	must(t, e, "CREATE TABLE t AS SELECT generate_series(1, 1000) id")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sayShutDown(t, st)
	report, err := takeover.VerifyWith(t.Context(), st, takeover.VerifyOptions{Deep: true})
	if !errors.Is(err, takeover.ErrShutDown) || report.To == 0 {
		t.Errorf("verify: %+v, %v, want ErrShutDown and all records read", report, err)
	}
	past, err := openAt(t, st, Latest())
	if err != nil {
		t.Fatal(err)
	}
	if got := must(t, past, "SELECT count(*) FROM t"); got != "1000" {
		t.Errorf("OpenAt finds %s rows of 1000", got)
	}
	restored, err := Restore(t.Context(), st, Latest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	to := mem.New(mem.Options{})
	if _, err := NewDatabase(t.Context(), to, restored, "test", nil); err != nil {
		t.Fatal(err)
	}
	for name, st := range map[string]store.Store{"the copy": to, "the database": st} {
		var said bytes.Buffer
		e := open(t, st, inLog, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
		if got := must(t, e, "SELECT count(*) FROM t"); got != "1000" {
			t.Errorf("%s has %s rows of 1000", name, got)
		}
		if name == "the database" && !bytes.Contains(said.Bytes(), []byte("says that PostgreSQL was shut down")) {
			t.Errorf("nothing was said of it:\n%s", said.String())
		}
	}
}

// fresh are the files of a new database, as a layer has them.
func fresh(t *testing.T) *memfs.FS {
	t.Helper()
	files, err := runtime.Template(t.Context(), memfs.Options{})
	if err == nil {
		err = inProduction(files)
	}
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// life runs PostgreSQL on files and returns what it wrote to its log and configuration, in pieces as the log would carry them.
func life(t *testing.T, files *memfs.FS, records []wal.Record, work func(*Engine)) []wal.Op {
	t.Helper()
	o := Options{Runtime: runtime, Store: mem.New(mem.Options{})}
	if err := o.fill(); err != nil {
		t.Fatal(err)
	}
	e := newEngine(o)
	op := newOpening(&e.o)
	e.commits = noCommits{}
	var ops []wal.Op
	c := newWALShipper(files, func(op wal.Op) { ops = append(ops, op) })
	files.SetHooks(memfs.Hooks{Write: c.write, Rename: c.rename, Unlink: c.unlink})
	want, err := recoverable(files.Clone(), records, o.Logger)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.startOn(t.Context(), op, files, records); err != nil {
		t.Fatal(err)
	}
	defer e.Abandon()
	if to := pgdata.LSN(e.server.cluster.Replayed()); to != want.end && !(to == 0 && want.mild) {
		t.Fatalf("PostgreSQL recovered to %s, the log was found to end at %s", to, want.end)
	}
	work(e)
	return ops
}

// TestEndOfTheLog cuts the log off at every kind of place, over several lives: the end that is found is exactly where PostgreSQL's recovery
// ends. A gap in its middle is never passed over.
func TestEndOfTheLog(t *testing.T) {
	t.Parallel()
	seed := uint64(20261128)
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	base := fresh(t)
	var records []wal.Record
	restore := func(records []wal.Record) *memfs.FS {
		files := base.Clone()
		if _, err := replay(files, slices.Clone(records)); err != nil {
			t.Fatal(err)
		}
		return files
	}
	holes := 0
	for round := range 14 {
		ops := life(t, restore(records), records, func(e *Engine) {
			must(t, e, "CREATE TABLE IF NOT EXISTS t (a int, b text)")
			for i := range 1 + random.IntN(6) {
				must(t, e, fmt.Sprintf("INSERT INTO t SELECT g, repeat(md5(g::text), %d) FROM generate_series(1, %d) g", 1+random.IntN(60), 1+random.IntN(300)))
				if random.IntN(4) == 0 {
					must(t, e, "SELECT pg_switch_wal()")
				}
				if i == 2 {
					must(t, e, "SET synchronous_commit = off; DELETE FROM t WHERE a % 3 = 0")
				}
			}
		})
		if len(ops) == 0 {
			t.Fatal("a life wrote nothing")
		}
		keep := random.IntN(len(ops) + 1)
		if round%5 == 4 {
			keep = 0 // it ended before anything of it was durable
		}
		records = append(records, wal.Record{Seq: uint64(round) + 1, Ops: ops[:keep]})
		holes += hole(t, restore, records, random)
	}
	if holes == 0 {
		t.Error("no hole in the log was found: the test shows nothing")
	}
}

// hole leaves a piece of the newest life out. Either the opening is refused, or nothing committed is missing, because a later piece covers
// it. It returns how many were refused.
func hole(t *testing.T, restore func([]wal.Record) *memfs.FS, records []wal.Record, random *rand.Rand) int {
	t.Helper()
	const segmentBytes = 1 << 20
	ops := records[len(records)-1].Ops
	if len(ops) < 3 {
		return 0
	}
	n := random.IntN(len(ops) - 2)
	damaged := slices.Clone(records)
	damaged[len(records)-1].Ops = slices.Concat(ops[:n], ops[n+1:])
	dropped := slog.New(slog.DiscardHandler)
	whole, err := recoverable(restore(records), records, dropped)
	if err != nil {
		t.Fatal(err)
	}
	got, err := recoverable(restore(damaged), damaged, dropped)
	switch {
	case errors.Is(err, ErrRecovery):
		return 1
	case err != nil:
		t.Fatal(err)
	case shipped(records[len(records)-1:], segmentBytes) == shipped([]wal.Record{{Ops: ops[:n+1]}}, segmentBytes):
		// Only zeros follow it: a log that was cut off there would look the same.
	case got.end != whole.end:
		t.Errorf("without piece %d of %d the log ends at %s, with it at %s, and nobody says so", n, len(ops), got.end, whole.end)
	}
	return 0
}

// TestRecoveryEndsEarly: for PostgreSQL, a segment that ends in its middle is the end of the log. The opening is refused, and nothing in
// the bucket changes.
func TestRecoveryEndsEarly(t *testing.T) {
	t.Parallel()
	base := fresh(t)
	files := base.Clone()
	ops := life(t, files, nil, func(e *Engine) {
		must(t, e, "CREATE TABLE t AS SELECT generate_series(1, 100) id")
		must(t, e, "INSERT INTO t VALUES (7)")
	})
	records := []wal.Record{{Seq: 1, Ops: ops}}
	whole := base.Clone()
	if _, err := replay(whole, slices.Clone(records)); err != nil {
		t.Fatal(err)
	}
	last := ops[len(ops)-1]
	if err := whole.Truncate(last.Path, last.Offset+int64(len(last.Data))); err != nil { // everything except the rest of the page is there
		t.Fatal(err)
	}
	o := Options{Runtime: runtime, Store: mem.New(mem.Options{})}
	if err := o.fill(); err != nil {
		t.Fatal(err)
	}
	e := newEngine(o)
	op := newOpening(&e.o)
	if err := e.startOn(t.Context(), op, whole, records); !errors.Is(err, ErrRecovery) {
		t.Errorf("the start: %v, want ErrRecovery", err)
	}
}

// TestReplayedRecordsAreLetGo: the contents of replayed records are in the files, and need not be in memory twice. The records still say
// where the log ends.
func TestReplayedRecordsAreLetGo(t *testing.T) {
	t.Parallel()
	files := fresh(t).Clone()
	write := func(path string, off int64, p ...byte) wal.Op {
		return wal.Op{Kind: wal.OpWrite, Path: path, Offset: off, Data: p}
	}
	const log = walDir + "000000010000000000000009"
	records := []wal.Record{
		{Seq: 1, Ops: []wal.Op{write(log, 0, 1, 2, 3)}}, {Seq: 2, Ops: []wal.Op{write(log, 3, 4, 5, 0)}}, {Seq: 3, Ops: []wal.Op{write(log, 5, 0, 0, 0)}},
		{Seq: 4, Ops: []wal.Op{{Kind: wal.OpReplace, Path: "/postgresql.auto.conf", Data: []byte{1}}}},
	}
	size, err := segmentSize(files)
	if err != nil {
		t.Fatal(err)
	}
	want := shipped(records, size)
	n, err := replay(files, records)
	if err != nil || n != 10 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if got := shipped(records, size); got != want || want == 0 {
		t.Errorf("the log ends at %s, before the replay at %s", got, want)
	}
	for i, r := range records {
		if kept := r.Ops != nil; kept != (i == 1) {
			t.Errorf("record %d still has its operations: %v", r.Seq, kept)
		}
	}
}
