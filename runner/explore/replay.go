package explore

import (
	"fmt"
	"strings"
)

// Violation is a schedule that violates an invariant.
type Violation struct {
	Plan      string    `json:"plan"`
	Invariant Invariant `json:"invariant"`
	Detail    string    `json:"detail"`
	// Schedule is the shortest one found, one step per line; Replay takes it.
	Schedule []string `json:"schedule"`
	// Story is what happens in it.
	Story []string `json:"story"`
	// After is how many schedules of the walk had been run with it.
	After int `json:"after"`
	// Found is how many steps it had before it was shrunk.
	Found int `json:"found"`
}

func (v Violation) String() string {
	return fmt.Sprintf("plan %s violates %q: %s\nafter %d schedules; %d steps, shrunk from %d:\n  %s\n"+
		"what happens:\n  %s\nagain, with the steps in a file: go run ./runner/explore/explorer -plans %s -replay FILE",
		v.Plan, v.Invariant, v.Detail, v.After, len(v.Schedule), v.Found, strings.Join(v.Schedule, "\n  "), strings.Join(v.Story, "\n  "), v.Plan)
}

// Replay runs one schedule of a plan as it was written down, and returns what it violates; nil: nothing. A step that is not possible at its
// turn is an error.
func Replay(plan string, schedule []string) (*Violation, error) {
	p, err := PlanNamed(plan)
	if err != nil {
		return nil, err
	}
	var choices []choice
	for _, s := range schedule {
		c, err := p.parse(s)
		if err != nil {
			return nil, err
		}
		choices = append(choices, c)
	}
	r, err := p.execute(choices, true)
	if err != nil {
		return nil, err
	}
	if len(r.taken) < len(choices) && r.broken == nil {
		return nil, fmt.Errorf("replay of plan %s: step %d (%s) is not possible there", plan, len(r.taken)+1, schedule[len(r.taken)])
	}
	if r.broken == nil {
		return nil, nil
	}
	return &Violation{
		Plan: plan, Invariant: r.broken.Invariant, Detail: r.broken.Detail, Schedule: p.texts(r.taken), Story: r.story, Found: len(choices),
	}, nil
}

// executed is one run of given choices.
type executed struct {
	taken  []choice
	broken *broken
	story  []string
}

// execute runs the given choices, skipping those that are not possible, and ends as if everything had then crashed.
func (p *Plan) execute(choices []choice, tell bool) (executed, error) {
	w, err := newWorld(p, tell)
	if err != nil {
		return executed{}, err
	}
	defer w.close()
	var r executed
	for _, c := range choices {
		if w.judge.broken != nil {
			break
		}
		if w.take(c) {
			r.taken = append(r.taken, c)
		}
	}
	w.judge.finish()
	r.broken, r.story = w.judge.broken, w.story
	return r, nil
}

// shrinkTries bounds the runs of one shrinking.
const shrinkTries = 4000

// shrink looks for a short schedule that violates the same invariant: without some steps, without faults, with fewer switches between
// threads.
func (p *Plan) shrink(schedule []choice, want Invariant) []choice {
	tries := 0
	works := func(c []choice) ([]choice, bool) {
		if tries++; tries > shrinkTries {
			return nil, false
		}
		r, err := p.execute(c, false)
		return r.taken, err == nil && r.broken != nil && r.broken.Invariant == want
	}
	best, ok := works(schedule)
	if !ok {
		return schedule
	}
	for again := true; again; {
		again = false
		for _, change := range []func([]choice, func([]choice) bool) bool{dropSteps, dropFaults, joinSteps} {
			again = change(best, func(c []choice) bool {
				taken, ok := works(c)
				if ok && better(taken, best) {
					best = taken
					return true
				}
				return false
			}) || again
		}
	}
	return best
}

// better compares schedules by steps, then faults, then switches.
func better(a, b []choice) bool {
	faults, switches := func(s []choice) (n int) {
		for _, c := range s {
			if c.do != doIt {
				n++
			}
		}
		return n
	}, func(s []choice) (n int) {
		for i := 1; i < len(s); i++ {
			if s[i].who != s[i-1].who {
				n++
			}
		}
		return n
	}
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	if fa, fb := faults(a), faults(b); fa != fb {
		return fa < fb
	}
	return switches(a) < switches(b)
}

// without is a schedule less some of its steps.
func without(s []choice, from, n int) []choice {
	return append(append([]choice{}, s[:from]...), s[min(from+n, len(s)):]...)
}

func dropSteps(s []choice, try func([]choice) bool) bool {
	for n := max(len(s)/2, 1); n > 0; n /= 2 {
		for from := len(s) - n; from >= 0; from -= max(n/2, 1) {
			if try(without(s, from, n)) {
				return true
			}
		}
	}
	return false
}

func dropFaults(s []choice, try func([]choice) bool) bool {
	for i, c := range s {
		if c.do != doIt && c.who < firstFlight {
			t := append([]choice{}, s...)
			if t[i].do = doIt; try(t) {
				return true
			}
		}
	}
	return false
}

// joinSteps moves a thread's next step up to the previous one.
func joinSteps(s []choice, try func([]choice) bool) bool {
	for i := 1; i < len(s); i++ {
		if s[i].who == s[i-1].who {
			continue
		}
		for k := i + 1; k < len(s); k++ {
			if s[k].who != s[i-1].who {
				continue
			}
			t := without(s, k, 1)
			t = append(t[:i:i], append([]choice{s[k]}, t[i:]...)...)
			if try(t) {
				return true
			}
			break
		}
	}
	return false
}
