package explore

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// Options of Explore.
type Options struct {
	Schedules int      // to be run, over all plans; at least one for each
	Plans     []string // by name; none: all
	Seed      uint64   // of the random walk
	Workers   int      // 0: as many as processors
	// Exhaustive is the share of each plan's schedules for the exhaustive walk: first without faults, then with at most one, then two. Runs
	// that it gives up also count. The rest goes to the random walk. Negative: none; 0: half.
	Exhaustive float64
	// KeepGoing looks for a violation in each plan, instead of ending with the first one.
	KeepGoing bool
	Progress  func(done, total int) // may be called from several goroutines
}

// Report of an exploration.
type Report struct {
	Schedules  int           `json:"schedules"` // run, each from its beginning to its end, fresh process included
	Distinct   int           `json:"distinct"`  // different lists of choices
	Skipped    int           `json:"skipped"`   // prefixes left by the reduction: an equivalent schedule was run
	Deepest    int           `json:"deepest"`   // choices of the longest
	Cut        int           `json:"cut"`       // that did not end within the bound on steps
	Elapsed    time.Duration `json:"elapsed_ns"`
	Plans      []PlanReport  `json:"plans"`
	Violations []Violation   `json:"violations"`
}

// PlanReport is a plan's part.
type PlanReport struct {
	Name      string `json:"name"`
	Schedules int    `json:"schedules"`
	Distinct  int    `json:"distinct"`
	Skipped   int    `json:"skipped"`
	Deepest   int    `json:"deepest"`
	Cut       int    `json:"cut"`
	// Exhaustive are those of the schedules that the exhaustive walk ran.
	Exhaustive int `json:"exhaustive"`
	// Exhausted is the number of faults up to which all schedules were run; -1: not even all without faults.
	Exhausted int `json:"exhausted"`
}

// tally counts one plan's schedules. It belongs to one worker.
type tally struct {
	schedules, skipped, deepest, cut int
	seen                             map[uint64]struct{}
}

func (t *tally) count(taken []choice) {
	t.schedules++
	t.deepest = max(t.deepest, len(taken))
	if len(taken) == maxSteps {
		t.cut++
	}
	h := uint64(14695981039346656037)
	for _, c := range taken {
		h = (h ^ (uint64(c.who)<<8 | uint64(c.do))) * 1099511628211
	}
	t.seen[h] = struct{}{}
}

// maxExhaustiveFaults bounds the faults in a schedule of the exhaustive walk.
const maxExhaustiveFaults = 2

// chunk is how many random schedules a worker takes at a time.
const chunk = 250

// Explore runs schedules. A violation is not an error: it is in the report. Errors: an unknown plan, a set-up that does not end, the
// context's.
func Explore(ctx context.Context, o Options) (Report, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Exhaustive == 0 {
		o.Exhaustive = 0.5
	}
	if len(o.Plans) == 0 {
		for _, p := range Plans() {
			o.Plans = append(o.Plans, p.Name)
		}
	}
	clk := clock.System()
	began := clk.Monotonic()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x := &exploration{o: o, total: o.Schedules, cancel: cancel}
	weights := 0
	for _, name := range o.Plans {
		p, err := PlanNamed(name)
		if err != nil {
			return Report{}, err
		}
		weights += max(p.Weight, 1)
		x.plans = append(x.plans, &planRun{plan: p, all: tally{seen: map[uint64]struct{}{}}, exhausted: -1})
	}
	at := 0
	for _, r := range x.plans {
		w := max(r.plan.Weight, 1)
		r.budget = max(o.Schedules*(at+w)/weights-o.Schedules*at/weights, 1)
		at += w
	}
	err := x.run(ctx)
	return x.report(clk.Monotonic() - began), err
}

// planRun is a plan being explored.
type planRun struct {
	plan       *Plan
	budget     int
	length     int // of an ordinary schedule
	exhaustive int
	exhausted  int

	mu       sync.Mutex
	all      tally
	found    *Violation
	foundRaw []choice
}

type exploration struct {
	o      Options
	plans  []*planRun
	total  int
	cancel context.CancelFunc

	mu   sync.Mutex
	done int
	err  error
}

// run has the workers walk exhaustively, a plan each, and then at random, a chunk each.
func (x *exploration) run(ctx context.Context) error {
	var first, second []func(context.Context) error
	for _, r := range x.plans {
		first = append(first, func(ctx context.Context) error { return x.exhaust(ctx, r) })
	}
	if err := x.work(ctx, first); err != nil {
		return err
	}
	x.share()
	for _, r := range x.plans {
		for from := 0; from < r.budget-r.exhaustive; from += chunk {
			to := min(from+chunk, r.budget-r.exhaustive)
			second = append(second, func(ctx context.Context) error { return x.random(ctx, r, from, to) })
		}
	}
	return x.work(ctx, second)
}

// share distributes the unused schedules of plans that were run exhaustively to the others.
func (x *exploration) share() {
	left, open := 0, 0
	for _, r := range x.plans {
		if r.exhausted >= r.plan.Faults.total() {
			left += max(r.budget-r.exhaustive, 0)
			r.budget = r.exhaustive
		} else {
			open++
		}
	}
	for _, r := range x.plans {
		if r.exhausted < r.plan.Faults.total() {
			n := left / open
			left, open, r.budget = left-n, open-1, r.budget+n
		}
	}
}

// work gives jobs to the workers. A violation ends it, and is not an error.
func (x *exploration) work(ctx context.Context, jobs []func(context.Context) error) error {
	var wg sync.WaitGroup
	next := make(chan func(context.Context) error)
	for range x.o.Workers {
		wg.Go(func() {
			for job := range next {
				if err := job(ctx); err != nil {
					x.mu.Lock()
					x.err = err
					x.mu.Unlock()
					x.cancel()
				}
			}
		})
	}
	for _, job := range jobs {
		if ctx.Err() != nil {
			break
		}
		next <- job
	}
	close(next)
	wg.Wait()
	if x.err != nil {
		return x.err
	}
	for _, r := range x.plans {
		if r.found != nil {
			return nil
		}
	}
	return ctx.Err()
}

// exhaust walks one plan depth first, within its share.
func (x *exploration) exhaust(ctx context.Context, r *planRun) error {
	w, taken, err := r.plan.baseline()
	if err != nil {
		return err
	}
	r.length = len(taken)
	w.close()
	share := int(float64(r.budget) * x.o.Exhaustive)
	spent := 0
	for faults := range min(r.plan.Faults.total(), maxExhaustiveFaults) + 1 {
		if spent >= share || r.found != nil || ctx.Err() != nil {
			break
		}
		t := tally{seen: map[uint64]struct{}{}}
		all, err := r.plan.exhaust(faults, true, &t, func(w *world, taken []choice) bool {
			t.count(taken)
			x.judged(r, w, taken, r.exhaustive+t.schedules)
			return r.found == nil && ctx.Err() == nil
		}, func() bool { return spent+t.schedules+t.skipped < share })
		if err != nil {
			return err
		}
		r.exhaustive += t.schedules
		spent += t.schedules + t.skipped
		x.add(r, &t)
		if !all {
			break
		}
		r.exhausted = faults
	}
	return nil
}

// random runs schedules from..to of the plan's random walk.
func (x *exploration) random(ctx context.Context, r *planRun, from, to int) error {
	t := tally{seen: map[uint64]struct{}{}}
	defer x.add(r, &t)
	for n := from; n < to && ctx.Err() == nil; n++ {
		w, taken, err := r.plan.random(x.o.Seed, n, r.length)
		if err != nil {
			return err
		}
		t.count(taken)
		x.judged(r, w, taken, r.exhaustive+n+1)
		w.close()
		if r.violated() {
			return nil
		}
	}
	return nil
}

func (r *planRun) violated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found != nil
}

// judged records a violation, if there is one and it is the plan's first.
func (x *exploration) judged(r *planRun, w *world, taken []choice, after int) {
	if w.judge.broken == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found != nil {
		return
	}
	r.found = &Violation{Plan: r.plan.Name, Invariant: w.judge.broken.Invariant, Detail: w.judge.broken.Detail, After: after, Found: len(taken)}
	r.foundRaw = taken
	if !x.o.KeepGoing {
		x.cancel()
	}
}

// add puts a worker's counts to the plan's.
func (x *exploration) add(r *planRun, t *tally) {
	r.mu.Lock()
	a := &r.all
	a.schedules, a.skipped, a.cut = a.schedules+t.schedules, a.skipped+t.skipped, a.cut+t.cut
	a.deepest = max(a.deepest, t.deepest)
	for h := range t.seen {
		a.seen[h] = struct{}{}
	}
	r.mu.Unlock()
	x.mu.Lock()
	x.done += t.schedules
	done := x.done
	x.mu.Unlock()
	if x.o.Progress != nil {
		x.o.Progress(done, x.total)
	}
}

// report sums up, and shrinks what was found.
func (x *exploration) report(elapsed time.Duration) Report {
	out := Report{Elapsed: elapsed}
	for _, r := range x.plans {
		p := PlanReport{
			Name: r.plan.Name, Schedules: r.all.schedules, Distinct: len(r.all.seen), Skipped: r.all.skipped, Deepest: r.all.deepest,
			Cut: r.all.cut, Exhaustive: r.exhaustive, Exhausted: r.exhausted,
		}
		out.Plans = append(out.Plans, p)
		out.Schedules, out.Distinct, out.Skipped = out.Schedules+p.Schedules, out.Distinct+p.Distinct, out.Skipped+p.Skipped
		out.Deepest, out.Cut = max(out.Deepest, p.Deepest), out.Cut+p.Cut
		if r.found != nil {
			out.Violations = append(out.Violations, r.finished())
		}
	}
	return out
}

// finished returns a violation with its shortest schedule and what happens in it.
func (r *planRun) finished() Violation {
	v := *r.found
	short := r.plan.shrink(r.foundRaw, v.Invariant)
	run, err := r.plan.execute(short, true)
	if err != nil || run.broken == nil { // the finding does not replay: say so, loudly
		v.Detail = fmt.Sprintf("%s (IT DOES NOT REPLAY: %v)", v.Detail, err)
		v.Schedule = r.plan.texts(r.foundRaw)
		return v
	}
	v.Schedule, v.Story, v.Detail = r.plan.texts(run.taken), run.story, run.broken.Detail
	return v
}

// baseline runs the plan without switches or faults.
func (p *Plan) baseline() (*world, []choice, error) {
	w, err := newWorld(p, false)
	if err != nil {
		return nil, nil, err
	}
	var taken []choice
	for len(w.threads) > 0 && len(taken) < maxSteps {
		c := choice{w.threads[0].id, doIt}
		w.take(c)
		taken = append(taken, c)
	}
	return w, taken, nil
}
