package pgwire

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/store/mem"
)

// stubbornBlock handles its own cancel, and goes on. Before, it writes to the log, so that one can see that it runs.
const stubbornBlock = `DO $$ BEGIN
	PERFORM pg_logical_emit_message(false, 'test', 'here', true);
	LOOP
		BEGIN PERFORM count(*) FROM generate_series(1, 3000000); EXCEPTION WHEN query_canceled THEN NULL; END;
	END LOOP;
END $$`

// TestShutdownEndsWhatDoesNotEnd: a block that handles its own cancel does not keep a server from its end; what was acknowledged
// before is in the bucket then, also where answers do not wait for it, and the lease is free.
func TestShutdownEndsWhatDoesNotEnd(t *testing.T) {
	for _, durability := range []engine.Durability{engine.Strict, engine.Sleep} {
		t.Run(string(durability), func(t *testing.T) {
			o := engine.Options{Runtime: runtime, Store: mem.New(mem.Options{}), Create: true, Durability: durability, IdleFlush: time.Hour, LeaseTTL: time.Hour}
			e, err := engine.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			srv, err := New(Options{Source: fixed{e}})
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(context.Background(), l) }()
			d := &door{t: t, srv: srv, e: e, addr: l.Addr().String()}
			writer, stubborn := d.connect(), d.connect()
			exec(t, writer, "CREATE TABLE t (a int)")
			exec(t, writer, "INSERT INTO t VALUES (1)")
			exec(t, stubborn, "DO $$ BEGIN RAISE query_canceled; EXCEPTION WHEN query_canceled THEN NULL; END $$")
			written := e.LogBytes()
			gone := make(chan error, 1)
			go func() {
				_, err := stubborn.Exec(context.Background(), stubbornBlock, pgx.QueryExecModeSimpleProtocol)
				gone <- err
			}()
			d.await(func() bool { return e.LogBytes() > written })
			waits := make(chan error, 1)
			go func() { _, err := writer.Exec(context.Background(), "SELECT 1"); waits <- err }()
			d.await(func() bool { return d.count(stageQueues) == 1 })

			grace, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			clk := clock.System()
			at := clk.Monotonic()
			if err := srv.Shutdown(grace); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("shut down: %v", err)
			}
			if err := e.Close(context.Background()); err != nil {
				t.Errorf("close: %v", err)
			}
			if took := clk.Monotonic() - at; took > 20*time.Second {
				t.Errorf("the end took %v", took)
			}
			if err := <-gone; err == nil {
				t.Error("the block has ended")
			}
			if err := <-waits; err == nil {
				t.Error("a client was served after the end")
			}
			if err := <-served; !errors.Is(err, ErrClosed) {
				t.Error("serve:", err)
			}
			again, err := engine.Open(t.Context(), o) // at once: the lease is free
			if err != nil {
				t.Fatal(err)
			}
			defer again.Abandon()
			r, err := again.Query(t.Context(), "SELECT a FROM t")
			if err != nil || len(r) != 1 || len(r[0].Rows) != 1 {
				t.Errorf("what was acknowledged is not there: %+v, %v", r, err)
			}
		})
	}
}
