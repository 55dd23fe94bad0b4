package pgwire

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestBegins(t *testing.T) {
	for text, want := range map[string]bool{
		"BEGIN": true, "begin;": true, " Begin ; ": true, "BEGIN WORK": true, "start transaction": true, "START  TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE": true,
		"BEGIN; SELECT 1": false, "BEGIN /* */": false, "START": false, "start transactions": false, "STARTED": false, "COMMIT": false, "": false,
		"begin;;": false, "SELECT 1": false, "START x": false, "BEGINS": false, `BEGIN "x"`: false,
	} {
		if got := begins([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// slow is a door to a database whose commits wait when armed, until the gate is closed.
type slow struct {
	*door
	armed, released atomic.Bool
	putting, gate   chan struct{}
	committed       chan error
}

// openSlow has a commit of a row under way.
func openSlow(t *testing.T) *slow {
	s := &slow{putting: make(chan struct{}, 100), gate: make(chan struct{}), committed: make(chan error, 1)}
	s.door = openDoorOn(t, func() error {
		if s.armed.Load() {
			s.putting <- struct{}{}
			<-s.gate
		}
		return nil
	}, 0)
	a := s.connect()
	exec(t, a, "CREATE TABLE t (a int)")
	s.armed.Store(true)
	go func() {
		_, err := a.Exec(context.Background(), "INSERT INTO t VALUES (1)")
		s.committed <- err
	}()
	select {
	case <-s.putting:
	case err := <-s.committed:
		t.Fatalf("a commit was acknowledged before its record was on its way: %v", err)
	}
	return s
}

// release lets the commit become durable, when another client is at work too, or has read what it should not have.
func (s *slow) release(read chan string) {
	s.await(func() bool { return s.count(stageBusy) == 2 || len(read) > 0 || len(s.committed) > 0 })
	if len(s.committed) > 0 {
		s.t.Error("a commit was acknowledged while its record was on its way")
	}
	s.released.Store(true)
	close(s.gate)
	if err := <-s.committed; err != nil {
		s.t.Error(err)
	}
}

// TestBeginDoesNotWait: while a commit is on its way BEGIN is answered, and what follows, which may tell of it, is not.
func TestBeginDoesNotWait(t *testing.T) {
	s := openSlow(t)
	b := s.connect()
	exec(t, b, "BEGIN")
	read := make(chan string, 1)
	go func() {
		var n string
		if err := b.QueryRow(context.Background(), "SELECT count(*)::text FROM t").Scan(&n); err != nil {
			n = err.Error()
		}
		if !s.released.Load() {
			n = "before the row was durable"
		}
		read <- n
	}()
	s.release(read)
	if got := <-read; got != "1" {
		t.Errorf("the row was read: %s", got)
	}
	exec(t, b, "COMMIT")
}

// TestBeginBehindAQuery: a BEGIN that follows an extended query without a Sync is one unit with it, which may tell of the
// commit, and waits.
func TestBeginBehindAQuery(t *testing.T) {
	s := openSlow(t)
	conn, f := s.raw()
	defer conn.Close()
	f.Send(&pgproto3.Parse{Query: "SELECT count(*)::text FROM t"})
	f.Send(&pgproto3.Bind{})
	f.Send(&pgproto3.Execute{})
	f.Send(&pgproto3.Query{String: "BEGIN"})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		for {
			m, err := f.Receive()
			if err != nil {
				read <- err.Error()
				return
			}
			if row, ok := m.(*pgproto3.DataRow); ok {
				n := string(row.Values[0])
				if !s.released.Load() {
					n = "before the row was durable"
				}
				read <- n
				return
			}
		}
	}()
	s.release(read)
	if got := <-read; got != "1" {
		t.Errorf("the row was read: %s", got)
	}
}
