package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"blobpglite/core/engine"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/pointfault"
	"blobpglite/faults/procfault"
	"blobpglite/runner/bench"
	"blobpglite/runner/cluster"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/workload"
)

// episode is one database and everything that happens to it.
type episode struct {
	r       *bench.Run
	life    context.Context // of processes and clients, beyond the actions
	c       *cluster.Cluster
	seed    uint64
	random  *rand.Rand
	spare   chan cluster.Spawned
	opening sync.WaitGroup

	mu     sync.Mutex
	last   *cluster.Member // opened last: whom the actions are about
	asleep map[*cluster.Member]string
	stops  []func() error
	broken []error // of the harness
}

// Bounds of an episode.
const (
	workLimit    = time.Second // of one `work`
	episodeLimit = 3 * time.Minute
	faultLimit   = 1500 * time.Millisecond
)

// runEpisode does the actions and judges. Failures are recorded in r.
func runEpisode(ctx context.Context, r *bench.Run, seed uint64, list []action) (*episode, error) {
	e := &episode{r: r, life: ctx, seed: seed, random: rand.New(rand.NewPCG(seed, 0x65706973)), asleep: map[*cluster.Member]string{}}
	var rules []gcsfront.Rule
	var names []string
	for _, a := range list {
		if a.do == "http" {
			rules, names = append(rules, a.rule), append(names, a.String())
		}
	}
	c, err := cluster.New(ctx, r, cluster.Options{Mode: engine.ModeLog, Seed: seed, Rules: rules, Names: names, Latency: time.Duration(e.random.IntN(3)) * time.Millisecond})
	if err != nil {
		return nil, err
	}
	e.c = c
	e.prepare()
	inner, cancel := context.WithTimeout(ctx, episodeLimit)
	defer cancel()
	err = e.all(inner, list)
	return e, errors.Join(err, e.finish(ctx))
}

func (e *episode) prepare() {
	spare := make(chan cluster.Spawned, 1)
	e.spare = spare
	go func() {
		m, err := e.c.Spawn(e.life)
		spare <- cluster.Spawned{Member: m, Err: err}
	}()
}

func (e *episode) all(ctx context.Context, list []action) error {
	for i, a := range list {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if a.do == "http" {
			continue
		}
		e.c.Mark("runner", "life", "%d: %s", i+1, a)
		if err := e.do(ctx, a); err != nil {
			return fmt.Errorf("action %d, %s: %w", i+1, a, err)
		}
	}
	return nil
}

// do does one action. An action that needs an open process does nothing if there is none: that, too, is an episode.
func (e *episode) do(ctx context.Context, a action) error {
	m := e.current()
	switch a.do {
	case "open":
		return e.open(ctx)
	case "work":
		return e.work(ctx, int(a.n))
	case "hold":
		return e.c.Clock.Sleep(ctx, a.d)
	case "power cut":
		e.c.PowerCut()
		return nil
	case "wake":
		e.wake(ctx)
		return nil
	}
	if m == nil {
		return nil
	}
	switch a.do {
	case "compact":
		go func() { _ = m.Do(ctx, node.Compact, nil, nil) }() // ends with the process at the latest
		return nil
	case "sigterm":
		e.r.Struck("SIGTERM", 1)
		_ = m.Strike(procfault.Terminate) // it may have ended
		return nil
	case "clock jump", "clock drift":
		fault := node.ClockFault{Jump: a.d}
		if a.do == "clock drift" {
			fault = node.ClockFault{Drift: a.n}
		}
		e.c.Mark(m.Name, "fault", "%s", a)
		e.r.Struck(a.do, 1)
		return e.tell(ctx, m, node.FaultsArgs{Clock: &fault})
	}
	if a.at == "" { // kill, stop: now
		e.r.Struck(a.do+" at any moment", 1)
		e.sleeps(m, a.do)
		_ = m.Strike(procfault.Action(a.do))
		return nil
	}
	if err := e.tell(ctx, m, node.FaultsArgs{Rules: []pointfault.Rule{a.pointRule()}, Seed: e.random.Uint64()}); err != nil {
		return err
	}
	if a.do == "delay" || layerPoint(a.at) {
		e.sleeps(m, a.do)
		return nil // it strikes, or not, while other things happen
	}
	if _, fired := m.AwaitFault(ctx, faultLimit); fired {
		e.sleeps(m, a.do)
	}
	return nil
}

// tell changes the faults of a process, if it can: not if the process is stopped or has ended.
func (e *episode) tell(ctx context.Context, m *cluster.Member, args node.FaultsArgs) error {
	inner, cancel := context.WithTimeout(ctx, faultLimit)
	defer cancel()
	err := ignoreEnd(m.Do(inner, node.Faults, args, nil))
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	return err
}

func layerPoint(p any) bool {
	s := fmt.Sprint(p)
	return slices.ContainsFunc([]string{"base/", "manifest/", "gc/"}, func(prefix string) bool { return len(s) > len(prefix) && s[:len(prefix)] == prefix })
}

// ignoreEnd ignores that a process has ended, which is what episodes are about.
func ignoreEnd(err error) error {
	var ended *node.EndedError
	if errors.As(err, &ended) {
		return nil
	}
	return err
}

func (e *episode) current() *cluster.Member {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

func (e *episode) sleeps(m *cluster.Member, how string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if how == "stop" || how == "park" {
		e.asleep[m] = how
	}
}

// open lets a new process open the database; once it has, it gets its own clients.
func (e *episode) open(ctx context.Context) error {
	s := <-e.spare
	e.prepare()
	if s.Err != nil {
		return s.Err
	}
	e.opening.Go(func() {
		at := e.c.Clock.Monotonic()
		if _, err := s.Member.Open(e.life); err != nil {
			return // locked, a rival, or it was ended: the timeline has it
		}
		e.r.Metrics.Duration("open_ms", e.c.Clock.Monotonic()-at)
		if err := e.ready(e.life, s.Member); err != nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.broken = append(e.broken, err)
		}
	})
	// The next action is about the process that opens now, so wait for it, for openPatience at most.
	end := e.c.Clock.Monotonic() + openPatience
	for e.current() != s.Member && e.c.Clock.Monotonic() < end {
		if err := e.c.Clock.Sleep(ctx, 3*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// openPatience is how long an episode waits for an opening before it continues alongside.
const openPatience = 700 * time.Millisecond

// ready makes the tables if they are not there, and sends clients. The process may end, or be taken over, during that: this is what
// episodes are about.
func (e *episode) ready(ctx context.Context, m *cluster.Member) error {
	there, err := m.Ready(ctx)
	if err == nil && !there {
		err = m.MakeTables(ctx)
	}
	var failed *node.Error
	if err = ignoreEnd(err); errors.As(err, &failed) {
		return nil
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = m
	e.stops = append(e.stops, e.c.Load(ctx, workload.Load{Clients: 4, Sabotage: cluster.Sabotage, Mix: []string{"bank", "transaction", "register", "ledger", "rows", "ddl"}, Seed: e.seed + uint64(len(e.stops)), Target: cluster.Only(m)}))
	return nil
}

// work lets clients get answers, if there is a process that answers.
func (e *episode) work(ctx context.Context, n int) error {
	from, end := e.c.History.Len(), e.c.Clock.Monotonic()+workLimit
	for e.c.Clock.Monotonic() < end && history.Count(e.c.History.Ops(from), history.OK) < n {
		if err := e.c.Clock.Sleep(ctx, 3*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// wake lets all stopped and parked processes continue.
func (e *episode) wake(ctx context.Context) {
	e.mu.Lock()
	asleep := e.asleep
	e.asleep = map[*cluster.Member]string{}
	e.mu.Unlock()
	for m, how := range asleep {
		if how == "stop" {
			_ = m.Strike(procfault.Continue) // it may have ended
			continue
		}
		e.c.Mark(m.Name, "fault", "release")
		inner, cancel := context.WithTimeout(ctx, faultLimit) // it may be stopped as well
		_ = m.Do(inner, node.Release, nil, nil)
		cancel()
	}
}

// finish wakes all processes, lets them work concurrently for a moment, ends them, and looks at what is left.
func (e *episode) finish(ctx context.Context) error {
	e.wake(ctx)
	err := e.work(ctx, 10)
	e.c.Mark("runner", "life", "the end")
	members := e.c.Everyone()
	s := <-e.spare
	for _, m := range members {
		if m != s.Member {
			m.Kill()
		}
	}
	e.opening.Wait()
	for _, stop := range e.stops {
		err = errors.Join(err, stop())
	}
	if err = errors.Join(append(e.broken, err, s.Err)...); err != nil {
		return err
	}
	if err := e.c.JudgeLog(ctx); err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, cluster.OpenLimit)
	defer cancel()
	if _, err := s.Member.Open(inner); err != nil {
		return e.r.Blame(bench.CheckDurability, "the database cannot be opened in the end", err)
	}
	return e.c.Verify(inner, s.Member)
}
