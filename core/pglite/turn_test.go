package pglite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// session is a client that speaks the protocol by itself.
type rawSession struct {
	t    testing.TB
	conn *Conn
	said []byte // not read yet
}

func rawSessionOf(t testing.TB, c *Cluster) *rawSession {
	t.Helper()
	conn, err := c.Connect(t.Context(), ConnectOptions{Trusted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		<-conn.Done()
	})
	s := &rawSession{t: t, conn: conn}
	if _, err := conn.Write(encode(t, &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": "postgres"},
	})); err != nil {
		t.Fatal(err)
	}
	s.answer()
	return s
}

func (s *rawSession) run(sql string) {
	s.t.Helper()
	if _, err := s.conn.Run(s.t.Context(), encode(s.t, &pgproto3.Query{String: sql})); err != nil {
		s.t.Fatal(err)
	}
}

// answer returns what the process sends up to ReadyForQuery.
func (s *rawSession) answer() string {
	s.t.Helper()
	for at := 0; ; {
		for len(s.said)-at >= 5 {
			size := 1 + int(binary.BigEndian.Uint32(s.said[at+1:]))
			if at+size > len(s.said) {
				break
			}
			kind := s.said[at]
			at += size
			if kind == 'Z' {
				said := s.said[:at]
				s.said = s.said[at:]
				return transcript(s.t, said)
			}
		}
		a, err := s.conn.Next(s.t.Context())
		if err != nil {
			s.t.Error(err)
			return err.Error()
		}
		s.said = append(s.said, a.Bytes...)
	}
}

// rests returns when the process waits for its next message: it has answered on its client's goroutine, not on its own, on which it may
// still be running after its answer.
func (s *rawSession) rests() {
	s.t.Helper()
	for range 1000 {
		s.run("SELECT 1")
		direct := s.conn.Answered()
		s.answer()
		if direct {
			return
		}
	}
	s.t.Fatal("of 1000 statements none was answered by the time Run returned")
}

// one is the answer to SELECT 1.
var one = []string{"RowDescription ?column?", "DataRow 1", "CommandComplete SELECT 1", "ReadyForQuery I"}

// TestSmallStatementRunsOnItsClient: the answer is there when Run returns, and the process's own goroutine was not involved.
func TestSmallStatementRunsOnItsClient(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	s := rawSessionOf(t, c)
	s.rests()
	before := c.Stats()
	const statements = 100
	direct := 0
	for range statements {
		s.run("SELECT 1")
		if s.conn.Answered() {
			direct++
		}
		wantLines(t, s.answer(), one...)
	}
	after := c.Stats()
	ran, handedOver := after.Direct-before.Direct, after.HandedOver-before.HandedOver
	t.Logf("%d of %d were answered at once; run directly %d times, of these handed over %d", direct, statements, ran, handedOver)
	if direct < statements/2 || ran < statements/2 || handedOver > statements/4 {
		t.Errorf("%d of %d were answered at once; run directly %d times, of these handed over %d", direct, statements, ran, handedOver)
	}
}

// TestLongStatementIsHandedOver: Run does not wait for a process that computes, sleeps, or waits for a row or for the lock.
func TestLongStatementIsHandedOver(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	s, other := rawSessionOf(t, c), dial(t, c)
	value(t, other, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	for _, sql := range []string{"SELECT count(*) FROM generate_series(1, 2000000)", "SELECT pg_sleep(0.05)"} {
		s.rests()
		before := c.Stats().Direct
		s.run(sql)
		if s.conn.Answered() {
			t.Errorf("%s: Run returned when it was answered", sql)
		}
		if got := s.answer(); !strings.Contains(got, "ReadyForQuery I") {
			t.Errorf("%s: %s", sql, got)
		}
		if c.Stats().Direct == before {
			t.Errorf("%s was not begun by its client", sql)
		}
	}
	value(t, other, "BEGIN; UPDATE t SET a = 2")
	s.run("UPDATE t SET a = 3")
	if s.conn.Answered() {
		t.Error("answered while another has the row")
	}
	value(t, other, "COMMIT")
	wantLines(t, s.answer(), "CommandComplete UPDATE 1", "ReadyForQuery I")

	c.lock.lock(nil) // the host works
	s.run("SELECT 1")
	if s.conn.Answered() {
		t.Error("answered while another has the lock")
	}
	c.lock.unlock()
	wantLines(t, s.answer(), one...)
}

// TestEndsWhileItRunsDirectly: a process ends on its client's goroutine, by itself or because another ends it, and its own goroutine ends
// too.
func TestEndsWhileItRunsDirectly(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	for _, sql := range []string{"SELECT pg_terminate_backend(pg_backend_pid())", ""} {
		s := rawSessionOf(t, c)
		message := encode(t, &pgproto3.Terminate{})
		if sql != "" {
			message = encode(t, &pgproto3.Query{String: sql})
		}
		if _, err := s.conn.Run(t.Context(), message); err != nil {
			t.Fatal(err)
		}
		for {
			_, err := s.conn.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		<-s.conn.Done()
	}
	wantProcesses(t, c)
}

// wantProcesses waits until there is no client process.
func wantProcesses(t *testing.T, c *Cluster) {
	t.Helper()
	for c.Stats().Processes[KindClient] > 0 {
		if t.Context().Err() != nil {
			t.Fatal("processes are left")
		}
		runtime.Gosched()
	}
}

// lonely makes a process whose body is Go: the test decides what it does between its waits.
func lonely(t *testing.T, c *Cluster, run body) *Conn {
	t.Helper()
	conn := &Conn{heard: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	if _, err := c.spawn(KindClient, conn, run); err != nil {
		t.Fatal(err)
	}
	return conn
}

func (p *Process) turn() (state turn, again bool) {
	p.turns.mu.Lock()
	defer p.turns.mu.Unlock()
	return p.turns.state, p.turns.again
}

// TestWokenWhileItRunsDirectly: a wake-up is not lost if it comes while the client's goroutine runs the process, after its last look.
func TestWokenWhileItRunsDirectly(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	woken := make(chan struct{})
	conn := lonely(t, c, func(p *Process) (bool, uint32, error) {
		p.idle(-1) // until it is run directly
		p.poke()
		for _, again := p.turn(); !again; _, again = p.turn() { // its own goroutine has received it
			runtime.Gosched()
		}
		p.idle(-1)
		close(woken)
		return true, 0, nil
	})
	runIt(t, conn.p)
	await(t, woken)
	<-conn.Done()
}

// TestWakeBesideAHandOver: a wake-up of a process that is just being handed over is kept for the wait that follows.
func TestWakeBesideAHandOver(t *testing.T) {
	p := &Process{in: &Instance{killed: make(chan struct{})}, wake: make(chan struct{}, 1)}
	p.turns.news = make(chan struct{}, 1)
	for _, direct := range []bool{false, true} { // when it comes
		p.turns.mu.Lock()
		p.turns.state = turnOwn
		p.turns.mu.Unlock()
		mine := make(chan bool)
		go func() { mine <- p.awaken(-1) }()
		untilRests(t, p)
		if direct {
			p.turns.mu.Lock()
			p.turns.state = turnDirect
			p.turns.mu.Unlock()
			p.poke()
			for _, again := p.turn(); !again; _, again = p.turn() {
				runtime.Gosched()
			}
		}
		p.turns.mu.Lock()
		p.turns.state = turnOwn
		if direct {
			signalOne(p.turns.news)
		} else {
			p.poke()
		}
		p.turns.mu.Unlock()
		if !<-mine {
			t.Error("it is not its own goroutine's")
		}
		select {
		case <-p.wake:
		default:
			t.Errorf("directly %v: what woke it is lost", direct)
		}
	}
}

// TestRestIsTimed: a process that comes to rest on its client's goroutine, with a time limit, is woken when that has passed.
func TestRestIsTimed(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	over := make(chan struct{})
	conn := lonely(t, c, func(p *Process) (bool, uint32, error) {
		p.idle(-1)
		p.idle(time.Millisecond)
		close(over)
		return true, 0, nil
	})
	runIt(t, conn.p)
	await(t, over)
	<-conn.Done()
}

// TestHandedOverIsHeard: what was answered before a process was handed over is announced, and the process continues.
func TestHandedOverIsHeard(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	conn := lonely(t, c, func(p *Process) (bool, uint32, error) {
		p.idle(-1)
		p.send([]byte("first"))
		p.conn.flush(p)
		p.handOver()
		if p.turns.direct {
			return true, 0, errors.New("its client's goroutine still runs it")
		}
		p.idle(-1) // forever, unless it is killed
		return true, 0, nil
	})
	untilRests(t, conn.p)
	select {
	case <-conn.heard: // of what came before
	default:
	}
	runIt(t, conn.p)
	select { // whoever waits in Next is woken by this; one that only begins to wait finds the answer anyway
	case <-conn.heard:
	default:
		t.Error("the answer is not announced")
	}
	if a, err := conn.Next(t.Context()); err != nil || string(a.Bytes) != "first" {
		t.Errorf("%q, %v", a.Bytes, err)
	}
	untilRests(t, conn.p)
	conn.p.poke()
	<-conn.Done()
}

// TestFirstBeatIsNoReason: a process interrupted once while a client's goroutine runs it stays there, and keeps the lock though another
// waits, because it may just have started; the count restarts whenever it gets the lock. The second time it is handed over, and others run.
func TestFirstBeatIsNoReason(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	came := make(chan struct{})
	conn := lonely(t, c, func(p *Process) (bool, uint32, error) {
		var direct []bool
		var others []int64 // how often others ran
		interrupted := func() {
			before := c.stats.yields.Load()
			p.yield()
			direct, others = append(direct, p.turns.direct), append(others, c.stats.yields.Load()-before)
		}
		p.idle(-1)
		interrupted()
		p.idle(-1)
		interrupted()
		interrupted()
		p.idle(-1)
		go c.Locked(func() { close(came) })
		for c.lock.waiting.Load() == 0 {
			runtime.Gosched()
		}
		interrupted()
		interrupted()
		if want := []bool{true, true, false, true, false}; !slices.Equal(direct, want) {
			return true, 0, fmt.Errorf("it stays: %v, want %v", direct, want)
		}
		if want := []int64{0, 0, 0, 0, 1}; !slices.Equal(others[:2], want[:2]) || !slices.Equal(others[3:], want[3:]) { // one of PostgreSQL's own may come
			return true, 0, fmt.Errorf("others run: %v, want %v", others, want)
		}
		return true, 0, nil
	})
	for range 3 {
		untilRests(t, conn.p)
		runIt(t, conn.p)
	}
	await(t, came)
	<-conn.Done()
	if _, err := conn.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestHoldIsReplaced: a held process that is held again stays held when the first hold is over.
func TestHoldIsReplaced(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	first, second, staying := make(chan struct{}), make(chan struct{}), make(chan struct{})
	conn := lonely(t, c, func(p *Process) (bool, uint32, error) {
		p.Hold(first)
		close(staying)
		p.stay()
		if p.hold != second {
			return true, 0, errors.New("it is not held any more")
		}
		close(second)
		p.stay()
		if p.hold != nil {
			return true, 0, errors.New("it is still held")
		}
		return true, 0, nil
	})
	<-staying
	c.lock.lock(nil) // it waits without the lock
	conn.p.Hold(second)
	close(first)
	c.lock.unlock()
	<-conn.Done()
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

// runIt runs a process directly as soon as it rests and none of PostgreSQL's own processes has the lock.
func runIt(t *testing.T, p *Process) {
	t.Helper()
	for !p.runDirectly() {
		if t.Context().Err() != nil {
			t.Fatal("it cannot be run directly")
		}
		runtime.Gosched()
	}
}

func untilRests(t *testing.T, p *Process) {
	t.Helper()
	for state, _ := p.turn(); state != turnRests; state, _ = p.turn() {
		if t.Context().Err() != nil {
			t.Fatal("it does not come to rest")
		}
		runtime.Gosched()
	}
}

func await(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal("it sleeps for good")
	}
}

// TestManyRunDirectlyAtOnce: sessions wait for each other's locks, notify, sleep, are canceled and ended, half of them run by their
// clients: all end, and what they added is there.
func TestManyRunDirectlyAtOnce(t *testing.T) {
	const seed = 1
	t.Logf("seed %d", seed)
	c := startCluster(t, ClusterOptions{})
	look := dial(t, c)
	value(t, look, "CREATE TABLE t (i int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 3) i")
	const sessions, rounds = 6, 150
	var added [sessions]int
	var group sync.WaitGroup
	for k := range sessions {
		s := rawSessionOf(t, c)
		group.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(k)))
			for round := range rounds {
				sql := []string{
					fmt.Sprintf("UPDATE t SET n = n + 1 WHERE i = %d", 1+random.IntN(3)),
					"SELECT pg_sleep(0.0005)", "LISTEN c; NOTIFY c", "SELECT sum(n) FROM t", "SELECT pg_advisory_xact_lock(1)",
					"SELECT count(*) FROM generate_series(1, 20000)",
				}[random.IntN(6)]
				send := s.conn.Run
				if round%2 == k%2 {
					send = s.conn.Send
				}
				if _, err := send(context.Background(), encode(t, &pgproto3.Query{String: sql})); err != nil {
					t.Error(err)
					return
				}
				if random.IntN(10) == 0 {
					s.conn.Cancel()
				}
				if got := s.answer(); strings.Contains(got, "CommandComplete UPDATE 1") {
					added[k]++
				}
			}
		})
	}
	group.Wait()
	all := 0
	for _, n := range added {
		all += n
	}
	if got := value(t, look, "SELECT sum(n) FROM t"); got != fmt.Sprint(all) {
		t.Errorf("%s were added, %d answered", got, all)
	}
	st := c.Stats()
	t.Logf("%d updates, run directly %d times, of these handed over %d", all, st.Direct, st.HandedOver)
	if st.Direct == 0 {
		t.Error("no process was run directly")
	}
}
