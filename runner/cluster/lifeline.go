package cluster

import (
	"context"
	"math/rand/v2"
	"time"

	"blobpglite/core/engine"
	"blobpglite/runner/bench"
	"blobpglite/runner/check"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/workload"
)

// Lifeline goes through databases one after the other, and in each through the lives of successive processes.
type Lifeline struct {
	Run     *bench.Run
	Mode    engine.Mode
	Random  *rand.Rand
	Latency time.Duration // of the bucket
	Change  func(*node.OpenArgs)

	Cluster *Cluster
	Serving *Member      // serves, verified
	spare   chan Spawned // the next child
	Lives   int          // of the database
}

// Spawned is a child that is ready to open, or the reason why there is none.
type Spawned struct {
	Member *Member
	Err    error
}

// LivesOfDatabase is how many lives one database sees: it grows, and reading all of it takes longer.
const LivesOfDatabase = 25

// Next returns a child that is ready to open, and starts another one in the background.
func (k *Lifeline) Next(ctx context.Context) (*Member, error) {
	if k.spare == nil {
		k.prepare(ctx)
	}
	s := <-k.spare
	k.prepare(ctx)
	return s.Member, s.Err
}

func (k *Lifeline) prepare(ctx context.Context) {
	spare, c := make(chan Spawned, 1), k.Cluster
	k.spare = spare
	go func() {
		m, err := c.Spawn(ctx)
		spare <- Spawned{m, err}
	}()
}

// Fresh continues with a new, empty database.
func (k *Lifeline) Fresh(ctx context.Context) error {
	ready := k.keep()
	k.End()
	var err error
	k.Cluster, err = New(ctx, k.Run, Options{Mode: k.Mode, Seed: k.Random.Uint64(), Latency: k.Latency, Change: k.Change})
	k.Lives = 0
	switch {
	case ready.Member == nil:
		return err
	case err != nil:
		ready.Member.Kill()
		return err
	}
	k.Cluster.adopt(ready.Member)
	k.spare = make(chan Spawned, 1)
	k.spare <- ready
	return nil
}

// keep takes the ready child out of what ends with the database; none: there is none.
func (k *Lifeline) keep() Spawned {
	if k.spare == nil {
		return Spawned{}
	}
	s := <-k.spare
	k.spare = nil
	if s.Err != nil {
		return Spawned{}
	}
	k.Cluster.disown(s.Member)
	return s
}

// End ends everything that belongs to the database.
func (k *Lifeline) End() {
	if k.spare != nil {
		<-k.spare // a member of the cluster by now
		k.spare = nil
	}
	if k.Cluster != nil {
		k.Cluster.End()
	}
	k.Cluster, k.Serving = nil, nil
}

// OpenLimit bounds a reopening.
const OpenLimit = 60 * time.Second

// Reopen opens the database cold in a fresh process, compares it with what was acknowledged, and lets clients in.
func (k *Lifeline) Reopen(ctx context.Context) error {
	if err := k.log(ctx); err != nil {
		return err
	}
	m, err := k.Next(ctx)
	if err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, OpenLimit)
	defer cancel()
	at := k.Cluster.Clock.Monotonic()
	if _, err := m.Open(inner); err != nil {
		return k.Run.Blame(bench.CheckDurability, "the database cannot be opened again", err)
	}
	k.Run.Metrics.Duration("open_ms", k.Cluster.Clock.Monotonic()-at)
	if err := k.Cluster.Verify(inner, m); err != nil {
		return err
	}
	k.Serving = m
	k.Cluster.Serve(m)
	return nil
}

// Verify compares what a newly opened member holds with the history since the last verification; the next part of the history begins there.
func (c *Cluster) Verify(ctx context.Context, m *Member) error {
	from, ops := c.verified, c.History.Ops(c.verified)
	made, err := c.schema(ctx, m)
	if err != nil || !made {
		return err
	}
	state, err := workload.ReadState(ctx, m)
	if err != nil {
		return c.r.Blame(bench.CheckDurability, "the reopened database cannot be read", err)
	}
	before := c.State
	c.State, c.verified = state, from+len(ops)
	c.r.Metrics.Value("acknowledged_count", float64(history.Count(ops, history.OK)))
	c.r.Metrics.Value("unknown_count", float64(history.Count(ops, history.Unknown)))
	if before.Registers == nil { // the first time: the database is as it was made
		before = startState()
	}
	c.r.Judged(bench.CheckDurability, check.Durability(ops, before, state))
	c.r.Judged(bench.CheckBank, check.Bank(ops, before, state))
	c.r.Judged(bench.CheckChecksum, check.Checksum(state))
	c.r.Judged(bench.CheckLinearizable, check.Linearizable(ops, before, state, check.LinearOptions{Picture: c.r.Picture()}))
	return nil
}

// startState is the state made by LedgerSchema.
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

// schema makes the tables, unless they are there. Once they were acknowledged, they must be there. False: they are not, and that is wrong.
func (c *Cluster) schema(ctx context.Context, m *Member) (bool, error) {
	there, err := m.Ready(ctx)
	switch {
	case err != nil:
		return false, c.r.Blame(bench.CheckDurability, "the reopened database cannot be asked", err)
	case there:
		c.made.Store(true)
		return true, nil
	case c.made.Load():
		c.r.Check(bench.CheckDurability, "the tables were acknowledged, but are gone")
		return false, nil
	}
	if err := m.MakeTables(ctx); err != nil {
		return false, c.r.Blame(bench.CheckDurability, "the tables cannot be made", err)
	}
	return true, nil
}

// Ready says whether the tables are there.
func (m *Member) Ready(ctx context.Context) (bool, error) {
	rows, _, err := m.Query(ctx, "SELECT to_regclass('copies') IS NOT NULL")
	return err == nil && rows[0][0][0] == "t", err
}

// MakeTables makes the tables that clients work on.
func (m *Member) MakeTables(ctx context.Context) error {
	_, _, err := m.Query(ctx, workload.LedgerSchema)
	if err == nil {
		m.c.made.Store(true)
	}
	return err
}

// log looks at the bucket between two lives.
func (k *Lifeline) log(ctx context.Context) error {
	if k.Mode != engine.ModeLog || k.Lives == 0 {
		return nil
	}
	return k.Cluster.JudgeLog(ctx)
}

// JudgeLog checks the bucket's objects, and everything that was done to them, by the invariants of the log.
func (c *Cluster) JudgeLog(ctx context.Context) error {
	objects, err := c.Objects(ctx)
	if err != nil {
		return err
	}
	c.r.Judged(bench.CheckDenseLog, check.Log(objects))
	if c.Front != nil {
		c.mu.Lock()
		changes := c.changes
		c.mu.Unlock()
		c.r.Judged(bench.CheckWriteOnce, check.WriteOnce(changes))
	}
	return nil
}

// Bucket checks the bucket at the end.
func (k *Lifeline) Bucket(ctx context.Context) error {
	if k.Mode != engine.ModeLog || k.Cluster == nil {
		return nil
	}
	return k.Cluster.JudgeLog(ctx)
}
