package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/store"
)

// modes are the ways to read a log.
func modes() map[string]ReadOptions {
	return map[string]ReadOptions{
		"list":              {},
		"list, one by one":  {Parallel: 1},
		"probe":             {Probe: true},
		"probe, one by one": {Probe: true, Parallel: 1},
	}
}

func TestReadGivesTheSameInEachMode(t *testing.T) {
	for _, n := range []int{1, 2, 31, 32, 33, 64, 65, 100, 300} {
		st, l := fill(t, n)
		want, _, err := readAll(t, st, ReadOptions{})
		if err != nil || len(want) != n {
			t.Fatalf("%d of %d records, %v", len(want), n, err)
		}
		for name, o := range modes() {
			got, tail, err := readAll(t, st, o)
			if err != nil || tail != l.Tail() || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %d of %d records, tail %+v, %v", name, len(got), n, tail, err)
			}
			o.From = Position{Seq: uint64(n), Epoch: 1, Hash: l.Tail().Hash}
			if got, tail, err := readAll(t, st, o); err != nil || len(got) != 0 || tail != o.From {
				t.Errorf("%s: behind the tail are %d records, %v", name, len(got), err)
			}
		}
	}
	for i, r := range slices.Collect(func(yield func(Record) bool) {
		st, _ := fill(t, 9)
		got, _, _ := readAll(t, st, ReadOptions{})
		for _, r := range got {
			if !yield(r) {
				return
			}
		}
	}) {
		if r.Seq != uint64(i+1) || r.Kind == Data && string(r.Ops[0].Data) != fmt.Sprint("commit ", r.Seq) {
			t.Errorf("record %d is %+v", i+1, r)
		}
	}
}

// Every damage ends the reading at the record before it, and the message names the record.
func TestReadNamesTheDamagedRecord(t *testing.T) {
	const bad = 5
	random := newRandom(t)
	change := func(f func(*Record)) func(*testing.T, store.Store) {
		return func(t *testing.T, st store.Store) { edit(t, st, bad, f) }
	}
	bytesOf := func(t *testing.T, st store.Store, seq uint64) []byte {
		o, err := st.Get(t.Context(), Key(seq))
		if err != nil {
			t.Fatal(err)
		}
		return o.Body
	}
	for name, c := range map[string]struct {
		spoil    func(*testing.T, store.Store)
		want     error
		listOnly bool
	}{
		"bits": {func(t *testing.T, st store.Store) {
			b := bytesOf(t, st, bad)
			b[8+random.IntN(len(b)-8)] ^= 1 << random.IntN(8)
			overwrite(t, st, Key(bad), b)
		}, ErrCorrupt, false},
		"magic":     {func(t *testing.T, st store.Store) { b := bytesOf(t, st, bad); b[0] ^= 1; overwrite(t, st, Key(bad), b) }, ErrCorrupt, false},
		"truncated": {func(t *testing.T, st store.Store) { overwrite(t, st, Key(bad), bytesOf(t, st, bad)[:100]) }, ErrCorrupt, false},
		"empty":     {func(t *testing.T, st store.Store) { overwrite(t, st, Key(bad), nil) }, ErrCorrupt, false},
		"zeroes":    {func(t *testing.T, st store.Store) { overwrite(t, st, Key(bad), make([]byte, 500)) }, ErrCorrupt, false},
		"newer": {func(t *testing.T, st store.Store) {
			b := bytesOf(t, st, bad)
			b[4] = Format + 1
			overwrite(t, st, Key(bad), seal(b))
		}, ErrNewer, false},
		"foreign":  {change(func(r *Record) { r.DatabaseID = "another" }), ErrForeign, false},
		"chain":    {change(func(r *Record) { r.Prev[3] ^= 1 }), ErrCorrupt, false},
		"epoch":    {change(func(r *Record) { r.Epoch = 2 }), ErrCorrupt, false},
		"no chain": {func(t *testing.T, st store.Store) { edit(t, st, bad-1, func(r *Record) { r.Writer = "x" }) }, ErrCorrupt, false},
		"swapped": {func(t *testing.T, st store.Store) {
			a, b := bytesOf(t, st, bad), bytesOf(t, st, bad+1)
			overwrite(t, st, Key(bad), b)
			overwrite(t, st, Key(bad+1), a)
		}, ErrCorrupt, false},
		"repeated": {func(t *testing.T, st store.Store) { overwrite(t, st, Key(bad), bytesOf(t, st, bad-1)) }, ErrCorrupt, false},
		"missing": {func(t *testing.T, st store.Store) {
			if err := st.Delete(t.Context(), Key(bad)); err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt, true},
	} {
		for mode, o := range modes() {
			if c.listOnly && o.Probe {
				continue
			}
			st, _ := fill(t, 50)
			c.spoil(t, st)
			got, tail, err := readAll(t, st, o)
			if !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v, want %v", name, mode, err, c.want)
				continue
			}
			if !strings.Contains(err.Error(), fmt.Sprint("record ", bad)) && !strings.Contains(err.Error(), Key(bad)) {
				t.Errorf("%s, %s: the message does not name the record: %v", name, mode, err)
			}
			if wantRead := bad - 1; name != "missing" && (len(got) != wantRead && name != "no chain" || tail.Seq != uint64(len(got))) {
				t.Errorf("%s, %s: %d records before the damage, tail %d", name, mode, len(got), tail.Seq)
			}
		}
	}
}

func TestReadRefusesWhatDoesNotBelong(t *testing.T) {
	st, l := fill(t, 3)
	rival(t, st, l.Tail(), 5)
	edit(t, st, 4, func(r *Record) { r.Epoch = 1; r.Kind = Data })
	if got, _, err := readAll(t, st, ReadOptions{}); err != nil || len(got) != 4 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	edit(t, st, 3, func(r *Record) { r.Kind, r.Epoch, r.Ops = Fence, 6, nil })
	o, _ := st.Get(t.Context(), Key(3))
	r, _ := Decode(o.Body)
	edit(t, st, 4, func(r4 *Record) { r4.Prev = r.Hash })
	_, _, err := readAll(t, st, ReadOptions{})
	is(t, err, ErrCorrupt)
	if !strings.Contains(err.Error(), "epoch 1 after epoch 6") {
		t.Errorf("a record of epoch 1 behind a fence of epoch 6: %v", err)
	}
	overwrite(t, st, "wal/rubbish", nil)
	_, _, err = readAll(t, st, ReadOptions{})
	is(t, err, ErrCorrupt)
}

// The first record after the place that a manifest names must be data that follows, or a fence: an opener may have fenced after a record
// that was collected and whose name a dead fence has taken. A fence carries nothing, and a record at wal_start was never deleted.
func TestReadAcceptsAFenceBehindACollectedRecord(t *testing.T) {
	st, l := fill(t, 4)
	at := l.Tail()
	rival(t, st, Position{Seq: 4, Epoch: 2, Hash: [32]byte{9}}, 3) // its view of record 4 was another
	for name, o := range modes() {
		o.From = at
		if got, tail, err := readAll(t, st, o); err != nil || len(got) != 1 || tail.Epoch != 3 {
			t.Errorf("%s: %d records, %v", name, len(got), err)
		}
		o.From = Position{}
		if _, _, err := readAll(t, st, o); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: in the middle of a log it is %v, want ErrCorrupt", name, err)
		}
	}
	st2, l2 := fill(t, 4)
	at = l2.Tail()
	if _, err := l2.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	edit(t, st2, 5, func(r *Record) { r.Prev[0] ^= 1 })
	_, _, err := readAll(t, st2, ReadOptions{From: at})
	is(t, err, ErrCorrupt)
}

// Errors from outside the log pass through, and nothing is left running.
func TestReadPassesErrorsThrough(t *testing.T) {
	mine := errors.New("mine")
	below, _ := fill(t, 100)
	for name, o := range modes() {
		o.From, o.DatabaseID = Start(database), database
		n := 0
		tail, err := Read(t.Context(), below, o, func(Record) error {
			if n++; n == 40 {
				return mine
			}
			return nil
		})
		if !errors.Is(err, mine) || tail.Seq != 39 || n != 40 {
			t.Errorf("%s: each fails: %v, tail %d, called %d times", name, err, tail.Seq, n)
		}
		for _, want := range []error{store.ErrUnavailable, store.ErrDenied} {
			st := &scripted{Store: below, get: func(_ int, key string, get func() (store.Object, error)) (store.Object, error) {
				if key == Key(40) {
					return store.Object{}, fails("get", key, want)
				}
				return get()
			}}
			if tail, err := Read(t.Context(), st, o, func(Record) error { return nil }); !errors.Is(err, want) || tail.Seq != 39 || errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v, tail %d, want %v", name, err, tail.Seq, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err = Read(ctx, below, o, func(r Record) error {
			if r.Seq == 3 {
				cancel()
			}
			return nil
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: canceled: %v", name, err)
		}
	}
}

// A record that was listed and is gone was collected: that is not damage.
func TestReadSaysWhatWasCollected(t *testing.T) {
	below, _ := fill(t, 10)
	st := &scripted{Store: below, get: func(_ int, key string, get func() (store.Object, error)) (store.Object, error) {
		if key == Key(6) {
			return store.Object{}, fails("get", key, store.ErrNotFound)
		}
		return get()
	}}
	for _, parallel := range []int{1, 32} {
		_, tail, err := readAll(t, st, ReadOptions{Parallel: parallel})
		if !errors.Is(err, store.ErrNotFound) || errors.Is(err, ErrCorrupt) || tail.Seq != 5 {
			t.Errorf("%v, tail %d", err, tail.Seq)
		}
	}
}

func TestOneRequestAtATime(t *testing.T) {
	below, _ := fill(t, 20)
	busy := false
	st := &scripted{Store: below, get: func(_ int, _ string, get func() (store.Object, error)) (store.Object, error) {
		if busy {
			t.Error("two requests at a time")
		}
		busy = true
		defer func() { busy = false }()
		return get()
	}}
	for _, probe := range []bool{false, true} {
		if got, _, err := readAll(t, st, ReadOptions{Parallel: 1, Probe: probe}); err != nil || len(got) != 20 {
			t.Fatalf("%d records, %v", len(got), err)
		}
	}
}

// Records share no memory with each other.
func TestRecordsAreTheReaders(t *testing.T) {
	st, _ := fill(t, 3)
	got, _, err := readAll(t, st, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(got[2].Ops[0].Data)
	copy(got[1].Ops[0].Data, "????????")
	if !bytes.Equal(got[2].Ops[0].Data, want) {
		t.Error("a change of one record shows in another")
	}
}
