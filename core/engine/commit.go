package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/lease"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
)

// maxHeld is how many bytes of answers are held back in memory; a longer answer waits for durability in the middle.
const maxHeld = 8 << 20

// exec is the way of every statement: run it, make it durable, acknowledge it. Turn.Run and Answer.Release are its steps.
func (e *Engine) exec(ctx context.Context, messages []byte, w io.Writer) error {
	t, err := e.Take(ctx)
	if err != nil {
		return err
	}
	defer t.Give()
	answer, err := t.Run(ctx, Talk{Next: once(messages), Out: w})
	if err != nil {
		return err
	}
	t.Give()
	return answer.Release(ctx)
}

// once gives messages one time.
func once(messages []byte) func(func() error) ([]byte, error) {
	given := false
	return func(func() error) ([]byte, error) {
		if given || len(messages) == 0 {
			return nil, io.EOF
		}
		given = true
		return messages, nil
	}
}

// Talk is what a run reads and writes.
type Talk struct {
	// Next returns complete messages, and io.EOF when the run is to end. It is called whenever PostgreSQL has worked on
	// all it has got. Before it waits for a client, who may be waiting for an answer himself (COPY FROM STDIN), it calls
	// flush, which hands on what is held back, once it is durable.
	Next func(flush func() error) ([]byte, error)
	// Filter sees what PostgreSQL answers when it does, in pieces cut anywhere, and returns what is to reach Out; it may
	// return its own buffer again and again. Nil: everything.
	Filter func([]byte) []byte
	// Out gets the answers. It must not keep a piece.
	Out io.Writer
	// Early: the answer tells nothing of the data, as that of BEGIN, so it leaves while a commit before it is on its way.
	Early bool
}

// Run runs what Next returns. What PostgreSQL answers goes to Out at once as long as everything it could tell of is
// durable; the rest is in the Answer, to be released when the turn has been given up. Errors: those of Exec.
func (t *Turn) Run(ctx context.Context, talk Talk) (*Answer, error) {
	e := t.e
	a := &Answer{e: e, turn: t, filter: talk.Filter, w: talk.Out, ctx: ctx, early: talk.Early && e.o.ReadMode != ReadStrict}

	// 1. May this engine still serve? A lease that has run out is renewed first; if another writer has it, we are fenced.
	if err := e.commits.begin(ctx); err != nil {
		if errors.Is(err, lease.ErrLost) {
			err = e.fail(err)
		}
		return nil, err
	}

	// 2. PostgreSQL runs the messages. As long as everything is durable, answers pass straight on; from the first write
	//    on they are held back.
	ran := e.in.Feed(ctx, func() ([]byte, error) { return talk.Next(a.catchUp) }, a)
	if errors.Is(ran, pglite.ErrDead) {
		if err := e.serves(); err != nil {
			return nil, err
		}
		return nil, e.fail(ran)
	}

	// 3. What the answer has to wait for. An error of Feed (the client has gone, its context has ended) does not undo
	//    what was committed.
	var err error
	if a.wait, a.commits, err = e.commits.settle(context.WithoutCancel(ctx)); err != nil {
		return nil, e.fail(fmt.Errorf("commit: %w", err))
	}
	if a.early {
		a.wait = nil
	}
	return a, ran
}

// Answer is what PostgreSQL has answered and nobody may know yet.
type Answer struct {
	e      *Engine
	turn   *Turn
	ctx    context.Context // of the run
	filter func([]byte) []byte
	w      io.Writer
	early  bool
	held   bytes.Buffer

	wait    func(context.Context) error // until it is durable; nil: it is
	commits bool                        // something has been written that waits
}

// Write takes PostgreSQL's answers.
func (a *Answer) Write(p []byte) (int, error) {
	out := p
	if a.filter != nil {
		out = a.filter(p)
	}
	switch {
	case a.early, a.held.Len() == 0 && a.e.commits.durable():
	case a.held.Len()+len(out) > maxHeld:
		if err := a.catchUp(); err != nil {
			return 0, err
		}
	default:
		a.held.Write(out)
		return len(p), nil
	}
	if _, err := a.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// catchUp hands on what is held back, in the middle of a run, once it is durable.
func (a *Answer) catchUp() error {
	if a.held.Len() == 0 {
		return nil
	}
	if err := a.e.commits.catchUp(a.ctx); err != nil {
		return a.e.refused(a.ctx, err)
	}
	return a.release()
}

// Release waits until everything that the answer tells of is durable, and hands it on. It is called when the turn has
// been given up, or in the middle of a transaction. Errors: ErrFenced, ErrUnknown, the context's: then the client must
// not hear of success; those of w.
func (a *Answer) Release(ctx context.Context) error {
	// 4. Outside of the turn, if the client has given it up: other statements run while this one's record is on its way, and
	//    share the next.
	commits := a.wait != nil && a.commits
	if a.wait != nil {
		if err := a.wait(ctx); err != nil {
			return a.e.refused(ctx, err)
		}
		a.wait = nil
	}

	// 5. Who writes faster than layers are taken waits for the layer. Who still has the turn, for which a layer may wait in
	//    turn, takes what it waits for first.
	if !a.turn.given {
		a.e.commits.yield(ctx)
	}
	if commits {
		a.e.commits.throttle(ctx)
	}

	// 6. Only now the client hears of it.
	if err := a.e.o.Hook.Fire(ctx, point.CommitBeforeAck); err != nil {
		return a.e.fail(err)
	}
	return a.release()
}

func (a *Answer) release() error {
	if a.held.Len() == 0 {
		return nil
	}
	defer a.held.Reset()
	if _, err := a.w.Write(a.held.Bytes()); err != nil {
		return fmt.Errorf("write to the client: %w", err)
	}
	return nil
}

// refused is the answer to a client whose commit did not become durable. That its context ended is the client's own
// doing, and that a read could not be proved fresh costs only the answer; everything else has poisoned the engine. What
// nobody knows stays unknown, whatever ended the engine first: the record may be in the log.
func (e *Engine) refused(ctx context.Context, err error) error {
	if p := e.Err(); p != nil && !errors.Is(err, ErrUnknown) {
		return p
	}
	if ctx.Err() != nil || errors.Is(err, errUnproved) {
		return err
	}
	return e.fail(fmt.Errorf("commit: %w", err))
}

// query runs SQL by the simple protocol.
func (e *Engine) query(ctx context.Context, sql string) ([]pglite.Result, error) {
	message, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return nil, fmt.Errorf("encode a query of %d bytes: %w", len(sql), err)
	}
	var answer bytes.Buffer
	if err := e.exec(ctx, message, &answer); err != nil {
		return nil, err
	}
	return pglite.ParseResults(&answer)
}
