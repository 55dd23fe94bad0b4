package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/pgdata"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// life is an engine that follows the log from one layer on. One goroutine looks at the log, and feeds the engine.
type life struct {
	r      *Replica
	engine *engine.Replica
	from   manifest.Manifest // what it began with

	kick chan struct{} // look now
	hint chan struct{} // news was announced
	move chan error    // restart from a newer layer, with the reason

	// Owned by the goroutine that looks.
	fed        wal.Position
	settled    wal.Position  // how far that has been replayed
	manifestAt time.Duration // when the manifest was last read
	wanted     error         // why it should move but cannot, for lack of a newer layer

	mu      sync.Mutex
	changed chan struct{} // closed at the end of each look
	fresh   time.Duration // start of the last look that found the end and whose records are all replayed
	tried   time.Duration // start of the last look that has ended
	trouble error         // the error of that look; nil: it found the end
	stopped error         // why the log cannot be followed further
	applied wal.Position
}

func newLife(r *Replica, b beginning) *life {
	return &life{
		r: r, from: b.manifest, fed: b.at, kick: make(chan struct{}, 1), hint: make(chan struct{}, 1), move: make(chan error, 1),
		changed: make(chan struct{}),
	}
}

// opened records that everything read at the opening, at time at, has been replayed.
func (l *life) opened(at time.Duration, b beginning) {
	l.manifestAt, l.fresh, l.tried, l.applied, l.settled = at, at, at, b.at, b.at
	if b.stopped != nil {
		l.stopped, l.trouble, l.fresh = b.stopped, b.stopped, at-time.Duration(1<<62)
		l.r.log.Error("the replica has stopped at the last good record", "record", b.at.Seq, "because", b.stopped)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *life) announced() { signal(l.hint) }

// due is called by the engine when it should restart from a newer layer.
func (l *life) due(because error) {
	select {
	case l.move <- because:
	default:
	}
}

// hintedEvery is the least time between looks for announced news; a tenth of the poll if that is less.
const hintedEvery = 100 * time.Millisecond

// wantedEvery is how often the replica looks for a newer layer that it needs.
const wantedEvery = time.Second

// stoppedEvery is how often to retry a log that could not be read further.
const stoppedEvery = 10 * time.Second

// follow looks at the log until the engine ends.
func (l *life) follow() {
	r := l.r
	ctx, cancel := context.WithCancel(r.ctx)
	var moving sync.WaitGroup
	defer moving.Wait()
	defer cancel() // first: a move from an engine that has ended is of no use
	moved := make(chan bool, 1)
	busy, last := false, r.clock.Monotonic()
	move := func(because error) {
		if !busy {
			busy = true
			moving.Go(func() { moved <- r.moveFrom(ctx, l, because) })
		}
	}
	for {
		look := l.wait(ctx, last, move, moved, &busy)
		if !look {
			return
		}
		last = r.clock.Monotonic()
		if because := l.look(ctx); because != nil {
			move(because)
		}
	}
}

// rests says whether it does not look, because the replica is not in use.
func (l *life) rests() bool { return l.r.resting() }

// wait waits for the next look; false: the engine, or the replica, has ended.
func (l *life) wait(ctx context.Context, last time.Duration, move func(error), moved <-chan bool, busy *bool) bool {
	r := l.r
	hinted := false
	for {
		every := r.o.Poll
		switch {
		case hinted:
			every = min(every/10, hintedEvery)
		case l.stoppedBy() != nil:
			every = max(every, stoppedEvery)
		}
		t := r.clock.NewTimer(max(last+every-r.clock.Monotonic(), 0))
		tick := t.C()
		if l.rests() {
			t.Stop()
			tick = nil
		}
		over, goes := false, false
		select {
		case <-tick:
			over, goes = !l.rests(), true
		case <-l.kick:
			over, goes = true, true
		case <-l.hint:
			hinted = true
		case because := <-l.move:
			l.wanted = because
			move(because)
		case done := <-moved:
			*busy = false
			if done {
				l.wanted = nil
			}
		case <-l.engine.Failed():
			over = true
		case <-l.engine.Done():
			over = true
		case <-ctx.Done():
			over = true
		}
		t.Stop()
		if over {
			return goes
		}
	}
}

// look reads what is new in the log, and feeds it. It returns why the replica must move; nil: it need not.
func (l *life) look(ctx context.Context) (move error) {
	r := l.r
	began := r.clock.Monotonic()
	r.looks.Add(1)
	checked := l.check(ctx, began)
	err := l.read(ctx)
	seen := <-checked
	if err == nil && l.suspicious(seen) { // or the record was written between the two looks
		err = l.read(ctx)
	}
	missing := err == nil && seen.beyond > l.fed.Seq
	if damaged(err) || missing { // or the log was collected in the meantime, perhaps after the manifest was read
		now := <-l.checkNow(ctx)
		if now.manifest == nil {
			err, missing = fmt.Errorf("distinguish damage from a log that was deleted in the meantime: %w: %w", store.ErrUnavailable, now.err), false
		}
		seen.manifest, seen.err = now.manifest, now.err
	}
	if err == nil {
		err = seen.err
	}
	move = l.behind(seen.manifest, err)
	if move == nil && err == nil && missing {
		err = fmt.Errorf("%w: record %d", ErrMissing, l.fed.Seq+1)
	}
	l.endLook(ctx, began, err, move)
	return move
}

// read feeds the records after those already fed.
func (l *life) read(ctx context.Context) error {
	r := l.r
	at, err := wal.Read(ctx, r.o.Engine.Store, wal.ReadOptions{From: l.fed, DatabaseID: l.from.DatabaseID, Probe: true}, func(rec wal.Record) error {
		if err := l.engine.Feed(ctx, rec); err != nil {
			return err
		}
		r.records.Add(1)
		return nil
	})
	l.fed = at
	settled := l.engine.CatchUp(ctx)
	if settled == nil {
		l.settled = l.fed
	}
	return errors.Join(err, settled)
}

// suspicious says whether, according to a concurrent check, there are records after those fed.
func (l *life) suspicious(s seen) bool {
	return s.beyond > l.fed.Seq || s.manifest != nil && newest(*s.manifest).Seq > l.fed.Seq
}

// seen is the result of check.
type seen struct {
	manifest *manifest.Manifest // nil: it was not read, or could not be
	beyond   uint64             // an existing record beyond the next one; 0: there is none
	err      error
}

// check reads the manifest, if that is due, while the log is being read.
func (l *life) check(ctx context.Context, now time.Duration) <-chan seen {
	every := manifestEvery
	if kept, said := l.from.Retain(); said {
		every = min(every, kept/4)
	}
	if l.wanted != nil {
		every = min(every, wantedEvery)
	}
	if now-l.manifestAt < every {
		none := make(chan seen, 1)
		none <- seen{}
		return none
	}
	return l.checkNow(ctx)
}

func (l *life) checkNow(ctx context.Context) <-chan seen {
	st, at := l.r.o.Engine.Store, l.r.clock.Monotonic()
	beyond := l.fed.Seq + 2
	l.manifestAt = at
	out := make(chan seen, 1)
	go func() {
		there := make(chan bool, 1)
		go func() {
			_, err := st.Get(ctx, wal.Key(beyond))
			there <- err == nil
		}()
		m, _, err := manifest.Load(ctx, st)
		s := seen{err: err}
		if <-there {
			s.beyond = beyond
		}
		if err == nil {
			s.manifest = &m
		}
		out <- s
	}()
	return out
}

// behind returns why a replica must move, given the result of a look; nil: it need not.
func (l *life) behind(m *manifest.Manifest, err error) error {
	if m == nil {
		return nil
	}
	last := newest(*m)
	switch {
	case m.WalStart > l.fed.Seq+1, last.Seq > l.fed.Seq: // the record it would read next is gone, or will never come
		return fmt.Errorf("this replica has reached record %d, and the log now begins after record %d", l.fed.Seq, last.Seq)
	case last.Key != newest(l.from).Key && l.wanted != nil:
		return l.wanted
	case last.Key != newest(l.from).Key && damaged(err):
		return err
	}
	return nil
}

// endLook records the end of a look.
func (l *life) endLook(ctx context.Context, began time.Duration, err, move error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.stopped
	l.tried, l.trouble = began, errors.Join(err, move)
	switch {
	case l.trouble == nil:
		l.fresh, l.stopped = began, nil
	case move == nil && damaged(err):
		l.stopped = err
	}
	if l.stopped != nil && was == nil {
		l.r.log.Error("the replica has stopped at the last good record", "record", l.fed.Seq, "because", err)
	}
	l.applied = l.settled
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *life) stoppedBy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// status fills in how far it has got.
func (l *life) status(s *Status) {
	s.Position = pgdata.LSN(l.engine.Position())
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Open = l.engine.Err() == nil
	s.Seq, s.Epoch, s.Layer = l.applied.Seq, l.applied.Epoch, newest(l.from).Key
	s.Behind = l.r.clock.Monotonic() - l.fresh
	if l.stopped != nil {
		s.Stopped = l.stopped.Error()
	}
	if l.trouble != nil {
		s.Trouble = l.trouble.Error()
	}
}
