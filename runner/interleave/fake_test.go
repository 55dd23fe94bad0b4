package interleave

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// fake is a server that knows as much as the tests' schedules need: a setting, prepared statements, and an advisory lock.
type fake struct {
	listener net.Listener
	shared   bool // all clients but the third have one session's state
	mute     bool // waiting for the lock sends nothing

	mu       sync.Mutex
	common   *state
	last     uint32
	conns    map[net.Conn]bool
	owner    uint32 // of the lock; 0: none
	waiting  []*waiter
	sessions sync.WaitGroup
}

// state is the state of a session, or of several.
type state struct {
	mu         sync.Mutex
	tenant     string
	statements map[string]string
}

func (s *state) prepare(name, sql string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statements[name] = sql
}

func (s *state) prepared(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statements[name] != ""
}

// setting returns the setting, after changing it if there is a new value.
func (s *state) setting(change []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(change) > 1 {
		s.tenant = change[1]
	}
	return s.tenant
}

// waiter is a session that waits for the lock.
type waiter struct {
	pid  uint32
	gets chan struct{}
}

func startFake(t *testing.T, shared, mute bool) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: l, shared: shared, mute: mute, common: &state{statements: map[string]string{}}, conns: map[net.Conn]bool{}}
	f.sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[conn] = true
			f.mu.Unlock()
			f.sessions.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for conn := range f.conns {
			conn.Close()
		}
		for _, w := range f.waiting {
			close(w.gets)
		}
		f.waiting = nil
		f.mu.Unlock()
		f.sessions.Wait()
	})
	return f
}

func (f *fake) address() string { return f.listener.Addr().String() }

// serve is one session.
func (f *fake) serve(conn net.Conn) {
	wire := pgproto3.NewBackend(conn, conn)
	start, err := wire.ReceiveStartupMessage()
	if err != nil {
		conn.Close()
		return
	}
	name := start.(*pgproto3.StartupMessage).Parameters["application_name"]
	f.mu.Lock()
	f.last++
	pid := f.last
	own := &state{statements: map[string]string{}}
	if f.shared && name != "third" {
		own = f.common
	}
	f.mu.Unlock()
	defer func() {
		f.release(pid)
		f.mu.Lock()
		delete(f.conns, conn)
		f.mu.Unlock()
		conn.Close()
	}()
	wire.Send(&pgproto3.AuthenticationOk{})
	wire.Send(&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: []byte{1, 2, 3, 4}})
	f.ready(wire)
	for {
		m, err := wire.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Terminate:
			return
		case *pgproto3.Parse:
			own.prepare(m.Name, m.Query)
			wire.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Describe:
			if !own.prepared(m.Name) {
				wire.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "26000", Message: "no statement"})
			} else {
				wire.Send(&pgproto3.NoData{})
			}
		case *pgproto3.Sync:
			f.ready(wire)
		case *pgproto3.Query:
			f.query(wire, pid, own, m.String)
			f.ready(wire)
		}
	}
}

func (*fake) ready(wire *pgproto3.Backend) {
	wire.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = wire.Flush() // the next Receive sees it
}

var setTenant = regexp.MustCompile(`^SET my\.tenant = '(.*)'$`)

func (f *fake) query(wire *pgproto3.Backend, pid uint32, own *state, sql string) {
	say := func(values ...string) {
		row := &pgproto3.DataRow{}
		for _, v := range values {
			row.Values = append(row.Values, []byte(v))
		}
		wire.Send(row)
	}
	switch {
	case setTenant.MatchString(sql):
		own.setting(setTenant.FindStringSubmatch(sql))
	case strings.HasPrefix(sql, "SELECT current_setting"):
		say(own.setting(nil))
	case sql == askWaiting:
		f.mu.Lock()
		for _, w := range f.waiting {
			say(fmt.Sprint(w.pid), "long ago")
		}
		f.mu.Unlock()
	case sql == askClient:
		say(own.setting(nil))
	case strings.HasPrefix(sql, "SELECT pg_advisory_lock("):
		f.acquire(wire, pid)
		say("")
	case strings.HasPrefix(sql, "SELECT pg_advisory_unlock("):
		say(fmt.Sprint(f.release(pid)))
	}
	wire.Send(&pgproto3.CommandComplete{CommandTag: []byte("OK")})
}

// acquire waits for the lock, as PostgreSQL does it with log_lock_waits.
func (f *fake) acquire(wire *pgproto3.Backend, pid uint32) {
	f.mu.Lock()
	if f.owner == 0 || f.owner == pid {
		f.owner = pid
		f.mu.Unlock()
		return
	}
	w := &waiter{pid, make(chan struct{})}
	f.waiting = append(f.waiting, w)
	f.mu.Unlock()
	if !f.mute {
		wire.Send(&pgproto3.NoticeResponse{Severity: "LOG", SeverityUnlocalized: "LOG", Code: "00000", Message: fmt.Sprintf("process %d still waiting for a lock after 5.2 ms", pid)})
		_ = wire.Flush()
	}
	<-w.gets
}

// release gives the lock to the first waiter.
func (f *fake) release(pid uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owner != pid {
		return false
	}
	f.owner = 0
	if len(f.waiting) > 0 {
		f.owner = f.waiting[0].pid
		close(f.waiting[0].gets)
		f.waiting = f.waiting[1:]
	}
	return true
}
