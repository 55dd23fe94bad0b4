package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/pointfault"
	"blobpglite/faults/procfault"
)

// place is a bucket for processes, and how they open it.
func place(t *testing.T) OpenArgs {
	t.Helper()
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{"bucket"}})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, stop, err := front.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return OpenArgs{
		Store: StoreSpec{Bucket: "bucket", Prefix: "p", Endpoint: endpoint}, Create: true, Mode: engine.ModeLog,
		LeaseTTL: 200 * time.Millisecond, AcquireTimeout: 30 * time.Second, RestoreBudget: -1,
	}
}

// eventful is a process whose events can be waited for.
func eventful(t *testing.T) (*Process, chan Event) {
	t.Helper()
	events := make(chan Event, 16)
	p := spawn(t, Options{Event: func(e Event) { events <- e }})
	return p, events
}

func rows(t *testing.T, n Node, sql string) string {
	t.Helper()
	var out QueryResult
	do(t, n, Query, QueryArgs{SQL: sql}, &out)
	return fmt.Sprint(out.Rows)
}

// TestKilledInTheMiddleOfACommit: the death was announced, the commit is there, its client does not know.
func TestKilledInTheMiddleOfACommit(t *testing.T) {
	args := place(t)
	victim, events := eventful(t)
	do(t, victim, Open, args, nil)
	rows(t, victim, "CREATE TABLE t (a int)")
	do(t, victim, Faults, FaultsArgs{Rules: []pointfault.Rule{{Point: point.WalAfterPut, Do: pointfault.Kill, Nth: 1}}}, nil)
	err := victim.Do(t.Context(), Query, QueryArgs{SQL: "INSERT INTO t VALUES (1)"}, nil)
	var ended *EndedError
	if !errors.As(err, &ended) || ended.Exit.Reason != ExitKilled {
		t.Errorf("the client heard: %v", err)
	}
	if e := <-events; e.Point != point.WalAfterPut || e.Do != pointfault.Kill {
		t.Errorf("announced %+v", e)
	}
	if exit, err := victim.Wait(t.Context()); err != nil || exit.Reason != ExitKilled {
		t.Errorf("exit %v, %v", exit, err)
	}
	if err := victim.Signal(procfault.Continue); !errors.Is(err, procfault.ErrNotOurs) {
		t.Errorf("a signal to the dead: %v", err)
	}
	next := spawn(t, Options{})
	do(t, next, Open, args, nil)
	if got := rows(t, next, "SELECT a FROM t"); got != "[[[1]]]" {
		t.Errorf("the next one found %s", got)
	}
}

// TestParkedRequestsDoNotHoldOthersUp: requests run concurrently, and a parked one continues when it is released.
func TestParkedRequestsDoNotHoldOthersUp(t *testing.T) {
	args := place(t)
	p, events := eventful(t)
	do(t, p, Open, args, nil)
	rows(t, p, "CREATE TABLE t (a int)")
	do(t, p, Faults, FaultsArgs{Rules: []pointfault.Rule{{Point: point.CommitBeforeAck, Do: pointfault.Park, Nth: 1}}}, nil)
	answered := make(chan error, 1)
	go func() {
		answered <- p.Do(t.Context(), Query, QueryArgs{SQL: "INSERT INTO t VALUES (1)", InSession: InSession{Session: 1}}, nil)
	}()
	<-events
	if got := rows(t, p, "SELECT a FROM t"); got != "[[[1]]]" {
		t.Errorf("beside it: %s", got)
	}
	var f FaultsResult
	do(t, p, Faults, FaultsArgs{}, &f)
	if f.Parked != 1 || len(f.Fired) != 1 || f.Fired[0].Fired != 1 || f.Passed[point.WalAfterPut] == 0 {
		t.Errorf("counted %+v", f)
	}
	select {
	case err := <-answered:
		t.Errorf("a parked request was answered: %v", err)
	default:
	}
	do(t, p, Release, nil, nil)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	do(t, p, Close, nil, nil)
	if err := p.in.Close(); err != nil {
		t.Error(err)
	}
	if exit, err := p.Wait(t.Context()); err != nil || exit.Reason != ExitClean {
		t.Errorf("exit %v, %v", exit, err)
	}
}

// TestStoppedThenFenced: a writer that was stopped is taken over; when it continues it is refused, and ends by itself, saying why.
func TestStoppedThenFenced(t *testing.T) {
	args := place(t)
	args.ExitWhenPoisoned = true
	zombie, events := eventful(t)
	do(t, zombie, Open, args, nil)
	rows(t, zombie, "CREATE TABLE t (a int)")
	do(t, zombie, Faults, FaultsArgs{Rules: []pointfault.Rule{{Point: point.WalBeforePut, Do: pointfault.Stop, Nth: 1}}}, nil)
	answered := make(chan error, 1)
	go func() { answered <- zombie.Do(t.Context(), Query, QueryArgs{SQL: "INSERT INTO t VALUES (1)"}, nil) }()
	<-events
	next := spawn(t, Options{})
	do(t, next, Open, args, nil)
	rows(t, next, "INSERT INTO t VALUES (2)")
	if err := zombie.Signal(procfault.Continue); err != nil {
		t.Fatal(err)
	}
	var failed *Error
	if err := <-answered; !errors.As(err, &failed) || failed.Code != CodeFenced {
		t.Errorf("the zombie's client heard: %v", err)
	}
	if exit, err := zombie.Wait(t.Context()); err != nil || exit.Reason != ExitFenced {
		t.Errorf("exit %v, %v", exit, err)
	}
	if got := rows(t, next, "SELECT a FROM t"); got != "[[[2]]]" {
		t.Errorf("the database holds %s", got)
	}
}

// TestSIGTERMFlushes: what was acknowledged before it was durable is there afterwards, and the lease is free.
func TestSIGTERMFlushes(t *testing.T) {
	args := place(t)
	args.Durability, args.IdleFlush, args.LeaseTTL = engine.Sleep, time.Hour, time.Hour
	p := spawn(t, Options{})
	do(t, p, Open, args, nil)
	rows(t, p, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	if err := p.Signal(procfault.Terminate); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(t.Context()); err != nil || exit.Reason != ExitTerminated {
		t.Errorf("exit %v, %v", exit, err)
	}
	next := spawn(t, Options{})
	do(t, next, Open, args, nil) // the lease runs for an hour: it was released
	if got := rows(t, next, "SELECT a FROM t"); got != "[[[1]]]" {
		t.Errorf("the next one found %s", got)
	}
	var s StatusResult
	do(t, next, Status, nil, &s)
	if s.Role != "holder" {
		t.Errorf("status %+v", s)
	}
}

// TestAStoppedChildDiesToo: a stopped process cannot see that its input has ended.
func TestAStoppedChildDiesToo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Spawn(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(procfault.Stop); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if exit, err := p.Wait(t.Context()); err != nil || exit.Reason != ExitKilled {
			t.Errorf("exit %v, %v", exit, err)
		}
	})
	cancel()
	wg.Wait()
}

// TestCodes: a client's conclusions depend on them.
func TestCodes(t *testing.T) {
	unknown := fmt.Errorf("%w: %w", engine.ErrPoisoned, engine.ErrUnknown)
	for want, err := range map[string]error{
		CodeUnknown: unknown, CodeFenced: fmt.Errorf("%w: %w", engine.ErrPoisoned, engine.ErrFenced), CodePoisoned: engine.ErrPoisoned,
		CodeNotOpen: errNotOpen, CodeClosed: engine.ErrClosed, CodeLocked: engine.ErrLocked, CodeInjected: pointfault.ErrInjected, "": errors.New("x"),
	} {
		if got := asError(err); got.Code != want {
			t.Errorf("%v has code %q, want %q", err, got.Code, want)
		}
	}
	if asError(nil) != nil {
		t.Error("no error has a code")
	}
}
