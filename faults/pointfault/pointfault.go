// Package pointfault makes fault points do something: kill or stop the process, park a goroutine, fail, take time.
//
//	in, err := pointfault.New(pointfault.Options{Seed: 7, Report: tellRunner, Rules: []pointfault.Rule{
//		{Point: point.WalBeforePut, Do: pointfault.Kill, Nth: 3},
//	}})
//	e, err := engine.Open(ctx, engine.Options{Hook: in.Hook(), ...})
//	in.Release()          // parked goroutines continue
//	counts := in.Fired()  // a rule that never fired has tested nothing
//
// A rule is one line of a scenario and travels to a child process as JSON:
//
//	{"point":"wal/before-put","do":"kill","nth":3}
//	{"point":"commit/before-ack","do":"delay","p":0.1,"for":20000000,"from":2,"until":5}
//
// Events are reported before they happen: a process that kills itself cannot report afterwards. Decisions are seeded, with one random
// source per rule, so that what one rule decides does not depend on the others.
//
// Kill and Stop send real signals to this process: no deferred function runs, and a stopped process does nothing at all until it gets
// SIGCONT. Park holds only the goroutine that passes the point; the rest of the process continues. The two find different faults.
package pointfault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/point"
	"blobpglite/faults/model"
)

// ErrInjected is the error that Fail injects.
var ErrInjected = errors.New("injected failure")

// Action is what happens at a point.
type Action string

// The actions.
const (
	Kill  Action = "kill"  // SIGKILL to this process
	Stop  Action = "stop"  // SIGSTOP to this process, including heartbeats
	Park  Action = "park"  // this goroutine waits until Release; the rest continues
	Fail  Action = "fail"  // the step fails with ErrInjected
	Delay Action = "delay" // the step takes Rule.For longer
)

// Rule is one kind of fault. Exactly one of Nth, Every and P says how often it strikes.
type Rule struct {
	Name  string      `json:"name,omitempty"` // its name in counts and reports; empty: action and point
	Point point.Point `json:"point"`          // empty: any
	Do    Action      `json:"do"`

	Nth   int     `json:"nth,omitempty"`   // only the nth time it is passed
	Every int     `json:"every,omitempty"` // each time it has been passed that often
	P     float64 `json:"p,omitempty"`     // each time, with this probability

	// From and Until bound the steps (Injector.Step) in which the rule is in force: From <= step < Until. Zero: no bound.
	From  int64 `json:"from,omitempty"`
	Until int64 `json:"until,omitempty"`

	For time.Duration `json:"for,omitempty"` // of Delay
}

// Label is the rule's name.
func (r Rule) Label() string {
	switch {
	case r.Name != "":
		return r.Name
	case r.Point == "":
		return string(r.Do) + " anywhere"
	}
	return string(r.Do) + " " + string(r.Point)
}

// Check rejects a rule that could never do what it says.
func (r Rule) Check() error {
	switch {
	case r.Point != "" && !slices.Contains(point.All(), r.Point):
		return fmt.Errorf("rule %q: there is no fault point %q", r.Label(), r.Point)
	case !slices.Contains([]Action{Kill, Stop, Park, Fail, Delay}, r.Do):
		return fmt.Errorf("rule %q: action %q: want one of kill, stop, park, fail, delay", r.Label(), r.Do)
	case (r.Do == Delay) != (r.For > 0):
		return fmt.Errorf("rule %q: %v: a delay takes a positive time, nothing else takes one", r.Label(), r.For)
	case r.From < 0 || r.Until < 0 || r.Until > 0 && r.Until <= r.From:
		return fmt.Errorf("rule %q: steps from %d until %d hold none", r.Label(), r.From, r.Until)
	}
	if err := r.often().Check(); err != nil {
		return fmt.Errorf("rule %q: %w", r.Label(), err)
	}
	return nil
}

func (r Rule) often() model.Often {
	return model.Often{Every: r.Every, Nth: r.Nth, Probability: r.P}
}

// Event describes a rule that is about to strike.
type Event struct {
	Rule  string      `json:"rule"` // its label
	Point point.Point `json:"point"`
	Do    Action      `json:"do"`
	Match int64       `json:"match"` // how often the rule's point has been passed, including this time
}

// Fired counts how often a rule matched and struck.
type Fired struct {
	Rule    string `json:"rule"`
	Matched int64  `json:"matched"` // passed while the rule was in force
	Fired   int64  `json:"fired"`
}

// Options are options of an Injector.
type Options struct {
	Rules []Rule
	Seed  uint64
	// Report is called with each event before it happens; when it returns, the event must have left the process. Nil: not called.
	Report func(Event)
	Clock  clock.Clock // of delays; nil: the system clock
	// Kill and Stop end and stop the process; nil: with real signals. Tests replace them.
	Kill, Stop func() error
}

// Injector holds rules and counts. It is safe for concurrent use.
type Injector struct {
	o Options

	mu     sync.Mutex
	rules  []*armed
	made   uint64 // rules so far: each gets its own random source
	gone   []Fired
	passed map[point.Point]int64
	step   int64
	gate   chan struct{} // closed by Release
	parked int
}

type armed struct {
	rule   Rule
	random *rand.Rand
	counts Fired
}

// New makes an injector. A rule that could never strike is an error that names it.
func New(o Options) (*Injector, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Report == nil {
		o.Report = func(Event) {}
	}
	if o.Kill == nil {
		o.Kill = killSelf
	}
	if o.Stop == nil {
		o.Stop = stopSelf
	}
	in := &Injector{o: o, passed: map[point.Point]int64{}, gate: make(chan struct{})}
	return in, in.Arm(o.Rules)
}

// Arm adds rules, after those in force.
func (in *Injector) Arm(rules []Rule) error {
	for _, r := range rules {
		if err := r.Check(); err != nil {
			return err
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range rules {
		in.made++
		in.rules = append(in.rules, &armed{
			rule: r, random: rand.New(rand.NewPCG(in.o.Seed, in.made)), counts: Fired{Rule: r.Label()},
		})
	}
	return nil
}

// Disarm removes all rules; their counts stay, and parked goroutines stay parked.
func (in *Injector) Disarm() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, a := range in.rules {
		in.gone = append(in.gone, a.counts)
	}
	in.rules = nil
}

// Step sets the scenario's current step; see Rule.From.
func (in *Injector) Step(n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.step = n
}

// Release lets all parked goroutines continue. Those parked later wait for the next Release.
func (in *Injector) Release() {
	in.mu.Lock()
	defer in.mu.Unlock()
	close(in.gate)
	in.gate = make(chan struct{})
}

// Parked is how many goroutines are parked.
func (in *Injector) Parked() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.parked
}

// Fired returns the counts of each rule, including those no longer in force.
func (in *Injector) Fired() []Fired {
	in.mu.Lock()
	defer in.mu.Unlock()
	list := slices.Clone(in.gone)
	for _, a := range in.rules {
		list = append(list, a.counts)
	}
	return list
}

// Passed returns how often each point was passed, with or without a rule.
func (in *Injector) Passed() map[point.Point]int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	out := make(map[point.Point]int64, len(in.passed))
	for p, n := range in.passed {
		out[p] = n
	}
	return out
}

// Hook returns the hook for an engine's options.
func (in *Injector) Hook() point.Hook {
	return func(ctx context.Context, p point.Point) error {
		for _, s := range in.decide(p) {
			in.o.Report(s.event)
			if err := in.act(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// strike is a rule that is about to strike.
type strike struct {
	event Event
	rule  Rule
	gate  <-chan struct{}
}

// decide counts the point and collects the rules that strike, in order. After one that ends the step or the process, no further rule is
// tried.
func (in *Injector) decide(p point.Point) []strike {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.passed[p]++
	var due []strike
	for _, a := range in.rules {
		r := a.rule
		if r.Point != "" && r.Point != p || in.step < r.From || r.Until > 0 && in.step >= r.Until {
			continue
		}
		a.counts.Matched++
		if !r.often().Due(a.counts.Matched, a.random) {
			continue
		}
		a.counts.Fired++
		if r.Do == Park {
			in.parked++ // from the moment of its report
		}
		due = append(due, strike{Event{Rule: r.Label(), Point: p, Do: r.Do, Match: a.counts.Matched}, r, in.gate})
		if r.Do == Kill || r.Do == Fail {
			break
		}
	}
	return due
}

func (in *Injector) act(ctx context.Context, s strike) error {
	switch s.rule.Do {
	case Kill:
		if err := in.o.Kill(); err != nil {
			return fmt.Errorf("kill this process at %s: %w", s.event.Point, err)
		}
	case Stop:
		if err := in.o.Stop(); err != nil {
			return fmt.Errorf("stop this process at %s: %w", s.event.Point, err)
		}
	case Park:
		defer func() {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.parked--
		}()
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	case Fail:
		return fmt.Errorf("%w at %s", ErrInjected, s.event.Point)
	case Delay:
		return in.o.Clock.Sleep(ctx, s.rule.For)
	}
	return nil
}
