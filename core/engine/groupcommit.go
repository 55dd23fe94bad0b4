package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// logWriter ships what was captured to the commit log: one append in flight, and everything that commits during it in the next one. That is
// group commit; an idle database makes no requests.
//
//	a process ──► add(op) ... ──► its answer, marked ──► wait(its number) ──► the client
//	                  │                                      ▲
//	                  ▼        ship()                        │
//	              batches ──────────► Append ────────────────┘ durable
//
// A batch becomes one record. Sealing ends a batch, so that a layer can be taken at exactly the position after it. A large transaction is
// not kept back until its commit: a batch that has grown to batchBytes is sealed and shipped while PostgreSQL continues. Records are bytes
// of PostgreSQL's log, and its recovery ignores what was not committed.
//
// A process that holds the cluster's lock calls add, which does not wait for the bucket. A process that writes faster than the bucket takes
// is stopped by its caller, where it holds no lock that others need (full). There is one exception: at most mostBytes are held here; a
// process that keeps writing where it cannot be stopped waits in add, and all others with it.
type logWriter struct {
	clock  clock.Clock
	append func(ctx context.Context, ops []wal.Op) (wal.Position, error)
	before func(ctx context.Context) error // called once, before the first append

	mu      sync.Mutex
	changed *sync.Cond
	batches []*batch      // oldest first; the last one is open unless it is sealed
	bytes   int           // total of the batches
	room    chan struct{} // see full
	added   uint64        // operations taken so far
	awaited uint64        // the last operation that an answer can wait for; later ones were written in the background
	durable uint64        // the last durable operation
	wanted  uint64        // operations up to this one are waited for
	failed  error         // why nothing more becomes durable
	ended   chan struct{} // closed with failed
	ships   bool          // ship runs; while PostgreSQL starts, it does not yet
	closing bool
	tail    wal.Position
	stats   LogStats
	pace    pace
	back    chan struct{} // during a delayed append: closed when all expected commits are there
	done    chan struct{}
}

// batch becomes one record.
type batch struct {
	ops    []wal.Op
	bytes  int
	last   uint64 // number of its last operation
	sealed bool
	waits  int           // commits waiting for it
	at     wal.Position  // once durable
	done   chan struct{} // closed when it is durable
}

// LogStats counts what the log writer has done.
type LogStats struct {
	Records int64 // appended
	Commits int64 // successful waits
	Bytes   int64 // of the operations
	Append  time.Duration
}

// Bounds of what is held in memory for the log, in bytes.
const (
	batchBytes   = 12 << 20  // a batch is sealed; it may be larger by one write by PostgreSQL
	pendingBytes = 16 << 20  // in all batches: full. From then on, each process that writes more than excessBytes is stopped
	excessBytes  = 512 << 10 // see pendingBytes
	severeBytes  = 24 << 20  // in all batches: each process that writes is stopped
	mostBytes    = 32 << 20  // in all batches: add waits, and with it all of PostgreSQL
)

func newLogWriter(clk clock.Clock, tail wal.Position, appendOps func(context.Context, []wal.Op) (wal.Position, error)) *logWriter {
	w := &logWriter{clock: clk, append: appendOps, tail: tail, done: make(chan struct{}), ended: make(chan struct{}), pace: pace{age: delayTrial}}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// add takes an operation and returns its number. It becomes durable with the next append, which a waiting answer or a full batch triggers;
// unawaited: no answer waits for it. add itself waits while mostBytes are pending; nothing it waits for needs a lock of its caller's.
func (w *logWriter) add(op wal.Op, unawaited bool) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.bytes+len(op.Data) > mostBytes && w.bytes > 0 && w.ships && w.failed == nil {
		w.changed.Wait()
	}
	n := len(w.batches)
	if n == 0 || w.batches[n-1].sealed {
		w.batches = append(w.batches, &batch{done: make(chan struct{})})
		n++
	}
	b := w.batches[n-1]
	w.added++
	if !unawaited {
		w.awaited = w.added
	}
	b.last = w.added
	b.bytes += len(op.Data)
	w.bytes += len(op.Data)
	b.ops = append(b.ops, op)
	if b.bytes >= batchBytes {
		b.sealed = true
		w.wanted = max(w.wanted, b.last)
		w.changed.Broadcast()
	}
	return w.added
}

// full returns a channel that closes when there is room again; nil: there is room.
func (w *logWriter) full() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes <= pendingBytes || !w.ships || w.failed != nil {
		return nil
	}
	if w.room == nil {
		w.room = make(chan struct{})
	}
	return w.room
}

// clear lets stopped processes continue. w.mu is held.
func (w *logWriter) clear() {
	if w.room != nil && (w.bytes <= pendingBytes || w.failed != nil) {
		close(w.room)
		w.room = nil
	}
}

// lastAwaited is the number of the last operation that an answer can wait for.
func (w *logWriter) lastAwaited() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.awaited
}

// lastAdded is the number of the last operation taken.
func (w *logWriter) lastAdded() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.added
}

// isDurable says whether everything up to number is durable.
func (w *logWriter) isDurable(number uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.durable >= number
}

// allDurable says whether everything taken is durable.
func (w *logWriter) allDurable() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.durable == w.added
}

// pending is how many bytes are not yet durable.
func (w *logWriter) pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

// wait blocks, for an answer, until everything up to number is durable. If ctx ends, only the wait ends, not the append.
func (w *logWriter) wait(ctx context.Context, number uint64) error {
	const answers = 1
	b, err := w.want(number, answers)
	if b == nil {
		return err
	}
	defer w.leave(b, answers)
	if err := w.until(ctx, b, number); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Commits++
	return nil
}

// flush is like wait, but not for an answer.
func (w *logWriter) flush(ctx context.Context, number uint64) error {
	b, err := w.want(number, 0)
	if b == nil {
		return err
	}
	return w.until(ctx, b, number)
}

// until blocks until a batch is durable.
func (w *logWriter) until(ctx context.Context, b *batch, number uint64) error {
	select {
	case <-b.done:
	case <-w.ended:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.durable >= number:
		return nil
	case w.failed != nil:
		return w.failed
	}
	return errors.Join(store.ErrUnknown, ctx.Err()) // it may still become durable
}

// leave records the end of a wait.
func (w *logWriter) leave(b *batch, answers int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.waits -= answers
}

// want marks the operations up to number as wanted, and returns the batch that holds the last of them. Nil and no error: they are durable.
func (w *logWriter) want(number uint64, answers int) (*batch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.durable >= number {
		return nil, nil
	}
	if w.failed != nil {
		return nil, w.failed
	}
	for _, b := range w.batches {
		if b.last >= number {
			if b.waits += answers; answers > 0 {
				w.returned(false)
				w.allBack()
			}
			if number > w.wanted {
				w.wanted = number
				w.changed.Broadcast()
			}
			return b, nil
		}
	}
	return nil, fmt.Errorf("wait for operation %d of the log: there are %d", number, w.added)
}

// seal ends the open batch. It returns a function that waits until the batch is durable, and returns the position after it.
func (w *logWriter) seal() func(ctx context.Context) (wal.Position, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.batches)
	if n == 0 { // everything is durable
		at := w.tail
		return func(context.Context) (wal.Position, error) { return at, nil }
	}
	b := w.batches[n-1]
	b.sealed = true
	return func(ctx context.Context) (wal.Position, error) {
		if err := w.flush(ctx, b.last); err != nil {
			return wal.Position{}, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return b.at, nil
	}
}

// ship appends until the writer is closed or an append fails. It runs on a goroutine of its own.
func (w *logWriter) ship(ctx context.Context, fail func(error)) {
	defer close(w.done)
	w.mu.Lock()
	w.ships = true
	w.mu.Unlock()
	for {
		b := w.next(ctx)
		if b == nil {
			return
		}
		began := w.clock.Monotonic()
		at, err := wal.Position{}, error(nil)
		if w.before != nil {
			if err = w.before(ctx); err == nil {
				w.before = nil
			}
		}
		if err == nil {
			at, err = w.append(ctx, b.ops)
		}
		if !w.shipped(b, at, err, w.clock.Monotonic()-began) {
			fail(err)
			return
		}
	}
}

// next waits for a batch that is wanted, and takes it. Nil: the writer was closed.
func (w *logWriter) next(ctx context.Context) *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closing && (w.wanted <= w.durable || len(w.batches) == 0) {
		w.changed.Wait()
	}
	w.delay(ctx)
	if w.closing {
		return nil
	}
	b := w.batches[0]
	b.sealed = true // new operations go into the next batch
	return b
}

// shipped records the outcome of a batch and wakes the waiters.
func (w *logWriter) shipped(b *batch, at wal.Position, err error, took time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.changed.Broadcast()
	if err != nil {
		w.fail(err)
		return false
	}
	b.at, w.tail = at, at
	w.durable = b.last
	w.returned(true)
	w.pace.group, w.pace.let, w.pace.at, w.pace.took, w.pace.isBack = w.queued(), b.waits, w.clock.Monotonic(), took, false
	w.pace.age++
	close(b.done)
	w.bytes -= b.bytes
	w.clear()
	w.batches[0], w.batches = nil, w.batches[1:]
	b.ops = nil // waiters keep the batch in memory, but not its operations
	w.stats.Records++
	w.stats.Bytes += int64(b.bytes)
	w.stats.Append += took
	return true
}

// fail ends all waits with err; only the first error counts. w.mu is held.
func (w *logWriter) fail(err error) {
	if w.failed == nil {
		w.failed = err
		close(w.ended)
		w.clear()
	}
}

// close ends the shipping goroutine. What nothing waits for is not shipped.
func (w *logWriter) close() {
	w.mu.Lock()
	w.closing = true
	w.fail(ErrClosed)
	w.allBack()
	w.changed.Broadcast()
	w.mu.Unlock()
	<-w.done
}

// position is the position of the last durable record.
func (w *logWriter) position() wal.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tail
}

// tailAndIdle returns position, and whether no append is in flight.
func (w *logWriter) tailAndIdle() (wal.Position, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tail, w.durable == w.added
}

// counts returns the statistics so far.
func (w *logWriter) counts() LogStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}
