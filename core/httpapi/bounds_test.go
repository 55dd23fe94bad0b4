package httpapi

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/keeper"
	"blobpglite/core/pglite"
)

// TestSessionsAreBounded: a request waits until a session is free, its patience ends, or it is given up.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Unix(1e9, 0))
	p, c := ofCluster(t, clk, func(o *Options) { o.MaxSessions = 2 })
	type got struct {
		s   *session
		err error
	}
	wait := func(ctx context.Context) chan got {
		done := make(chan got, 1)
		go func() {
			s, err := p.acquire(ctx, "postgres")
			done <- got{s, err}
		}()
		if err := clk.AwaitPending(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		return done
	}
	a, b := p.get(t, "postgres"), p.get(t, "postgres")
	waits := wait(t.Context())
	p.release(a, true)
	third := <-waits
	if third.err != nil || third.s != a {
		t.Fatalf("who waits gets the session that is free: %v", third.err)
	}
	waits = wait(t.Context())
	clk.Advance(p.patience)
	var refused *badRequest
	if w := <-waits; !errors.As(w.err, &refused) || refused.status != 503 || refused.sqlstate != "53300" || refused.reason != refusedBusy {
		t.Errorf("out of patience: %v", w.err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits = wait(ctx)
	cancel()
	if w := <-waits; !errors.As(w.err, new(*notOpen)) || !errors.Is(w.err, context.Canceled) {
		t.Errorf("given up: %v", w.err)
	}
	if n := c.Stats().Processes[pglite.KindClient]; n != 2 {
		t.Errorf("%d processes", n)
	}
	p.release(b, true)
	p.release(a, true)
}

// TestSessionsEnd: an idle one, an old one, and one that has ended by itself.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Unix(1e9, 0))
	p, _ := ofCluster(t, clk, nil)
	advance := func(d time.Duration) {
		t.Helper()
		if err := clk.AwaitPending(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		clk.Advance(d)
	}
	s := p.get(t, "postgres")
	p.release(s, true)
	advance(p.idleFor - 1)
	if p.get(t, "postgres") != s {
		t.Error("a session was ended too early")
	}
	p.release(s, true)
	advance(p.idleFor)
	<-s.backend.Done()

	s = p.get(t, "postgres")
	clk.Advance(p.maxAge)
	p.release(s, true)
	<-s.backend.Done()

	a, b := p.get(t, "postgres"), p.get(t, "postgres")
	p.release(a, true)
	ask(t, b, fmt.Sprintf("SELECT pg_terminate_backend(%d, 60000)", a.PID()))
	<-a.backend.Done()
	if c := p.get(t, "postgres"); c == a {
		t.Error("a session that has ended is used")
	} else {
		p.release(c, true)
	}
	p.release(b, true)
	if idle, busy := p.figures(); idle != 2 || busy != 0 {
		t.Errorf("%d idle, %d busy", idle, busy)
	}
}

// TestSessionsOfDatabases: each database has its own; sessions of another database make room.
func TestSessionsOfDatabases(t *testing.T) {
	t.Parallel()
	p, _ := ofCluster(t, clock.System(), func(o *Options) { o.MaxSessions, o.IdleSession = 2, time.Hour })
	a, b := p.get(t, "postgres"), p.get(t, "postgres")
	ask(t, a, "CREATE DATABASE other")
	p.release(a, true)
	p.release(b, true)
	o := p.get(t, "other")
	if got := ask(t, o, "SELECT current_database()"); got != "other" {
		t.Error(got)
	}
	if !a.ended() || b.ended() {
		t.Error("the one that was used last has made room")
	}
	p.release(o, true)
	if p.get(t, "other") != o {
		t.Error("a second session of the same database was opened")
	}
	p.release(o, true)
	if _, err := p.acquire(t.Context(), "none"); sqlstate(err) != "3D000" {
		t.Error(err)
	}
}

// TestPoolCloses: waiting requests are told, running ones have until the context ends.
func TestPoolCloses(t *testing.T) {
	t.Parallel()
	p, c := ofCluster(t, clock.System(), func(o *Options) { o.MaxSessions = 1 })
	s := p.get(t, "postgres")
	waits, runs := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := p.acquire(t.Context(), "postgres")
		waits <- err
	}()
	go func() {
		_, err := s.Exec(t.Context(), "SELECT pg_sleep(1000)").ReadAll()
		p.release(s, true)
		runs <- err
	}()
	for p.waiting.Load() == 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-waits; !errors.Is(err, keeper.ErrClosed) {
		t.Error(err)
	}
	if err := <-runs; err == nil {
		t.Error("it has slept for long")
	}
	<-s.backend.Done()
	if n := c.Stats().Processes[pglite.KindClient]; n != 0 {
		t.Errorf("%d processes", n)
	}
	if _, err := p.acquire(t.Context(), "postgres"); !errors.Is(err, keeper.ErrClosed) {
		t.Error(err)
	}
}
