package takeover

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// layerAt uploads a layer, whatever it holds.
func layerAt(t *testing.T, st store.Store, key string) {
	t.Helper()
	files := memfs.New(memfs.Options{})
	if err := files.WriteFile("/PG_VERSION", []byte("18\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := base.Write(t.Context(), st, key, files, base.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// lost is a database that has lost its manifest: two layers were taken, the second at record 4, what they replaced is collected, records 5
// and 6 follow. It returns its writer, and the former manifest.
func lost(t *testing.T) (store.Store, *Opened, manifest.Manifest) {
	t.Helper()
	st := mem.New(mem.Options{})
	a, err := Open(t.Context(), opts(st, "A", 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest.Manifest
	for _, id := range []string{"two", "three", "four", "five", "six"} {
		at := write(t, a.Log, id)
		if at.Seq == 2 || at.Seq == 4 {
			layerAt(t, st, base.Key(a.Epoch, at.Seq))
			m, err = manifest.Publish(t.Context(), st, manifest.Options{Epoch: a.Epoch, Writer: "A"}, layerOf(a.Epoch, at))
			if err == nil {
				_, err = gc.Collect(t.Context(), gc.Options{Store: st, Epoch: a.Epoch, Writer: "A"})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := st.Delete(t.Context(), manifest.Key); err != nil {
		t.Fatal(err)
	}
	return st, a, m
}

// adopt adopts n hours later than the writer's clock.
func adopt(t *testing.T, st store.Store, n int) (Adoptable, error) {
	t.Helper()
	return Adopt(t.Context(), AdoptOptions{Store: st, Writer: "adopter", Retain: time.Hour, Clock: clock.NewVirtual(t0.Add(time.Duration(n) * time.Hour))})
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	st, a, m := lost(t)
	if _, err := adopt(t, st, 0); !errors.Is(err, lease.ErrLocked) {
		t.Errorf("beside a writer: %v", err)
	}
	if _, err := Open(t.Context(), opts(st, "B", 1, nil)); !errors.Is(err, ErrManifestLost) {
		t.Fatalf("an opening: %v", err)
	}
	before := allKeys(t, st)
	found, err := Survey(t.Context(), st)
	if err != nil || found.Layer.Seq != 4 || found.To != 6 || found.DatabaseID != m.DatabaseID || found.Epoch != 1 || found.Postgres != "18" {
		t.Fatalf("%+v, %v", found, err)
	}
	if got := allKeys(t, st); !slices.Equal(got, before) {
		t.Errorf("a survey wrote: %v", got)
	}
	if _, err := adopt(t, st, 2); err != nil {
		t.Fatal(err)
	}
	now, _, err := manifest.Load(t.Context(), st)
	l, was := now.Layers[0], m.Layers[len(m.Layers)-1]
	if err != nil || now.DatabaseID != m.DatabaseID || now.WalStart != m.WalStart || l.Key != was.Key || l.Hash != was.Hash || l.Epoch != was.Epoch || now.RetainSeconds != 3600 {
		t.Errorf("%+v, %v; it was %+v", now, err, m)
	}
	if r, err := VerifyWith(t.Context(), st, VerifyOptions{Deep: true}); err != nil || r.To != 6 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := adopt(t, st, 4); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("once more: %v", err)
	}
	// The writer was alive all the time: it continues, and nothing of it is lost.
	at := write(t, a.Log, "seven")
	layerAt(t, st, base.Key(a.Epoch, at.Seq))
	if _, err := manifest.Publish(t.Context(), st, manifest.Options{Epoch: a.Epoch, Writer: "A"}, layerOf(a.Epoch, at)); err != nil {
		t.Error(err)
	}
	write(t, a.Log, "eight")
	b, err := Open(t.Context(), opts(st, "B", 9, nil))
	if err != nil || b.Created || b.Epoch != 2 || b.Manifest.Layers[len(b.Manifest.Layers)-1].Seq != 7 || len(b.Records) != 1 || b.Records[0].Seq != 8 {
		t.Errorf("%+v, %v", b, err)
	}
}

// TestAdoptAFreshBranch: a copy that was never opened has a layer and no record, or died before it had a manifest.
func TestAdoptAFreshBranch(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	key := base.Key(0, 0) + "-01BRANCH"
	layerAt(t, st, key)
	a, err := adopt(t, st, 0)
	if err != nil || a.DatabaseID != "01BRANCH" || a.Layer.Key != key || a.To != 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	o := mustOpen(t, st, "w")
	if o.Created || o.Epoch != 1 || o.Log.Tail().Seq != 1 {
		t.Errorf("%+v", o)
	}
	if err := appendID(t, o, "x"); err != nil {
		t.Error(err)
	}
	if err := st.Delete(t.Context(), manifest.Key); err != nil {
		t.Fatal(err)
	}
	if a, err := Survey(t.Context(), st); err != nil || a.DatabaseID != "01BRANCH" || a.To != 2 {
		t.Errorf("with records: %+v, %v", a, err)
	}
}

// TestNothingIsAdoptedByGuess: where something is missing, damaged or not clear, nothing is made.
func TestNothingIsAdoptedByGuess(t *testing.T) {
	t.Parallel()
	overwrite := func(t *testing.T, st store.Store, key string, body []byte) {
		if _, err := st.Put(t.Context(), key, body, "", store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, st store.Store, key string) {
		if err := st.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	newest := base.Key(1, 4)
	for name, c := range map[string]struct {
		spoil func(t *testing.T, st store.Store)
		want  error
	}{
		"a record is missing":         {func(t *testing.T, st store.Store) { remove(t, st, wal.Key(5)) }, wal.ErrCorrupt},
		"a record is damaged":         {func(t *testing.T, st store.Store) { overwrite(t, st, wal.Key(6), []byte("x")) }, wal.ErrCorrupt},
		"the layer is damaged":        {func(t *testing.T, st store.Store) { overwrite(t, st, base.SegmentKey(newest, 0), []byte("x")) }, base.ErrCorrupt},
		"the layer is gone":           {func(t *testing.T, st store.Store) { remove(t, st, base.IndexKey(newest)) }, base.ErrCorrupt},
		"a part of the layer is gone": {func(t *testing.T, st store.Store) { remove(t, st, base.SegmentKey(newest, 0)) }, store.ErrNotFound},
		"a later layer was begun":     {func(t *testing.T, st store.Store) { overwrite(t, st, base.SegmentKey(base.Key(1, 9), 0), []byte("x")) }, wal.ErrCorrupt},
		"a layer of another record":   {func(t *testing.T, st store.Store) { overwrite(t, st, base.SegmentKey(base.Key(3, 6), 0), []byte("x")) }, wal.ErrCorrupt},
		"two layers at one record":    {func(t *testing.T, st store.Store) { layerAt(t, st, base.Key(2, 4)) }, base.ErrCorrupt},
		"only an older layer is complete": {func(t *testing.T, st store.Store) {
			layerAt(t, st, base.Key(1, 2))
			remove(t, st, base.IndexKey(newest))
		}, wal.ErrCorrupt},
		"there is nothing": {func(t *testing.T, st store.Store) {
			for _, key := range allKeys(t, st) {
				remove(t, st, key)
			}
		}, store.ErrNotFound},
		"no record says whose it is": {func(t *testing.T, st store.Store) {
			for _, key := range allKeys(t, st) {
				if _, err := wal.ParseKey(key); err == nil {
					remove(t, st, key)
				}
			}
		}, wal.ErrCorrupt},
		"a damaged manifest": {func(t *testing.T, st store.Store) { overwrite(t, st, manifest.Key, []byte("x")) }, manifest.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			st, _, _ := lost(t)
			c.spoil(t, st)
			before, _ := st.Get(t.Context(), manifest.Key)
			if _, err := adopt(t, st, 2); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if now, _ := st.Get(t.Context(), manifest.Key); !bytes.Equal(now.Body, before.Body) {
				t.Errorf("a manifest was made: %s", now.Body)
			}
			l, err := st.Get(t.Context(), lease.Key)
			if s, decodeErr := lease.Decode(l.Body); err != nil || decodeErr != nil || s.Holder != "" {
				t.Errorf("the lease was not given back: %+v, %v, %v", s, err, decodeErr)
			}
		})
	}
}
