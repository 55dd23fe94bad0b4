package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store/mem"
)

// TestHalt: PostgreSQL is ended in the middle of a statement. What was acknowledged before becomes durable during the end, which releases
// the lease; the running statement is rolled back.
func TestHalt(t *testing.T) {
	t.Parallel()
	for _, durability := range []Durability{Strict, Sleep} {
		st := mem.New(mem.Options{})
		e := open(t, st, inLog, func(o *Options) { o.LeaseTTL, o.Durability, o.IdleFlush = time.Hour, durability, time.Hour })
		must(t, e, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
		written := e.LogBytes()
		ran := make(chan error, 1)
		go func() {
			_, err := e.Query(context.Background(), "DO $$ BEGIN INSERT INTO t VALUES (2); PERFORM pg_logical_emit_message(false, 'test', 'here', true); LOOP PERFORM 1; END LOOP; END $$")
			ran <- err
		}()
		clk := clock.System()
		for e.LogBytes() == written {
			if err := clk.Sleep(t.Context(), time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		e.Halt()
		if err := <-ran; !errors.Is(err, ErrClosed) {
			t.Errorf("%s: what ran: %v", durability, err)
		}
		if _, err := e.Query(t.Context(), "SELECT 1"); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: after it: %v", durability, err)
		}
		if err := e.Close(t.Context()); err != nil || e.Err() != nil {
			t.Errorf("%s: close: %v, %v", durability, err, e.Err())
		}
		e = open(t, st, inLog, func(o *Options) { o.AcquireTimeout = 0 })
		if got := must(t, e, "SELECT string_agg(a::text, ' ') FROM t"); got != "1" {
			t.Errorf("%s: the table holds %q", durability, got)
		}
	}
}
