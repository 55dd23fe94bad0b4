package storefault

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"blobpglite/faults/model"
)

// Op is an operation of a store.
type Op string

// The operations. One page of a list is one operation; its key is the prefix.
const (
	OpGet    Op = "get" // whole or ranged
	OpPut    Op = "put"
	OpDelete Op = "delete"
	OpList   Op = "list"
)

func (o Op) writes() bool { return o == OpPut || o == OpDelete }

// Phase is when a rule strikes.
type Phase string

// The phases.
const (
	Before Phase = "before" // the request is not applied
	After  Phase = "after"  // the request was applied, and the reply is affected
)

// Action is what a rule does.
type Action string

// The actions. The caller gets the contract's errors: if a reply is missing, a write ends in store.ErrUnknown, a read in
// store.ErrUnavailable.
const (
	Delay       Action = "delay"       // waits for Rule.Delay; other rules may strike as well
	Throttle    Action = "throttle"    // store.ErrThrottled; before only
	Deny        Action = "deny"        // store.ErrDenied; before only
	Unavailable Action = "unavailable" // no usable answer, whether or not the request was applied
	Lose        Action = "lose"        // applied, and the reply lost; after only
	Drop        Action = "drop"        // lost on the way there: not applied, and no reply; before only
	Hold        Action = "hold"        // no reply, and applied once Rule.Delay has passed; writes, before only
)

// Rule is one kind of fault. Exactly one of Every, Nth and Probability says how often it strikes.
type Rule struct {
	Op       Op     // empty: any that the action fits
	KeyClass string // a segment of the key, or several: "wal" is in "db/wal/7"; empty: any key
	Phase    Phase
	Do       Action

	Every       int     // each time the rule has matched that often: 1 is always
	Nth         int     // only the nth match
	Probability float64 // at each match, seeded

	Delay time.Duration // of Delay and Hold
}

// String returns the rule in one line, for tables and messages.
func (r Rule) String() string {
	op, class := "any", "any"
	if r.Op != "" {
		op = string(r.Op)
	}
	if r.KeyClass != "" {
		class = r.KeyClass
	}
	s := fmt.Sprintf("%s %s %s %s %s", op, class, r.Phase, r.often(), r.Do)
	if r.Delay != 0 {
		s += " " + r.Delay.String()
	}
	return s
}

func (r Rule) often() model.Often {
	return model.Often{Every: r.Every, Nth: r.Nth, Probability: r.Probability}
}

// check rejects a rule that could never do what it says.
func (r Rule) check() error {
	switch r.Op {
	case "", OpGet, OpPut, OpDelete, OpList:
	default:
		return fmt.Errorf("operation %q: want one of get, put, delete, list, or none for any", r.Op)
	}
	want := Phase("") // either
	switch r.Do {
	case Throttle, Deny, Drop, Hold:
		want = Before
	case Lose:
		want = After
	case Delay, Unavailable:
	default:
		return fmt.Errorf("action %q: want one of delay, throttle, deny, unavailable, lose, drop, hold", r.Do)
	}
	switch {
	case r.Phase != Before && r.Phase != After:
		return fmt.Errorf("phase %q: want %q or %q", r.Phase, Before, After)
	case want != "" && r.Phase != want:
		return fmt.Errorf("%s in phase %q: want %q", r.Do, r.Phase, want)
	case r.Do == Hold && r.Op != "" && !r.Op.writes():
		return fmt.Errorf("hold of a %s: only a write can be applied later", r.Op)
	case (r.Do == Delay || r.Do == Hold) != (r.Delay > 0):
		return fmt.Errorf("%s with a delay of %v: delay and hold want a positive one, the others none", r.Do, r.Delay)
	}
	return r.often().Check()
}

func (r Rule) matches(op Op, key string, phase Phase) bool {
	return r.Phase == phase && (r.Op == "" || r.Op == op) && (r.Do != Hold || op.writes()) && model.KeyIn(r.KeyClass, key)
}

// Fired counts how often a rule matched and fired.
type Fired struct {
	Rule    Rule
	Matched int64 // requests of its operation, key class and phase
	Fired   int64 // times it struck
}

// effect is what the rules do to one request.
type effect struct {
	delay  time.Duration
	action Action        // empty: none except the delay
	hold   time.Duration // of Hold
}

// rules decides, and counts.
type rules struct {
	mu     sync.Mutex
	counts []Fired
	random []*rand.Rand // one per rule, so that what one decides does not depend on the others
}

func newRules(list []Rule, seed uint64) (*rules, error) {
	rs := &rules{}
	for i, r := range list {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("rule %d (%s): %w", i+1, r, err)
		}
		rs.counts = append(rs.counts, Fired{Rule: r})
		rs.random = append(rs.random, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	return rs, nil
}

// decide lets each rule of the phase strike or not, until one ends the request.
func (rs *rules) decide(op Op, key string, phase Phase) effect {
	var e effect
	if len(rs.counts) == 0 {
		return e
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for i := range rs.counts {
		c := &rs.counts[i]
		if !c.Rule.matches(op, key, phase) {
			continue
		}
		c.Matched++
		if !c.Rule.often().Due(c.Matched, rs.random[i]) {
			continue
		}
		c.Fired++
		if c.Rule.Do == Delay {
			e.delay += c.Rule.Delay
			continue
		}
		e.action, e.hold = c.Rule.Do, c.Rule.Delay
		break
	}
	return e
}

func (rs *rules) fired() []Fired {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return append([]Fired(nil), rs.counts...)
}
