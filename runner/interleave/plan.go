package interleave

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Plan says which schedules are run.
type Plan struct {
	All     int    // every schedule of this many actions, of all
	Core    int    // every schedule of this many actions, of the core ones
	Samples int    // more of them, drawn by the seed
	Longest int    // actions of a drawn one
	Seed    uint64 // of the drawn schedules, and of the order
}

// shortest is the least number of actions of a drawn schedule.
const shortest = 3

// Schedules returns the schedules of the plan, without equal ones: first the known ones, then the others, shuffled, so that any beginning
// of the list is a fair sample.
func (p Plan) Schedules() []Schedule {
	random := rand.New(rand.NewPCG(p.Seed, 0))
	seen := map[string]bool{}
	var known, others []Schedule
	add := func(list []Schedule, s Schedule) []Schedule {
		if name := s.String(); !seen[name] {
			seen[name] = true
			return append(list, s)
		}
		return list
	}
	for _, k := range Known() {
		s, err := Parse(k.Schedule)
		if err != nil {
			panic(fmt.Errorf("the known schedule %q: %w", k.Schedule, err)) // a test reads them all
		}
		known = add(known, s)
	}
	all := Actions()
	isCore := func(a Action) bool { return a.Core }
	for n := 2; n <= p.All; n++ {
		for _, s := range exhaustive(all, n) {
			others = add(others, s)
		}
	}
	for n := 2; n <= p.Core; n++ {
		for _, s := range exhaustive(filter(all, isCore), n) {
			others = add(others, s)
		}
	}
	// A drawn schedule may already be there; then another one is drawn, as long as that can succeed.
	for drawn, tries := 0, 0; drawn < p.Samples && tries < 20*p.Samples; tries++ {
		before := len(others)
		if s := draw(random, all, shortest+random.IntN(p.Longest-shortest+1)); s.worthwhile() {
			others = add(others, s.normal())
		}
		drawn += len(others) - before
	}
	random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return append(known, others...)
}

func filter(all []Action, is func(Action) bool) []Action {
	return slices.DeleteFunc(slices.Clone(all), func(a Action) bool { return !is(a) })
}

// exhaustive returns all worthwhile schedules of n actions, one of each set of equal ones.
func exhaustive(all []Action, n int) []Schedule {
	var found []Schedule
	s := make(Schedule, 0, n)
	var extend func()
	extend = func() {
		if len(s) == n {
			if s.worthwhile() && slices.EqualFunc(s, s.normal(), step.equal) {
				found = append(found, slices.Clone(s))
			}
			return
		}
		for client := range clients {
			if len(s) == 0 && client > 0 {
				break // the mirror of one that begins with the first
			}
			for _, a := range all {
				s = append(s, step{client, a})
				extend()
				s = s[:len(s)-1]
			}
		}
	}
	extend()
	return found
}

func (s step) equal(o step) bool { return s.client == o.client && s.action.Name == o.action.Name }

// worthwhile says whether each action has to do with one of the other client's; otherwise it adds nothing to a shorter schedule.
func (s Schedule) worthwhile() bool {
	for _, a := range s {
		if !slices.ContainsFunc(s, func(b step) bool { return a.client != b.client && meet(a.action, b.action) }) {
			return false
		}
	}
	return true
}

// draw draws a schedule of n actions of one or two kinds, mixed with what concerns all kinds.
func draw(random *rand.Rand, all []Action, n int) Schedule {
	kinds := []resource{names, cursors, settings, temps, sequence, channels, advisory, roles, table, code, block}
	theme := kinds[random.IntN(len(kinds))]
	theme |= kinds[random.IntN(len(kinds))]
	fits := filter(all, func(a Action) bool { return a.writes != everything && (a.writes|a.reads&^block)&theme != 0 })
	ofBlock := filter(all, func(a Action) bool { return a.writes == block })
	ofAll := filter(all, func(a Action) bool { return a.writes == everything })
	s := make(Schedule, n)
	for i := range s {
		from := fits
		switch d := random.IntN(8); {
		case d == 0:
			from = ofAll
		case d < 3:
			from = ofBlock
		}
		s[i] = step{random.IntN(len(clients)), from[random.IntN(len(from))]}
	}
	return s
}
