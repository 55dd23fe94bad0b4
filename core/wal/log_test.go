package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// rival writes a fence at the next name, through the store below.
func rival(t *testing.T, st store.Store, tail Position, epoch uint64) {
	t.Helper()
	l := newLog(t, st, tail, epoch)
	l.o.Writer = "rival"
	if _, err := l.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Each outcome of an append, with the store's answers in turn.
func TestAppendEnds(t *testing.T) {
	type real = func() (store.Gen, error)
	for _, c := range []struct {
		name   string
		put    func(t *testing.T, st store.Store, tail Position) func(n int, key string, put real) (store.Gen, error)
		get    func(n int, key string, get func() (store.Object, error)) (store.Object, error)
		want   error
		stored bool // our record is in the log at the end
		puts   int  // 0: not checked
	}{
		{name: "created", stored: true, puts: 1},
		{name: "our own, told conflict", stored: true, puts: 1, put: lose(store.ErrConflict, 1)},
		{name: "our own, told throttled", stored: true, puts: 1, put: lose(store.ErrThrottled, 1)},
		{name: "applied, unknown, then found", stored: true, puts: 2, put: lose(store.ErrUnknown, 1)},
		{name: "throttled, nothing there", stored: true, puts: 3, put: refuse(store.ErrThrottled, 2)},
		{name: "conflict, nothing there", stored: true, puts: 2, put: refuse(store.ErrConflict, 1)},
		{name: "unknown, not applied", stored: true, puts: 4, put: refuse(store.ErrUnknown, 3)},
		{name: "fenced, told conflict", want: ErrFenced, puts: 1, put: func(t *testing.T, st store.Store, tail Position) func(int, string, real) (store.Gen, error) {
			return func(n int, key string, put real) (store.Gen, error) { rival(t, st, tail, 9); return put() }
		}},
		{name: "fenced, told throttled", want: ErrFenced, puts: 1, put: func(t *testing.T, st store.Store, tail Position) func(int, string, real) (store.Gen, error) {
			return func(n int, key string, put real) (store.Gen, error) {
				rival(t, st, tail, 9)
				return 0, fails("put", key, store.ErrThrottled)
			}
		}},
		{name: "unknown, then fenced", want: ErrFenced, puts: 2, put: func(t *testing.T, st store.Store, tail Position) func(int, string, real) (store.Gen, error) {
			return func(n int, key string, put real) (store.Gen, error) {
				if n == 1 {
					rival(t, st, tail, 9)
					return 0, fails("put", key, store.ErrUnknown)
				}
				return put()
			}
		}},
		{name: "a lower epoch stands there", want: ErrCorrupt, puts: 1, put: func(t *testing.T, st store.Store, tail Position) func(int, string, real) (store.Gen, error) {
			return func(n int, key string, put real) (store.Gen, error) { rival(t, st, tail, 1); return put() }
		}},
		{name: "rubbish stands there", want: ErrCorrupt, puts: 1, put: func(t *testing.T, st store.Store, tail Position) func(int, string, real) (store.Gen, error) {
			return func(n int, key string, put real) (store.Gen, error) {
				overwrite(t, st, key, []byte("rubbish"))
				return put()
			}
		}},
		{name: "unknown to the end, applied", want: store.ErrUnknown, stored: true, put: lose(store.ErrUnknown, 1<<30)},
		{name: "unknown to the end, not applied", want: store.ErrUnknown, put: refuse(store.ErrUnknown, 1<<30)},
		{name: "throttled to the end", want: store.ErrUnknown, put: refuse(store.ErrThrottled, 1<<30)},
		{name: "denied", want: store.ErrDenied, puts: 1, put: refuse(store.ErrDenied, 1<<30)},
		{name: "unknown, then denied: it may be there", want: store.ErrUnknown, put: func(*testing.T, store.Store, Position) func(int, string, real) (store.Gen, error) {
			return func(n int, key string, put real) (store.Gen, error) {
				if n == 1 {
					return 0, fails("put", key, store.ErrUnknown)
				}
				return 0, fails("put", key, store.ErrDenied)
			}
		}},
		{name: "conflict, unreadable once", stored: true, put: lose(store.ErrConflict, 2), get: func(n int, key string, get func() (store.Object, error)) (store.Object, error) {
			if n == 1 {
				return store.Object{}, fails("get", key, store.ErrUnavailable)
			}
			return get()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			below, first := fill(t, 3)
			st := &scripted{Store: below, get: c.get}
			if c.put != nil {
				st.put = c.put(t, below, first.Tail())
			}
			l := newLog(t, st, first.Tail(), 2)
			at, err := l.Append(t.Context(), []Op{write(segment, 9, "ours")})
			if (err == nil) != (c.want == nil) || !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.puts != 0 && int(st.puts.Load()) != c.puts {
				t.Errorf("%d puts, want %d", st.puts.Load(), c.puts)
			}
			checkEnd(t, below, st, l, at, err, c.stored)
			if elapsed := l.o.Clock.Monotonic(); elapsed > DefaultDeadline+maxPause {
				t.Errorf("it took %v, the deadline is %v", elapsed, DefaultDeadline)
			}
		})
	}
}

// lose applies puts, but returns err for the first n.
func lose(err error, n int) func(*testing.T, store.Store, Position) func(int, string, func() (store.Gen, error)) (store.Gen, error) {
	return func(*testing.T, store.Store, Position) func(int, string, func() (store.Gen, error)) (store.Gen, error) {
		return func(i int, key string, put func() (store.Gen, error)) (store.Gen, error) {
			gen, realErr := put()
			if i <= n {
				return 0, fails("put", key, err)
			}
			return gen, realErr
		}
	}
}

// refuse does not apply the first n puts.
func refuse(err error, n int) func(*testing.T, store.Store, Position) func(int, string, func() (store.Gen, error)) (store.Gen, error) {
	return func(*testing.T, store.Store, Position) func(int, string, func() (store.Gen, error)) (store.Gen, error) {
		return func(i int, key string, put func() (store.Gen, error)) (store.Gen, error) {
			if i <= n {
				return 0, fails("put", key, err)
			}
			return put()
		}
	}
}

// checkEnd checks the log, the writer and the error.
func checkEnd(t *testing.T, below store.Store, st *scripted, l *Log, at Position, err error, stored bool) {
	t.Helper()
	o, getErr := below.Get(t.Context(), Key(4))
	r, decodeErr := Decode(o.Body)
	if ours := getErr == nil && decodeErr == nil && r.Kind == Data; ours != stored {
		t.Errorf("our record is in the log: %v, want %v (%v)", ours, stored, getErr)
	}
	if err == nil {
		if at.Seq != 4 || at.Epoch != 2 || at.Hash != r.Hash || l.Tail() != at {
			t.Errorf("at %+v, the tail is %+v", at, l.Tail())
		}
		if _, err := l.Append(t.Context(), nil); err != nil {
			t.Errorf("the next append: %v", err)
		}
		return
	}
	if !strings.Contains(err.Error(), "record 4") && !strings.Contains(err.Error(), Key(4)) {
		t.Errorf("the message does not name the record: %v", err)
	}
	var fenced *FencedError
	if errors.As(err, &fenced) && (fenced.Epoch != 9 || fenced.By != "rival" || fenced.Seq != 4 || fenced.Ours != 2) {
		t.Errorf("fenced by %+v", fenced)
	}
	before := st.puts.Load()
	if _, again := l.Append(t.Context(), nil); !errors.Is(again, err) {
		t.Errorf("a dead log says %v, not %v", again, err)
	}
	if _, again := l.Fence(t.Context()); !errors.Is(again, err) || st.puts.Load() != before {
		t.Errorf("a dead log writes (%v)", again)
	}
}

func TestAppendEndsWithItsContext(t *testing.T) {
	below, first := fill(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	st := &scripted{Store: below, put: func(_ int, key string, _ func() (store.Gen, error)) (store.Gen, error) {
		cancel()
		return 0, fails("put", key, store.ErrUnknown)
	}}
	_, err := newLog(t, st, first.Tail(), 1).Append(ctx, nil)
	is(t, err, store.ErrUnknown)
	is(t, err, context.Canceled)
}

func TestTwoInFlightPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below, first := fill(t, 1)
		hold := make(chan struct{})
		st := &scripted{Store: below, put: func(_ int, _ string, put func() (store.Gen, error)) (store.Gen, error) {
			<-hold
			return put()
		}}
		l := newLog(t, st, first.Tail(), 1)
		done := make(chan error, 1)
		go func() { _, err := l.Append(t.Context(), nil); done <- err }()
		synctest.Wait()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a second append in flight does not panic")
				}
			}()
			_, _ = l.Append(t.Context(), nil)
		}()
		close(hold)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNewLogRefuses(t *testing.T) {
	for _, o := range []Options{{DatabaseID: database}, {Epoch: 1}} {
		if _, err := NewLog(mem.New(mem.Options{}), Position{}, o); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// An opener finds a record where its fence would be, reads on and fences after it.
func TestFenceBehindWhoWasFaster(t *testing.T) {
	st, writer := fill(t, 2)
	l := newLog(t, st, writer.Tail(), 2)
	if _, err := writer.Append(t.Context(), []Op{write(segment, 5, "late")}); err != nil {
		t.Fatal(err)
	}
	_, err := l.Fence(t.Context())
	var taken *TakenError
	if !errors.As(err, &taken) || taken.Record.Seq != 3 || taken.Record.Kind != Data || taken.Record.Epoch != 1 {
		t.Fatalf("%v, want record 3 as the one that was faster", err)
	}
	l.Advance(taken.Record)
	if l.Epoch() != 2 {
		t.Errorf("epoch %d after a record of epoch 1, want 2", l.Epoch())
	}
	at, err := l.Fence(t.Context())
	if err != nil || at.Seq != 4 || at.Epoch != 2 {
		t.Fatalf("%+v, %v", at, err)
	}
	_, err = writer.Append(t.Context(), nil)
	is(t, err, ErrFenced)
	l.Advance(Record{Seq: 4, Epoch: 8, Hash: at.Hash})
	if l.Epoch() != 9 {
		t.Errorf("epoch %d after a record of epoch 8", l.Epoch())
	}
	l.Raise(3)
	l.Raise(12)
	if at, err = l.Fence(t.Context()); err != nil || at.Epoch != 12 || at.Seq != 5 {
		t.Fatalf("%+v, %v", at, err)
	}
	if got, _, err := readAll(t, st, ReadOptions{}); err != nil || len(got) != 5 {
		t.Fatalf("%d records, %v", len(got), err)
	}
}

func TestLargeRecordsGoInParts(t *testing.T) {
	random := newRandom(t)
	below, first := fill(t, 1)
	st := &scripted{Store: below, put: lose(store.ErrUnknown, 2)(t, below, Position{})}
	l := newLog(t, st, first.Tail(), 1)
	data := randomBytes(random, 9<<20)
	if _, err := l.Append(t.Context(), []Op{{Kind: OpWrite, Path: segment, Data: data}, write(segment, 7, "after")}); err != nil {
		t.Fatal(err)
	}
	var parts []string
	for a, err := range below.List(t.Context(), "part/", "") {
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, a.Key)
	}
	if len(parts) != 3 || !strings.HasPrefix(parts[0], "part/1-") {
		t.Fatalf("parts %q, want 3", parts)
	}
	got, _, err := readAll(t, below, ReadOptions{})
	if err != nil || len(got) != 2 || string(got[1].Ops[0].Data) != string(data) || string(got[1].Ops[1].Data) != "after" {
		t.Fatalf("%d records, %v", len(got), err)
	}
	o, err := below.Get(t.Context(), Key(2))
	if err != nil || len(o.Body) > 1000 {
		t.Fatalf("the record itself has %d bytes, %v", len(o.Body), err)
	}
	if _, err := Decode(o.Body); !errors.Is(err, ErrCorrupt) {
		t.Errorf("decode without the parts: %v", err)
	}
	checkDamagedParts(t, below, parts)
}

func checkDamagedParts(t *testing.T, st store.Store, parts []string) {
	t.Helper()
	o, err := st.Get(t.Context(), parts[1])
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(at int, bit byte) func() error {
		return func() error {
			b := bytes.Clone(o.Body)
			b[at] ^= bit
			overwrite(t, st, parts[1], b)
			return ErrCorrupt
		}
	}
	for name, spoil := range map[string]func() error{
		"first bit": flipped(0, 1), "in the middle": flipped(len(o.Body)/2, 8), "last bit": flipped(len(o.Body)-1, 128),
		"cut":       func() error { overwrite(t, st, parts[1], o.Body[1:]); return ErrCorrupt },
		"cut short": func() error { overwrite(t, st, parts[1], o.Body[:len(o.Body)-1]); return ErrCorrupt },
		"longer":    func() error { overwrite(t, st, parts[1], append(bytes.Clone(o.Body), 0)); return ErrCorrupt },
		"empty":     func() error { overwrite(t, st, parts[1], nil); return ErrCorrupt },
		"another part's": func() error {
			other, err := st.Get(t.Context(), parts[0])
			if err != nil {
				t.Fatal(err)
			}
			if len(other.Body) != len(o.Body) {
				t.Fatalf("%d bytes and %d: its length tells", len(other.Body), len(o.Body))
			}
			overwrite(t, st, parts[1], other.Body)
			return ErrCorrupt
		},
		"missing": func() error {
			if err := st.Delete(t.Context(), parts[1]); err != nil {
				t.Fatal(err)
			}
			return store.ErrNotFound
		},
	} {
		want := spoil()
		for _, probe := range []bool{false, true} {
			got, tail, err := readAll(t, st, ReadOptions{Probe: probe})
			if !errors.Is(err, want) || len(got) != 1 || tail.Seq != 1 {
				t.Fatalf("part %s, probe %v: %v after %d records, want %v", name, probe, err, len(got), want)
			}
			if !strings.Contains(err.Error(), "record 2") || !strings.Contains(err.Error(), parts[1]) {
				t.Errorf("the message does not name the record and the part: %v", err)
			}
		}
	}
}

// A part that cannot be uploaded leaves no record that names it.
func TestRecordAfterItsParts(t *testing.T) {
	below, first := fill(t, 1)
	st := &scripted{Store: below, put: func(_ int, key string, put func() (store.Gen, error)) (store.Gen, error) {
		if strings.HasSuffix(key, "/000001") {
			return 0, fails("put", key, store.ErrDenied)
		}
		return put()
	}}
	l := newLog(t, st, first.Tail(), 1)
	_, err := l.Append(t.Context(), []Op{{Kind: OpWrite, Path: segment, Data: randomBytes(newRandom(t), 9<<20)}})
	is(t, err, store.ErrDenied)
	_, err = below.Get(t.Context(), Key(2))
	is(t, err, store.ErrNotFound)
}

func TestPointsOfTheLog(t *testing.T) {
	dead := errors.New("dead")
	for _, p := range []point.Point{point.WalBeforePart, point.WalAfterPart, point.WalBeforePut, point.WalAfterPut, point.FenceBeforePut, point.FenceAfterPut} {
		st, first := fill(t, 1)
		l := newLog(t, st, first.Tail(), 2)
		l.o.Hook = func(_ context.Context, at point.Point) error {
			if at == p {
				return dead
			}
			return nil
		}
		fence := strings.HasPrefix(string(p), "fence/")
		var err error
		if fence {
			_, err = l.Fence(t.Context())
		} else {
			_, err = l.Append(t.Context(), []Op{{Kind: OpWrite, Path: segment, Data: randomBytes(newRandom(t), 9<<20)}})
		}
		is(t, err, dead)
		_, err = st.Get(t.Context(), Key(2))
		if there := err == nil; there != (p == point.WalAfterPut || p == point.FenceAfterPut) {
			t.Errorf("%s: the record is there: %v", p, there)
		}
	}
}

func TestMessages(t *testing.T) {
	e := &FencedError{Seq: 4, Epoch: 9, Ours: 2, By: "rival"}
	for _, want := range []string{"record 4", "epoch 9", "rival", "ours is 2"} {
		if !strings.Contains(e.Error(), want) {
			t.Errorf("%q does not say %q", e, want)
		}
	}
	if s := fmt.Sprint(Data, Fence, Kind(7)); s != "data fence kind(7)" {
		t.Error(s)
	}
	if d := (Options{}).Deadline; d != 0*time.Second || DefaultDeadline <= maxPause {
		t.Error("a deadline of one pause decides nothing")
	}
}
