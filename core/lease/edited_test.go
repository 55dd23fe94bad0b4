package lease

import (
	"context"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store/mem"
	"blobpglite/core/store/storetest"
)

// TestOwnLeaseByItsBytes: a lease of ours whose reply was lost is recognized by its content, whatever happened to its metadata.
func TestOwnLeaseByItsBytes(t *testing.T) {
	t.Parallel()
	clk := &jumping{Virtual: clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	below := mem.New(mem.Options{})
	o := Options{Store: storetest.Forgetful(below), Holder: "a", Clock: clk}
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

// jumping is a clock that moves when a goroutine sleeps.
type jumping struct{ *clock.Virtual }

func (j *jumping) Sleep(ctx context.Context, d time.Duration) error {
	j.Advance(d)
	return ctx.Err()
}
