package explore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// emptyBucket is the first word of a schedule that begins with an empty bucket. Others begin with a database in which
// somebody has opened an epoch, committed S1, and died.
const emptyBucket = "empty"

var errNotReproduced = errors.New("the schedule of a violation does not reproduce it: the explorer is not deterministic")

// Replay follows a schedule, as a Violation has it, under the mutant of o (its other fields do not matter). It returns
// the violation, nil if there is none, and the steps in words. A choice that cannot be made is an error.
func Replay(o Options, schedule string) (*Violation, []string, error) {
	schedule, fresh := cutWord(schedule, emptyBucket)
	list, err := parseSchedule(schedule)
	if err != nil {
		return nil, nil, fmt.Errorf("replay: %w", err)
	}
	const enough = maxSteps // of everything: the schedule is its own bound
	o, err = Options{
		Mutant: o.Mutant, Writers: maxWriters, Opens: enough, Appends: enough, Compactions: enough, Collections: enough,
		Lost: maxDelayed, Crashes: enough,
	}.complete()
	if err != nil {
		return nil, nil, err
	}
	o.fresh, o.polite = fresh, true
	t, err := newTemplate(o)
	if err != nil {
		return nil, nil, err
	}
	w := newWorld()
	defer w.close()
	var steps []string
	w.trace = func(c choice, line string) { steps = append(steps, fmt.Sprintf("%-10s %s", c, line)) }
	if made := w.follow(&o, t, list); len(made) < len(list) && w.judge.broken == nil {
		return nil, steps, fmt.Errorf("replay: step %d (%s) cannot be made there", len(made)+1, list[len(made)])
	}
	v := w.judge.broken
	if v != nil {
		v.Schedule, v.Steps = withBucket(fresh, list), steps
	}
	return v, steps, nil
}

func cutWord(text, word string) (rest string, found bool) {
	rest, found = strings.CutPrefix(strings.TrimSpace(text), word+" ")
	return rest, found
}

func withBucket(fresh bool, list []choice) string {
	if fresh {
		return emptyBucket + " " + formatSchedule(list)
	}
	return formatSchedule(list)
}

// shorten makes the schedule of a violation as short as it gets: no run of steps can be left out without losing it.
func shorten(j job, out outcome) (*Violation, error) {
	w := newWorld()
	defer w.close()
	breaks := func(list []choice) ([]choice, bool) {
		made := w.follow(&j.o, j.t, list)
		return made, w.judge.broken != nil && w.judge.broken.Invariant == out.broken.Invariant
	}
	best, ok := breaks(out.choices)
	if !ok {
		return nil, fmt.Errorf("explore: %w: %s (%s)", errNotReproduced, formatSchedule(out.choices), out.broken.Text)
	}
	for size := (len(best) + 1) / 2; size >= 1; {
		removed := false
		for at := len(best) - size; at >= 0; at-- {
			if at+size > len(best) {
				continue
			}
			if shorter, ok := breaks(slices.Delete(slices.Clone(best), at, at+size)); ok && len(shorter) < len(best) {
				best, removed = shorter, true
			}
		}
		if !removed || size > len(best) {
			size /= 2
		}
	}
	v := &Violation{Schedule: withBucket(j.o.fresh, best)}
	w.trace = func(c choice, line string) { v.Steps = append(v.Steps, fmt.Sprintf("%-10s %s", c, line)) }
	w.follow(&j.o, j.t, best)
	v.Invariant, v.Text = w.judge.broken.Invariant, w.judge.broken.Text
	return v, nil
}

// follow makes the choices of a list in order, leaving out those that cannot be made, until an invariant breaks. It
// returns those that were made.
func (w *world) follow(o *Options, t *template, list []choice) []choice {
	w.reset(o, t)
	var made []choice
	for _, c := range list {
		if w.judge.broken != nil {
			break
		}
		if w.enabled()&c.bit() != 0 {
			made = append(made, c)
			w.step(c)
		}
	}
	return made
}
