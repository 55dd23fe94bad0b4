package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/pglite"
	"blobpglite/core/point"
)

// exec is the way of every statement: run it, make it durable, acknowledge it.
func (e *Engine) exec(ctx context.Context, messages []byte, w io.Writer) error {
	// 1. PostgreSQL runs the messages. As long as nothing has been written, answers pass straight on; from the first
	//    commit in the messages on they are held back.
	held := &holdback{dirty: &e.dirty, w: w}
	if err := e.in.Exec(ctx, messages, held); err != nil && !e.survives(err) {
		return e.fail(err)
	} else if err != nil && !e.dirty {
		return err
	}

	// 2. What it wrote is made durable. Nothing new in the files: nothing is uploaded.
	if e.dirty {
		if _, err := e.commit(ctx); err != nil {
			return err
		}
	}

	// 3. Only now the client hears of it.
	if err := e.o.Hook.Fire(ctx, point.CommitBeforeAck); err != nil {
		return e.fail(err)
	}
	return held.release()
}

// survives says whether the instance can go on after an error of Exec.
func (e *Engine) survives(err error) bool {
	return !errors.Is(err, pglite.ErrDead)
}

// commit makes everything written so far durable, or poisons the engine: from a commit that failed on, the local
// PostgreSQL holds what the bucket may lack.
func (e *Engine) commit(ctx context.Context) (CommitStats, error) {
	// Once begun, a commit is not given up half way because a client has gone.
	stats, err := e.commits.commit(context.WithoutCancel(ctx), e.in)
	if err != nil {
		return stats, e.fail(fmt.Errorf("commit: %w", err))
	}
	e.dirty, e.last = false, stats
	return stats, nil
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

// holdback passes answers on until something has been written that is not durable.
type holdback struct {
	dirty *bool
	w     io.Writer
	held  bytes.Buffer
}

func (h *holdback) Write(p []byte) (int, error) {
	if *h.dirty || h.held.Len() > 0 {
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
