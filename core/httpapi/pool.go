package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/keeper"
)

// pool holds the requests' sessions, each a PostgreSQL process. A session belongs to one request at a time, and is cleaned (DISCARD ALL)
// before the next one gets it. One that cannot be cleaned, or whose request was given up, is ended.
//
//	open ──► at work ──► cleaned ──► idle ──► at work ...
//	            └───────────┴──────────┴────► ended
type pool struct {
	connector
	max      int           // most sessions
	patience time.Duration // how long a request waits for a session
	idleFor  time.Duration
	maxAge   time.Duration

	places  chan struct{} // a token for each session that is not idle
	waiting atomic.Int64  // requests waiting for a place
	opened  atomic.Int64  // sessions opened so far

	mu      sync.Mutex
	idle    []*session // the most recently used one is last
	busy    map[*session]bool
	closed  bool
	closing chan struct{}
	work    sync.WaitGroup // sessions that are not idle, and the goroutines that watch idle ones
}

func newPool(c connector, o Options) *pool {
	return &pool{
		connector: c, max: o.MaxSessions, patience: o.SessionTimeout, idleFor: o.IdleSession, maxAge: maxSessionAge,
		places: make(chan struct{}, o.MaxSessions), busy: map[*session]bool{}, closing: make(chan struct{}),
	}
}

// maxSessionAge is how long a session is used at most: settings of ALTER ROLE and ALTER DATABASE only apply to new sessions, and a new one
// has an empty catalog cache.
const maxSessionAge = time.Minute

// acquire returns a session of a database, which the caller must release. Errors: notOpen, keeper.ErrClosed, the context's, a badRequest if
// no session becomes free within patience.
func (p *pool) acquire(ctx context.Context, database string) (*session, error) {
	if err := p.place(ctx); err != nil {
		return nil, err
	}
	s, crowd, err := p.take(database)
	if err != nil {
		<-p.places
		return nil, err
	}
	for _, other := range crowd {
		other.close()
		select { // its place in PostgreSQL must be free before another process starts
		case <-other.backend.Done():
		case <-ctx.Done():
		}
	}
	if s == nil {
		s, err = p.open(ctx, database)
		if err == nil {
			p.opened.Add(1)
			err = p.began(s)
		}
	}
	if err != nil {
		p.work.Done()
		<-p.places
		return nil, err
	}
	s.backend.HoldAnswers(true)
	return s, nil
}

// place waits for one of the places.
func (p *pool) place(ctx context.Context) error {
	select {
	case p.places <- struct{}{}:
		return nil
	default:
	}
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	t := p.clock.NewTimer(p.patience)
	defer t.Stop()
	select {
	case p.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &notOpen{ctx.Err()}
	case <-p.closing:
		return keeper.ErrClosed
	case <-t.C():
		return &badRequest{
			status: http.StatusServiceUnavailable, sqlstate: "53300", reason: refusedBusy,
			text: fmt.Sprintf("all %d sessions are in use, and none became free within %v (MaxSessions, SessionTimeout): try again", p.max, p.patience),
		}
	}
}

// take returns an idle session of the database; nil: there is none, and the caller opens one. crowd are idle sessions of other databases
// that the caller must close first, to keep within max. The caller counts in work from now on.
func (p *pool) take(database string) (s *session, crowd []*session, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, keeper.ErrClosed
	}
	p.work.Add(1)
	for i, candidate := range slices.Backward(p.idle) {
		if candidate.database == database && !candidate.ended() {
			p.remove(i)
			p.busy[candidate] = true
			return candidate, nil, nil
		}
	}
	for len(p.idle) > 0 && len(p.idle)+len(p.places) > p.max {
		crowd = append(crowd, p.remove(0))
	}
	return nil, crowd, nil
}

// remove takes an idle session off the list. p.mu is held.
func (p *pool) remove(i int) *session {
	s := p.idle[i]
	p.idle = slices.Delete(p.idle, i, i+1)
	close(s.taken)
	s.limit.Stop()
	return s
}

// began records a session that was opened.
func (p *pool) began(s *session) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		defer s.close()
		return keeper.ErrClosed
	}
	p.busy[s] = true
	return nil
}

// release takes a session back, and cleans it before the request's answer ends, so that an advisory lock, for example, is free by then.
// whole: the request ended by itself; otherwise the session is ended.
func (p *pool) release(s *session, whole bool) {
	defer p.work.Done()
	defer func() { <-p.places }()
	young := p.clock.Monotonic()-s.opened < p.maxAge
	if !whole || !young || s.IsBusy() || s.ended() || s.reset() != nil || !p.park(s) {
		s.close()
		p.left(s)
	}
}

// left removes a session that has ended.
func (p *pool) left(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, s)
}

// park makes a clean session idle, until a request takes it, it ends, or its time is over.
func (p *pool) park(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	delete(p.busy, s)
	s.taken, s.limit = make(chan struct{}), p.clock.NewTimer(p.idleFor)
	p.idle = append(p.idle, s)
	p.work.Add(1)
	go p.watch(s, s.taken, s.limit.C())
	return true
}

// watch ends a session that has been idle for too long, or whose process has ended.
func (p *pool) watch(s *session, taken <-chan struct{}, limit <-chan time.Time) {
	defer p.work.Done()
	select {
	case <-taken:
		return
	case <-limit:
	case <-s.backend.Done():
	}
	p.mu.Lock()
	i := -1
	select {
	case <-taken: // a request took it first
	default:
		i = slices.Index(p.idle, s)
		p.remove(i)
	}
	p.mu.Unlock()
	if i >= 0 {
		s.close()
	}
}

// figures returns how many sessions there are.
func (p *pool) figures() (idle, busy int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), len(p.busy)
}

// close ends the idle sessions, waits for the busy ones, and ends those too when ctx ends. From then on acquire fails.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.closing)
	}
	var idle []*session
	for len(p.idle) > 0 {
		idle = append(idle, p.remove(0))
	}
	p.mu.Unlock()
	for _, s := range idle {
		s.close()
	}
	done := make(chan struct{})
	go func() { p.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for s := range p.busy {
		s.cut()
	}
	p.mu.Unlock()
	<-done
	return ctx.Err()
}
