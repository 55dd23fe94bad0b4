package explore

import (
	"context"
	"math/rand/v2"
)

// maxStates bounds the states that one exhaustive search remembers; beyond, it goes on without remembering more.
const maxStates = 8 << 20

// job is one unit of work: an exhaustive search, or a batch of random schedules.
type job struct {
	o      Options
	t      *template
	random bool
	seed   uint64 // of random schedules: the first; the others follow
	limit  int64  // schedules
}

// outcome is what became of a job.
type outcome struct {
	schedules, pruned, steps, states int64
	depth                            int
	exhausted                        bool
	broken                           *Violation
	choices                          []choice // that led to it
}

// run does the job on a world. tick is called after each schedule.
func (j *job) run(ctx context.Context, w *world, tick func()) outcome {
	if j.random {
		return j.roam(ctx, w, tick)
	}
	s := search{world: w, job: j, visited: make(map[uint64]set)}
	for s.out.schedules < j.limit && ctx.Err() == nil {
		more := s.schedule()
		s.out.steps += int64(w.steps)
		s.out.depth = max(s.out.depth, w.steps)
		s.out.schedules++
		tick()
		if w.judge.broken != nil {
			s.out.broken, s.out.choices = w.judge.broken, s.choices()
			break
		}
		if !more {
			s.out.exhausted = true
			break
		}
	}
	s.out.states = int64(len(s.visited))
	return s.out
}

// search walks all schedules depth first. Two reductions leave out what has been seen: sleep sets (of two choices that
// commute, only one order is taken), and states (from a state of which every future has been walked, none is walked
// again). With both, a state remembers which choices slept when it was left: those still have to be made if they are
// awake the next time.
//
// Source of both: P. Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, 1996, chapters 5, 7.
type search struct {
	*world
	job     *job
	path    []node
	visited map[uint64]set // by state: the choices that need not be made from there
	out     outcome
}

// node is a state on the current path.
type node struct {
	todo  set // still to be tried
	sleep set // need not be tried: tried already, or asleep since before
	taken choice
}

// schedule replays the path, takes the next untried choice at its end, goes on until nothing is left to do, and then
// cuts the path back to where something is untried. It reports whether there is such a place.
func (s *search) schedule() bool {
	s.reset(&s.job.o, s.job.t)
	var sleep set
	for i := range s.path {
		n := &s.path[i]
		if i == len(s.path)-1 {
			sleep = s.take(n)
			continue
		}
		s.step(n.taken)
	}
	for s.judge.broken == nil {
		n, ok := s.arrive(sleep)
		if !ok {
			break
		}
		s.path = append(s.path, n)
		sleep = s.take(&s.path[len(s.path)-1])
	}
	if s.judge.broken != nil {
		return false
	}
	for len(s.path) > 0 && s.path[len(s.path)-1].todo == 0 {
		s.path = s.path[:len(s.path)-1]
	}
	return len(s.path) > 0
}

// arrive enters a state with what sleeps there. Not ok: there is nothing to do.
func (s *search) arrive(sleep set) (n node, ok bool) {
	enabled := s.enabled()
	todo := enabled &^ sleep
	if h := s.hash(); todo != 0 {
		before, known := s.visited[h]
		switch {
		case known:
			todo &= before
			s.visited[h] = before & sleep
		case len(s.visited) < maxStates:
			s.visited[h] = sleep
		}
	}
	if todo == 0 {
		if enabled != 0 {
			s.out.pruned++
		}
		return node{}, false
	}
	return node{todo: todo, sleep: enabled &^ todo}, true
}

// take makes the next untried choice of a state, which the world is in. It returns what sleeps in the next state:
// whatever need not be tried here and does not depend on the choice.
func (s *search) take(n *node) set {
	c := n.todo.lowest()
	n.taken = c
	n.todo &^= c.bit()
	made := s.footprint(c)
	var sleep set
	for rest := n.sleep; rest != 0; {
		other := rest.lowest()
		rest &^= other.bit()
		if independent(s.footprint(other), made) {
			sleep |= other.bit()
		}
	}
	n.sleep |= c.bit()
	s.step(c)
	return sleep
}

func (s *search) choices() []choice {
	var list []choice
	for _, n := range s.path {
		list = append(list, n.taken)
	}
	return list
}

// roam runs random schedules to their ends.
func (j *job) roam(ctx context.Context, w *world, tick func()) (out outcome) {
	var choices []choice
	for out.schedules < j.limit && ctx.Err() == nil {
		random := rand.New(rand.NewPCG(j.seed, uint64(out.schedules)))
		choices = choices[:0]
		w.reset(&j.o, j.t)
		walk := newWalk(random, w)
		for w.judge.broken == nil {
			enabled := w.enabled()
			if enabled == 0 {
				break
			}
			c := walk.choose(enabled)
			choices = append(choices, c)
			w.step(c)
		}
		out.schedules++
		out.steps += int64(w.steps)
		out.depth = max(out.depth, w.steps)
		tick()
		if w.judge.broken != nil {
			out.broken, out.choices = w.judge.broken, choices
			return out
		}
	}
	out.exhausted = true
	return out
}

// walk chooses at random. Half of the walks pick any process at each step. The others give each process a rank and let
// the highest go on alone, but for a few moments at which ranks are drawn again: that leaves one process stalled in the
// middle of something for as long as it takes the others to do much, where the deepest faults are.
//
// Source: S. Burckhardt and others, A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, 2010.
type walk struct {
	random *rand.Rand
	ranked bool
	ranks  [maxWriters + 1]uint32 // by process; the last: arrivals
	faulty float64                // how likely a fault is, where one is possible
}

// How a walk is drawn.
const (
	changes      = 0.04 // of the steps of a ranked walk draw a rank anew
	maxFaultRate = 0.25
)

func newWalk(random *rand.Rand, w *world) *walk {
	k := &walk{random: random, ranked: random.IntN(2) == 0, faulty: maxFaultRate * random.Float64() * random.Float64()}
	for i := range k.ranks {
		k.ranks[i] = random.Uint32()
	}
	return k
}

// groupOf is the process that a choice belongs to, or that of arrivals.
func groupOf(c choice) int {
	if c.kind == arrive {
		return maxWriters
	}
	return int(c.who)
}

// choose draws from a set that is not empty.
func (k *walk) choose(enabled set) choice {
	group := -1
	if k.ranked {
		if k.random.Float64() < changes {
			k.ranks[k.random.IntN(len(k.ranks))] = k.random.Uint32()
		}
		for rest := enabled; rest != 0; {
			c := rest.lowest()
			rest &^= c.bit()
			if g := groupOf(c); group < 0 || k.ranks[g] > k.ranks[group] {
				group = g
			}
		}
	} else {
		group = groupOf(k.pick(enabled))
	}
	var usual, unusual set
	for rest := enabled; rest != 0; {
		c := rest.lowest()
		rest &^= c.bit()
		switch {
		case groupOf(c) != group:
		case c.kind == lose || c.kind == delay || c.kind == crash || c.kind == early || c.kind == late:
			unusual |= c.bit()
		default:
			usual |= c.bit()
		}
	}
	if usual == 0 || unusual != 0 && k.random.Float64() < k.faulty {
		return k.pick(unusual)
	}
	return k.pick(usual)
}

// pick draws one of a set that is not empty, each with the same chance.
func (k *walk) pick(s set) choice {
	n := 0
	for rest := s; rest != 0; rest &= rest - 1 {
		n++
	}
	for range k.random.IntN(n) {
		s &= s - 1
	}
	return s.lowest()
}
