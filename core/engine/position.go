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

// A position is a place in PostgreSQL's log (an LSN). A client that has read or written something here can send it to another process, to
// request a state that is at least as new. On a writer it covers everything that was acknowledged; a replica has reached it when it has
// replayed that far.

// ErrBehind: an engine has not reached the requested position. Try again later, or ask the writer.
var ErrBehind = errors.New("the position has not been reached yet")

// Position is a position (LSN) that covers everything in this engine's answers so far: on a writer, what is durable, or, with a durability
// that does not wait for that, what is written; on a replica, what it has replayed. Zero: nothing, as in mode snapshot.
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

// position is Position under the cluster's lock. It is also what blobpglite.position shows to a session that has not committed beyond it.
// The end of what a writer has written would not do: uncommitted, it may not become durable until some client commits something.
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

// Await waits until the engine has reached a position. A writer does not wait: a position beyond its own was never acknowledged. Errors:
// ErrBehind, those of a replica, the context's.
func (e *Engine) Await(ctx context.Context, position uint64) error {
	if e.follower != nil && e.follower.s.Await != nil {
		return e.follower.s.Await(ctx, position)
	}
	if at := e.shown(); at < position {
		return fmt.Errorf("%w: the database is at %s, and %s was requested, which is not a position of this database", ErrBehind, pgdata.LSN(at), pgdata.LSN(position))
	}
	return nil
}

// places maps the commit log's operations to places in PostgreSQL's log. It caches the last segment's, which most operations share.
type places struct {
	size  uint64 // of a segment
	path  string
	start pgdata.LSN
}

// aligned rounds up to a multiple of eight, where PostgreSQL's records end: the zeros at a record's end cannot be seen.
func aligned(at pgdata.LSN) pgdata.LSN { return (at + 7) &^ 7 }

// behind is the place after an operation's last nonzero byte; zero: the operation is not on PostgreSQL's log.
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

// last is behind for the last operation on PostgreSQL's log.
func (p *places) last(ops []wal.Op) pgdata.LSN {
	for i := len(ops) - 1; i >= 0; i-- {
		if at := p.behind(ops[i]); at > 0 {
			return at
		}
	}
	return 0
}
