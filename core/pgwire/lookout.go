package pgwire

import (
	"context"
	"errors"
	"os"
	"time"

	"blobpglite/core/clock"
)

// The way of a message from its connection to PostgreSQL and of the answer back is one goroutine's, the client's own: each
// other one on it would cost a wake-up, often on another processor, which is more than a small statement takes. What has
// to be looked after beside it is the lookout's, one goroutine of the server:
//
//	a client that has been busy for a while    gets a goroutine that reads ahead; if the connection ends, what runs is cancelled
//	one that is silent in a transaction        is interrupted after IdleInTransaction
//	one that waits for its turn                is sent away after TurnTimeout
//	an engine that has failed                  its clients are interrupted
//
// When nothing has happened for a while it sleeps until somebody sends something.
const (
	lookEvery  = 25 * time.Millisecond
	quietLooks = 40 // that the lookout goes on for when nothing happens
)

// stage is what a client's goroutine is doing.
type stage uint32

const (
	stageStart   stage = iota // it logs in, or it has gone: nothing is looked after
	stageReads                // it waits for the client
	stageInBlock              // likewise, in a transaction
	stageBusy                 // it works for the client
	stageQueues               // it waits for its turn
)

// enter notes what the client does from now on.
func (c *client) enter(s stage) {
	c.since.Store(int64(c.clock.Monotonic()))
	c.stage.Store(uint32(s))
}

// busy ends a wait for the client, and makes sure that somebody looks after it.
func (c *client) busy() {
	c.enter(stageBusy)
	c.srv.stir()
}

// stir wakes the lookout if it sleeps.
func (s *Server) stir() {
	s.stirred.Store(true)
	if s.asleep.Load() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// look is the lookout. It ends when the server is stopped.
func (s *Server) look() {
	defer close(s.looked)
	clk := clock.System() // looks are in real time, whatever the clock that limits are measured by
	var seen *session     // whose engine's failure has been told
	for quiet := 0; ; {
		busy := s.lookAround()
		if s.stirred.Swap(false) || busy {
			quiet = 0
		} else {
			quiet++
		}
		var tick <-chan time.Time
		stop := func() bool { return false }
		if quiet < quietLooks {
			t := clk.NewTimer(lookEvery)
			tick, stop = t.C(), t.Stop
		} else {
			s.asleep.Store(true)
			if s.stirred.Load() { // between the look and the sleep
				s.asleep.Store(false)
				quiet = 0
				continue
			}
		}
		on := s.onSession()
		var failed <-chan struct{}
		if on != nil && on != seen {
			failed = on.engine.Failed()
		}
		select {
		case <-tick:
		case <-s.wake:
		case <-failed: // the next look tells its clients
			seen = on
		case <-s.ctx.Done():
			stop()
			return
		}
		stop()
		s.asleep.Store(false)
	}
}

// onSession is the session of the engine that is served now.
func (s *Server) onSession() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// lookAround looks at each client, and says whether any is in need of being looked after.
func (s *Server) lookAround() (busy bool) {
	s.mu.Lock()
	all := make([]*client, 0, len(s.clients))
	for _, c := range s.clients {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		at := stage(c.stage.Load())
		// The stage may have changed in between: then the time is of the new one, and too short for anything.
		spent := c.clock.Monotonic() - time.Duration(c.since.Load())
		switch at {
		case stageBusy, stageQueues:
			if spent >= lookEvery {
				c.readAhead()
			}
			if at == stageQueues && spent >= s.o.TurnTimeout {
				c.sendAway()
			}
			busy = true
		case stageReads, stageInBlock:
			limit := s.o.IdleInTransaction
			if at == stageInBlock && limit > 0 && spent >= limit {
				c.late.Store(true)
			}
			if c.late.Load() || c.session.engine.Err() != nil {
				c.poke()
			}
			busy = busy || at == stageInBlock
		}
	}
	return busy
}

// poke interrupts the client's goroutine, or the one that reads ahead, if it waits for the connection. What is to be
// found then is noted before.
func (c *client) poke() { _ = c.raw.SetReadDeadline(time.Unix(1, 0)) }

// errPoked: a wait for the connection was interrupted.
var errPoked = errors.New("interrupted")

// source is the connection, on which a wait can be interrupted.
type source struct{ c *client }

func (s source) Read(p []byte) (int, error) {
	n, err := s.c.conn.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		// Cleared before anybody looks at what was noted: a poke that comes later interrupts the next wait.
		_ = s.c.raw.SetReadDeadline(time.Time{})
		err = errPoked
	}
	return n, err
}

// rest is what follows of a message that has begun: only what ends the connection interrupts it.
type rest struct{ c *client }

func (r rest) Read(p []byte) (int, error) {
	for {
		n, err := r.c.reader.Read(p)
		if !errors.Is(err, errPoked) {
			return n, err
		}
		if err := r.c.interrupted(); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// watch is a goroutine that reads ahead while the client's own is busy.
type watch struct {
	stop bool // under client.mu
	done chan struct{}
}

// readAhead starts it, unless there is one, or the client is not busy any more.
func (c *client) readAhead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := stage(c.stage.Load()); at != stageBusy && at != stageQueues || c.watch != nil || c.reader == nil {
		return
	}
	w := &watch{done: make(chan struct{})}
	c.watch = w
	go func() {
		defer close(w.done)
		for {
			c.mu.Lock()
			stop := w.stop
			c.mu.Unlock()
			n := c.reader.Buffered()
			if stop || n == c.reader.Size() { // that much is at hand; whoever sent it is there
				return
			}
			if _, err := c.reader.Peek(n + 1); err != nil && !errors.Is(err, errPoked) {
				c.cancelCtx(hungUp{err})
				return
			}
		}
	}()
}

// unwatch takes the reader back. The stage has been changed before, so that no other watch begins.
func (c *client) unwatch() {
	c.mu.Lock()
	w := c.watch
	if w != nil {
		w.stop, c.watch = true, nil
	}
	c.mu.Unlock()
	if w != nil {
		c.poke()
		<-w.done
	}
}

// sendAway ends the client's wait for its turn.
func (c *client) sendAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.giveUp != nil {
		c.giveUp(errLate)
	}
}

// errLate: the client has waited for its turn for TurnTimeout.
var errLate = errors.New("late")

// queue makes a context for a wait for the turn, which sendAway ends.
func (c *client) queue() (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	c.mu.Lock()
	c.giveUp = cancel
	c.mu.Unlock()
	was := stage(c.stage.Load())
	c.enter(stageQueues)
	c.srv.stir()
	return ctx, func() {
		c.enter(was)
		c.mu.Lock()
		c.giveUp = nil
		c.mu.Unlock()
		cancel(nil)
	}
}
