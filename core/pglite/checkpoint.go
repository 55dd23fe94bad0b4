package pglite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Functions for a host that ships the log of a cluster.

// Completions counts the transactions that changed something and have ended since PostgreSQL started, prepared ones included. A process can
// see new commits of others only after the count has risen. Call it with the lock: in hooks of the files, ClusterOptions.Mark or Locked.
func (c *Cluster) Completions() uint64 {
	if t := c.transactions(); t != nil {
		return binary.LittleEndian.Uint64(t[completionCountAt:])
	}
	return 0
}

// transactions returns PostgreSQL's TransamVariablesData; nil: it does not exist yet, or no longer. The lock is held.
func (c *Cluster) transactions() []byte {
	if c.image == nil || c.shm.region == nil {
		return nil
	}
	return c.shm.region[c.image.transam-c.image.base:]
}

// ErrCheckpoint: PostgreSQL's checkpoint failed; its log says why. What is durable is not affected.
var ErrCheckpoint = errors.New("the checkpoint failed")

// RequestCheckpoint makes PostgreSQL write a checkpoint, spread over time, and does not wait. A regular server starts one by itself after
// writing much log; PGlite's build had that removed, so the host must. Call it with the lock.
func (c *Cluster) RequestCheckpoint() {
	if p := c.process(KindCheckpoint); p != nil {
		c.stats.checkpoints.Add(1)
		p.ask(0)
	}
}

// ask sets checkpoint flags and wakes the checkpointer, which is p.
func (p *Process) ask(flags uint32) {
	m := p.in.mem
	at := m.u32(p.c.rt.places.CheckpointerShmem) + checkpointFlags
	m.putU32(at, m.u32(at)|flags|checkpointRequested)
	p.wakeCheckpointer(p)
}

// Checkpoint makes PostgreSQL write a checkpoint now, and waits for it: the files then hold every page that had changed before. It is
// forced, as by the statement CHECKPOINT: otherwise PostgreSQL skips it if the last record of its log is a checkpoint's, even if pages
// changed while that one was written. It needs no session. Errors: ErrCheckpoint, ErrDead, the context's.
func (c *Cluster) Checkpoint(ctx context.Context) error {
	const fastAndForced = 4 | 8 // CHECKPOINT_FAST, CHECKPOINT_FORCE
	heard, leave := c.checkpoints.join()
	defer leave()
	c.stats.checkpoints.Add(1)
	var started, done, failed uint32
	look := func(ask bool) error {
		c.lock.lock(nil)
		defer c.lock.unlock()
		p := c.process(KindCheckpoint)
		if err := c.Err(); err != nil {
			return err
		}
		if p == nil {
			return fmt.Errorf("%w: there is no checkpointer", ErrDead)
		}
		m := p.in.mem
		shm := m.u32(c.rt.places.CheckpointerShmem)
		started, done, failed = m.u32(shm+checkpointStarted), m.u32(shm+checkpointDone), m.u32(shm+checkpointFailed)
		if ask {
			p.ask(fastAndForced)
		}
		return nil
	}
	if err := look(true); err != nil {
		return err
	}
	before, failures := started, failed
	for {
		// The requested checkpoint is the next to start; when it is done, so are those before it.
		if err := look(false); err != nil {
			return err
		}
		if started != before && int32(done-(before+1)) >= 0 {
			break
		}
		t := c.o.Clock.NewTimer(checkpointLook)
		select {
		case <-heard:
		case <-t.C():
		case <-c.stop:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		t.Stop()
	}
	if failed != failures {
		return ErrCheckpoint
	}
	return nil
}

// SkipTransactions advances the next transaction ID by about n, to the beginning of a page of pg_xact, as if that many transactions had
// run. It is for tests of what happens when IDs run out. No transaction may run.
func (c *Cluster) SkipTransactions(n uint32) {
	const pageOfIDs = 32768 // CLOG_XACTS_PER_PAGE: assigning a page's first ID creates the page
	c.Locked(func() {
		at := c.transactions()[nextTransactionAt:]
		next := (binary.LittleEndian.Uint64(at) + uint64(n)) / pageOfIDs * pageOfIDs
		binary.LittleEndian.PutUint64(at, next)
	})
}

// Places in TransamVariablesData (src/include/access/transam.h).
const (
	nextTransactionAt   = 8
	oldestTransactionAt = 16
	completionCountAt   = 56
)
