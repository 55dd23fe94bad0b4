package gc

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// logs writes the logs of successive epochs: a fence, and records of given sizes.
type logs struct {
	st   store.Store
	tail wal.Position
}

func (l *logs) write(t *testing.T, epoch uint64, sizes ...int) {
	t.Helper()
	log, err := wal.NewLog(l.st, l.tail, wal.Options{Epoch: epoch, DatabaseID: "db", Writer: "w"})
	if err == nil {
		_, err = log.Fence(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range sizes {
		data := make([]byte, size)
		_, _ = random.Read(data)
		if _, err := log.Append(t.Context(), []wal.Op{{Kind: wal.OpReplace, Path: "/f", Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	l.tail = log.Tail()
}

// large9 is the size of a record that is stored in parts.
const large9 = 9 << 20

// inParts is a database with a record in parts that is kept (3, of epoch 1) and one that is not (2), another one of epoch 2 (6), and parts
// that nothing names. Epoch 3 is the collector's.
func inParts(t *testing.T) store.Store {
	t.Helper()
	st := mem.New(mem.Options{})
	l := &logs{st: st, tail: wal.Start("db")}
	l.write(t, 1, large9, large9, 10)
	l.write(t, 2, large9, 10)
	l.write(t, 3, 10, 10, 10)
	emptyLayer(t, st, "base/1-2")
	for _, key := range []string{"part/1-DEAD/000000", "part/2-DEAD/000000"} {
		if _, err := st.Put(t.Context(), key, []byte("x"), store.NewWriteID(), store.IfAbsent()); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: 3, Writer: "w", Create: true}, func(m *manifest.Manifest) error {
		m.DatabaseID, m.WalStart = "db", 3
		m.Layers = []manifest.Layer{{Key: "base/1-2", Epoch: 1, Seq: 2}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// copied is a copy of a bucket made by some tool, whose objects get their write ids from writeID.
func copied(t *testing.T, from store.Store, writeID func() string) store.Store {
	t.Helper()
	to := mem.New(mem.Options{})
	for _, key := range keys(t, from) {
		o, err := from.Get(t.Context(), key)
		if err == nil {
			_, err = to.Put(t.Context(), key, o.Body, writeID(), store.Always())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestLivenessIsWhatRecordsSay: whatever the metadata says, parts that a kept record names stay, fences stay, and what nothing names is
// deleted.
func TestLivenessIsWhatRecordsSay(t *testing.T) {
	t.Parallel()
	for name, writeID := range map[string]func() string{
		"as written": nil, "none": func() string { return "" }, "one for all": func() string { return "edited" }, "other ones": store.NewWriteID,
	} {
		t.Run(name, func(t *testing.T) {
			st := inParts(t)
			if writeID != nil {
				st = copied(t, st, writeID)
			}
			before := len(keys(t, st))
			stats, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w", Parallel: 4})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := wal.Read(t.Context(), st, wal.ReadOptions{From: wal.Position{Seq: 2}, DatabaseID: "db"}, func(wal.Record) error { return nil }); err != nil {
				t.Errorf("the log after the collection: %v", err)
			}
			// Record 2 and its three parts, and the two that nothing names. The fence at 1 stays.
			left := keys(t, st)
			if stats.Parts != 5 || stats.Records != 1 || stats.Fences != 1 || len(left) != before-6 {
				t.Errorf("%+v; left: %v", stats, left)
			}
			if slices.ContainsFunc(left, func(key string) bool { return strings.Contains(key, "DEAD") }) {
				t.Errorf("what nobody names is still there: %v", left)
			}
		})
	}
}

// TestTheLogIsReadOnce: what a writer's collection has learnt about its predecessors' log, its next one need not read; and records of later
// epochs than the parts' are not read.
func TestTheLogIsReadOnce(t *testing.T) {
	t.Parallel()
	st := inParts(t)
	counted := store.Count(st)
	o := Options{Store: counted, Epoch: 3, Writer: "w", Learnt: &Learnt{}}
	collect := func(reads int64, parts int) {
		t.Helper()
		before := counted.Ops().ClassB
		stats, err := Collect(t.Context(), o)
		if err != nil || stats.Parts != parts {
			t.Fatalf("%+v, %v; %d parts were to go", stats, err, parts)
		}
		if n := counted.Ops().ClassB - before; n != reads {
			t.Errorf("%d reads, want %d", n, reads)
		}
	}
	// Manifest and index; record 2, because the list shows the fence at 1; 3 to 7, of epochs 1 and 2; the fence at 8.
	collect(2+1+6, 5)
	o.From = 3
	collect(2, 0)
	// The log from record 4 on is kept: the parts of record 3 are no longer needed, and that is known.
	emptyLayer(t, st, "base/1-3")
	_, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: 3}, func(m *manifest.Manifest) error {
		m.WalStart, m.Layers = 4, []manifest.Layer{{Key: "base/1-3", Epoch: 1, Seq: 3}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	collect(2+1, 3)
}

// TestNoPartGoesFromADamagedLog: a missing, damaged or foreign record may have named anything.
func TestNoPartGoesFromADamagedLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(st store.Store) error
		want   error
	}{
		"missing": {func(st store.Store) error { return st.Delete(t.Context(), wal.Key(4)) }, wal.ErrCorrupt},
		"damaged": {func(st store.Store) error {
			_, err := st.Put(t.Context(), wal.Key(4), []byte("hello"), "", store.Always())
			return err
		}, wal.ErrCorrupt},
		"another number": {func(st store.Store) error {
			o, err := st.Get(t.Context(), wal.Key(5))
			if err == nil {
				_, err = st.Put(t.Context(), wal.Key(4), o.Body, "", store.Always())
			}
			return err
		}, wal.ErrCorrupt},
		"another database's": {func(st store.Store) error {
			other := &logs{st: mem.New(mem.Options{}), tail: wal.Position{Seq: 3}}
			log, err := wal.NewLog(other.st, other.tail, wal.Options{Epoch: 1, DatabaseID: "other", Writer: "w"})
			if err == nil {
				_, err = log.Fence(t.Context())
			}
			if err != nil {
				return err
			}
			o, err := other.st.Get(t.Context(), wal.Key(4))
			if err == nil {
				_, err = st.Put(t.Context(), wal.Key(4), o.Body, "", store.Always())
			}
			return err
		}, wal.ErrForeign},
	} {
		st := inParts(t)
		if err := c.damage(st); err != nil {
			t.Fatal(err)
		}
		stats, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"})
		if !errors.Is(err, c.want) || stats.Parts != 0 {
			t.Errorf("%s: %+v, %v", name, stats, err)
		}
	}
}

// TestAnothersRecordStays: even below wal_start.
func TestAnothersRecordStays(t *testing.T) {
	t.Parallel()
	st := bucket(t)
	other := &logs{st: mem.New(mem.Options{}), tail: wal.Start("db")}
	log, err := wal.NewLog(other.st, other.tail, wal.Options{Epoch: 2, DatabaseID: "other", Writer: "w"})
	if err == nil {
		_, err = log.Append(t.Context(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	o, err := other.st.Get(t.Context(), wal.Key(1))
	if err == nil {
		_, err = st.Put(t.Context(), wal.Key(2), o.Body, "", store.Always())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"}); !errors.Is(err, wal.ErrForeign) {
		t.Errorf("got %v", err)
	}
	if !slices.Contains(keys(t, st), wal.Key(2)) {
		t.Error("it was deleted")
	}
}

// TestStrangersStay: what does not have exactly the form of our names is not touched, least of all another database.
func TestStrangersStay(t *testing.T) {
	t.Parallel()
	st := bucket(t)
	var strangers []string
	for _, at := range []string{"wal", "base", "part", "base/1-1", "base/1-1/part", "base/00000000000000000001-x", "base/1-1-x", "part/1-x", "part/1", "other"} {
		for _, name := range []string{
			"manifest", "lease", wal.Key(1), "base/1-1/index", "base/1-1/part/000000", "page/1-1/000000", "part/1-GONE/000000",
		} {
			strangers = append(strangers, at+"/"+name)
		}
	}
	strangers = append(strangers, "wal/README", "wal/1", "part/1-x", "part/01-x/000000", "part/1-x/0", "part/1-x/0000001", "part/1-x/-00001",
		"base/1-1/index/x", "base/1-1/part/0", "base/1-1/part/000000.tmp", "base/1/index", "base/x-1/index", "page/1-1/0", "page/1/000000", "page/1-1/000000/x", "probe/x")
	for _, key := range strangers {
		if _, err := st.Put(t.Context(), key, []byte("x"), "w", store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"}); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, st); !slices.Equal(got, want(strangers...)) {
		t.Errorf("left:\n%v\nwant:\n%v", got, want(strangers...))
	}
}
