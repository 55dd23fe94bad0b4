package storetest

import (
	"errors"
	"testing"

	"blobpglite/core/store"
)

// testCopies: a copy equals its source, and has the outcomes of a create, whether or not the store makes it itself.
func testCopies(t *testing.T, s store.Store) {
	ctx, body := t.Context(), randomBytes(t, 1<<20)
	from, to := store.Prefixed(s, "from"), store.Count(store.Prefixed(s, "to"))
	if _, err := from.Put(ctx, "a/source", body, store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	id := store.NewWriteID()
	a, err := store.Copy(ctx, to, "b/copy", from, "a/source", id)
	if err != nil {
		t.Fatalf("copy: %v", err)
	}
	o := get(t, to, "b/copy")
	wantBody(t, o, body)
	if a.Key != "b/copy" || a.Gen != o.Gen || a.Size != o.Size || o.WriteID != id || a.WriteID != id {
		t.Errorf("the copy is said to be %+v, and is %+v", a, o.Attrs)
	}
	if through := to.Ops().BytesUp; through != 0 && copiesWithin(t, s, "from/a/source") {
		t.Errorf("%d bytes passed through the caller", through)
	}
	if again, err := store.Copy(ctx, to, "b/copy", from, "a/source", id); err != nil || again.Gen != o.Gen || again.Size != o.Size {
		t.Errorf("the same once more: %+v, %v", again, err)
	}
	_, err = store.Copy(ctx, to, "b/copy", from, "a/source", store.NewWriteID())
	wantError(t, "a copy to where somebody else's is", err, store.ErrConflict)
	_, err = store.Copy(ctx, to, "b/none", from, "a/none", store.NewWriteID())
	wantError(t, "a copy of nothing", err, store.ErrNotFound)
	_, err = to.Get(ctx, "b/none")
	wantError(t, "the copy of nothing", err, store.ErrNotFound)
	if err := from.Delete(ctx, "a/source"); err != nil {
		t.Fatal(err)
	}
	wantBody(t, get(t, to, "b/copy"), body)
}

// copiesWithin reports whether a store copies by itself. A view may claim that it does, and find that the store below
// does not.
func copiesWithin(t *testing.T, s store.Store, from string) bool {
	t.Helper()
	c, ok := s.(store.Copier)
	if !ok {
		return false
	}
	_, err := c.CopyFrom(t.Context(), "within", s, from, store.NewWriteID())
	if err != nil && !errors.Is(err, store.ErrElsewhere) {
		t.Fatalf("copy within the store: %v", err)
	}
	return err == nil
}
