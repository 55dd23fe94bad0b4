package explore

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Plan is a small set-up that aims at one of the protocol's difficult cases.
type Plan struct {
	Name string
	Doc  string
	// Procs are the processes. Setup brings them to where the schedule begins, without faults.
	Procs []Proc
	Setup []Setup
	// Weight is its share of the schedules, relative to the other plans; 0: 1.
	Weight int
	// Faults are the most that the random walk puts into one schedule.
	Faults Faults
	// extra are actions of tests.
	extra map[Action]func(context.Context, *process, *thread) error
}

// Proc is a process.
type Proc struct {
	Name   string
	Script []Action
	// Ahead is how far its clock is ahead: others' leases have expired for it. Zero: it waits for them.
	Ahead time.Duration
	// Lives is how often it may begin, with the same script; 0: once. A later life begins after an earlier one has crashed.
	Lives int
	// Retain is how far back its compactions keep earlier layers and records; 0: not at all.
	Retain time.Duration
	// Late processes begin when the set-up first names them, or not at all.
	Late bool
}

// Setup runs one process: for a number of actions, until it is about to make a call (such as "put wal/3"), through that call without its
// reply, or to its death.
type Setup struct {
	Proc    string
	Actions int
	Before  string
	Lose    bool
	Crash   bool
}

// Faults counts faults.
type Faults struct {
	Lost, Delayed, Slow, Refused, Crashes int
}

func (f Faults) total() int { return f.Lost + f.Delayed + f.Slow + f.Refused + f.Crashes }

// Plans returns all plans.
func Plans() []Plan { return append(append(openings(), zombies()...), others()...) }

// openings are about becoming the writer.
func openings() []Plan {
	return []Plan{
		{
			Name: "create", Doc: "two processes find no database",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Release}, Lives: 2},
				{Name: "B", Script: []Action{Open, Append, Release}, Ahead: time.Hour, Lives: 2},
			},
			Faults: Faults{Lost: 1, Delayed: 1, Crashes: 1},
		},
		{
			Name: "openers", Doc: "two processes open a database simultaneously, and their leases do not keep them apart",
			Procs: []Proc{
				dead(),
				{Name: "A", Script: []Action{Open, Append, Append, Release}, Ahead: time.Hour, Lives: 2},
				{Name: "B", Script: []Action{Open, Append, Append, Release}, Ahead: 2 * time.Hour, Lives: 2},
			},
			Setup:  []Setup{{Proc: "S", Actions: 3}, {Proc: "S", Crash: true}},
			Weight: 2,
			Faults: Faults{Lost: 1, Delayed: 1, Refused: 1, Crashes: 2},
		},
		{
			Name: "dead-zone", Doc: "an opener is stalled before its fence, while the live writer commits, compacts and collects past it",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append, Append, Compact, Collect, Append}},
				{Name: "X", Script: []Action{Open, Append, Append}, Ahead: time.Hour},
			},
			Setup:  []Setup{{Proc: "A", Actions: 2}, {Proc: "X", Before: "put wal/3"}},
			Faults: Faults{Lost: 1, Delayed: 1, Slow: 1, Crashes: 1},
		},
		{
			Name: "seqlock", Doc: "a record that an opener has listed is collected, and its name taken by another's dead fence, before it is read",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append, Compact, Collect, Append}},
				{Name: "X", Script: []Action{Open, Append}, Ahead: time.Hour},
				{Name: "D", Script: []Action{Open, Append}, Ahead: 2 * time.Hour},
			},
			Setup: []Setup{
				{Proc: "A", Actions: 2}, {Proc: "X", Before: "put wal/3"}, {Proc: "A", Actions: 3}, {Proc: "D", Before: "get wal/3"},
			},
			Faults: Faults{Lost: 1, Crashes: 1},
		},
		{
			Name: "moved", Doc: "an opener has listed the log, which is compacted and collected before it is read",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append, Compact, Collect, Append}},
				{Name: "X", Script: []Action{Open, Append}, Ahead: time.Hour},
			},
			Setup:  []Setup{{Proc: "A", Actions: 3}, {Proc: "X", Before: "get wal/2"}},
			Faults: Faults{Lost: 1, Delayed: 1, Crashes: 1},
		},
	}
}

// zombies are about writers that were taken over.
func zombies() []Plan {
	return []Plan{
		{
			Name: "zombie", Doc: "a writer keeps appending while another takes over",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append, Append, Release}},
				{Name: "B", Script: []Action{Open, Append, Append}, Ahead: time.Hour, Lives: 2},
			},
			Setup:  []Setup{{Proc: "A", Actions: 2}},
			Faults: Faults{Lost: 1, Delayed: 1, Slow: 1, Refused: 1, Crashes: 1},
		},
		{
			Name: "sleeper", Doc: "a writer is stalled before a PUT, while two successors compact and collect past it",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append, Append}},
				{Name: "B", Script: []Action{Open, Append, Compact, Collect, Append}, Ahead: time.Hour},
				{Name: "C", Script: []Action{Open, Append}, Ahead: 2 * time.Hour},
			},
			Setup:  []Setup{{Proc: "A", Actions: 2}, {Proc: "A", Before: "put wal/3"}},
			Faults: Faults{Lost: 1, Delayed: 2, Crashes: 1},
		},
		{
			Name: "late", Doc: "a record without a reply is read by a successor and collected, and a dead fence takes its name before its writer looks",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append}},
				{Name: "X", Script: []Action{Open, Append}, Ahead: time.Hour},
				{Name: "C", Script: []Action{Open, Append, Compact, Collect}, Ahead: 2 * time.Hour},
			},
			Setup:  []Setup{{Proc: "A", Actions: 2}, {Proc: "X", Before: "put wal/3"}, {Proc: "A", Lose: true}},
			Faults: Faults{Lost: 1, Delayed: 1, Crashes: 1},
		},
		{
			Name: "unnamed-layer", Doc: "a zombie has uploaded a layer that no manifest names yet, while its successor collects",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append, Compact}},
				{Name: "B", Script: []Action{Open, Collect, Append}, Ahead: time.Hour},
			},
			Setup:  []Setup{{Proc: "A", Actions: 3}},
			Faults: Faults{Lost: 1, Delayed: 1, Crashes: 1},
		},
		{
			Name: "zombie-layer", Doc: "a writer compacts while it appends, and a successor opens, collects and compacts",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append, Aside, Append, Append}},
				{Name: "B", Script: []Action{Open, Collect, Append, Compact, Collect}, Ahead: time.Hour, Lives: 2},
			},
			Setup:  []Setup{{Proc: "A", Actions: 3}},
			Weight: 2,
			Faults: Faults{Lost: 1, Delayed: 1, Crashes: 1},
		},
	}
}

// others are about collections, the lease, readers, damage, and all of it.
func others() []Plan {
	return []Plan{
		{
			Name: "collectors", Doc: "two writers of different epochs compact and collect concurrently, while a third restores",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Compact, Append, Aside, Append}},
				{Name: "B", Script: []Action{Open, Append, Aside, Append}, Ahead: time.Hour, Lives: 2},
				{Name: "C", Script: []Action{Open, Append, Compact, Collect}, Ahead: 2 * time.Hour},
			},
			Setup:  []Setup{{Proc: "A", Actions: 4}},
			Weight: 4,
			Faults: Faults{Lost: 1, Delayed: 1, Refused: 1, Crashes: 1},
		},
		{
			Name: "pages", Doc: "a stalled collection continues, while a successor reads pages late and shares them with its own layers",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Compact, Append, Compact, Append, Aside, Append, Page}},
				{Name: "B", Script: []Action{Open, Page, Append, Compact, Page, Collect, Page}, Ahead: time.Hour, Lives: 2},
				{Name: "C", Script: []Action{Open, Append, Compact, Page}, Ahead: 2 * time.Hour},
			},
			Setup:  []Setup{{Proc: "A", Actions: 5}},
			Weight: 3,
			Faults: Faults{Lost: 1, Delayed: 1, Refused: 1, Crashes: 1},
		},
		{
			Name: "lease", Doc: "the lease expires, is renewed, taken over, and released",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Serve, Rest, Append, Release}, Lives: 2},
				{Name: "B", Script: []Action{Open, Append, Serve, Rest, Append, Release}},
			},
			Weight: 2,
			Faults: Faults{Lost: 1, Delayed: 1, Slow: 1, Refused: 1, Crashes: 1},
		},
		{
			Name: "reader", Doc: "a reader verifies while the log is compacted, and a stalled opener's dead fence is in what the reader has listed",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Append, Compact, Collect, Append, Compact, Collect}},
				{Name: "X", Script: []Action{Open, Append}, Ahead: time.Hour},
				{Name: "R", Script: []Action{Verify, Verify}},
			},
			Setup:  []Setup{{Proc: "A", Actions: 2}, {Proc: "X", Before: "put wal/3"}},
			Faults: Faults{Lost: 1, Refused: 1, Crashes: 1},
		},
		{
			Name: "reads", Doc: "a writer reads while an append is in flight, and a successor opens, commits, compacts and collects",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Reads, Append}},
				{Name: "B", Script: []Action{Open, Append, Compact, Collect}, Ahead: time.Hour},
			},
			Setup:  []Setup{{Proc: "A", Actions: 3}, {Proc: "A", Lose: true}},
			Faults: Faults{Lost: 1, Delayed: 1, Crashes: 1},
		},
		{
			Name: "retention", Doc: "compactions retain earlier states, while one process opens, one verifies, and one restores an earlier state",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Compact, Append, Append, Compact, Collect, Append, Compact, Collect}, Retain: time.Hour},
				{Name: "X", Script: []Action{Open, Append, Compact, Collect}, Ahead: 30 * time.Minute},
				{Name: "R", Script: []Action{Verify, Past, Verify, Past}, Late: true},
			},
			Setup:  []Setup{{Proc: "A", Actions: 5}, {Proc: "X", Before: "get manifest"}, {Proc: "R", Before: "get manifest"}},
			Weight: 2,
			Faults: Faults{Lost: 1, Delayed: 1, Refused: 1, Crashes: 1},
		},
		{
			Name: "damaged", Doc: "a record was replaced by a sound one that does not belong there: no process may restore from it",
			Procs: []Proc{
				dead(),
				{Name: "V", Script: []Action{Damage}, Late: true},
				{Name: "A", Script: []Action{Open, Append}, Ahead: time.Hour},
				{Name: "R", Script: []Action{Verify}},
			},
			Setup: []Setup{{Proc: "S", Actions: 3}, {Proc: "S", Crash: true}, {Proc: "V", Actions: 1}},
		},
		{
			Name: "everything", Doc: "three processes that do everything, in several lives",
			Procs: []Proc{
				{Name: "A", Script: []Action{Open, Append, Aside, Append, Rest, Append, Release}, Lives: 2},
				{Name: "B", Script: []Action{Open, Append, Compact, Collect, Append, Release}, Ahead: time.Hour, Lives: 2},
				{Name: "C", Script: []Action{Open, Append, Aside, Append, Release}, Ahead: 2 * time.Hour, Lives: 2},
			},
			Weight: 5,
			Faults: Faults{Lost: 2, Delayed: 2, Slow: 1, Refused: 1, Crashes: 2},
		},
	}
}

// dead is a process that writes a log and dies in the set-up.
func dead() Proc { return Proc{Name: "S", Script: []Action{Open, Append, Append, Append}} }

// PlanNamed returns the plan with a name. An error lists the names.
func PlanNamed(name string) (*Plan, error) {
	all := Plans()
	i := slices.IndexFunc(all, func(p Plan) bool { return p.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no plan %q", name)
	}
	return &all[i], nil
}
