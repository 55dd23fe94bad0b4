package explore

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// Times of every plan.
const (
	leaseTTL       = 200 * time.Millisecond
	acquireTimeout = 600 * time.Millisecond
	// slowness is longer than leases last and appends may take.
	slowness = time.Minute
	// maxSteps ends a schedule that does not end by itself; it is counted as cut.
	maxSteps = 500
)

// world is one run of a plan: a bucket, processes, and the judge.
type world struct {
	plan    *Plan
	st      *mem.Store
	lastGen store.Gen
	judge   *judge
	procs   []*process // the current life of each slot
	threads []*thread  // that have a call pending, by id
	born    []*thread  // created during a step, to be started after it
	flights []*flight
	spent   Faults
	story   []string // what happened, if wanted
	tell    bool
}

// thread is a coroutine of a process. It has one call pending, or is at its end.
type thread struct {
	id    who
	proc  *process
	name  string
	call  *call
	done  int // actions
	yield func(*call) bool
	next  func() (*call, bool)
	stop  func()
	body  func(*thread)
}

// flight is a write without an answer that has not been applied yet.
type flight struct {
	id   who
	call call
	proc *process
}

// newWorld starts a plan and runs its set-up, which is not part of the schedule.
func newWorld(p *Plan, tell bool) (*world, error) {
	w := &world{plan: p, st: mem.New(mem.Options{Clock: newSkipping(0)}), tell: tell, procs: make([]*process, len(p.Procs))}
	w.judge = newJudge(w)
	for slot := range p.Procs {
		if !p.Procs[slot].Late {
			w.live(slot, 0)
		}
	}
	for _, s := range p.Setup {
		if err := w.setUp(s); err != nil {
			w.close()
			return nil, fmt.Errorf("plan %s: set-up %+v: %w", p.Name, s, err)
		}
	}
	w.note("--- the schedule begins ---")
	return w, nil
}

func (w *world) setUp(s Setup) error {
	slot := slices.IndexFunc(w.plan.Procs, func(p Proc) bool { return p.Name == s.Proc })
	if slot < 0 {
		return fmt.Errorf("there is no process %q", s.Proc)
	}
	if w.procs[slot] == nil {
		w.live(slot, 0)
	}
	if s.Crash {
		w.kill(w.procs[slot])
		w.procs[slot].ended = true
		return nil
	}
	if t := w.thread(threadID(slot, 0, false)); s.Lose && t != nil {
		w.answer(t, doLost)
		return nil
	}
	for range maxSteps {
		t := w.thread(threadID(slot, 0, false))
		switch {
		case w.judge.broken != nil: // found before the schedule began
			return nil
		case s.Actions > 0 && (t == nil || t.done >= s.Actions):
			return nil
		case t == nil:
			return fmt.Errorf("it ended first")
		case s.Before != "" && t.call.text() == s.Before:
			return nil
		}
		w.take(choice{t.id, doIt})
	}
	return fmt.Errorf("not reached within %d steps", maxSteps)
}

// live starts a life of a process.
func (w *world) live(slot, life int) {
	spec := &w.plan.Procs[slot]
	name := spec.Name
	if life > 0 {
		name = fmt.Sprintf("%s%d", spec.Name, life+1)
	}
	p := &process{w: w, slot: slot, life: life, name: name, clk: newSkipping(spec.Ahead + time.Duration(life)*time.Hour)}
	w.procs[slot] = p
	w.spawn(p, false, func(t *thread) { p.run(t, spec.Script) })
	w.startBorn()
}

// spawn makes a thread; it starts at the end of this step.
func (w *world) spawn(p *process, side bool, body func(*thread)) {
	id := threadID(p.slot, p.life, side)
	w.born = append(w.born, &thread{id: id, proc: p, name: w.plan.threadName(id), body: body})
}

func (w *world) startBorn() {
	for len(w.born) > 0 {
		t := w.born[0]
		w.born = w.born[1:]
		t.next, t.stop = iter.Pull(func(yield func(*call) bool) {
			t.yield = yield
			defer w.caught(t)
			t.body(t)
		})
		i, _ := slices.BinarySearchFunc(w.threads, t.id, func(t *thread, id who) int { return int(t.id) - int(id) })
		w.threads = slices.Insert(w.threads, i, t)
		w.advance(t)
	}
}

// caught takes down a thread that panics: a dead process's by our own panic; otherwise it is a violation.
func (w *world) caught(t *thread) {
	r := recover()
	if _, dead := r.(unwound); r != nil && !dead {
		w.judge.fail(NoPanic, "%s: %v", t.name, r)
	}
}

// advance runs a thread to its next call.
func (w *world) advance(t *thread) {
	c, ok := t.next()
	if t.call = c; !ok {
		t.call = nil
		w.threads = slices.DeleteFunc(w.threads, func(o *thread) bool { return o == t })
	}
	w.startBorn()
}

func (w *world) thread(id who) *thread {
	for _, t := range w.threads {
		if t.id == id {
			return t
		}
	}
	return nil
}

// kill ends a process: its threads are unwound and never run again.
func (w *world) kill(p *process) {
	for _, t := range slices.Clone(w.threads) {
		if t.proc == p {
			t.stop()
			t.call = nil
		}
	}
	w.threads = slices.DeleteFunc(w.threads, func(t *thread) bool { return t.proc == p })
	w.born = nil
}

// close ends everything, so that no coroutine is left.
func (w *world) close() {
	for _, t := range w.threads {
		t.stop()
	}
	w.threads = nil
}

// apply does a call on the bucket and shows the judge what it did.
func (w *world) apply(c *call, by *process) {
	ctx := context.Background()
	switch c.verb {
	case verbGet:
		c.object, c.err = w.st.Get(ctx, c.key)
		if c.err == nil {
			w.judge.read(by, c)
		}
	case verbList:
		for a, err := range w.st.List(ctx, c.key, c.after) {
			if err != nil {
				c.err = err
				return
			}
			c.listed = append(c.listed, a)
		}
	case verbPut:
		c.gen, c.err = w.st.Put(ctx, c.key, c.body, c.id, c.cond)
		if c.err == nil && c.gen > w.lastGen { // not a repetition of a write that was applied
			w.lastGen = c.gen
			w.judge.put(by, c)
		}
	case verbDelete:
		if c.err = w.st.Delete(ctx, c.key); c.err == nil {
			w.judge.deleted(c)
		}
	}
}

// take does one step. It reports false, and does nothing, if the choice is not possible now.
func (w *world) take(c choice) bool {
	if c.who >= firstFlight {
		return w.land(c)
	}
	t := w.thread(c.who)
	if t == nil || !w.possible(t, c.do) {
		return false
	}
	w.spend(c.do)
	w.answer(t, c.do)
	return true
}

// answer makes happen to a thread's call what was chosen.
func (w *world) answer(t *thread, d do) {
	if w.tell {
		w.note("%-5s %-7v %s", t.name, d, t.call.text())
	}
	if t.call.resting {
		w.judge.fail(AtRest, "%s is at rest with a valid lease, but sends: %s", t.name, t.call.text())
	}
	switch d {
	case doIt, doLost, doSlow, doDie:
		w.apply(t.call, t.proc)
	case doDelay:
		w.flights = append(w.flights, &flight{id: firstFlight + who(w.spent.Delayed-1), call: *t.call, proc: t.proc})
	}
	switch d {
	case doLost, doDelay:
		t.call.gen, t.call.err = 0, failed(t.call, store.ErrUnknown)
	case doRefuse:
		if t.call.err = failed(t.call, store.ErrUnavailable); t.call.writes() {
			t.call.err = failed(t.call, store.ErrThrottled)
		}
	case doSlow:
		t.proc.clk.Advance(slowness)
	}
	if w.tell {
		w.note("%s", t.call.answer())
	}
	if d == doCrash || d == doDie {
		w.kill(t.proc)
		if t.proc.life+1 < w.plan.Procs[t.proc.slot].Lives {
			w.live(t.proc.slot, t.proc.life+1)
		} else {
			t.proc.ended = true
		}
	} else {
		w.advance(t)
	}
	w.judge.step()
}

func (w *world) land(c choice) bool {
	i := slices.IndexFunc(w.flights, func(f *flight) bool { return f.id == c.who })
	if i < 0 || c.do != doLand && (c.do != doDrop || len(w.threads) > 0) {
		return false
	}
	f := w.flights[i]
	w.flights = slices.Delete(w.flights, i, i+1)
	if w.tell {
		w.note("%-5s %-7v %s", "("+f.proc.name+")", c.do, f.call.text())
	}
	if c.do == doLand {
		w.apply(&f.call, f.proc)
		if w.tell {
			w.note("%s", f.call.answer())
		}
	}
	w.judge.step()
	return true
}

// possible says whether a choice is possible for the thread's current call.
func (w *world) possible(t *thread, d do) bool {
	b, s := w.plan.Faults, w.spent
	switch d {
	case doIt:
		return true
	case doLost:
		return t.call.writes() && s.Lost < b.Lost
	case doDelay:
		return t.call.writes() && s.Delayed < b.Delayed
	case doRefuse:
		return t.call.verb != verbDelete && s.Refused < b.Refused
	case doSlow:
		return t.call.writes() && s.Slow < b.Slow
	case doCrash, doDie:
		return s.Crashes < b.Crashes
	}
	return false
}

func (w *world) spend(d do) {
	switch d {
	case doLost:
		w.spent.Lost++
	case doDelay:
		w.spent.Delayed++
	case doRefuse:
		w.spent.Refused++
	case doSlow:
		w.spent.Slow++
	case doCrash, doDie:
		w.spent.Crashes++
	}
}

// over says whether nothing is left to choose.
func (w *world) over() bool { return len(w.threads) == 0 && len(w.flights) == 0 }

// note adds a line to the story of the run.
func (w *world) note(format string, args ...any) {
	if w.tell {
		w.story = append(w.story, fmt.Sprintf(format, args...))
	}
}

// answer is the call's, for the story.
func (c *call) answer() string {
	switch {
	case c.err != nil:
		return "        = " + c.err.Error()
	case c.verb == verbPut && c.gen > 0:
		return "        = stored: " + describe(c.key, c.body)
	case c.verb == verbGet && c.object.Gen > 0:
		return "        = " + describe(c.key, c.object.Body)
	case c.verb == verbList:
		s := "        ="
		for _, a := range c.listed {
			s += " " + short(a.Key)
		}
		return s
	}
	return "        = done"
}
