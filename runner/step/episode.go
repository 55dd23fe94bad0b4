package step

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
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/workload"
)

// episode is one database and everything that happens to it.
type episode struct {
	r       *Run
	life    context.Context // of processes and clients, beyond the actions
	c       *cluster
	seed    uint64
	random  *rand.Rand
	spare   chan spawned
	opening sync.WaitGroup

	mu     sync.Mutex
	last   *member // opened last: whom the actions are about
	asleep map[*member]string
	stops  []func() error
	broken []error // of the harness
}

// Bounds of an episode.
const (
	workLimit    = time.Second // of one `work`
	episodeLimit = 3 * time.Minute
	faultLimit   = 1500 * time.Millisecond
)

// runEpisode does the actions and judges. What was wrong is in r.
func (r *Run) runEpisode(ctx context.Context, seed uint64, list []action) (*episode, error) {
	e := &episode{r: r, life: ctx, seed: seed, random: rand.New(rand.NewPCG(seed, 0x65706973)), asleep: map[*member]string{}}
	var rules []gcsfront.Rule
	var names []string
	for _, a := range list {
		if a.do == "http" {
			rules, names = append(rules, a.rule), append(names, a.String())
		}
	}
	c, err := r.newCluster(ctx, clusterOptions{mode: engine.ModeLog, seed: seed, rules: rules, names: names, latency: time.Duration(e.random.IntN(3)) * time.Millisecond})
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
	spare := make(chan spawned, 1)
	e.spare = spare
	go func() {
		m, err := e.c.spawn(e.life)
		spare <- spawned{m, err}
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
		e.c.mark("runner", "life", "%d: %s", i+1, a)
		if err := e.do(ctx, a); err != nil {
			return fmt.Errorf("action %d, %s: %w", i+1, a, err)
		}
	}
	return nil
}

// do one action. Where it needs somebody who is open and there is nobody, it does nothing: that is an episode too.
func (e *episode) do(ctx context.Context, a action) error {
	m := e.current()
	switch a.do {
	case "open":
		return e.open(ctx)
	case "work":
		return e.work(ctx, int(a.n))
	case "hold":
		return e.c.clk.Sleep(ctx, a.d)
	case "power cut":
		e.c.powerCut()
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
		e.r.struck("SIGTERM", 1)
		_ = m.signal(procfault.Terminate) // it may have ended
		return nil
	case "clock jump", "clock drift":
		fault := node.ClockFault{Jump: a.d}
		if a.do == "clock drift" {
			fault = node.ClockFault{Drift: a.n}
		}
		e.c.mark(m.name, "fault", "%s", a)
		e.r.struck(a.do, 1)
		return e.tell(ctx, m, node.FaultsArgs{Clock: &fault})
	}
	if a.at == "" { // kill, stop: now
		e.r.struck(a.do+" at any moment", 1)
		e.sleeps(m, a.do)
		_ = m.signal(procfault.Action(a.do))
		return nil
	}
	if err := e.tell(ctx, m, node.FaultsArgs{Rules: []pointfault.Rule{a.pointRule()}, Seed: e.random.Uint64()}); err != nil {
		return err
	}
	if a.do == "delay" || layerPoint(a.at) {
		e.sleeps(m, a.do)
		return nil // it strikes, or not, while other things happen
	}
	if _, fired := m.fault(ctx, faultLimit); fired {
		e.sleeps(m, a.do)
	}
	return nil
}

// tell changes what goes wrong in a process, if it hears: one that is stopped does not, and one that has ended neither.
func (e *episode) tell(ctx context.Context, m *member, args node.FaultsArgs) error {
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

// ignoreEnd: that a process has ended is what episodes are about.
func ignoreEnd(err error) error {
	var ended *node.EndedError
	if errors.As(err, &ended) {
		return nil
	}
	return err
}

func (e *episode) current() *member {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

func (e *episode) sleeps(m *member, how string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if how == "stop" || how == "park" {
		e.asleep[m] = how
	}
}

// open lets a new process open the database; when it has, clients of its own come.
func (e *episode) open(ctx context.Context) error {
	s := <-e.spare
	e.prepare()
	if s.err != nil {
		return s.err
	}
	e.opening.Go(func() {
		at := e.c.clk.Monotonic()
		if _, err := s.m.open(e.life); err != nil {
			return // locked, a rival, or it was ended: the timeline has it
		}
		e.r.Metrics.Duration("open_ms", e.c.clk.Monotonic()-at)
		if err := e.ready(e.life, s.m); err != nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.broken = append(e.broken, err)
		}
	})
	// The next action is about whoever opens now, as long as that does not take for ever.
	end := e.c.clk.Monotonic() + openPatience
	for e.current() != s.m && e.c.clk.Monotonic() < end {
		if err := e.c.clk.Sleep(ctx, 3*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// openPatience is how long an episode waits for an opening before it goes on beside it.
const openPatience = 700 * time.Millisecond

// ready makes the tables if they are not there, and sends clients. That the process ends meanwhile, or is taken over, is
// what episodes are about.
func (e *episode) ready(ctx context.Context, m *member) error {
	there, err := m.ready(ctx)
	if err == nil && !there {
		err = m.makeTables(ctx)
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
	e.stops = append(e.stops, e.c.load(ctx, workload.Load{Clients: 4, Sabotage: sabotage, Mix: []string{"bank", "transaction", "register", "ledger", "rows", "ddl"}, Seed: e.seed + uint64(len(e.stops)), Target: on(m)}))
	return nil
}

// work lets clients get answers, if there is somebody who gives them.
func (e *episode) work(ctx context.Context, n int) error {
	from, end := e.c.h.Len(), e.c.clk.Monotonic()+workLimit
	for e.c.clk.Monotonic() < end && history.Count(e.c.h.Ops(from), history.OK) < n {
		if err := e.c.clk.Sleep(ctx, 3*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// wake lets everyone go on who sleeps.
func (e *episode) wake(ctx context.Context) {
	e.mu.Lock()
	asleep := e.asleep
	e.asleep = map[*member]string{}
	e.mu.Unlock()
	for m, how := range asleep {
		if how == "stop" {
			_ = m.signal(procfault.Continue) // it may have ended
			continue
		}
		e.c.mark(m.name, "fault", "release")
		inner, cancel := context.WithTimeout(ctx, faultLimit) // it may be stopped as well
		_ = m.Do(inner, node.Release, nil, nil)
		cancel()
	}
}

// finish wakes everyone, lets them work a moment side by side, ends them, and looks at what is left.
func (e *episode) finish(ctx context.Context) error {
	e.wake(ctx)
	err := e.work(ctx, 10)
	e.c.mark("runner", "life", "the end")
	e.c.mu.Lock()
	members := slices.Clone(e.c.members)
	e.c.mu.Unlock()
	s := <-e.spare
	for _, m := range members {
		if m != s.m {
			m.Kill()
		}
	}
	e.opening.Wait()
	for _, stop := range e.stops {
		err = errors.Join(err, stop())
	}
	if err = errors.Join(append(e.broken, err, s.err)...); err != nil {
		return err
	}
	if err := e.c.judgeLog(ctx); err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if _, err := s.m.open(inner); err != nil {
		return e.r.blame(checkDurability, "the database cannot be opened in the end", err)
	}
	return e.c.verify(inner, s.m)
}
