package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"blobpglite/core/pgdata"
	"blobpglite/core/pglite"
	"blobpglite/core/wal"
)

// A position is a place in PostgreSQL's log (an LSN): who has read or written something here, and asks elsewhere for a state that is as far,
// gives it along. On a writer it covers everything that was acknowledged; a replica has come to it when it has replayed so far.

// ErrBehind: an engine has not come to the position that was asked for. Ask again later, or the writer.
var ErrBehind = errors.New("it is not there yet")

// Position is how far the log has come of which this engine's answers tell: on a writer, what is durable, or in a durability that does not
// wait for that, what is written; on a replica, what it has replayed. Zero: nothing.
func (e *Engine) Position() uint64 {
	if e.follower == nil {
		return e.position()
	}
	at := uint64(0)
	if err := e.server.locked(func(*pglite.Cluster) { at = e.position() }); err != nil {
		at = e.follower.replayed.Load()
	}
	return at
}

// position is Position for who has the cluster's lock. It is what blobpglite.position shows to a session that has not committed beyond it.
// What a writer has written and nobody has committed would not do: it may stay where it is until somebody commits something.
func (e *Engine) position() uint64 {
	if e.follower != nil {
		return e.follower.position()
	}
	if m, ok := e.commits.(*logMode); ok && m.o.Durability == Strict {
		return max(m.durable.Load(), uint64(m.from))
	}
	return e.shown()
}

// shown is how far a writer has written its log.
func (e *Engine) shown() uint64 {
	if m, ok := e.commits.(*logMode); ok {
		return max(m.shown.Load(), uint64(m.from))
	}
	return 0
}

// Await waits until the engine has come to a position. A writer does not wait: what is not there nobody has acknowledged. Errors: ErrBehind,
// those of a replica, the context's.
func (e *Engine) Await(ctx context.Context, position uint64) error {
	if e.follower != nil && e.follower.s.Await != nil {
		return e.follower.s.Await(ctx, position)
	}
	if at := e.shown(); at < position {
		return fmt.Errorf("%w: it is at %s, and %s was asked for: no position of this database's", ErrBehind, pgdata.LSN(at), pgdata.LSN(position))
	}
	return nil
}

// places knows where operations of the commit log are in PostgreSQL's log. It remembers the last segment, which most have in common.
type places struct {
	size  uint64 // of a segment
	path  string
	start pgdata.LSN
}

// aligned is the next multiple of eight: records end there, whatever zeros they end with.
func aligned(at pgdata.LSN) pgdata.LSN { return (at + 7) &^ 7 }

// behind is the place behind the last byte of an operation that is not zero; zero: it is none of the log's.
func (p *places) behind(op wal.Op) pgdata.LSN {
	if op.Kind != wal.OpWrite || p.size == 0 {
		return 0
	}
	if op.Path != p.path {
		if segment(op.Path) == "" {
			return 0
		}
		p.path, p.start = strings.Clone(op.Path), pgdata.SegmentStart(segment(op.Path), p.size)
	}
	n := len(bytes.TrimRight(op.Data, "\x00"))
	if n == 0 {
		return 0
	}
	return aligned(p.start + pgdata.LSN(op.Offset) + pgdata.LSN(n))
}

// last is that of the last operation that is one of the log's.
func (p *places) last(ops []wal.Op) pgdata.LSN {
	for i := len(ops) - 1; i >= 0; i-- {
		if at := p.behind(ops[i]); at > 0 {
			return at
		}
	}
	return 0
}
