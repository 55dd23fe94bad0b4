package wal

import (
	"errors"
	"testing"

	"blobpglite/core/store"
)

func TestUnfenced(t *testing.T) {
	st, l := fill(t, 3)
	known := l.Tail()
	look := func(tail Position, epoch uint64) error {
		counted := store.Count(st)
		err := Unfenced(t.Context(), counted, tail, false, database, epoch)
		if n := counted.Ops().ClassB; n > 2 {
			t.Errorf("%d requests", n)
		}
		return err
	}
	if err := look(known, 1); err != nil {
		t.Errorf("nobody has fenced: %v", err)
	}
	commit := func() {
		if _, err := l.Append(t.Context(), []Op{write(segment, 1, "x")}); err != nil {
			t.Fatal(err)
		}
	}
	commit() // in flight: applied, not answered
	if err := look(known, 1); err != nil {
		t.Errorf("an append of its own is in flight: %v", err)
	}
	rival(t, st, l.Tail(), 2) // fences after it
	var fenced *FencedError
	if err := look(known, 1); !errors.As(err, &fenced) || fenced.Epoch != 2 || fenced.Seq != known.Seq+2 {
		t.Errorf("fenced behind an append in flight: %v", err)
	}
	if err := look(l.Tail(), 1); !errors.Is(err, ErrFenced) {
		t.Errorf("fenced: %v", err)
	}
	if err := Unfenced(t.Context(), st, known, false, "another", 1); !errors.Is(err, ErrForeign) {
		t.Errorf("another database: %v", err)
	}

	st, l = fill(t, 3)
	known = l.Tail()
	commit()
	commit() // began after the look, so the look began before any fence that follows it
	rival(t, st, l.Tail(), 2)
	if err := look(known, 1); err != nil {
		t.Errorf("two own records behind the one that was known: %v", err)
	}
	overwrite(t, st, Key(known.Seq+1), []byte("rubbish"))
	if err := look(known, 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("rubbish: %v", err)
	}
}
