package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
)

// damageOf breaks the frame that holds page 100 of a file, and returns the name of its object.
func damageOf(t *testing.T, st store.Store, path string) (segment string) {
	t.Helper()
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	l, err := base.ReadIndex(t.Context(), st, m.Layers[len(m.Layers)-1].Key, base.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	place, ok := l.Place(path, 100)
	if !ok {
		t.Fatalf("%s has no stored page", path)
	}
	o, err := st.Get(t.Context(), place.Object)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Clone(o.Body)
	body[place.Offset+place.Length/2] ^= 1
	if _, err := st.Put(t.Context(), place.Object, body, "", store.Always()); err != nil {
		t.Fatal(err)
	}
	return place.Object
}

// TestDamageOfOneTable: a database with one damaged frame opens, whether it is read as a whole or on demand, serves everything else, takes
// layers, and names the object in the error of a query that reads the damaged data.
func TestDamageOfOneTable(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog)
	must(t, e, "CREATE TABLE good AS SELECT g AS id, repeat(md5(g::text), 20) AS pad FROM generate_series(1, 3000) g")
	must(t, e, "CREATE TABLE bad AS SELECT g AS id, repeat(md5(g::text), 20) AS pad FROM generate_series(1, 3000) g")
	must(t, e, "VACUUM FREEZE good, bad")
	path := "/" + must(t, e, "SELECT pg_relation_filepath('bad')")
	if err := errors.Join(e.Compact(t.Context()), e.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	segment := damageOf(t, st, path)
	if _, err := tryOpen(t, st, inLog); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), segment) {
		t.Errorf("with all of it in memory: %v", err)
	}
	serves := func(e *Engine) {
		t.Helper()
		if got := must(t, e, "SELECT count(*) FROM good"); got != "3000" {
			t.Errorf("%s rows", got)
		}
		_, err := e.Query(t.Context(), "SELECT sum(length(pad)) FROM bad")
		if err == nil || !strings.Contains(err.Error(), "58030") {
			t.Errorf("what is damaged: %v", err)
		}
	}
	var told bytes.Buffer
	e = open(t, st, inLog, func(o *Options) {
		o.Cache, o.RestoreBudget, o.Logger = 256<<20, -1, slog.New(slog.NewTextHandler(&told, nil))
	})
	serves(e)
	must(t, e, "UPDATE good SET pad = 'x' WHERE id % 2 = 0")
	for range 3 {
		must(t, e, "INSERT INTO good SELECT g, 'y' FROM generate_series(1, 100) g")
		if err := e.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, e, "DELETE FROM good WHERE pad = 'y'")
	}
	must(t, e, "VACUUM good")
	serves(e)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told.String(), segment) {
		t.Errorf("the log does not name %s:\n%s", segment, told.String())
	}
	if _, err := takeover.VerifyWith(t.Context(), st, takeover.VerifyOptions{Deep: true}); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), segment) {
		t.Errorf("verify: %v", err)
	}
	past, err := openAt(t, st, Latest())
	if err != nil {
		t.Fatal(err)
	}
	serves(past)
}

// TestDamageOfAnEarlierLayer: where the index of a layer that is kept for earlier states is damaged, layers are still taken, and everything
// else that is superfluous is deleted.
func TestDamageOfAnEarlierLayer(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, func(o *Options) { o.Retain, o.RestoreBudget = 1<<40, -1 })
	for range 3 {
		must(t, e, "CREATE TABLE IF NOT EXISTS t (a int); INSERT INTO t SELECT generate_series(1, 1000)")
		if err := e.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil || len(m.Layers) < 2 {
		t.Fatalf("%d layers, %v", len(m.Layers), err)
	}
	old := m.Layers[0].Key
	if _, err := st.Put(t.Context(), base.IndexKey(old), []byte("x"), "", store.Always()); err != nil {
		t.Fatal(err)
	}
	e = open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
	must(t, e, "INSERT INTO t SELECT generate_series(1, 1000)")
	err = e.Compact(t.Context())
	if !errors.Is(err, errNotCollected) || !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), old) {
		t.Errorf("a layer behind it: %v", err)
	}
	if now, _, err := manifest.Load(t.Context(), st); err != nil || now.Layers[len(now.Layers)-1].Key == m.Layers[len(m.Layers)-1].Key {
		t.Errorf("no layer was taken: %v", err)
	}
}
