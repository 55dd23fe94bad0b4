package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/wal"
)

// server is an engine's PostgreSQL: a cluster, and after a crash another one on the same files. The files, what was captured from them and
// what is on its way to the bucket survive the crash. They hold what PostgreSQL had written, so no acknowledged commit is lost.
type server struct {
	live     atomic.Pointer[pglite.Cluster] // for hooks, under its lock; nil: PostgreSQL is starting
	restarts atomic.Int64
	watching sync.WaitGroup  // watch, which ends after the last cluster
	life     context.Context // until the engine ends, or is given up
	end      context.CancelFunc

	mu      sync.Mutex
	cluster *pglite.Cluster // the last one started
	next    chan struct{}   // closed when there is another one; nil: there will be none
}

// startWait bounds how long a client waits while PostgreSQL restarts after a crash. startTries is how often a start is tried before the
// engine is poisoned.
const (
	startWait  = 10 * time.Second
	startTries = 2
)

// startOn starts PostgreSQL on restored files, into which records were replayed, and checks that it recovered everything they hold. What it
// writes to its log after recovery is shipped only when a caller waits for it, so after an error the bucket is unchanged.
func (e *Engine) startOn(ctx context.Context, op *opening, data *memfs.FS, records []wal.Record) error {
	rt, err := op.runtime(ctx)
	if err != nil {
		return err
	}
	e.runtime = rt
	at := e.o.Clock.Monotonic()
	c, err := e.startCluster(ctx, data, records)
	op.stats.Start = op.since(at)
	if err != nil {
		return e.o.blame(err)
	}
	s := &e.server
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	e.serve(c, false)
	s.watching.Go(func() { e.watch(c, data) })
	return nil
}

// startCluster starts a cluster on files, and checks how far it has recovered.
func (e *Engine) startCluster(ctx context.Context, data *memfs.FS, records []wal.Record) (*pglite.Cluster, error) {
	want, err := recoverable(data, records, e.o.Logger)
	if err == nil {
		err = errors.Join(dropSignals(data), dropTemporary(data))
	}
	if err != nil {
		return nil, err
	}
	o := e.o.cluster(data)
	o.Temporary = e.temporary()
	if e.pages != nil {
		o.Source = readPages{e.pages, &e.readers}
	}
	o.Mark = func(p *pglite.Process, inBlock bool) uint64 { return uint64(e.commits.mark(p, inBlock)) }
	o.Position, o.Await = e.position, e.Await
	if e.follower != nil {
		e.follower.follow(&o)
	}
	c, err := e.runtime.StartCluster(ctx, o)
	if err != nil {
		return nil, err
	}
	e.recovered = want.end
	if e.follower != nil {
		err = e.follower.caughtUp(ctx, c, want)
	} else {
		err = want.recovered(pgdata.LSN(c.Replayed()))
	}
	if err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// serve makes a cluster available to clients; again: after a crash.
func (e *Engine) serve(c *pglite.Cluster, again bool) {
	s := &e.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Locked(func() {
		e.commits.started(c, again)
		s.live.Store(c)
	})
	if s.next != nil {
		close(s.next)
	}
	s.cluster, s.next = c, make(chan struct{})
}

// watch restarts PostgreSQL whenever it has crashed: one process failed, and may have damaged shared memory, so all were ended. It returns
// when the engine ends.
func (e *Engine) watch(c *pglite.Cluster, data *memfs.FS) {
	s := &e.server
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.next)
		s.next = nil
	}()
	for {
		<-c.Done()
		s.live.Store(nil) // no process runs
		if s.life.Err() != nil {
			return
		}
		e.o.Logger.Error("PostgreSQL has crashed and is being restarted; everything committed is there", "because", c.Err())
		next, err := e.again(data)
		if err != nil {
			if s.life.Err() == nil {
				_ = e.fail(fmt.Errorf("restart PostgreSQL after a crash: %w", err))
			}
			return
		}
		s.restarts.Add(1)
		e.serve(next, true)
		if c = next; s.life.Err() != nil {
			c.Kill()
		}
	}
}

// again starts PostgreSQL on the files of one that has crashed.
func (e *Engine) again(data *memfs.FS) (c *pglite.Cluster, err error) {
	s := &e.server
	for try := 0; try < startTries && s.life.Err() == nil; try++ {
		if err = e.o.Hook.Fire(s.life, point.ProcessBeforeRestart); err != nil {
			return nil, err
		}
		if c, err = e.startCluster(s.life, data, e.commits.reached()); err == nil || errors.Is(err, ErrRecovery) {
			break
		}
	}
	return c, errors.Join(err, s.life.Err())
}

// connect starts a process for a client. If PostgreSQL is restarting, it waits up to startWait. Errors: ErrStarting, ErrPoisoned,
// ErrClosed, pglite.ErrTooManyProcesses, pglite.ErrAddressSpace, the context's.
func (e *Engine) connect(ctx context.Context, o pglite.ConnectOptions) (*pglite.Conn, error) {
	end := e.o.Clock.Monotonic() + startWait
	for {
		c, err := e.ready(ctx, end-e.o.Clock.Monotonic())
		if err != nil {
			return nil, err
		}
		conn, err := c.Connect(ctx, o)
		if err == nil || !errors.Is(err, pglite.ErrDead) {
			return conn, err
		}
		<-c.Done() // it has just crashed
	}
}

// ready waits up to patience until a cluster serves, and returns it.
func (e *Engine) ready(ctx context.Context, patience time.Duration) (*pglite.Cluster, error) {
	s := &e.server
	timer := e.o.Clock.NewTimer(patience)
	defer timer.Stop()
	for {
		if err := e.serves(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		c, next := s.cluster, s.next
		s.mu.Unlock()
		if c.Err() == nil {
			return c, nil
		}
		select {
		case <-next:
		case <-timer.C():
			return nil, ErrStarting
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// locked calls f while no process runs. Error: ErrCrashed, also if the cluster ends before the lock is free; then f was not called.
func (s *server) locked(f func(*pglite.Cluster)) error {
	c := s.latest()
	if c == nil {
		return ErrCrashed
	}
	err := ErrCrashed
	c.Locked(func() {
		if c.Err() == nil {
			f(c)
			err = nil
		}
	})
	return err
}

// latest returns the cluster that was started last. Nil: none was.
func (s *server) latest() *pglite.Cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cluster
}

// running returns the running cluster. Error: ErrCrashed.
func (s *server) running() (*pglite.Cluster, error) {
	c := s.latest()
	if c == nil || c.Err() != nil {
		return nil, ErrCrashed
	}
	return c, nil
}

// checkpoint has PostgreSQL write a checkpoint.
func (e *Engine) checkpoint(ctx context.Context) error {
	c, err := e.server.running()
	if err == nil {
		err = c.Checkpoint(ctx)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", e.clientError(err))
	}
	return nil
}

// kill ends PostgreSQL like a crash, for good. It does not wait, as its caller may be one of the goroutines that must end; watching does.
func (s *server) kill() {
	if c := s.latest(); c != nil { // nil: it has not been started
		s.end()
		go c.Kill()
	}
}

// discard frees the files of a cluster that was killed: otherwise anything that still refers to the engine keeps a whole database in memory.
func (s *server) discard() {
	if c := s.latest(); c != nil {
		c.Locked(c.Data().Discard)
	}
}

// clientError translates an error of the cluster into the engine's.
func (e *Engine) clientError(err error) error {
	if !errors.Is(err, pglite.ErrDead) && !errors.Is(err, ErrCrashed) {
		return err
	}
	if because := e.serves(); because != nil {
		return because
	}
	if errors.Is(err, ErrCrashed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCrashed, err)
}
