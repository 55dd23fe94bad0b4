package wal

import (
	"context"
	"errors"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// TestFencedAfterATryWithoutAnAnswer: a record is stored and its reply lost. Before the writer checks again, a successor reads it,
// compacts, collects it, and the dead fence of a stalled opener takes its name. The writer is fenced, and must not say that the record
// never existed. The explorer found that it did.
func TestFencedAfterATryWithoutAnAnswer(t *testing.T) {
	for _, c := range []struct {
		name    string
		lost    bool
		unknown bool
	}{{"a first try", false, false}, {"after a try without an answer", true, true}} {
		st := mem.New(mem.Options{})
		s := &scripted{Store: st}
		l, err := NewLog(s, Start(database), Options{Epoch: 1, DatabaseID: database, Writer: "w", Clock: newClock()})
		if err != nil {
			t.Fatal(err)
		}
		at, err := l.Fence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		takeName := func() {
			if err := st.Delete(t.Context(), Key(2)); err != nil {
				t.Error(err)
			}
			other, err := NewLog(st, at, Options{Epoch: 2, DatabaseID: database, Writer: "stalled"})
			if err == nil {
				_, err = other.Fence(context.Background())
			}
			if err != nil {
				t.Error(err)
			}
		}
		s.puts.Store(0)
		s.put = func(n int, key string, real func() (store.Gen, error)) (store.Gen, error) {
			if n > 1 {
				return real()
			}
			if !c.lost {
				takeName()
				return real()
			}
			if _, err := real(); err != nil {
				t.Error(err)
			}
			takeName()
			return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
		}
		_, err = l.Append(t.Context(), []Op{{Kind: OpReplace, Path: "/x", Data: []byte("x")}})
		if !errors.Is(err, ErrFenced) || errors.Is(err, store.ErrUnknown) != c.unknown {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, again := l.Append(t.Context(), nil); !errors.Is(again, ErrFenced) || errors.Is(again, store.ErrUnknown) != c.unknown {
			t.Errorf("%s: the next append: %v", c.name, again)
		}
	}
}

// TestUnfencedBehindACollectedRecord: an append of our own was applied and not answered; a successor has fenced after it, compacted, and
// collected it. The explorer found that a strict read took the free name for a proof.
func TestUnfencedBehindACollectedRecord(t *testing.T) {
	st, l := fill(t, 3)
	known := l.Tail()
	if _, err := l.Append(t.Context(), []Op{write(segment, 1, "x")}); err != nil {
		t.Fatal(err)
	}
	rival(t, st, l.Tail(), 2)
	if err := st.Delete(t.Context(), Key(known.Seq+1)); err != nil {
		t.Fatal(err)
	}
	var fenced *FencedError
	if err := Unfenced(t.Context(), st, known, false, database, 1); !errors.As(err, &fenced) || fenced.Seq != known.Seq+2 {
		t.Errorf("got %v", err)
	}
}
