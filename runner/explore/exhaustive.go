package explore

import (
	"strings"

	"blobpglite/core/lease"
)

// step is a choice with what it does, from which independence is derived.
type step struct {
	choice
	verb       verb
	key, after string
}

func (s step) isFault() bool { return s.do != doIt && s.do < doLand }

// mutates says whether the bucket may change. Of the fact that a crash, a refusal or a delay leaves it alone, only the crash's is used.
func (s step) mutates() bool { return s.verb >= verbPut && s.do != doCrash }

// independent says whether two steps give the same in either order; see the package documentation.
func independent(a, b step) bool {
	switch {
	case a.who < firstFlight && b.who < firstFlight && a.who.slot() == b.who.slot(), a.who == b.who:
		return false
	case a.isFault() && b.isFault(), a.do == doDrop, b.do == doDrop:
		return false
	case a.mutates() && b.mutates():
		return (a.key == lease.Key) != (b.key == lease.Key)
	case !a.mutates() && !b.mutates(), a.do == doCrash, b.do == doCrash:
		return true
	case b.mutates():
		a, b = b, a
	}
	if b.verb == verbList {
		return !strings.HasPrefix(a.key, b.key) || a.key <= b.after
	}
	return a.key != b.key
}

// options returns the possible choices, within a bound on faults. Crashes are offered only before writes: what a process reads before it
// dies changes nothing.
func (w *world) options(faults int) []step {
	var out []step
	left := w.spent.total() < faults
	crashing := -1
	for _, t := range w.threads {
		s := step{choice{t.id, doIt}, t.call.verb, t.call.key, t.call.after}
		out = append(out, s)
		if !left || !t.call.writes() {
			continue
		}
		for _, d := range [...]do{doLost, doDelay, doSlow, doRefuse} {
			if s.do = d; w.possible(t, d) {
				out = append(out, s)
			}
		}
		if s.do = doCrash; w.possible(t, doCrash) && crashing != t.id.slot() {
			crashing = t.id.slot()
			out = append(out, s)
		}
	}
	for _, f := range w.flights {
		s := step{choice{f.id, doLand}, f.call.verb, f.call.key, ""}
		out = append(out, s)
		if s.do = doDrop; len(w.threads) == 0 {
			out = append(out, s)
		}
	}
	return out
}

// node is a place in the tree of schedules.
type node struct {
	options []step
	asleep  []step // need not be taken here: an equivalent order was
	at      int    // the option taken now; those before were taken or are asleep
}

func contains(list []step, s step) bool {
	for _, o := range list {
		if o.choice == s.choice {
			return true
		}
	}
	return false
}

// forward moves to the next option, from at on, that is not asleep.
func (n *node) forward() bool {
	for ; n.at < len(n.options); n.at++ {
		if !contains(n.asleep, n.options[n.at]) {
			return true
		}
	}
	return false
}

// child returns what is asleep after the option taken now.
func (n *node) child() []step {
	var asleep []step
	taken := n.options[n.at]
	for _, s := range n.asleep {
		if independent(s, taken) {
			asleep = append(asleep, s)
		}
	}
	for _, s := range n.options[:n.at] {
		if !contains(n.asleep, s) && independent(s, taken) {
			asleep = append(asleep, s)
		}
	}
	return asleep
}

// exhaust walks depth first through the schedules with at most faults faults. It shows each every run, which says whether to continue; more
// is also asked after runs that were given up. It reports whether nothing was left.
func (p *Plan) exhaust(faults int, reduce bool, r *tally, each func(*world, []choice) bool, more func() bool) (bool, error) {
	var stack []*node
	for {
		w, err := newWorld(p, false)
		if err != nil {
			return false, err
		}
		var taken []choice
		blocked := false
		for !w.over() && w.judge.broken == nil && len(taken) < maxSteps {
			if len(taken) == len(stack) {
				n := &node{options: w.options(faults)}
				if len(stack) > 0 && reduce {
					n.asleep = stack[len(stack)-1].child()
				}
				stack = append(stack, n)
				if blocked = !n.forward(); blocked {
					break
				}
			}
			n := stack[len(taken)]
			c := n.options[n.at].choice
			w.take(c)
			taken = append(taken, c)
		}
		goOn := true
		if blocked {
			r.skipped++
		} else {
			w.judge.finish()
			goOn = each(w, taken)
		}
		w.close()
		if goOn = goOn && more(); !goOn {
			return false, nil
		}
		for len(stack) > 0 {
			n := stack[len(stack)-1]
			if n.at++; n.forward() {
				break
			}
			stack = stack[:len(stack)-1]
		}
		if len(stack) == 0 {
			return true, nil
		}
	}
}
