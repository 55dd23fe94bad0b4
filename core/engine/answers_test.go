package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// gate is a store whose appends to the log wait while it is closed.
type gate struct {
	store.Store
	mu     sync.Mutex
	closed chan struct{} // nil: it is open
	held   chan struct{} // an append has arrived and waits
}

func newGate() *gate { return &gate{Store: mem.New(mem.Options{}), held: make(chan struct{}, 100)} }

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

func (g *gate) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if strings.HasPrefix(key, wal.Prefix()) {
		g.mu.Lock()
		closed := g.closed
		g.mu.Unlock()
		if closed != nil {
			g.held <- struct{}{}
			select {
			case <-closed:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
	return g.Store.Put(ctx, key, body, id, cond)
}

// onGate is an open database with a table, and a bucket that does not take its commits until the gate is opened.
func onGate(t *testing.T, change ...func(*Options)) (*Engine, *gate) {
	t.Helper()
	g := newGate()
	e := open(t, g, append([]func(*Options){inLog, func(o *Options) { o.LeaseTTL, o.RestoreBudget = time.Hour, -1 }}, change...)...)
	atEnd(t, g.open) // before the engine ends
	must(t, e, "CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) g")
	return e, g
}

// quiesce waits until everything is durable, so that what comes next is the only work.
func quiesce(t *testing.T, e *Engine) {
	t.Helper()
	if _, err := e.Commit(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

// waiting is how many answers wait for the bucket.
func waiting(e *Engine) int {
	log := e.commits.(*logMode).log
	log.mu.Lock()
	defer log.mu.Unlock()
	return log.queued()
}

// waits says whether an answer waits for the bucket, in addition to those that did before; otherwise the answer arrives.
func waits(t *testing.T, e *Engine, answer <-chan error, before int) bool {
	t.Helper()
	for waiting(e) <= before {
		select {
		case err := <-answer:
			if err != nil && sqlstate(err) != "22012" {
				t.Error(err)
			}
			return false
		default:
		}
		if err := clock.System().Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	return true
}

// pipelined sends all queries in one go, and delivers the last answer.
func pipelined(c *pgconn.PgConn, sql []string) <-chan error {
	done := make(chan error, 1)
	go func() {
		front := c.Frontend()
		for _, s := range sql {
			front.Send(&pgproto3.Query{String: s})
		}
		err := front.Flush()
		var failed error
		for ready := 0; err == nil && ready < len(sql); {
			var m pgproto3.BackendMessage
			m, err = front.Receive()
			switch m := m.(type) {
			case *pgproto3.ReadyForQuery:
				ready++
			case *pgproto3.ErrorResponse:
				failed = pgconn.ErrorResponseToPgError(m)
			}
		}
		done <- errors.Join(err, failed)
	}()
	return done
}

// What a client is told while the bucket takes nothing: only what promises nothing.
func TestAnswersWaitForWhatTheyTellOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before string // by another session, committed there and not durable
		open   string // in the session itself, in a block
		sql    string
		waits  bool
	}{
		"a commit":                           {sql: "INSERT INTO t VALUES (100)", waits: true},
		"a commit of a block":                {open: "BEGIN; INSERT INTO t VALUES (100)", sql: "COMMIT", waits: true},
		"BEGIN":                              {sql: "BEGIN"},
		"a statement in a block":             {open: "BEGIN", sql: "INSERT INTO t VALUES (100)"},
		"a failed statement in a block":      {open: "BEGIN", sql: "SELECT 1/0"},
		"a read, when nothing was committed": {sql: "SELECT count(*) FROM t"},
		"a read in a block of what another has committed": {before: "UPDATE t SET b = 1 WHERE a = 1", open: "BEGIN", sql: "SELECT b FROM t WHERE a = 1"},
		"a read of what another has committed":            {before: "UPDATE t SET b = 1 WHERE a = 1", sql: "SELECT b FROM t WHERE a = 1", waits: true},
		"a read in a block, and its end":                  {before: "UPDATE t SET b = 1 WHERE a = 1", open: "BEGIN; SELECT b FROM t WHERE a = 1", sql: "COMMIT", waits: true},
		"ROLLBACK of a block that read":                   {before: "UPDATE t SET b = 1 WHERE a = 1", open: "BEGIN; SELECT b FROM t WHERE a = 1", sql: "ROLLBACK", waits: true},
		"a statement that a block has taken in":           {sql: "INSERT INTO t VALUES (100); BEGIN"},
		"a commit, and a block behind it":                 {sql: "INSERT INTO t VALUES (100)|BEGIN", waits: true},
		"a commit, a block, and a read in it":             {sql: "INSERT INTO t VALUES (100)|BEGIN; SELECT 1|SELECT 1", waits: true},
		"a block that ends, and another one":              {open: "BEGIN", sql: "INSERT INTO t VALUES (100)|COMMIT|BEGIN|SELECT 1", waits: true},
		"COMMIT, and a block behind it":                   {open: "BEGIN; INSERT INTO t VALUES (100)", sql: "COMMIT; BEGIN", waits: true},
		"COMMIT AND CHAIN":                                {open: "BEGIN; INSERT INTO t VALUES (100)", sql: "COMMIT AND CHAIN", waits: true},
		"a procedure that commits":                        {sql: "DO $$ BEGIN INSERT INTO t VALUES (100); COMMIT; END $$", waits: true},
		"PREPARE TRANSACTION":                             {open: "BEGIN; INSERT INTO t VALUES (100)", sql: "PREPARE TRANSACTION 'p'", waits: true},
		"synchronous_commit=off":                          {open: "SET synchronous_commit = off; BEGIN; INSERT INTO t VALUES (100)", sql: "COMMIT"},
		"ALTER SYSTEM":                                    {sql: "ALTER SYSTEM SET cluster_name = 'x'", waits: true},
		"an error that tells of another's commit":         {before: "INSERT INTO t VALUES (50)", sql: "INSERT INTO t VALUES (50)", waits: true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			e, g := onGate(t, func(o *Options) {
				o.Settings = map[string]string{"max_prepared_transactions": "2", "autovacuum": "off"}
			})
			a, b := client(t, e), client(t, e)
			if c.open != "" && c.before == "" {
				do(t, a, c.open)
			}
			quiesce(t, e)
			g.shut()
			before := 0
			if c.before != "" {
				answer := later(t, b, c.before)
				<-g.held // it is committed, and not durable
				before = 1
				if c.open != "" {
					do(t, a, c.open)
				}
				defer func() {
					if err := <-answer; err != nil {
						t.Error(err)
					}
				}()
			}
			answer := pipelined(a, strings.Split(c.sql, "|"))
			if got := waits(t, e, answer, before); got != c.waits {
				t.Errorf("the answer waits: %v, want %v", got, c.waits)
			} else if got {
				g.open()
				if err := <-answer; err != nil && sqlstate(err) != "23505" {
					t.Error(err)
				}
			}
			g.open()
		})
	}
}

// With AnswersDurable, an answer inside a block waits for the data it reveals, but not for its own transaction.
func TestAnswersDurable(t *testing.T) {
	t.Parallel()
	e, g := onGate(t, func(o *Options) { o.Answers = AnswersDurable })
	a, b := client(t, e), client(t, e)
	quiesce(t, e)
	g.shut()
	do(t, a, "BEGIN")
	do(t, a, "INSERT INTO t VALUES (100)")
	committed := later(t, b, "UPDATE t SET b = 1 WHERE a = 1")
	<-g.held
	if answer := pipelined(a, []string{"SELECT b FROM t WHERE a = 1"}); !waits(t, e, answer, 1) {
		t.Error("a read in a block tells of what is not durable")
	} else {
		g.open()
		if err := <-answer; err != nil {
			t.Error(err)
		}
	}
	if err := <-committed; err != nil {
		t.Error(err)
	}
}

// A notification waits for what its transaction has committed.
func TestNotificationsWait(t *testing.T) {
	t.Parallel()
	e, g := onGate(t)
	a, b := client(t, e), client(t, e)
	do(t, a, "LISTEN news")
	quiesce(t, e)
	g.shut()
	committed := later(t, b, "BEGIN; INSERT INTO t VALUES (100); NOTIFY news; COMMIT")
	<-g.held
	heard := make(chan error, 1)
	go func() { heard <- a.WaitForNotification(t.Context()) }()
	if !waits(t, e, heard, 1) {
		t.Error("a notification has come before what it tells of")
		return
	}
	g.open()
	for _, done := range []<-chan error{committed, heard} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A session that writes a lot in an open transaction, while the bucket takes nothing, does not keep others from reading.
func TestLoadKeepsNoReaderWaiting(t *testing.T) {
	t.Parallel()
	e, g := onGate(t, func(o *Options) { o.Settings = map[string]string{"autovacuum": "off"} })
	a, b := client(t, e), client(t, e)
	quiesce(t, e)
	g.shut()
	written := e.LogBytes()
	do(t, a, "BEGIN; INSERT INTO t SELECT g, g FROM generate_series(1000, 50000) g")
	if e.LogBytes()-written < 2<<20 {
		t.Error("too little was written: the test shows nothing")
	}
	if answer := later(t, b, "SELECT count(*) FROM t"); waits(t, e, answer, 0) {
		t.Error("a read waits for a transaction that is open")
	}
	g.open()
	do(t, a, "COMMIT")
}

// An answer that was not made durable is never given: the client hears why.
func TestNoAnswerWithoutTheBucket(t *testing.T) {
	t.Parallel()
	e, g := onGate(t)
	a := client(t, e)
	quiesce(t, e)
	g.shut()
	answer := later(t, a, "INSERT INTO t VALUES (100)")
	<-g.held
	e.Abandon()
	if err := <-answer; err == nil {
		t.Error("a commit was acknowledged that is not in the bucket")
	}
}

// A session that writes faster than the bucket takes is stopped, and no other is: others read, and write a little, even where they have to
// write out what that session left in PostgreSQL's buffers.
func TestWhoWritesTooFastIsStopped(t *testing.T) {
	t.Parallel()
	e, g := onGate(t, func(o *Options) { o.Settings = map[string]string{"autovacuum": "off"} })
	a, b := client(t, e), client(t, e)
	do(t, a, "CREATE TABLE big (a text); ALTER TABLE big ALTER a SET STORAGE PLAIN")
	quiesce(t, e)
	g.shut()
	loaded := later(t, a, "INSERT INTO big SELECT repeat('x', 5000) FROM generate_series(1, 10000)")
	log := e.commits.(*logMode).log
	for log.full() == nil {
		if err := clock.System().Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		do(t, b, "BEGIN; UPDATE t SET b = b + 1 WHERE a = 1; SELECT count(*) FROM t; SELECT pg_logical_emit_message(false, 'test', 'here', true); SAVEPOINT x")
	}
	if held := log.pending(); held > pendingBytes+2<<20 {
		t.Errorf("%d bytes are held, more than %d", held, pendingBytes)
	}
	g.open()
	if err := <-loaded; err != nil {
		t.Error(err)
	}
	do(t, b, "COMMIT")
	if got := do(t, b, "SELECT (SELECT count(*) FROM big), (SELECT b FROM t WHERE a = 1)"); got != "10000|100" {
		t.Error(got)
	}
}
