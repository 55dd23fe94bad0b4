package explore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/base"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// blind is what no process may do: it checks whether the lease is free, and then takes it without a condition.
func blind(ctx context.Context, p *process, t *thread) error {
	o, err := port{t}.Get(ctx, lease.Key)
	if err != nil {
		return err
	}
	var l leaseView
	if err := json.Unmarshal(o.Body, &l); err != nil || l.Holder != "" {
		return store.ErrConflict
	}
	now := p.clk.Now()
	body, err := lease.Encode(lease.State{Format: lease.Format, Holder: p.name, Acquired: now, Expires: now.Add(leaseTTL), WriteID: p.writeID()})
	if err != nil {
		return err
	}
	_, err = port{t}.Put(ctx, lease.Key, body, p.writeID(), store.Always())
	return err
}

// brokenPlan has a process that breaks an invariant in some orders.
func brokenPlan() *Plan {
	return &Plan{
		Name: "broken",
		Procs: []Proc{
			{Name: "S", Script: []Action{Open, Release}},
			{Name: "A", Script: []Action{Open, Append}},
			{Name: "B", Script: []Action{"blind"}},
		},
		Setup:  []Setup{{Proc: "S", Actions: 2}},
		Faults: Faults{Lost: 1, Crashes: 1},
		extra:  map[Action]func(context.Context, *process, *thread) error{"blind": blind},
	}
}

// forget deletes a record as soon as it sees a layer, whether or not the manifest names the layer: a restore fails until it does.
func forget(ctx context.Context, _ *process, t *thread) error {
	for _, err := range (port{t}).List(ctx, "base/", "") {
		if err != nil {
			return err
		}
		return port{t}.Delete(ctx, wal.Key(2))
	}
	return store.ErrConflict
}

// unstamped collects without making its epoch known: a layer that is not named yet is deleted.
func unstamped(ctx context.Context, _ *process, t *thread) error {
	m, _, err := manifest.Load(ctx, port{t})
	if err != nil {
		return err
	}
	for a, err := range (port{t}).List(ctx, "base/", "") {
		if err != nil {
			return err
		}
		if len(m.Layers) > 0 && base.IndexKey(m.Layers[0].Key) == a.Key {
			continue
		}
		if err := (port{t}).Delete(ctx, a.Key); err != nil {
			return err
		}
	}
	return nil
}

// sloppyPlan has a collector that breaks an invariant in some orders; forget does for a moment only.
func sloppyPlan(collector Action) *Plan {
	return &Plan{
		Name: "sloppy",
		Procs: []Proc{
			{Name: "A", Script: []Action{Open, Append, Compact}},
			{Name: "C", Script: []Action{collector}},
		},
		Setup:  []Setup{{Proc: "A", Actions: 2}},
		Faults: Faults{Lost: 1, Delayed: 1, Crashes: 1},
		extra:  map[Action]func(context.Context, *process, *thread) error{"forget": forget, "unstamped": unstamped},
	}
}

// racingPlan has two openers shortly before their fences, and nothing broken. With an append after each opening, a single fault makes
// 243,090 schedules instead of some thousands.
func racingPlan(then ...Action) *Plan {
	script := append([]Action{Open}, then...)
	return &Plan{
		Name: "racing",
		Procs: []Proc{
			{Name: "S", Script: []Action{Open, Append}},
			{Name: "A", Script: script, Ahead: time.Hour},
			{Name: "B", Script: script, Ahead: 2 * time.Hour},
		},
		Setup:  []Setup{{Proc: "S", Actions: 2}, {Proc: "A", Before: "put wal/3"}, {Proc: "B", Before: "put wal/3"}},
		Faults: Faults{Lost: 1, Delayed: 1, Crashes: 1},
	}
}

// outcome is everything that a schedule leads to.
func outcome(w *world) string {
	var b strings.Builder
	for _, e := range w.judge.log[1:] {
		fmt.Fprintf(&b, "%d %v; ", e.seq, e)
	}
	fmt.Fprintf(&b, "start %d, lease %q, acknowledged %v", w.judge.man.WalStart, w.judge.lease.Holder, len(w.judge.acked))
	if w.judge.broken != nil {
		fmt.Fprintf(&b, ", violated %s", w.judge.broken.Invariant)
	}
	return b.String()
}

// walk runs all schedules of a plan and returns all their outcomes.
func walk(t *testing.T, p *Plan, faults int, reduce bool) (outcomes []string, schedules int) {
	t.Helper()
	found := map[string]bool{}
	c := tally{seen: map[uint64]struct{}{}}
	all, err := p.exhaust(faults, reduce, &c, func(w *world, taken []choice) bool {
		c.count(taken)
		found[outcome(w)] = true
		return true
	}, func() bool { return true })
	if err != nil || !all {
		t.Fatalf("%v, all: %t", err, all)
	}
	if len(c.seen) != c.schedules {
		t.Errorf("%d schedules, %d different ones", c.schedules, len(c.seen))
	}
	for o := range found {
		outcomes = append(outcomes, o)
	}
	slices.Sort(outcomes)
	return outcomes, c.schedules
}

// TestReductionLosesNothing: with sleep sets fewer schedules are run, and they lead to the same logs, leases, acknowledgments and
// violations.
func TestReductionLosesNothing(t *testing.T) {
	for _, c := range []struct {
		plan   *Plan
		faults int
		broken bool
	}{{brokenPlan(), 0, true}, {brokenPlan(), 1, true},
		{sloppyPlan("forget"), 0, true}, {sloppyPlan("forget"), 1, true}, {sloppyPlan("unstamped"), 0, true}, {sloppyPlan("unstamped"), 1, true},
		{racingPlan(Append), 0, false}, {racingPlan(), 1, false}} {
		t.Run(fmt.Sprintf("%s, %d faults", c.plan.Name, c.faults), func(t *testing.T) {
			t.Parallel()
			full, n := walk(t, c.plan, c.faults, false)
			reduced, m := walk(t, c.plan, c.faults, true)
			t.Logf("%d schedules, %d with the reduction, %d outcomes", n, m, len(full))
			if !slices.Equal(full, reduced) {
				t.Errorf("all orders lead to\n%s\nthe reduced ones to\n%s", strings.Join(full, "\n"), strings.Join(reduced, "\n"))
			}
			if m >= n {
				t.Errorf("%d schedules of %d are left", m, n)
			}
			if got := strings.Contains(strings.Join(full, " "), "violated"); got != c.broken {
				t.Errorf("violated: %t", got)
			}
		})
	}
}

// TestIndependent tests the basis of the reduction.
func TestIndependent(t *testing.T) {
	mk := func(slot int, d do, v verb, key, after string) step {
		return step{choice{threadID(slot, 0, false), d}, v, key, after}
	}
	for _, c := range []struct {
		name string
		a, b step
		want bool
	}{
		{"one process", mk(0, doIt, verbGet, "a", ""), mk(0, doIt, verbGet, "b", ""), false},
		{"two reads of one key", mk(0, doIt, verbGet, "a", ""), mk(1, doIt, verbGet, "a", ""), true},
		{"a read and a write of one key", mk(0, doIt, verbGet, "a", ""), mk(1, doIt, verbPut, "a", ""), false},
		{"a read and a write of two keys", mk(0, doIt, verbGet, "a", ""), mk(1, doIt, verbPut, "b", ""), true},
		{"a list and a write in it", mk(0, doIt, verbList, "wal/", "wal/1"), mk(1, doIt, verbPut, "wal/2", ""), false},
		{"a list and a write before it", mk(0, doIt, verbList, "wal/", "wal/1"), mk(1, doIt, verbDelete, "wal/1", ""), true},
		{"a list and a write elsewhere", mk(0, doIt, verbList, "wal/", ""), mk(1, doIt, verbPut, "base/1", ""), true},
		{"two writes of two keys: the judge sees their order", mk(0, doIt, verbDelete, "wal/1", ""), mk(1, doIt, verbPut, "manifest", ""), false},
		{"a write of the lease and one of the log", mk(0, doIt, verbPut, lease.Key, ""), mk(1, doIt, verbPut, "wal/1", ""), true},
		{"two faults", mk(0, doLost, verbPut, "a", ""), mk(1, doCrash, verbGet, "b", ""), false},
		{"a crash and another's write", mk(0, doCrash, verbPut, "a", ""), mk(1, doIt, verbPut, "a", ""), true},
	} {
		if independent(c.a, c.b) != c.want || independent(c.b, c.a) != c.want {
			t.Errorf("%s: independent %t and %t, want %t", c.name, independent(c.a, c.b), independent(c.b, c.a), c.want)
		}
	}
}

// TestReplaysAndShrinks: a violating schedule violates the same each time, and of the shrunk one no step can be left out.
func TestReplaysAndShrinks(t *testing.T) {
	p := brokenPlan()
	found := 0
	for n := range 400 {
		w, taken, err := p.random(7, n, 12)
		if err != nil {
			t.Fatal(err)
		}
		b := w.judge.broken
		w.close()
		if b == nil {
			continue
		}
		found++
		for range 2 {
			if r, err := p.execute(taken, false); err != nil || r.broken == nil || *r.broken != *b || !slices.Equal(r.taken, taken) {
				t.Fatalf("schedule %v: %v, then %v, %v", p.texts(taken), b, r.broken, err)
			}
		}
		short := p.shrink(taken, b.Invariant)
		r, err := p.execute(short, true)
		if err != nil || r.broken == nil || r.broken.Invariant != b.Invariant || len(short) > len(taken) || len(r.story) == 0 {
			t.Fatalf("shrunk to %v: %v, %v", p.texts(short), r.broken, err)
		}
		for i := range short {
			if r, err := p.execute(without(short, i, 1), false); err != nil || r.broken != nil && r.broken.Invariant == b.Invariant {
				t.Errorf("of %v the step %d is not needed: %v", p.texts(short), i, err)
			}
		}
		if found == 10 {
			return
		}
	}
	t.Errorf("only %d violations in 400 schedules", found)
}

// TestCrashAnywhere kills each process at each of its calls, before and after it: the remaining state is sound, and no thread is left.
func TestCrashAnywhere(t *testing.T) {
	for _, p := range Plans() {
		w, taken, err := p.baseline()
		if err != nil {
			t.Fatal(err)
		}
		w.close()
		for i := range taken {
			for _, d := range []do{doCrash, doDie} {
				s := append(slices.Clone(taken[:i]), choice{taken[i].who, d})
				s = append(s, taken[i:]...)
				r, err := p.execute(s, false)
				if err != nil || r.broken != nil {
					t.Fatalf("plan %s, %s at step %d: %v, %v", p.Name, d, i, err, r.broken)
				}
				if p.Faults.Crashes > 0 && !slices.Contains(r.taken, s[i]) {
					t.Errorf("plan %s: no %s at step %d", p.Name, d, i)
				}
			}
		}
	}
	goleak.VerifyNone(t)
}

// TestReplay reads a schedule as it is printed.
func TestReplay(t *testing.T) {
	if v, err := Replay("zombie", []string{"B", "B", "A lost", "B", "A"}); v != nil || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	for _, c := range []struct{ plan, step, says string }{
		{"no-such-plan", "A", "no plan"}, {"zombie", "Z", "no step"}, {"zombie", "A explode", "no step"}, {"zombie", "flight1 land", "not possible"},
		{"zombie", "B lost", "not possible"},
	} {
		if _, err := Replay(c.plan, []string{c.step}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s, %s: %v", c.plan, c.step, err)
		}
	}
}

// TestStepsReadBack: the written form of a schedule names the same choices again.
func TestStepsReadBack(t *testing.T) {
	for _, p := range Plans() {
		for n := range 50 {
			w, taken, err := p.random(3, n, 40)
			if err != nil {
				t.Fatal(err)
			}
			w.close()
			for i, text := range p.texts(taken) {
				if c, err := p.parse(text); err != nil || c != taken[i] {
					t.Fatalf("plan %s: %q is read as %v, was %v: %v", p.Name, text, c, taken[i], err)
				}
			}
		}
	}
}

// TestSameSeedSameSchedules: a walk depends on its seed only, not on how many workers there are.
func TestSameSeedSameSchedules(t *testing.T) {
	run := func(seed uint64, workers int) Report {
		r, err := Explore(t.Context(), Options{Schedules: 1300, Seed: seed, Workers: workers})
		if err != nil || len(r.Violations) > 0 {
			t.Fatalf("%v, %v", err, r.Violations)
		}
		r.Elapsed = 0
		return r
	}
	a, b, other := run(1, 1), run(1, 3), run(2, 2)
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("one worker: %+v\nthree: %+v", a, b)
	}
	if fmt.Sprint(a) == fmt.Sprint(other) {
		t.Error("another seed gives the same walk")
	}
	if a.Schedules != 1300 || a.Distinct < 800 || a.Cut > 0 || a.Skipped == 0 {
		t.Errorf("%+v", a)
	}
}

// TestPlans: what each plan claims to do is reached, in some schedule: every action of every process.
func TestPlans(t *testing.T) {
	for _, p := range Plans() {
		missing := map[string]bool{}
		for slot, proc := range p.Procs {
			if slot == 0 && proc.Name == "S" {
				continue // dies in the set-up
			}
			missing[proc.Name+" "+string(proc.Script[len(proc.Script)-1])] = p.Name != "damaged" || proc.Name == "V"
		}
		for n := range 150 {
			w, err := newWorld(&p, true)
			if err != nil {
				t.Fatal(err)
			}
			w.close()
			again, taken, err := p.random(5, n, 40)
			if err != nil {
				t.Fatal(err)
			}
			again.close()
			r, err := p.execute(taken, true)
			if err != nil || r.broken != nil {
				t.Fatalf("plan %s: %v, %v", p.Name, err, r.broken)
			}
			story := strings.Join(r.story, "\n")
			for _, proc := range p.Procs {
				if strings.Contains(story, fmt.Sprintf("%-5s is done", proc.Name)) {
					delete(missing, proc.Name+" "+string(proc.Script[len(proc.Script)-1]))
				}
			}
		}
		for what, m := range missing {
			if m {
				t.Errorf("plan %s: in 150 schedules no %s succeeds", p.Name, what)
			}
		}
	}
}

// TestJudgeReadsRecords: the judge's own reading of a record agrees with the log's.
func TestJudgeReadsRecords(t *testing.T) {
	p := racingPlan(Append)
	w, taken, err := p.random(1, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	read := 0
	for a, err := range w.st.List(t.Context(), wal.Prefix(), "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := w.st.Get(t.Context(), a.Key)
		if err != nil {
			t.Fatal(err)
		}
		want, err := wal.Decode(o.Body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readRecord(o.Body)
		if err != nil || got.seq != want.Seq || got.epoch != want.Epoch || got.hash != want.Hash || got.prev != want.Prev ||
			got.writer != want.Writer || got.id != want.WriteID || got.fence != (want.Kind == wal.Fence) {
			t.Errorf("%s: %+v, %v; the log reads %+v", a.Key, got, err, want)
		}
		read++
	}
	if read < 4 {
		t.Errorf("%d records after %d steps", read, len(taken))
	}
	for _, b := range [][]byte{nil, make([]byte, 200), []byte("BPWR\x01\x01\x00\x00")} {
		if _, err := readRecord(b); err == nil {
			t.Errorf("%q is read", b)
		}
	}
}
