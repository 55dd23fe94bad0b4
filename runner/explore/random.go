package explore

import (
	"hash/fnv"
	"math/rand/v2"
)

// random runs one schedule that its seed and number determine.
func (p *Plan) random(seed uint64, number, length int) (*world, []choice, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.Name))
	rng := rand.New(rand.NewPCG(seed^h.Sum64(), uint64(number)))
	w, err := newWorld(p, false)
	if err != nil {
		return nil, nil, err
	}
	var s strategy = &plain{rng: rng, last: 255}
	if number%3 != 0 {
		s = newPriorities(rng, length)
	}
	faulty := [...]float64{0, 0.02, 0.08, 0.25}[rng.IntN(4)]
	var taken []choice
	for !w.over() && w.judge.broken == nil && len(taken) < maxSteps {
		c := choice{s.pick(w, len(taken)), doIt}
		if c.who >= firstFlight {
			c.do = doLand
			if len(w.threads) == 0 && rng.IntN(2) == 0 {
				c.do = doDrop
			}
		} else if t := w.thread(c.who); rng.Float64() < faulty || t.call.writes() && rng.Float64() < faulty {
			if d := doLost + do(rng.IntN(int(doDie))); w.possible(t, d) {
				c.do = d
			}
		}
		w.take(c)
		taken = append(taken, c)
	}
	w.judge.finish()
	return w, taken, nil
}

// strategy picks the next thread or flight.
type strategy interface {
	pick(w *world, n int) who
}

// plain prefers to continue with the same thread, less so before a write.
type plain struct {
	rng  *rand.Rand
	last who
}

func (s *plain) pick(w *world, _ int) who {
	if t := w.thread(s.last); s.last < firstFlight && t != nil {
		if stay := s.rng.IntN(100); stay < 75 && !t.call.writes() || stay < 35 {
			return s.last
		}
	}
	n := s.rng.IntN(len(w.threads) + len(w.flights))
	if n < len(w.threads) {
		s.last = w.threads[n].id
	} else {
		s.last = w.flights[n-len(w.threads)].id
	}
	return s.last
}

// priorities always continues the thread with the highest priority, and lowers that at a few points: long stalls. (Burckhardt and others, A
// Randomized Scheduler with Probabilistic Guarantees of Finding Bugs.)
type priorities struct {
	rng     *rand.Rand
	of      [256]int32
	points  []int // steps at which the highest becomes the lowest
	writes  bool  // wait for a write with that
	pending int
	lowest  int32
}

func newPriorities(rng *rand.Rand, length int) *priorities {
	s := &priorities{rng: rng, writes: rng.IntN(3) > 0}
	for range 1 + rng.IntN(5) {
		s.points = append(s.points, rng.IntN(length+1))
	}
	return s
}

func (s *priorities) pick(w *world, n int) who {
	for _, p := range s.points {
		if p == n {
			s.pending++
		}
	}
	best := s.highest(w)
	if t := w.thread(best); s.pending > 0 && (!s.writes || best >= firstFlight || t.call.writes()) {
		s.pending--
		s.lowest--
		s.of[best] = s.lowest
		best = s.highest(w)
	}
	return best
}

func (s *priorities) highest(w *world) who {
	var best who
	var top int32
	for i := range len(w.threads) + len(w.flights) {
		var id who
		if i < len(w.threads) {
			id = w.threads[i].id
		} else {
			id = w.flights[i-len(w.threads)].id
		}
		if s.of[id] == 0 {
			s.of[id] = 1 + s.rng.Int32N(1<<30)
		}
		if i == 0 || s.of[id] > top {
			best, top = id, s.of[id]
		}
	}
	return best
}
