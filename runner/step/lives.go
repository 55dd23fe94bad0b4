package step

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"blobpglite/core/engine"
	"blobpglite/runner/check"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/workload"
)

// lifeline is one database after the other, each through the lives of one process after the other.
type lifeline struct {
	r       *Run
	mode    engine.Mode
	random  *rand.Rand
	latency time.Duration // of the bucket
	change  func(*node.OpenArgs)

	c     *cluster
	m     *member      // serves, verified
	spare chan spawned // the next child
	lives int          // of the database
}

type spawned struct {
	m   *member
	err error
}

// livesOfDatabase is how many lives one database sees: it grows, and reading all of it takes longer.
const livesOfDatabase = 25

// next is a child that is ready to open; another one is started meanwhile.
func (k *lifeline) next(ctx context.Context) (*member, error) {
	if k.spare == nil {
		k.prepare(ctx)
	}
	s := <-k.spare
	k.prepare(ctx)
	return s.m, s.err
}

func (k *lifeline) prepare(ctx context.Context) {
	spare, c := make(chan spawned, 1), k.c
	k.spare = spare
	go func() {
		m, err := c.spawn(ctx)
		spare <- spawned{m, err}
	}()
}

// fresh goes on with a new, empty database.
func (k *lifeline) fresh(ctx context.Context) error {
	ready := k.keep()
	k.end()
	var err error
	k.c, err = k.r.newCluster(ctx, clusterOptions{mode: k.mode, seed: k.random.Uint64(), latency: k.latency, change: k.change})
	k.lives = 0
	switch {
	case ready.m == nil:
		return err
	case err != nil:
		ready.m.Kill()
		return err
	}
	k.c.adopt(ready.m)
	k.spare = make(chan spawned, 1)
	k.spare <- ready
	return nil
}

// keep takes the child that is ready out of what ends with the database; none: there is none.
func (k *lifeline) keep() spawned {
	if k.spare == nil {
		return spawned{}
	}
	s := <-k.spare
	k.spare = nil
	if s.err != nil {
		return spawned{}
	}
	k.c.disown(s.m)
	return s
}

// end leaves nothing of the database behind.
func (k *lifeline) end() {
	if k.spare != nil {
		<-k.spare // a member of the cluster by now
		k.spare = nil
	}
	if k.c != nil {
		k.c.end()
	}
	k.c, k.m = nil, nil
}

// openLimit bounds a reopening.
const openLimit = 60 * time.Second

// reopen opens the database cold in a fresh process, compares it with what was acknowledged, and lets clients in.
func (k *lifeline) reopen(ctx context.Context) error {
	if err := k.log(ctx); err != nil {
		return err
	}
	m, err := k.next(ctx)
	if err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	at := k.c.clk.Monotonic()
	if _, err := m.open(inner); err != nil {
		return k.r.blame(checkDurability, "the database cannot be opened again", err)
	}
	k.r.Metrics.Duration("open_ms", k.c.clk.Monotonic()-at)
	if err := k.c.verify(inner, m); err != nil {
		return err
	}
	k.m = m
	k.c.serve(m)
	return nil
}

// blame makes an error of the database a failed check, and so something that it does not end within the limit; an error of
// the harness stays one.
func (r *Run) blame(check, what string, err error) error {
	var failed *node.Error
	var ended *node.EndedError
	if errors.As(err, &failed) || errors.As(err, &ended) || errors.Is(err, context.DeadlineExceeded) {
		r.check(check, fmt.Sprintf("%s: %v", what, err))
		return nil
	}
	return err
}

// verify compares what a freshly opened member holds with the history since the last verification, and notes it as where
// the next part of the history begins.
func (c *cluster) verify(ctx context.Context, m *member) error {
	from, ops := c.verified, c.h.Ops(c.verified)
	made, err := c.schema(ctx, m)
	if err != nil || !made {
		return err
	}
	state, err := workload.ReadState(ctx, m)
	if err != nil {
		return c.r.blame(checkDurability, "the reopened database cannot be read", err)
	}
	before := c.state
	c.state, c.verified = state, from+len(ops)
	c.r.Metrics.Value("acknowledged_count", float64(history.Count(ops, history.OK)))
	c.r.Metrics.Value("unknown_count", float64(history.Count(ops, history.Unknown)))
	if before.Registers == nil { // the first time: the database is as it was made
		before = startState()
	}
	c.r.judge(checkDurability, check.Durability(ops, before, state))
	c.r.judge(checkBank, check.Bank(ops, before, state))
	c.r.judge(checkChecksum, check.Checksum(state))
	c.r.judge(checkLinearizable, check.Linearizable(ops, before, state, check.LinearOptions{Picture: c.r.picture()}))
	return nil
}

// startState is what LedgerSchema makes.
func startState() history.State {
	s := history.State{Registers: map[int64]int64{}, Ledger: []history.LedgerRow{{Hash: check.LedgerStart}}}
	for range workload.Accounts {
		s.Balances = append(s.Balances, workload.StartBalance)
	}
	for key := range int64(workload.Registers) {
		s.Registers[key] = 0
	}
	return s
}

// schema makes the tables, unless they are there. Once that was acknowledged they have to be. False: they are not, and
// that is wrong.
func (c *cluster) schema(ctx context.Context, m *member) (bool, error) {
	there, err := m.ready(ctx)
	switch {
	case err != nil:
		return false, c.r.blame(checkDurability, "the reopened database cannot be asked", err)
	case there:
		c.made.Store(true)
		return true, nil
	case c.made.Load():
		c.r.check(checkDurability, "the tables were acknowledged and are gone")
		return false, nil
	}
	if err := m.makeTables(ctx); err != nil {
		return false, c.r.blame(checkDurability, "the tables cannot be made", err)
	}
	return true, nil
}

// ready says whether the tables are there.
func (m *member) ready(ctx context.Context) (bool, error) {
	rows, _, err := m.Query(ctx, "SELECT to_regclass('copies') IS NOT NULL")
	return err == nil && rows[0][0][0] == "t", err
}

func (m *member) makeTables(ctx context.Context) error {
	_, _, err := m.Query(ctx, workload.LedgerSchema)
	if err == nil {
		m.c.made.Store(true)
	}
	return err
}

// log looks at the bucket between two lives.
func (k *lifeline) log(ctx context.Context) error {
	if k.mode != engine.ModeLog || k.lives == 0 {
		return nil
	}
	return k.c.judgeLog(ctx)
}

// judgeLog holds the bucket's objects, and everything that was done to them, against the invariants of the log.
func (c *cluster) judgeLog(ctx context.Context) error {
	objects, err := c.objects(ctx)
	if err != nil {
		return err
	}
	c.r.judge(checkDenseLog, check.Log(objects))
	if c.front != nil {
		c.mu.Lock()
		changes := c.changes
		c.mu.Unlock()
		c.r.judge(checkWriteOnce, check.WriteOnce(changes))
	}
	return nil
}

// bucket looks at the bucket in the end.
func (k *lifeline) bucket(ctx context.Context) error {
	if k.mode != engine.ModeLog || k.c == nil {
		return nil
	}
	return k.c.judgeLog(ctx)
}

// picture is where a failed search for an order is drawn.
func (r *Run) picture() string {
	switch {
	case r.Results == "":
		return ""
	case r.kept != "":
		return filepath.Join(r.kept, "order.html")
	}
	return fmt.Sprintf("%s/failures/%s-%d.html", r.Results, r.Cell.Probe, r.Seed)
}
