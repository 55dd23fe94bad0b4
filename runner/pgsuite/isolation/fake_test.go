package isolation

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
)

// fake is a server whose statements, several in a query, are
//
//	take L …, free L    a lock, that others wait for; perhaps before another statement
//	raise TEXT …        a notice, before another statement
//	later TEXT …        likewise, but the notice comes when the session has already been seen to wait
//	tell CHANNEL        a notification, to the session itself
//	rows                a table
//	copy                an answer that no test asks for
//	fail, hang          an error; no answer until it is canceled
//	end, vanish         the session's end, with an error or without
type fake struct {
	deaf     bool // it ignores cancels
	serving  sync.WaitGroup
	mu       sync.Mutex
	changed  *sync.Cond // a lock was freed, or a session canceled
	holders  map[string]uint32
	waiting  map[uint32]bool
	canceled map[uint32]bool
	closing  bool
	names    []string // sessions' names, as they reported them
	last     uint32
}

// newFake is reached through pipes, so that a test's clock (testing/synctest) advances only when nothing is under way.
func newFake(t *testing.T) *fake {
	f := &fake{holders: map[string]uint32{}, waiting: map[uint32]bool{}, canceled: map[uint32]bool{}}
	f.changed = sync.NewCond(&f.mu)
	t.Cleanup(func() {
		f.set(func() { f.closing = true })
		f.serving.Wait()
	})
	return f
}

func (f *fake) config(t *testing.T) *pgconn.Config {
	c, err := pgconn.ParseConfig("postgres://somebody@127.0.0.1:5432/db?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	c.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		in := &inbox{}
		in.changed = sync.NewCond(&in.mu)
		f.serving.Go(func() { in.fill(server) })
		f.serving.Go(func() { f.serve(server, in) })
		return client, nil
	}
	return c
}

// inbox keeps what a client sends until the server reads it: a pipe keeps nothing.
type inbox struct {
	mu      sync.Mutex
	changed *sync.Cond
	unread  []byte
	err     error
}

func (i *inbox) fill(from io.Reader) {
	b := make([]byte, 4096)
	for err := error(nil); err == nil; {
		var n int
		n, err = from.Read(b)
		i.mu.Lock()
		i.unread, i.err = append(i.unread, b[:n]...), err
		i.changed.Broadcast()
		i.mu.Unlock()
	}
}

func (i *inbox) Read(b []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.unread) == 0 && i.err == nil {
		i.changed.Wait()
	}
	n := copy(b, i.unread)
	if i.unread = i.unread[n:]; n > 0 {
		return n, nil
	}
	return 0, i.err
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.changed.Broadcast()
}

func (f *fake) serve(c net.Conn, in io.Reader) {
	defer c.Close()
	b := pgproto3.NewBackend(in, c)
	first, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if cancel, ok := first.(*pgproto3.CancelRequest); ok {
		if !f.deaf {
			f.set(func() { f.canceled[cancel.ProcessID] = true })
		}
		return
	}
	s := &fakeSession{f: f, b: b}
	f.set(func() { f.last++; s.pid = f.last })
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: s.pid, SecretKey: []byte{0, 0, 0, byte(s.pid)}})
	s.ready()
	for {
		m, err := b.Receive()
		if err != nil || !s.answer(m) {
			return
		}
	}
}

type fakeSession struct {
	f         *fake
	b         *pgproto3.Backend
	pid       uint32
	statement string
	parameter string
	failed    bool
}

func (s *fakeSession) ready() {
	s.b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = s.b.Flush() // the client may have gone
}

// answer says whether the session continues.
func (s *fakeSession) answer(m pgproto3.FrontendMessage) bool {
	switch m := m.(type) {
	case *pgproto3.Parse:
		s.statement = m.Query
	case *pgproto3.Bind:
		s.parameter = string(m.Parameters[0])
	case *pgproto3.Execute:
		s.execute()
	case *pgproto3.Sync:
		s.ready()
	case *pgproto3.Query:
		s.failed = false
		for statement := range strings.SplitSeq(m.String, ";") {
			if s.failed {
				break
			}
			if !s.do(strings.Fields(statement)) {
				_ = s.b.Flush()
				return false
			}
		}
		s.ready()
	}
	return true
}

// execute answers the control connection's query.
func (s *fakeSession) execute() {
	answer := "f"
	s.f.set(func() {
		if !strings.Contains(s.statement, "is_blocked") {
			s.f.names = append(s.f.names, s.parameter)
			return
		}
		for pid, waits := range s.f.waiting {
			if waits && fmt.Sprint(pid) == s.parameter {
				answer = "t"
			}
		}
	})
	s.rows([]string{"answer"}, []string{answer})
}

func (s *fakeSession) rows(names []string, rows ...[]string) {
	d := &pgproto3.RowDescription{}
	for _, n := range names {
		d.Fields = append(d.Fields, pgproto3.FieldDescription{Name: []byte(n)})
	}
	s.b.Send(d)
	for _, row := range rows {
		r := &pgproto3.DataRow{}
		for _, v := range row {
			r.Values = append(r.Values, []byte(v))
		}
		s.b.Send(r)
	}
	s.b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}

func (s *fakeSession) fail(severity, text string) {
	s.failed = true
	s.b.Send(&pgproto3.ErrorResponse{Severity: severity, Message: text, Detail: "a detail"})
}

// do says whether the session continues.
func (s *fakeSession) do(words []string) bool {
	if len(words) == 0 {
		s.b.Send(&pgproto3.EmptyQueryResponse{})
		return true
	}
	switch words[0] {
	case "raise":
		s.b.Send(&pgproto3.NoticeResponse{Severity: "NOTICE", Message: words[1]})
		_ = s.b.Flush()
		if len(words) > 2 {
			return s.do(words[2:])
		}
	case "later":
		s.f.set(func() { s.f.waiting[s.pid] = true })
		_ = clock.System().Sleep(context.Background(), pollInterval*3/2) // never ends early
		return s.do(append([]string{"raise"}, words[1:]...))
	case "tell":
		s.b.Send(&pgproto3.NotificationResponse{PID: s.pid, Channel: words[1], Payload: "p"})
		s.b.Send(&pgproto3.NotificationResponse{PID: 4711, Channel: words[1]})
	case "take":
		if !s.wait(words[1]) {
			s.fail("ERROR", "it was canceled")
			return true
		}
		if len(words) > 2 {
			return s.do(words[2:])
		}
	case "free":
		s.f.set(func() { delete(s.f.holders, words[1]) })
	case "rows":
		s.rows([]string{"n", "word"}, []string{"1", "x"})
		return true
	case "copy":
		s.b.Send(&pgproto3.CopyOutResponse{})
		return true
	case "hang":
		s.wait("")
		s.fail("ERROR", "it was canceled")
		return true
	case "end":
		s.fail("FATAL", "the end")
		return false
	case "vanish":
		return false
	default:
		s.fail("ERROR", "it failed")
		return true
	}
	s.b.Send(&pgproto3.CommandComplete{CommandTag: []byte("DONE")})
	return true
}

// wait waits for a lock, or without a name until it is canceled; it returns false in that case.
func (s *fakeSession) wait(lock string) bool {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	defer delete(f.waiting, s.pid)
	for lock == "" || f.holders[lock] != 0 {
		if f.canceled[s.pid] || f.closing {
			return false
		}
		f.waiting[s.pid] = lock != ""
		f.changed.Wait()
	}
	f.holders[lock] = s.pid
	return true
}
