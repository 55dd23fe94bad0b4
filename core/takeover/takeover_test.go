package takeover

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// skipping is a virtual clock that moves as soon as a goroutine sleeps.
type skipping struct{ *clock.Virtual }

func newClock() skipping {
	return skipping{clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
}

func (s skipping) Sleep(ctx context.Context, d time.Duration) error {
	s.Advance(d)
	return ctx.Err()
}

func open(t *testing.T, st store.Store, writer string, change ...func(*Options)) (*Opened, error) {
	t.Helper()
	o := Options{
		Store: st, Writer: writer, Create: true, Clock: newClock(), LeaseTTL: time.Millisecond, AcquireTimeout: time.Minute,
		Postgres: "18.6",
	}
	for _, c := range change {
		c(&o)
	}
	return Open(t.Context(), o)
}

func mustOpen(t *testing.T, st store.Store, writer string, change ...func(*Options)) *Opened {
	t.Helper()
	o, err := open(t, st, writer, change...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// appendID appends a record that carries an id.
func appendID(t *testing.T, o *Opened, id string) error {
	t.Helper()
	_, err := o.Log.Append(t.Context(), []wal.Op{{Kind: wal.OpReplace, Path: "/id", Data: []byte(id)}})
	return err
}

// ids are the contents of an opening's records, in order.
func ids(o *Opened) string {
	var out []string
	for _, r := range o.Records {
		for _, op := range r.Ops {
			out = append(out, string(op.Data))
		}
	}
	return strings.Join(out, " ")
}

// compact makes the manifest start after everything that a writer has written, and collects.
func compact(t *testing.T, st store.Store, o *Opened) {
	t.Helper()
	err := publishTail(t, st, o)
	if err == nil {
		_, err = gc.Collect(t.Context(), gc.Options{Store: st, Epoch: o.Epoch, Writer: "w"})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// publishTail stores an empty layer at the writer's tail, and names it in the manifest.
func publishTail(t *testing.T, st store.Store, o *Opened) error {
	t.Helper()
	at := o.Log.Tail()
	key := fmt.Sprintf("base/%d-%d", o.Epoch, at.Seq)
	_, _, err := base.Write(t.Context(), st, key, memfs.New(memfs.Options{}), base.WriteOptions{})
	if err == nil {
		_, err = manifest.Publish(t.Context(), st, manifest.Options{Epoch: o.Epoch, Writer: "w"}, manifest.Layer{
			Key: key, Epoch: at.Epoch, Seq: at.Seq, Hash: hex.EncodeToString(at.Hash[:]),
		})
	}
	return err
}

func TestLives(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	if _, err := open(t, st, "w", func(o *Options) { o.Create = false }); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an empty prefix: %v", err)
	}
	first := mustOpen(t, st, "first")
	if !first.Created || first.Epoch != 1 || len(first.Records) != 0 {
		t.Errorf("a new database: %+v", first)
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := appendID(t, first, id); err != nil {
			t.Fatal(err)
		}
	}
	second := mustOpen(t, st, "second")
	if second.Created || second.Epoch != 2 || ids(second) != "a b c" {
		t.Errorf("the second life: epoch %d, %q", second.Epoch, ids(second))
	}
	var fenced *wal.FencedError
	if err := appendID(t, first, "zombie"); !errors.As(err, &fenced) || fenced.Epoch != 2 || fenced.By != "second" {
		t.Errorf("the zombie's append: %v", err)
	}
	if err := appendID(t, second, "d"); err != nil {
		t.Fatal(err)
	}
	compact(t, st, second)
	if err := appendID(t, second, "e"); err != nil {
		t.Fatal(err)
	}
	third := mustOpen(t, st, "third")
	if third.Epoch != 3 || ids(third) != "e" || len(third.Manifest.Layers) != 1 {
		t.Errorf("the third life: epoch %d, %q, %+v", third.Epoch, ids(third), third.Manifest)
	}
	report, err := Verify(t.Context(), st)
	if err != nil || report.Fences != 1 || report.Epoch != 3 {
		t.Errorf("the verification: %+v, %v", report, err)
	}
}

// at runs something once, when an opening passes a point.
func at(p point.Point, do func()) func(*Options) {
	return func(o *Options) {
		done := false
		o.Hook = func(_ context.Context, passed point.Point) error {
			if passed == p && !done {
				done = true
				do()
			}
			return nil
		}
	}
}

// TestLastCommitIsSeen: what the predecessor appends between the reading and the fence is in the restored data.
func TestLastCommitIsSeen(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	old := mustOpen(t, st, "old")
	if err := appendID(t, old, "a"); err != nil {
		t.Fatal(err)
	}
	successor := mustOpen(t, st, "new", at(point.FenceBeforePut, func() {
		for _, id := range []string{"b", "c"} {
			if err := appendID(t, old, id); err != nil {
				t.Error(err)
			}
		}
	}))
	if ids(successor) != "a b c" {
		t.Errorf("the successor sees %q", ids(successor))
	}
	if err := appendID(t, old, "d"); !errors.Is(err, wal.ErrFenced) {
		t.Errorf("the predecessor's append: %v", err)
	}
}

// TestFenceInADeadZone: the live writer commits, compacts and collects past the name of the fence while the opener is stalled before it.
// The fence has no effect, so the opening starts again.
func TestFenceInADeadZone(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	old := mustOpen(t, st, "old")
	stalled := mustOpen(t, st, "new", at(point.FenceBeforePut, func() {
		for _, id := range []string{"a", "b", "c"} {
			if err := appendID(t, old, id); err != nil {
				t.Error(err)
			}
		}
		compact(t, st, old)
		if err := appendID(t, old, "d"); err != nil {
			t.Error(err)
		}
	}))
	if ids(stalled) != "d" || len(stalled.Manifest.Layers) != 1 {
		t.Errorf("restored from %q and %+v", ids(stalled), stalled.Manifest.Layers)
	}
	if err := appendID(t, old, "e"); !errors.Is(err, wal.ErrFenced) {
		t.Errorf("two writers: %v", err)
	}
	if err := appendID(t, stalled, "f"); err != nil {
		t.Error(err)
	}
}

// TestLogMovesUnderAFence: the log is compacted between the reading and the fence, but not past it: the fence holds, and the log is read
// again.
func TestLogMovesUnderAFence(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	old := mustOpen(t, st, "old")
	for _, id := range []string{"a", "b"} {
		if err := appendID(t, old, id); err != nil {
			t.Fatal(err)
		}
	}
	successor := mustOpen(t, st, "new", at(point.FenceBeforePut, func() { compact(t, st, old) }))
	if ids(successor) != "" || len(successor.Manifest.Layers) != 1 {
		t.Errorf("restored from %q and %+v", ids(successor), successor.Manifest.Layers)
	}
	if err := appendID(t, old, "c"); !errors.Is(err, wal.ErrFenced) {
		t.Errorf("two writers: %v", err)
	}
}

// TestRivalOpeners: of several concurrent openers, at most one can append afterwards, and nothing acknowledged is lost.
func TestRivalOpeners(t *testing.T) {
	t.Parallel()
	for round := range 30 {
		st := mem.New(mem.Options{})
		if err := appendID(t, mustOpen(t, st, "old"), "a"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		opened := make([]*Opened, 4)
		for i := range opened {
			wg.Go(func() { // each believes that it has the lease: their leases are different objects
				o, err := Open(context.Background(), Options{
					Store: &ownLease{Store: st, own: mem.New(mem.Options{})}, Writer: fmt.Sprintf("rival-%d", i), Clock: newClock(),
				})
				if err == nil {
					opened[i] = o
				} else if !errors.Is(err, ErrRival) {
					t.Errorf("an opener was told: %v", err)
				}
			})
		}
		wg.Wait()
		wrote := 0
		for i, o := range opened {
			if o == nil {
				continue
			}
			if err := appendID(t, o, fmt.Sprintf("by-%d", i)); err == nil {
				wrote++
			} else if !errors.Is(err, wal.ErrFenced) {
				t.Errorf("an append: %v", err)
			}
		}
		if wrote > 1 {
			t.Fatalf("round %d: %d writers", round, wrote)
		}
		last := mustOpen(t, st, "last")
		if got := strings.Fields(ids(last)); len(got) != 1+wrote || got[0] != "a" {
			t.Errorf("round %d: %q after %d appends", round, ids(last), wrote)
		}
	}
}

// ownLease gives its user a private lease object.
type ownLease struct {
	store.Store
	own store.Store
}

func (s *ownLease) Get(ctx context.Context, key string) (store.Object, error) {
	if key == lease.Key {
		return s.own.Get(ctx, key)
	}
	return s.Store.Get(ctx, key)
}

func (s *ownLease) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if key == lease.Key {
		return s.own.Put(ctx, key, body, id, cond)
	}
	return s.Store.Put(ctx, key, body, id, cond)
}

// dying fails every call from the n-th on: before it is applied, or after.
type dying struct {
	store.Store
	left  int
	after bool
}

var errDied = errors.New("died")

func (d *dying) call(apply func() error) error {
	d.left--
	if d.left > 0 {
		return apply()
	}
	if d.left == 0 && d.after {
		_ = apply()
	}
	return &store.OpError{Op: "call", Err: errors.Join(store.ErrDenied, errDied)}
}

func (d *dying) Get(ctx context.Context, key string) (o store.Object, err error) {
	err = d.call(func() error { o, err = d.Store.Get(ctx, key); return err })
	return o, err
}

func (d *dying) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (g store.Gen, err error) {
	err = d.call(func() error { g, err = d.Store.Put(ctx, key, body, id, cond); return err })
	return g, err
}

func (d *dying) Delete(ctx context.Context, key string) error {
	return d.call(func() error { return d.Store.Delete(ctx, key) })
}

// TestDeathAtEveryCall lets a life (open, append, compact, collect, append) die at each store call, applied or not, and opens again: what
// was acknowledged is there, and the log is sound.
func TestDeathAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			st := mem.New(mem.Options{})
			if err := appendID(t, mustOpen(t, st, "old"), "a"); err != nil {
				t.Fatal(err)
			}
			d := &dying{Store: st, left: n, after: after}
			acknowledged := 1
			o, err := open(t, d, "dying", func(o *Options) { o.Parallel = 1 })
			if err == nil {
				if err = appendID(t, o, "b"); err == nil {
					acknowledged++
					err = publishTail(t, d, o)
				}
				if err == nil {
					_, err = gc.Collect(t.Context(), gc.Options{Store: d, Epoch: o.Epoch, Writer: "w"})
				}
				if err == nil {
					if err = appendID(t, o, "c"); err == nil {
						acknowledged++
					}
				}
			}
			next := mustOpen(t, st, "next", func(o *Options) { o.LeaseTTL = time.Hour; o.AcquireTimeout = 2 * time.Hour })
			have := len(strings.Fields(ids(next)))
			if len(next.Manifest.Layers) > 0 {
				have += 2 // a and b are in the layer
			}
			if have < acknowledged || have > acknowledged+1 {
				t.Fatalf("dead at call %d (applied: %t): %d of %d acknowledged records are there", n, after, have, acknowledged)
			}
			if _, err := Verify(t.Context(), st); err != nil {
				t.Fatalf("dead at call %d (applied: %t): %v", n, after, err)
			}
			if err == nil && d.left > 0 {
				t.Logf("applied %t: %d calls", after, n)
				break
			}
		}
	}
}

func TestVerifyNamesTheDamage(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	o := mustOpen(t, st, "w")
	for _, id := range []string{"a", "b", "c"} {
		if err := appendID(t, o, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Delete(t.Context(), wal.Key(3)); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(t.Context(), st)
	if !errors.Is(err, wal.ErrCorrupt) || !strings.Contains(err.Error(), "record 3") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := open(t, st, "next"); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("an opening of a damaged log: %v", err)
	}
}
