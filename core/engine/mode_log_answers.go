package engine

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/wal"
)

// waitFor waits until what an answer reports is durable. An answer that waits for nothing is proved fresh: by the lease, or by the bucket
// (ReadMode).
func (m *logMode) waitFor(ctx context.Context, at mark) (committed bool, err error) {
	wait := m.awaited(at)
	switch {
	case m.o.ReadMode == ReadStrict:
		err = m.proved(ctx, wait)
	case wait == nil:
		err = m.mayServe(ctx)
	default:
		err = wait(ctx)
	}
	return at.wrote() && (wait != nil || m.o.Durability == Strict), err
}

// mayLeave says whether waitFor and backpressure would return without waiting: the answer reports nothing, or only what is durable.
func (m *logMode) mayLeave(at mark) bool {
	return m.o.ReadMode != ReadStrict && m.o.Durability == Strict && m.log.isDurable(at.number()) && !m.compacting.Load()
}

// awaited is what the durability makes an answer wait for; nil: nothing.
func (m *logMode) awaited(at mark) func(context.Context) error {
	number := at.number()
	switch m.o.Durability {
	case Interval, Sleep:
		// While the engine ends, an answer may report something captured after the last flush: then it waits, and fails as unknown.
		if !m.flusher.mustFlush() && !m.e.closed.Load() {
			return nil
		}
		number = m.log.lastAdded()
	}
	if m.log.isDurable(number) {
		return nil
	}
	return func(ctx context.Context) error { return m.log.wait(ctx, number) }
}

// errUnproved: in read mode strict, the bucket could not confirm that this writer is still the writer. The statement has run, and nothing
// was lost: repeat the read.
var errUnproved = errors.New("it could not be verified that no other writer has taken over the database")

// proved waits, and proves that no other writer had taken over when the statement had run. It does so even where a record is awaited,
// because that record may have been sent before the statement did its reads. The proof runs during the wait, so it takes no extra time.
func (m *logMode) proved(ctx context.Context, wait func(context.Context) error) error {
	if wait == nil {
		return m.unfenced(ctx)
	}
	looked := make(chan error, 1)
	go func() { looked <- m.unfenced(ctx) }()
	err := wait(ctx)
	look := <-looked
	switch {
	case err != nil:
		return err
	case errors.Is(look, errUnproved): // something was committed and is durable: the client must not simply repeat it
		return fmt.Errorf("%w: %w", ErrUnknown, look)
	}
	return look
}

// unfenced proves that no other writer had taken over when it was called.
func (m *logMode) unfenced(ctx context.Context) error {
	o := m.opened
	tail, idle := m.log.tailAndIdle()
	err := wal.Unfenced(ctx, m.o.Store, tail, idle, o.Manifest.DatabaseID, o.Epoch)
	if err == nil || errors.Is(err, wal.ErrFenced) {
		return err
	}
	return fmt.Errorf("%w: %w", errUnproved, err)
}
