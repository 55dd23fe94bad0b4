package lease

import (
	"context"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// edited loses the reply of every first try of a write, and the metadata beside the object.
type edited struct {
	store.Store
	tried map[string]bool
}

func (e *edited) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	gen, err := e.Store.Put(ctx, key, body, store.NewWriteID(), cond)
	if err == nil && !e.tried[id] {
		e.tried[id] = true
		return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
	}
	return gen, err
}

// TestOwnLeaseByItsBytes: a lease of ours whose reply was lost is known by what it says, whatever became of its metadata.
func TestOwnLeaseByItsBytes(t *testing.T) {
	clk := &jumping{Virtual: clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	below := mem.New(mem.Options{})
	o := Options{Store: &edited{Store: below, tried: map[string]bool{}}, Holder: "a", Clock: clk}
	l, err := Acquire(t.Context(), o, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Renew(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := Acquire(t.Context(), Options{Store: below, Holder: "b", Clock: clk}, 0); err != nil {
		t.Errorf("it was not given back: %v", err)
	}
}

// jumping is a clock that moves when somebody sleeps.
type jumping struct{ *clock.Virtual }

func (j *jumping) Sleep(ctx context.Context, d time.Duration) error {
	j.Advance(d)
	return ctx.Err()
}
