package pgwire

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestComeAndGo: connections come and go, in order or not, in the middle of anything, and leave nothing.
func TestComeAndGo(t *testing.T) {
	t.Parallel()
	d := openTestServer(t, func(o *Options) { o.VanishTimeout = time.Millisecond })
	look := d.connect()
	exec(t, look, "CREATE TABLE t (a int)")
	const rounds = 24 // four of each kind, by each of the four
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range rounds {
				conn, err := net.Dial("tcp", d.addr)
				if err != nil {
					t.Error(err)
					return
				}
				packet := startPacket(t, "user", "postgres")
				switch (n + w) % 6 {
				case 0: // nothing is said
				case 1:
					_, err = conn.Write(packet[:len(packet)/2])
				case 2:
					_, err = conn.Write(packet)
				case 3:
					_, err = conn.Write(append(packet, 'X', 0, 0, 0, 4))
				default:
					f := pgproto3.NewFrontend(conn, conn)
					if _, err = conn.Write(packet); err != nil {
						break
					}
					f.Send(&pgproto3.Query{String: "CREATE TEMP TABLE x (a int); BEGIN; INSERT INTO t VALUES (1); SELECT pg_advisory_lock_shared(3)"})
					if err = f.Flush(); err == nil {
						_, err = f.Receive()
					}
				}
				if err != nil {
					t.Error(err)
				}
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
	d.await(func() bool { st := d.srv.Stats(); return st.Clients() == 1 && st.Startups == 0 })
	const left = `SELECT concat_ws(' ', (SELECT count(*) FROM t), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_class WHERE relname = 'x'),
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'))`
	if got := one(t, look, left); got != "0 0 0 1" {
		t.Errorf("left: %s", got)
	}
	g := d.srv.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.places) != 1 || len(g.startups) != 0 {
		t.Errorf("%d places, %d start-ups", len(g.places), len(g.startups))
	}
}

func BenchmarkSelect1(b *testing.B) {
	d := openTestServer(b)
	c, err := pgx.Connect(b.Context(), d.url("postgres", ""))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(context.Background())
	var v int
	for b.Loop() {
		if err := c.QueryRow(b.Context(), "SELECT 1").Scan(&v); err != nil {
			b.Fatal(err)
		}
	}
}
