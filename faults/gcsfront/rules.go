package gcsfront

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"blobpglite/faults/model"
)

// Phase is when a rule strikes.
type Phase string

// The phases.
const (
	Before Phase = "before" // the request is not applied
	After  Phase = "after"  // the request was applied, and the reply is affected
)

// Action is what a rule does.
type Action string

// The actions.
const (
	Delay       Action = "delay"  // waits for Rule.Delay; other rules may strike as well
	Throttle    Action = "429"    // answers 429; before only
	Unavailable Action = "503"    // answers 503: before, or after the request was applied
	Deny        Action = "403"    // answers 403; before only
	Refuse      Action = "refuse" // answers Rule.Status with Rule.Reason; before only
	Lose        Action = "lose"   // closes the connection without a reply
	Reset       Action = "reset"  // a TCP reset; after: when the first N bytes of the body have been sent
	Cut         Action = "cut"    // ends the body after N bytes; after only; strikes only bodies longer than that
)

// Rule is one kind of fault. Exactly one of Every, Nth and Probability says how often it strikes.
type Rule struct {
	Op       Op     // empty: any
	KeyClass string // a segment of the key, or several: "wal" is in "db/wal/7"; empty: any key
	Phase    Phase
	Do       Action

	Every       int     // each time the rule has matched that often: 1 is always
	Nth         int     // only the nth match
	Probability float64 // at each match, seeded

	Delay time.Duration // of Delay
	N     int           // bytes of the body that Cut and Reset let through

	// For Refuse: the answer. Its body is JSON, or in the XML API's form, or empty where the service sends none.
	Status int
	Reason string
	Form   Form
}

// Form is how an answer gives its reason.
type Form string

// The forms.
const (
	JSON    Form = ""        // like the JSON API
	Details Form = "details" // JSON with the reason only in the details, like newer parts of it
	XML     Form = "xml"     // like the XML API
	Bare    Form = "bare"    // no body, like proxies
)

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
	switch {
	case r.Do == Delay:
		s += " " + r.Delay.String()
	case r.Do == Refuse:
		s += strings.TrimRight(fmt.Sprintf(" %d %s %s", r.Status, r.Reason, r.Form), " ")
	case r.Do == Cut, r.Do == Reset && r.N > 0:
		s += fmt.Sprintf(" at %d bytes", r.N)
	}
	return s
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
	action Action // empty: none except the delay
	bytes  int
	answer Rule // of Refuse
}

// status is the status that an action answers with; 0: none.
func (e effect) status() int {
	switch e.action {
	case Refuse:
		return e.answer.Status
	case Throttle:
		return http.StatusTooManyRequests
	case Unavailable:
		return http.StatusServiceUnavailable
	case Deny:
		return http.StatusForbidden
	default:
		return 0
	}
}

func (e effect) reply() *reply {
	if e.action == Refuse {
		return refusal(e.answer)
	}
	if status := e.status(); status != 0 {
		return failure(status, "injected: %s", http.StatusText(status))
	}
	return nil
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

// check rejects a rule that could never do what it says.
func (r Rule) check() error {
	if r.Phase != Before && r.Phase != After {
		return fmt.Errorf("phase %q: want %q or %q", r.Phase, Before, After)
	}
	switch r.Do {
	case Throttle, Deny, Refuse:
		if r.Phase == After {
			return fmt.Errorf("%s means that the request was not applied: want phase %q", r.Do, Before)
		}
	case Cut:
		if r.Phase == Before {
			return fmt.Errorf("there is no reply to cut yet: want phase %q", After)
		}
	case Delay:
		if r.Delay <= 0 {
			return fmt.Errorf("a delay of %v: want a positive one", r.Delay)
		}
	case Unavailable, Lose, Reset:
	default:
		return fmt.Errorf("action %q: want one of delay, 429, 503, 403, refuse, lose, reset, cut", r.Do)
	}
	if (r.Do == Refuse) != (r.Status >= 300 && r.Status <= 599) {
		return fmt.Errorf("%s with status %d: refuse wants one from 300 to 599, the others none", r.Do, r.Status)
	}
	if r.N != 0 && (r.Phase == Before || (r.Do != Cut && r.Do != Reset)) {
		return fmt.Errorf("%d bytes: only %s, and %s after the request was applied, let bytes through", r.N, Cut, Reset)
	}
	if r.N < 0 {
		return fmt.Errorf("%d bytes: must not be negative", r.N)
	}
	return r.often().Check()
}

func (r Rule) often() model.Often {
	return model.Often{Every: r.Every, Nth: r.Nth, Probability: r.Probability}
}

func (rs *rules) before(q *request) effect { return rs.decide(q, Before, nil) }

func (rs *rules) after(q *request, r *reply) effect { return rs.decide(q, After, r) }

// decide lets each rule of the phase strike or not, until one ends the request.
func (rs *rules) decide(q *request, phase Phase, r *reply) effect {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var e effect
	for i := range rs.counts {
		c := &rs.counts[i]
		rule := c.Rule
		if rule.Phase != phase || !rule.matches(q) || (rule.Do == Cut && len(r.body) <= rule.N) {
			continue
		}
		c.Matched++
		if !rule.often().Due(c.Matched, rs.random[i]) {
			continue
		}
		c.Fired++
		if rule.Do == Delay {
			e.delay += rule.Delay
			continue
		}
		e.action, e.bytes, e.answer = rule.Do, rule.N, rule
		break
	}
	return e
}

func (r Rule) matches(q *request) bool {
	if r.Op != "" && r.Op != q.op {
		return false
	}
	return model.KeyIn(r.KeyClass, q.key)
}

func (rs *rules) fired() []Fired {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return append([]Fired(nil), rs.counts...)
}
