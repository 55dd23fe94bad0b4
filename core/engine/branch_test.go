package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"blobpglite/core/gc"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
)

// TestACopyIsADatabaseOfItsOwn: it starts from the original's state, both then develop independently, and the original's bucket is
// unchanged.
func TestACopyIsADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	from := mem.New(mem.Options{})
	original := open(t, from, inLog)
	must(t, original, "CREATE TABLE t (a int, b text)")
	must(t, original, "INSERT INTO t SELECT g, 'before' FROM generate_series(1, 1000) g")
	if err := original.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, original, "INSERT INTO t VALUES (5000, 'behind the layer')")
	want := must(t, original, contents)

	counted := store.Count(from)
	r, err := Restore(t.Context(), counted, Latest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if ops := counted.Ops(); ops.BytesUp != 0 || ops.Delete != 0 {
		t.Errorf("restoring wrote: %+v", ops)
	}
	to := mem.New(mem.Options{})
	id, err := NewDatabase(t.Context(), to, r, "copy", nil)
	if err != nil || id == r.Manifest.DatabaseID {
		t.Fatalf("%q, %v; the original is %q", id, err, r.Manifest.DatabaseID)
	}
	must(t, original, "DELETE FROM t WHERE a > 10")
	for life := range 3 {
		e := open(t, to, inLog)
		if e.Opened().Created {
			t.Fatal("a copy was taken for an empty prefix")
		}
		if got := must(t, e, "SELECT count(*) || '' FROM t WHERE a < 6000"); got != "1001" {
			t.Errorf("life %d: %s rows", life, got)
		}
		if got := must(t, e, contents); life == 0 && got != want {
			t.Errorf("the copy is %q, the original was %q", got, want)
		}
		must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d, 'in the copy')", 7000+life))
		if life == 1 {
			if err := e.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e.Abandon()
		if _, err := takeover.VerifyWith(t.Context(), to, takeover.VerifyOptions{Deep: true}); err != nil {
			t.Error(err)
		}
	}
	if got := must(t, original, "SELECT count(*) || '' FROM t"); got != "10" {
		t.Errorf("the original has %s rows", got)
	}
}

func TestACopyOnlyGoesToAnEmptyPrefix(t *testing.T) {
	t.Parallel()
	from := mem.New(mem.Options{})
	if _, err := Restore(t.Context(), from, Latest(), nil); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("no database: %v", err)
	}
	e := open(t, from, inLog)
	if _, err := Restore(t.Context(), from, Latest(), nil); !errors.Is(err, ErrBeyondRetention) {
		t.Errorf("nothing was committed yet: %v", err)
	}
	must(t, e, "CREATE TABLE t (a int)")
	r, err := Restore(t.Context(), from, Latest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewDatabase(t.Context(), from, r, "copy", nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("onto itself: %v", err)
	}
	to := mem.New(mem.Options{})
	if _, err := to.Put(t.Context(), "notes.txt", []byte("mine"), store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	if _, err := NewDatabase(t.Context(), to, r, "copy", nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("beside another object: %v", err)
	}
	// A rival creates a database after the check: the manifest decides, and what was uploaded is collected.
	rival := &rivalStore{Store: mem.New(mem.Options{})}
	rival.before = func() {
		e := open(t, rival.Store, inLog)
		must(t, e, "CREATE TABLE theirs (a int)")
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := NewDatabase(t.Context(), rival, r, "copy", nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("against a rival: %v", err)
	}
	o, err := takeover.Open(t.Context(), takeover.Options{Store: rival.Store, Writer: "gc"})
	if err != nil {
		t.Fatal(err)
	}
	stats, err := gc.Collect(t.Context(), gc.Options{Store: rival.Store, Epoch: o.Epoch, Writer: "gc"})
	if err != nil || stats.Layers == 0 {
		t.Errorf("collected %+v, %v", stats, err)
	}
	if _, err := takeover.Verify(t.Context(), rival.Store); err != nil {
		t.Error(err)
	}
}

// rivalStore calls before when something is first written.
type rivalStore struct {
	store.Store
	once   sync.Once
	before func()
}

func (s *rivalStore) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	s.once.Do(s.before)
	return s.Store.Put(ctx, key, body, id, cond)
}
