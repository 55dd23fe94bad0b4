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

// exec is the way of every statement: run it, make it durable, acknowledge it.
func (e *Engine) exec(ctx context.Context, messages []byte, w io.Writer) error {
	held := &holdback{durable: e.commits.durable, w: w}
	wait, err := e.run(ctx, messages, held)
	if err != nil {
		return err
	}

	// 4. Outside of the turn: other statements run while this one's record is on its way, and share the next.
	if wait != nil {
		if err := wait(ctx); err != nil {
			return e.refused(ctx, err)
		}
	}

	// 5. Only now the client hears of it.
	if err := e.o.Hook.Fire(ctx, point.CommitBeforeAck); err != nil {
		return e.fail(err)
	}
	return held.release()
}

// run has the instance to itself while the statements run.
func (e *Engine) run(ctx context.Context, messages []byte, held *holdback) (wait func(context.Context) error, err error) {
	if err := e.take(ctx); err != nil {
		return nil, err
	}
	defer e.give()

	// 1. May this engine still serve? A lease that has run out is renewed first; if another writer has it, we are fenced.
	if err := e.commits.begin(ctx); err != nil {
		if errors.Is(err, lease.ErrLost) {
			err = e.fail(err)
		}
		return nil, err
	}

	// 2. PostgreSQL runs the messages. As long as everything is durable, answers pass straight on; from the first write
	//    on they are held back.
	ran := e.in.Exec(ctx, messages, held)
	if errors.Is(ran, pglite.ErrDead) {
		if err := e.Err(); err != nil {
			return nil, e.poisoned()
		}
		return nil, e.fail(ran)
	}

	// 3. What the answer has to wait for. An error of Exec (the client has gone, its context has ended) does not undo
	//    what was committed.
	wait, err = e.commits.settle(context.WithoutCancel(ctx))
	if err != nil {
		return nil, e.fail(fmt.Errorf("commit: %w", err))
	}
	return wait, ran
}

// refused is the answer to a client whose commit did not become durable. That its context ended is the client's own
// doing; everything else has poisoned the engine.
func (e *Engine) refused(ctx context.Context, err error) error {
	if p := e.Err(); p != nil {
		return p
	}
	if ctx.Err() != nil {
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

// holdback passes answers on as long as everything is durable.
type holdback struct {
	durable func() bool
	w       io.Writer
	held    bytes.Buffer
}

func (h *holdback) Write(p []byte) (int, error) {
	if h.held.Len() > 0 || !h.durable() {
		return h.held.Write(p)
	}
	return h.w.Write(p)
}

// release hands on what was held back.
func (h *holdback) release() error {
	if h.held.Len() == 0 {
		return nil
	}
	if _, err := h.w.Write(h.held.Bytes()); err != nil {
		return fmt.Errorf("write to the client: %w", err)
	}
	return nil
}
