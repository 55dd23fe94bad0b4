package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/store/mem"
)

// inTurn runs a statement in a turn that is kept, as a door does for a client that pins the session, and waits for its answer.
func inTurn(ctx context.Context, turn *Turn, sql string) error {
	message, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return err
	}
	answer, err := turn.Run(ctx, Talk{Next: once(message), Out: io.Discard})
	if err != nil {
		return err
	}
	return answer.Release(ctx)
}

// TestKeptTurn: a client that keeps the turn commits far more than the budget allows. Layers wait for the turn, and the client
// must not wait for layers; between two of its transactions it lets them be taken, so that the log does not grow for ever.
func TestKeptTurn(t *testing.T) {
	for _, c := range []struct {
		name   string
		begin  string
		layers bool
	}{
		{"between transactions", "", true},
		{"in a transaction", "BEGIN", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := mem.New(mem.Options{})
			e := open(t, st, inLog, func(o *Options) {
				o.LeaseTTL, o.RestoreBudget, o.RecordTime = time.Hour, 50*time.Millisecond, time.Millisecond
			})
			must(t, e, "CREATE TABLE t (a text)")
			must(t, e, "INSERT INTO t VALUES (1); TRUNCATE t")
			before := walStart(t, st)
			turn, err := e.Take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer turn.Give()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if c.begin != "" {
				if err := inTurn(ctx, turn, c.begin); err != nil {
					t.Fatal(err)
				}
			}
			const enough = 400
			n := 0
			for ; n < enough && (!c.layers || walStart(t, st) == before); n++ {
				if err := inTurn(ctx, turn, fmt.Sprintf("INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 200) -- %d", n)); err != nil {
					t.Fatal(err)
				}
				if err := ctx.Err(); err != nil {
					t.Fatalf("insert %d waited for a layer that waits for the turn: %v", n, err)
				}
			}
			if c.layers && n == enough {
				t.Errorf("no layer was taken in %d inserts, of a client that keeps its turn", n)
			}
			if c.begin != "" {
				if err := inTurn(ctx, turn, "COMMIT"); err != nil {
					t.Fatal(err)
				}
			}
			turn.Give()
			want := fmt.Sprint(200 * n)
			if got := must(t, e, "SELECT count(*) FROM t"); got != want {
				t.Errorf("%s rows, want %s", got, want)
			}
			if err := e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			e = open(t, st, inLog)
			if got := must(t, e, "SELECT count(*) FROM t"); got != want {
				t.Errorf("after the end %s rows, want %s", got, want)
			}
		})
	}
}

// walStart is the first record that a restore reads.
func walStart(t *testing.T, st *mem.Store) uint64 {
	t.Helper()
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	return m.WalStart
}

// TestHalt: PostgreSQL is ended in the middle of a statement. What was acknowledged before becomes durable with the end, which
// gives the lease back; what ran is rolled back.
func TestHalt(t *testing.T) {
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
