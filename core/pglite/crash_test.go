package pglite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/memfs"
	"blobpglite/core/point"
)

// If one process is killed, all end, and what was committed is there when PostgreSQL starts again on the same files.
func TestOneDiesAllEnd(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a, b := dial(t, c), dial(t, c)
	value(t, a, "CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
	value(t, b, "BEGIN; INSERT INTO t VALUES (2)")
	running := later(a, "SELECT pg_sleep(1000)")
	var victim *Process
	for _, p := range c.Processes() {
		if fmt.Sprint(p.pid) == fmt.Sprint(b.PgConn().PID()) {
			victim = p
		}
	}
	victim.kill()
	<-c.Done()
	if err := <-running; err == nil {
		t.Error("a statement ended well in a cluster that has ended")
	}
	if err := c.Err(); !errors.Is(err, ErrDead) || !strings.Contains(err.Error(), "client backend") {
		t.Error(err)
	}
	if _, err := c.Connect(t.Context(), ConnectOptions{}); !errors.Is(err, ErrDead) {
		t.Error(err)
	}
	again := startCluster(t, ClusterOptions{Data: c.Data()})
	if got := value(t, dial(t, again), "SELECT * FROM t"); got != "1" {
		t.Error(got)
	}
}

// At any moment, the files are as a crash would leave them: what was acknowledged is there, and each transaction is there as a whole or not
// at all.
func TestClonesRecover(t *testing.T) {
	const accounts, writers, looks, seed = 20, 8, 6, 20261129
	t.Logf("seed %d", seed)
	c := startCluster(t, ClusterOptions{})
	a := dial(t, c)
	value(t, a, fmt.Sprintf("CREATE TABLE acc (i int PRIMARY KEY, v int); INSERT INTO acc SELECT g, 100 FROM generate_series(1, %d) g; CREATE TABLE log (w int, n int, pad text, PRIMARY KEY (w, n))", accounts))
	var acked [writers]atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range writers {
		conn := dial(t, c)
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for n := int64(1); ctx.Err() == nil; n++ {
				x, y := r.IntN(accounts)+1, r.IntN(accounts)+1
				sql := fmt.Sprintf("BEGIN; UPDATE acc SET v = v - 1 WHERE i = %d; INSERT INTO log VALUES (%d, %d, repeat('x', %d)); UPDATE acc SET v = v + 1 WHERE i = %d; COMMIT",
					min(x, y), w, n, r.IntN(3000), max(x, y))
				if _, err := try(conn, sql); err != nil {
					t.Error(err)
					return
				}
				acked[w].Store(n)
			}
		})
	}
	check := func(look int, data *memfs.FS, least [writers]int64) {
		again := startCluster(t, ClusterOptions{Data: data})
		defer again.Kill()
		b := dial(t, again)
		if got := value(t, b, "SELECT sum(v), (SELECT count(*) FROM (SELECT w FROM log GROUP BY w HAVING count(*) <> max(n)) x) FROM acc"); got != fmt.Sprintf("%d|0", accounts*100) {
			t.Errorf("look %d: %s", look, got)
		}
		for w := range writers {
			var n int64
			_, _ = fmt.Sscan(value(t, b, fmt.Sprintf("SELECT coalesce(max(n), 0) FROM log WHERE w = %d", w)), &n)
			if n < least[w] {
				t.Errorf("look %d: writer %d has %d, %d were acknowledged", look, w, n, least[w])
			}
		}
	}
	for look := range looks {
		for sum(&acked) < int64(200*(look+1)) && ctx.Err() == nil {
			value(t, a, "SELECT 1")
		}
		var least [writers]int64
		for w := range writers {
			least[w] = acked[w].Load()
		}
		var data *memfs.FS
		c.Locked(func() { data = c.Data().Clone() })
		check(look, data, least)
		if look == looks/2 {
			value(t, a, "CHECKPOINT")
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d transactions, %+v", sum(&acked), c.Stats())
}

func sum(all *[8]atomic.Int64) (n int64) {
	for i := range all {
		n += all[i].Load()
	}
	return n
}

// What a process passes on is marked: within a block with its own writes, otherwise with everything.
func TestMarks(t *testing.T) {
	var asked []bool
	var mu sync.Mutex
	c := startCluster(t, ClusterOptions{Mark: func(_ *Process, inBlock bool) uint64 {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, inBlock)
		return 0
	}})
	a := dial(t, c)
	value(t, a, "CREATE TABLE t (i int)")
	for _, step := range []struct {
		sql  string
		want bool
	}{
		{"SELECT 1", false}, {"BEGIN", true}, {"SELECT 1", true}, {"INSERT INTO t VALUES (1)", true}, {"COMMIT", false},
		{"SELECT 1; BEGIN", false}, {"SELECT 2", true}, {"ROLLBACK", false}, {"BEGIN; SELECT 1", true}, {"COMMIT; BEGIN", false},
		{"SELECT 1/0", false}, {"ROLLBACK", false}, {"START TRANSACTION; SAVEPOINT a; ROLLBACK TO a", false}, {"SELECT 1", true}, {"COMMIT AND CHAIN", false}, {"COMMIT", false},
		{"DO $$ BEGIN COMMIT; END $$", false},
	} {
		mu.Lock()
		asked = nil
		mu.Unlock()
		_, _ = try(a, step.sql)
		mu.Lock()
		if len(asked) != 1 || asked[0] != step.want {
			t.Errorf("%s: %v, want %v", step.sql, asked, step.want)
		}
		mu.Unlock()
	}
}

// A large answer waits for its reader, and delays no other session.
func TestSlowReader(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a := dial(t, c)
	slow := config(t, c, "postgres", "postgres")
	conn, err := pgx.ConnectConfig(t.Context(), slow)
	if err != nil {
		t.Fatal(err)
	}
	raw := conn.PgConn().Conn().(*netConn)
	if _, err := raw.Write([]byte("Q\x00\x00\x00\x50" + fmt.Sprintf("%-75s\x00", "SELECT g, repeat('x', 1000) FROM generate_series(1, 50000) g"))); err != nil {
		t.Fatal(err)
	}
	for value(t, a, "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'SELECT g, repeat%' AND pid <> pg_backend_pid()") != "ClientWrite" {
	}
	raw.mu.Lock()
	queued := raw.queued
	raw.mu.Unlock()
	if queued > 2*maxOutput {
		t.Errorf("%d bytes wait for a client that does not read", queued)
	}
	total := 0
	for total < 50000*1000 {
		answer, err := raw.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		total += len(answer.Bytes)
	}
	_ = raw.Close()
	<-raw.Done()
}

// A process that dies at any of its points is a crash, from which the files recover.
func TestDeathOfProcesses(t *testing.T) {
	died := errors.New("died")
	for _, at := range []point.Point{point.ProcessBeforeStart, point.ProcessAfterExit, point.ProcessBeforeSignal} {
		t.Run(strings.ReplaceAll(string(at), "/", "-"), func(t *testing.T) {
			var armed atomic.Bool
			c := startCluster(t, ClusterOptions{Hook: func(_ context.Context, p point.Point) error {
				if p == at && armed.Load() {
					return died
				}
				return nil
			}})
			a := dial(t, c)
			value(t, a, "CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
			armed.Store(true)
			conn, err := pgx.ConnectConfig(t.Context(), config(t, c, "postgres", "postgres"))
			if err == nil {
				_ = conn.Close(t.Context())
			}
			_, _ = try(a, "SELECT pg_reload_conf()")
			<-c.Done()
			if err := c.Err(); !errors.Is(err, died) {
				t.Error(err)
			}
			again := startCluster(t, ClusterOptions{Data: c.Data()})
			if got := value(t, dial(t, again), "SELECT * FROM t"); got != "1" {
				t.Error(got)
			}
		})
	}
	rt := testRuntime(t)
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rt.StartCluster(t.Context(), ClusterOptions{Data: data, Hook: func(_ context.Context, p point.Point) error {
		if p == point.ProcessBeforeFork {
			return died
		}
		return nil
	}})
	if !errors.Is(err, died) {
		t.Error(err)
	}
}

// A process keeps the cluster's lock as long as it holds a lightweight lock, because others could not wait for that one.
func TestSwitchesHoldNoLock(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a := dial(t, c)
	value(t, a, "SELECT 1")
	var p *Process
	for _, one := range c.Processes() {
		if one.kind == KindClient {
			p = one
		}
	}
	c.lock.lock(p) // it is waiting for its client
	came := make(chan struct{})
	go c.Locked(func() { close(came) })
	for c.lock.waiting.Load() == 0 {
		runtime.Gosched()
	}
	for _, at := range []uint32{c.rt.places.InterruptHoldoffCount, c.rt.places.CritSectionCount} {
		p.in.mem.putU32(at, p.in.mem.u32(at)+1)
		before := c.stats.yields.Load()
		p.yield()
		if n := c.stats.yields.Load(); n != before {
			t.Errorf("it let others run with a lock in its hand")
		}
		p.in.mem.putU32(at, p.in.mem.u32(at)-1)
	}
	for end := false; !end; { // others may wait too
		select {
		case <-came:
			end = true
		default:
			p.yield()
		}
	}
	c.lock.unlock()
	if got := value(t, a, "SELECT 2"); got != "2" {
		t.Error(got)
	}
}
