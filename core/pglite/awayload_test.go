package pglite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/memfs"
)

const awaySeed = 20261129

// awayStatements are random statements on a quarter of t, 0 to 3.
func awayStatements(quarter, n int) (all []string) {
	rng := rand.New(rand.NewPCG(awaySeed, uint64(quarter)))
	for range n {
		from := quarter*10000 + 1 + rng.IntN(9000)
		to, k := from+rng.IntN(900), rng.IntN(1000)
		all = append(all, []string{
			fmt.Sprintf("UPDATE t SET v = v + %d WHERE i BETWEEN %d AND %d", k, from, to),
			fmt.Sprintf("UPDATE t SET pad = md5(pad || %d) || pad WHERE i IN (%d, %d) AND length(pad) < 2000", k, from, to),
			fmt.Sprintf("DELETE FROM t WHERE i BETWEEN %d AND %d", from, from+rng.IntN(9)),
			fmt.Sprintf("BEGIN; UPDATE t SET v = -1 WHERE i BETWEEN %d AND %d; ROLLBACK", from, to),
			fmt.Sprintf("SELECT sum(v) FROM t WHERE i BETWEEN %d AND %d", from, to),
		}[rng.IntN(5)])
	}
	return all
}

// TestEvictionUnderLoad: with a tenth of the data in memory, layers taken and chunks evicted while four sessions write, and answers in any
// order, the data is the same as if the statements run with everything in memory.
func TestEvictionUnderLoad(t *testing.T) {
	t.Logf("seed %d", awaySeed)
	const n = 40
	sums := []string{
		"SELECT count(*) || ' ' || sum(v) || ' ' || md5(string_agg(i || ' ' || v || pad, '' ORDER BY i)) FROM t",
		"SELECT count(*) FROM t WHERE v BETWEEN 100 AND 600",
	}
	plain := startCluster(t, ClusterOptions{Data: makeOnce(t), Settings: map[string]string{"autovacuum": "off"}})
	conn := dial(t, plain)
	for quarter := range 4 {
		for _, sql := range awayStatements(quarter, n) {
			value(t, conn, sql)
		}
	}
	var want []string
	for _, sql := range sums {
		want = append(want, value(t, conn, sql))
	}
	plain.Kill()

	c, s, look := startAway(t)
	s.shuffle(t, rand.New(rand.NewPCG(awaySeed, 9)))
	done := make(chan error, 4)
	for quarter := range 4 {
		conn := dial(t, c)
		go func() { done <- runAll(conn, awayStatements(quarter, n)) }()
	}
	layers, evicted := 0, int64(0)
	for left := 4; left > 0; {
		select {
		case err := <-done:
			if left--; err != nil {
				t.Error(err)
			}
			continue
		default:
		}
		value(t, look, []string{"CHECKPOINT", "SELECT 1", "VACUUM t"}[layers%3])
		c.Locked(func() {
			fs := c.Data()
			s.layer(t, fs)
			before := fs.ResidentBytes()
			evict(fs, fs.UsedBytes()/10)
			evicted += before - fs.ResidentBytes()
		})
		layers++
	}
	for i, sql := range sums {
		c.Locked(func() { evict(c.Data(), 0) })
		if got := value(t, look, sql); got != want[i] {
			t.Errorf("%s:\n%s, want\n%s", sql, got, want[i])
		}
	}
	if layers < 3 || evicted < 16<<20 {
		t.Errorf("%d layers, %d bytes evicted", layers, evicted)
	}
	t.Logf("%d layers, %d bytes evicted, %d chunks fetched", layers, evicted, s.count())
	c.Kill() // what a crash leaves is just as good
	data := c.Data().Clone()
	again := startCluster(t, ClusterOptions{Data: data, Source: s, Settings: map[string]string{"autovacuum": "off"}})
	if got := value(t, dial(t, again), sums[0]); got != want[0] {
		t.Errorf("after a crash: %s, want %s", got, want[0])
	}
}

func runAll(conn *pgx.Conn, statements []string) error {
	for _, sql := range statements {
		if _, err := try(conn, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// TestReadsAhead: the source is told in advance what PostgreSQL announces, and what is read sequentially.
func TestReadsAhead(t *testing.T) {
	_, s, conn := startAway(t)
	path := pathOf(t, conn, "t")
	heard := func(sql string) (calls []aheadOf) {
		s.mu.Lock()
		s.ahead = nil
		s.mu.Unlock()
		value(t, conn, sql)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, a := range s.ahead {
			if a.path == path {
				calls = append(calls, a)
			}
		}
		return calls
	}
	value(t, conn, "SET enable_seqscan = off; SET enable_indexscan = off")
	calls := heard("SELECT count(pad) FROM t WHERE v = 3")
	chunks := 0
	for _, a := range calls {
		chunks += a.n
	}
	if chunks < 30 {
		t.Errorf("of the 40 pages of a bitmap heap scan %d were announced: %v", chunks, calls)
	}
	calls = heard("RESET ALL; SELECT count(pad) FROM t")
	last, largest := int64(-1), 0
	for _, a := range calls {
		if a.first <= last {
			t.Errorf("%d is announced a second time", a.first)
		}
		last, largest = a.last, max(largest, a.n)
	}
	if len(calls) < 4 || len(calls) > 16 || largest < 250 || last < 1800 {
		t.Errorf("windows of a scan of 2000 pages: %v", calls)
	}
}

// TestMovedMeanwhile: while a process fetches a chunk, a cleaner moves it for a newer layer and deletes it in the old place. It is fetched
// from the new one.
func TestMovedMeanwhile(t *testing.T) {
	c, s, conn := startAway(t)
	path := pathOf(t, conn, "t")
	release := s.hold(path)
	defer release()
	done := later(conn, "SELECT 1 / (count(pad) - 39999) FROM t")
	s.await(t, done)
	c.Locked(func() {
		fs := c.Data()
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		at := make(origin, info.Size/memfs.ChunkSize)
		s.mu.Lock()
		all := s.chunks
		s.gone = int64(len(all))
		s.mu.Unlock()
		for _, chunk := range all {
			if chunk.path == path {
				at[chunk.at] = s.put(path, chunk.at, chunk.data[:])
			}
		}
		if err := fs.Settle(info.Ino, fs.Mark(), at); err != nil {
			t.Fatal(err)
		}
	})
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// cached is a shelf that has everything in memory.
type cached struct {
	*shelf
	given int
}

func (s *cached) Ready(addresses []int64) (got []memfs.Fetched, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addresses {
		c := *s.chunks[a].data
		got = append(got, memfs.Fetched{Address: a, Data: &c})
	}
	s.given += len(got)
	return got, true
}

// TestNobodyWaitsForWhatIsReady: what the source has in memory is taken without waiting.
func TestNobodyWaitsForWhatIsReady(t *testing.T) {
	fs, s := made(t)
	ready := &cached{shelf: s}
	c := startCluster(t, ClusterOptions{Data: fs, Source: ready, Settings: map[string]string{"autovacuum": "off"}})
	if got := value(t, dial(t, c), "SELECT count(pad) FROM t"); got != "40000" {
		t.Error(got)
	}
	if st := c.Stats(); st.Fetches != 0 || s.count() != 0 || ready.given < 1800 {
		t.Errorf("%d waits, %d chunks fetched, %d given", st.Fetches, s.count(), ready.given)
	}
}

// TestLockHeldWhileFetching: PostgreSQL reads the status of old transactions while it holds a lightweight lock. A process that wants the
// same lock waits until it is free, others run, and an error is the statement's.
func TestLockHeldWhileFetching(t *testing.T) {
	fs, s := makeOnce(t), newShelf()
	c := startCluster(t, ClusterOptions{Data: fs, Settings: map[string]string{"autovacuum": "off"}})
	conn := dial(t, c)
	value(t, conn, "CREATE TABLE old (i int); CREATE TABLE many (i int)")
	value(t, conn, "VACUUM") // catalogs no longer need the status of the transactions that made the tables
	value(t, conn, "INSERT INTO old VALUES (1)")
	value(t, conn, "DO $$ BEGIN FOR i IN 1..34000 LOOP BEGIN INSERT INTO many VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$")
	if err := errors.Join(conn.Close(t.Context()), c.Shutdown(t.Context())); err != nil {
		t.Fatal(err)
	}
	const status = "/pg_xact/0000"
	info, err := fs.Stat(status)
	if err != nil {
		t.Fatal(err)
	}
	body, err := fs.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	at := origin{s.put(status, 0, body[:memfs.ChunkSize]), s.put(status, 1, body[memfs.ChunkSize:])}
	if err := fs.Settle(info.Ino, fs.Mark(), at); err != nil {
		t.Fatal(err)
	}
	fs.Evict(memfs.Eviction{})
	c = startCluster(t, ClusterOptions{Data: fs, Source: s, Settings: map[string]string{"autovacuum": "off"}})
	conn = dial(t, c)
	c.Locked(func() { c.Data().Evict(memfs.Eviction{}) })
	s.fail(status, errors.New("gone"))
	if _, err := try(conn, "SELECT * FROM old"); sqlstate(err) != "58030" {
		t.Errorf("%v", err)
	}
	s.fail(status, nil)
	release := s.hold(status)
	defer release()
	a, b := dial(t, c), dial(t, c)
	first := later(a, "SELECT 1 / i FROM old")
	s.await(t, first)
	second := later(b, "SELECT 1 / i FROM old")
	for !strings.Contains(value(t, conn, "SELECT string_agg(wait_event, ' ') FROM pg_stat_activity WHERE query LIKE 'SELECT 1 /%'"), "XactBuffer") {
		if len(first)+len(second) > 0 {
			t.Fatal("it had not to wait")
		}
	}
	for range 20 {
		value(t, conn, "INSERT INTO u VALUES (1)")
	}
	release()
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
}

// TestRelations: which files PostgreSQL reads through its buffers, and so may be away.
func TestRelations(t *testing.T) {
	for path, want := range map[string]bool{
		"base/5/1259": true, "/base/5/16384_vm": true, "/base/5/16384.1": true, "global/1262": true, "/base/5/t3_16400": true,
		"/pg_tblspc/1/PG_18_202506291/5/16500": true,
		"/base/5/pg_filenode.map":              false, "/base/5/PG_VERSION": false, "/global/pg_control": false, "/pg_xact/0000": false, "/pg_wal/000000010000000000000001": false,
		"/base/pgsql_tmp/pgsql_tmp1.0": false, "/base": false, "/base/": false, "postgresql.conf": false, "/pg_multixact/offsets/0000": false,
	} {
		if isRelation(path) != want || KeepResident(path) != (!want || strings.Contains(path, "global/")) {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

// TestRecoveryFetches: recovery fetches the pages it replays onto from the source, and announces them.
func TestRecoveryFetches(t *testing.T) {
	c, s, conn := startAway(t)
	path := pathOf(t, conn, "t")
	value(t, conn, "UPDATE t SET v = -v WHERE i % 40 = 0")
	sum := value(t, conn, "SELECT sum(v) FROM t")
	c.Kill()
	fs := c.Data().Clone()
	s.layer(t, fs)
	evict(fs, 0)
	s.mu.Lock()
	s.ahead, s.fetched = nil, 0
	s.mu.Unlock()
	c = startCluster(t, ClusterOptions{Data: fs, Source: s, Settings: map[string]string{"autovacuum": "off"}})
	s.mu.Lock()
	announced := 0
	for _, a := range s.ahead {
		if a.path == path {
			announced += a.n
		}
	}
	if announced < 500 {
		t.Errorf("%d chunks of the table were announced", announced)
	}
	t.Logf("recovery: %d chunks fetched, %d of the table announced in %d calls", s.fetched, announced, len(s.ahead))
	s.mu.Unlock()
	if got := value(t, dial(t, c), "SELECT sum(v) FROM t"); got != sum {
		t.Errorf("%s, want %s", got, sum)
	}
}
