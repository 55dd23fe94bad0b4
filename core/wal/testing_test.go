package wal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	database = "01KB0000000000000000000000"
	segment  = "/pg_wal/000000010000000000000001"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// skipping is a virtual clock that moves as soon as a goroutine sleeps.
type skipping struct{ *clock.Virtual }

func newClock() skipping { return skipping{clock.NewVirtual(epoch)} }

func (s skipping) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.Advance(d)
	return nil
}

// scripted is a store that lets functions decide the outcome of calls. The functions get the number of the call, from 1, and the real call.
type scripted struct {
	store.Store
	put        func(n int, key string, real func() (store.Gen, error)) (store.Gen, error)
	get        func(n int, key string, real func() (store.Object, error)) (store.Object, error)
	puts, gets atomic.Int32
}

func (s *scripted) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	n := int(s.puts.Add(1))
	real := func() (store.Gen, error) { return s.Store.Put(ctx, key, body, id, cond) }
	if s.put == nil {
		return real()
	}
	return s.put(n, key, real)
}

func (s *scripted) Get(ctx context.Context, key string) (store.Object, error) {
	n := int(s.gets.Add(1))
	real := func() (store.Object, error) { return s.Store.Get(ctx, key) }
	if s.get == nil {
		return real()
	}
	return s.get(n, key, real)
}

func fails(op, key string, err error) error { return &store.OpError{Op: op, Key: key, Err: err} }

func newRandom(t testing.TB) *rand.Rand {
	t.Helper()
	const seed = 20260102
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func newEncoder(t testing.TB) *zstd.Encoder {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(pieceBytes), zstd.WithZeroFrames(false))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func write(path string, at int64, data string) Op {
	return Op{Kind: OpWrite, Path: path, Offset: at, Data: []byte(data)}
}

func newLog(t testing.TB, st store.Store, tail Position, epoch uint64) *Log {
	t.Helper()
	l, err := NewLog(st, tail, Options{Epoch: epoch, DatabaseID: database, Writer: "host-3", Clock: newClock()})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fill makes a log of a fence and n-1 data records.
func fill(t testing.TB, n int) (*mem.Store, *Log) {
	t.Helper()
	st := mem.New(mem.Options{})
	l := newLog(t, st, Start(database), 1)
	if _, err := l.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := 2; i <= n; i++ {
		if _, err := l.Append(t.Context(), []Op{write(segment, int64(i), fmt.Sprint("commit ", i))}); err != nil {
			t.Fatal(err)
		}
	}
	return st, l
}

// edit rewrites a stored record, sound in itself.
func edit(t testing.TB, st store.Store, seq uint64, change func(*Record)) {
	t.Helper()
	o, err := st.Get(t.Context(), Key(seq))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Decode(o.Body)
	if err != nil {
		t.Fatal(err)
	}
	change(&r)
	e, err := encode(r, newEncoder(t))
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, st, Key(seq), e.body)
}

func overwrite(t testing.TB, st store.Store, key string, body []byte) {
	t.Helper()
	if _, err := st.Put(t.Context(), key, body, "damage", store.Always()); err != nil {
		t.Fatal(err)
	}
}

// readAll reads a log and returns its records.
func readAll(t testing.TB, st store.Store, o ReadOptions) ([]Record, Position, error) {
	t.Helper()
	o.DatabaseID = database
	if o.From == (Position{}) {
		o.From = Start(database)
	}
	var got []Record
	tail, err := Read(t.Context(), st, o, func(r Record) error { got = append(got, r); return nil })
	return got, tail, err
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
}
