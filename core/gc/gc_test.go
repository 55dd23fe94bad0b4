package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// bucket is a database of epoch 3 with six records (1 and 4 are fences), two layers and some parts; the manifest names the
// second layer, at record 5.
func bucket(t *testing.T) store.Store {
	t.Helper()
	st := mem.New(mem.Options{})
	tail := wal.Start("db")
	write := func(epoch uint64, records int) {
		l, err := wal.NewLog(st, tail, wal.Options{Epoch: epoch, DatabaseID: "db", Writer: "w"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Fence(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range records {
			if _, err := l.Append(t.Context(), []wal.Op{{Kind: wal.OpReplace, Path: "/f", Data: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
		}
		tail = l.Tail()
	}
	write(2, 2)
	write(3, 2)
	put := func(keys ...string) {
		for _, k := range keys {
			if _, err := st.Put(t.Context(), k, []byte("x"), store.NewWriteID(), store.IfAbsent()); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("base/2-3/part/000000", "base/2-3/index", "base/3-5/part/000000", "base/3-5/index", "base/3-6/part/000000",
		"base/9-9/part/000000", "part/2-DEAD/000000", "part/3-OURS/000000", "part/9-LATER/000000")
	_, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: 3, Writer: "w", Create: true}, func(m *manifest.Manifest) error {
		m.DatabaseID, m.WalStart = "db", 6
		m.Layers = []manifest.Layer{{Key: "base/3-5", Epoch: 3, Seq: 5}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func keys(t *testing.T, st store.Store) []string {
	t.Helper()
	var out []string
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a.Key)
	}
	return out
}

// want is what a collection leaves.
func want(more ...string) []string {
	out := append([]string{
		"base/3-5/index", "base/3-5/part/000000", "base/9-9/part/000000", "manifest", "part/3-OURS/000000", "part/9-LATER/000000",
		wal.Key(1), wal.Key(4), wal.Key(6),
	}, more...)
	slices.Sort(out)
	return out
}

func TestCollect(t *testing.T) {
	st := bucket(t)
	stats, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, st); !slices.Equal(got, want()) {
		t.Errorf("left:\n%v\nwant:\n%v", got, want())
	}
	if stats.Records != 3 || stats.Fences != 2 || stats.Layers != 1 || stats.Parts != 1 || stats.WalStart != 6 {
		t.Errorf("%+v", stats)
	}
	again, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w", From: stats.WalStart})
	if err != nil || again.Records+again.Layers+again.Parts != 0 {
		t.Errorf("a second collection: %+v, %v", again, err)
	}
}

func TestKeepsWhatIsBeingUploaded(t *testing.T) {
	st := bucket(t)
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w", Keep: []string{"base/3-6"}}); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, st); !slices.Equal(got, want("base/3-6/part/000000")) {
		t.Errorf("left: %v", got)
	}
}

func TestKnownDataIsNotRead(t *testing.T) {
	counted := store.Count(bucket(t))
	_, err := Collect(t.Context(), Options{Store: counted, Epoch: 3, Writer: "w", IsData: func(seq uint64) bool { return seq != 1 && seq != 4 }})
	if err != nil {
		t.Fatal(err)
	}
	if n := counted.Ops().ClassB; n != 2 { // the manifest, and where the epoch of the old parts ends: the list tells the fences
		t.Errorf("%d reads", n)
	}
}

func TestOlderEpochDeletesNothing(t *testing.T) {
	st := bucket(t)
	before := keys(t, st)
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 2, Writer: "zombie"}); !errors.Is(err, manifest.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if got := keys(t, st); !slices.Equal(got, before) {
		t.Errorf("a zombie's collection left %v", got)
	}
}

// TestOvertakenCollectionIsNoDamage: a newer writer compacts and collects between our stamp and our look at the layer. The
// explorer found that this was reported as a damaged layer.
func TestOvertakenCollectionIsNoDamage(t *testing.T) {
	st := bucket(t)
	newer := func() error {
		if _, err := st.Put(t.Context(), "base/4-6/index", []byte("x"), store.NewWriteID(), store.IfAbsent()); err != nil {
			return err
		}
		if _, err := manifest.Publish(t.Context(), st, manifest.Options{Epoch: 4, Writer: "newer"}, manifest.Layer{Key: "base/4-6", Epoch: 3, Seq: 6}); err != nil {
			return err
		}
		_, err := Collect(t.Context(), Options{Store: st, Epoch: 4, Writer: "newer"})
		return err
	}
	_, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w", Hook: func(_ context.Context, p point.Point) error {
		if p == point.ManifestAfterCAS {
			return newer()
		}
		return nil
	}})
	if !errors.Is(err, manifest.ErrFenced) || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if err := st.Delete(t.Context(), "base/4-6/index"); err != nil {
		t.Fatal(err)
	}
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 4, Writer: "newer"}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a layer that is really gone: %v", err)
	}
}

// TestRubbishIsNotGuessedAt: what stands under a record's name and is no record is left alone, with an error.
func TestRubbishIsNotGuessedAt(t *testing.T) {
	st := bucket(t)
	if _, err := st.Put(t.Context(), wal.Key(2), []byte("hello"), "", store.Always()); err != nil {
		t.Fatal(err)
	}
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"}); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if got := keys(t, st); !slices.Contains(got, wal.Key(2)) {
		t.Error("it was deleted")
	}
}

// TestDeathAtEveryDeletion: a collection that dies anywhere leaves what the next one finishes.
func TestDeathAtEveryDeletion(t *testing.T) {
	for n := range 10 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			st := bucket(t)
			d := &dying{Store: st, left: n}
			_, err := Collect(t.Context(), Options{Store: d, Epoch: 3, Writer: "w"})
			if (err == nil) != (d.left >= 0) {
				t.Errorf("%d deletions left, error %v", d.left, err)
			}
			for _, k := range want() {
				if !slices.Contains(keys(t, st), k) {
					t.Errorf("%s is gone", k)
				}
			}
			if _, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"}); err != nil {
				t.Fatal(err)
			}
			if got := keys(t, st); !slices.Equal(got, want()) {
				t.Errorf("the second one left %s", strings.Join(got, " "))
			}
		})
	}
}
