package engine

import "context"

// Turn is the use of the one session that an engine has: as long as it is not given up, nobody else's statements run. A
// door with many clients takes a turn for each transaction, and keeps it where a client's state cannot be shared. What waits
// for the turn is waited for by nobody who has it: a layer's cut is made by the one who keeps it, when an answer is released.
// It belongs to one goroutine.
type Turn struct {
	e     *Engine
	given bool
}

// Take waits for the turn; those who wait get it in the order in which they came. Errors: ErrPoisoned, ErrClosed, the
// context's.
func (e *Engine) Take(ctx context.Context) (*Turn, error) {
	if err := e.take(ctx); err != nil {
		return nil, err
	}
	return &Turn{e: e}, nil
}

// TryTake takes the turn if nobody has it, or waits for it. Errors: ErrPoisoned, ErrClosed.
func (e *Engine) TryTake() (turn *Turn, free bool, err error) {
	select {
	case <-e.turn:
	default:
		return nil, false, nil
	}
	if err := e.serves(); err != nil {
		e.give()
		return nil, false, err
	}
	return &Turn{e: e}, true, nil
}

// Give ends the turn. A second call does nothing.
func (t *Turn) Give() {
	if !t.given {
		t.given = true
		t.e.give()
	}
}

// Parameters are what PostgreSQL reported of itself when it started.
func (e *Engine) Parameters() map[string]string { return e.in.Parameters() }

// KeepIdentity makes the session's user, who was set by SET SESSION AUTHORIZATION, the one that a RESET goes back to: the
// client has logged in as that.
func (t *Turn) KeepIdentity() error { return t.e.in.KeepIdentity() }
