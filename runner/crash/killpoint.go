package crash

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/faults/pointfault"
	"blobpglite/runner/bench"
	"blobpglite/runner/cluster"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func killpointVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "killpoint",
			Doc: "clients work on a database in a child process, which kills itself at a fault point; another one opens it cold, and " +
				"everything acknowledged must be there. Each point of the mode, rounds times, life after life on the same database",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "deaths at each point"},
				{Name: "mode", OneOf: []string{string(engine.ModeLog), string(engine.ModeSnapshot)}, Default: string(engine.ModeLog), Doc: "the commit mode"},
				{Name: "points", Kind: scenario.KindStrings, Doc: "only these; empty: all points of the mode"},
				{Name: "compaction", Kind: scenario.KindBool, Doc: "the process dies while a layer is being taken"},
				{Name: "power_cut", Kind: scenario.KindBool, Doc: "all processes die, not one, and requests in flight are lost with them"},
				{Name: "bulk", Kind: scenario.KindBool, Doc: "clients COPY so much that PostgreSQL goes through many WAL segments"},
				{Name: "skip", Kind: scenario.KindInt, Doc: "skips the first points, in an order given by the seed; those skipped are noted"},
				{Name: "sample", Kind: scenario.KindInt, Doc: "takes only this many of the points that follow; 0: all"},
				{Name: "clients", Kind: scenario.KindInt, Default: "3", Doc: "that work concurrently"},
			},
			Metrics: bench.MetricDocs(
				"open_ms", "time to reopen after a death, including the wait for the lease", "life_ms", "duration of a life, from one "+
					"death to the next",
				"deaths_count", "deaths in the whole cell", "missed_count", "rounds in which the fault point was not reached",
				"acknowledged_count", "acknowledged operations", "unknown_count", "operations interrupted by a death", "request_ms", "time of a request, as seen by "+
					"a client",
			),
		},
		Run: killpoint,
	}
}

// where a point is reached.
type where string

const (
	atOpening where = "opening"
	atLoad    where = "load"
	atNew     where = "new"   // while a new database takes its first layer
	atLarge   where = "large" // by a commit that does not fit into one object
	atLayer   where = "layer" // by a compaction
	atClose   where = "closing"
	atCrash   where = "behind a crash of PostgreSQL's"
)

// faultSite is a point and how it is reached.
type faultSite struct {
	point point.Point
	where where
	most  int // the nth passing at which it strikes is 1 to most
}

// faultSites are the points that a mode has.
func faultSites(mode engine.Mode, compaction bool) []faultSite {
	if mode == engine.ModeSnapshot { // a commit is a layer and a swap; an opening is a swap
		return []faultSite{
			{point.RestoreAfterManifest, atOpening, 1}, {point.RestoreAfterBase, atOpening, 1},
			{point.ManifestBeforeCAS, atOpening, 1}, {point.ManifestAfterCAS, atOpening, 1},
			{point.BaseBeforeSegment, atLoad, 4}, {point.BaseAfterSegment, atLoad, 4}, {point.BaseAfterLastSegment, atLoad, 4}, {point.BaseAfterIndex, atLoad, 4},
			{point.ManifestBeforeCAS, atLoad, 4}, {point.ManifestAfterCAS, atLoad, 4}, {point.CommitBeforeAck, atLoad, 6},
		}
	}
	list := []faultSite{
		{point.LeaseBeforeAcquire, atOpening, 1}, {point.LeaseAfterAcquire, atOpening, 1}, {point.RestoreAfterManifest, atOpening, 1},
		{point.FenceBeforePut, atOpening, 1}, {point.FenceAfterPut, atOpening, 1}, {point.RestoreAfterBase, atOpening, 1},
		{point.LeaseBeforeRenew, atLoad, 1}, {point.WalBeforePut, atLoad, 12}, {point.WalAfterPut, atLoad, 12}, {point.CommitBeforeAck, atLoad, 24},
		{point.WalBeforePart, atLarge, 2}, {point.WalAfterPart, atLarge, 2}, {point.LeaseBeforeRelease, atClose, 1},
		{point.ProcessBeforeFork, atOpening, 1}, {point.ProcessBeforeStart, atOpening, 4}, {point.ProcessBeforeStart, atLoad, 3},
		{point.ProcessAfterExit, atLoad, 2}, {point.ProcessBeforeSignal, atLoad, 8}, {point.ProcessBeforeRestart, atCrash, 1}, {point.CommitBeforeAck, atCrash, 12},
	}
	layer, most := atNew, 1
	if compaction {
		layer, most = atLayer, 1
		list = append(list, faultSite{point.GCBeforeCollect, atLayer, 1}, faultSite{point.GCBeforeDelete, atLayer, 3}, faultSite{point.GCAfterDelete, atLayer, 3})
	}
	for _, p := range []point.Point{
		point.BaseBeforeSegment, point.BaseAfterSegment, point.BaseAfterLastSegment, point.BaseAfterIndex, point.ManifestBeforeCAS, point.ManifestAfterCAS,
	} {
		list = append(list, faultSite{p, layer, most})
	}
	return list
}

// killRun is one cell of killpoint.
type killRun struct {
	cluster.Lifeline
	compaction bool
	several    int  // layers before a death, of a compaction; 0: one
	inspect    bool // check what each death leaves, and what the collection after it leaves
	cut, bulk  bool
	clients    int
	large      bool       // the database holds large copies
	pages      *killPages // nil: there is no large table
	began      time.Duration
}

func killpoint(ctx context.Context, r *bench.Run, args scenario.Args) error {
	k := &killRun{
		Lifeline:   cluster.Lifeline{Run: r, Mode: engine.Mode(args.String("mode")), Random: rand.New(rand.NewPCG(r.Seed, 0x6b696c6c))},
		compaction: args.Bool("compaction"), cut: args.Bool("power_cut"), bulk: args.Bool("bulk"), clients: args.Int("clients"),
	}
	if k.cut {
		k.Latency = 8 * time.Millisecond // so that something is on its way
	}
	if k.compaction && k.Mode != engine.ModeLog {
		return fmt.Errorf("mode %q has no compaction", k.Mode)
	}
	list, err := k.chosen(args.Strings("points"), args.Int("skip"), args.Int("sample"))
	if err != nil {
		return err
	}
	return k.all(ctx, list, args.Int("rounds"))
}

// all lets a process die at each of the points, rounds times.
func (k *killRun) all(ctx context.Context, list []faultSite, rounds int) error {
	defer k.End()
	r := k.Run
	total := rounds * len(list)
	for round := range rounds {
		for i, s := range list {
			r.Progress(fmt.Sprintf("%s %s: death at %s", r.Cell.Probe, r.Cell.Label, s.point), int64(round*len(list)+i), int64(total))
			if err := k.death(ctx, s); err != nil {
				return fmt.Errorf("round %d, %s (%s): %w", round+1, s.point, s.where, err)
			}
			if r.Failed() {
				return nil // what went wrong is in the checks; the bucket is kept as it is
			}
		}
	}
	return k.Bucket(ctx)
}

// chosen returns the points to die at. The seed makes one order for all cells of a mode, so that two cells can divide the points between
// them; the collection's come last.
func (k *killRun) chosen(names []string, skip, sample int) ([]faultSite, error) {
	all := faultSites(k.Mode, k.compaction)
	var list []faultSite
	for _, s := range all {
		if len(names) == 0 || slices.Contains(names, "all") || slices.Contains(names, string(s.point)) {
			list = append(list, s)
		}
	}
	for _, n := range names {
		if n != "all" && !slices.ContainsFunc(all, func(s faultSite) bool { return string(s.point) == n }) {
			return nil, fmt.Errorf("mode %q (compaction: %v) does not pass the point %q", k.Mode, k.compaction, n)
		}
	}
	if skip == 0 && sample == 0 {
		return list, nil
	}
	rank := func(s faultSite) string {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %v", k.Run.Seed, s.point, s.where == atOpening))
		return fmt.Sprintf("%v%x", strings.HasPrefix(string(s.point), "gc/"), sum)
	}
	slices.SortStableFunc(list, func(a, b faultSite) int { return cmp.Compare(rank(a), rank(b)) })
	from := min(skip, len(list))
	to := len(list)
	if sample > 0 {
		to = min(from+sample, to)
	}
	var left []string
	for i, s := range list {
		if i < from || i >= to {
			left = append(left, fmt.Sprintf("%s (%s)", s.point, s.where))
		}
	}
	k.Run.Notes = append(k.Run.Notes, fmt.Sprintf("left out, by seed: %s", strings.Join(left, ", ")))
	return list[from:to], nil
}

// death lets one process die at a point, and looks at what it left.
func (k *killRun) death(ctx context.Context, s faultSite) error {
	if s.where == atNew || k.large || k.Lives >= cluster.LivesOfDatabase || k.Cluster == nil || k.bulk && k.Lives >= bulkLives {
		k.large = false
		if err := k.Fresh(ctx); err != nil {
			return err
		}
		k.pages.forget()
	}
	if k.Serving == nil && s.where != atNew {
		if err := k.Reopen(ctx); err != nil || k.Serving == nil {
			return err
		}
		if err := k.fillPages(ctx); err != nil {
			return err
		}
	}
	k.began = k.Cluster.Clock.Monotonic()
	rule := pointfault.Rule{Point: s.point, Do: pointfault.Kill, Nth: 1 + k.Random.IntN(s.most)}
	if k.cut { // the point reports that it is reached; then everything goes down together
		rule.Do, rule.For = pointfault.Delay, 5*time.Millisecond
	}
	died, err := k.kill(ctx, s, rule)
	if err != nil {
		return err
	}
	if !died {
		k.Run.Metrics.Value("missed_count", 1)
		k.Run.Vacuous("%s was not reached (%s)", s.point, s.where)
	} else {
		k.Run.Metrics.Value("missed_count", 0)
		k.Run.Metrics.Value("deaths_count", 1)
	}
	k.Lives++
	for _, do := range []func(context.Context) error{k.afterDeath, k.Reopen, k.checkPages, k.afterReopening} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	k.Run.Metrics.Duration("life_ms", k.Cluster.Clock.Monotonic()-k.began)
	return nil
}

// bulkLives is how many deaths a database sees that grows by megabytes in each life.
const bulkLives = 4

// kill brings a process to the point. False: it was not reached.
func (k *killRun) kill(ctx context.Context, s faultSite, rule pointfault.Rule) (bool, error) {
	var victim *cluster.Member
	var act func() // brings it about; ends when the process has
	switch s.where {
	case atOpening:
		if k.several > 0 {
			if err := k.before(ctx); err != nil {
				return false, err
			}
		}
		if k.compaction {
			if err := k.underWay(ctx); err != nil {
				return false, err
			}
		}
		if err := k.interrupt(ctx); err != nil {
			return false, err
		}
		next, err := k.Next(ctx)
		if err != nil {
			return false, err
		}
		if err := next.Arm(ctx, k.Random.Uint64(), rule); err != nil {
			return false, err
		}
		victim, act = next, func() { _, _ = next.Open(ctx) }
	case atNew:
		next, err := k.Next(ctx)
		if err != nil {
			return false, err
		}
		if _, err := next.Open(ctx); err != nil {
			return false, err
		}
		if err := next.Arm(ctx, k.Random.Uint64(), rule); err != nil {
			return false, err
		}
		victim, act = next, func() { _, _, _ = next.Query(ctx, workload.LedgerSchema) }
	default:
		victim = k.Serving
		if err := k.before(ctx); err != nil {
			return false, err
		}
		if k.compaction && s.where != atLayer {
			if err := k.underWay(ctx); err != nil {
				return false, err
			}
		}
		rules := []pointfault.Rule{rule}
		if s.where == atCrash { // all of PostgreSQL starts again, and the process lives on
			rules = append(rules, pointfault.Rule{Name: crashRule, Point: point.ProcessAfterExit, Do: pointfault.Fail, Nth: 1})
		}
		if err := victim.Arm(ctx, k.Random.Uint64(), rules...); err != nil {
			return false, err
		}
		switch s.where {
		case atLarge:
			k.large = true
		case atLayer:
			act = func() { k.layers(ctx, victim) }
		case atClose:
			act = func() { _ = victim.Do(ctx, node.Close, nil, nil) }
		}
		act = k.beside(ctx, victim, act)
	}
	work := k.work()
	if s.where == atLarge { // other commits would take it along in small records
		work = k.largeWork()
	}
	return k.perish(ctx, victim, work, act)
}

// crashRule is the rule that makes one of PostgreSQL's processes fail.
const crashRule = "a process of PostgreSQL fails"

// interrupt kills the serving process, at no particular point, while clients work.
func (k *killRun) interrupt(ctx context.Context) error {
	stop := k.Cluster.Load(ctx, k.work())
	err := k.Cluster.Acknowledged(ctx, 2+k.Random.IntN(12))
	k.Serving.Kill()
	k.Cluster.Serve(nil)
	k.Cluster.Mark(k.Serving.Name, "fault", "kill")
	k.Serving = nil
	return errors.Join(err, stop())
}

// work is what clients do until the process dies.
func (k *killRun) work() workload.Load {
	l := workload.Load{Clients: k.clients, Mix: []string{"ledger", "bank", "transaction", "transaction", "register", "register", "rows", "ddl", "copy"}, Seed: k.Random.Uint64(), Sabotage: cluster.Sabotage}
	if k.bulk {
		l.Mix, l.Copy = append(l.Mix, "copy", "copy"), workload.CopySize{Rows: 20, RowBytes: 20_000}
	}
	return l
}

// pointLimit bounds how long a process takes to reach its point. A commit of ten megabytes takes eight seconds on an idle machine.
const pointLimit = 2 * time.Minute

// before is what has happened when the fault strikes: a layer and its collection while clients work, or enough to advance PostgreSQL's log
// by a segment or more.
func (k *killRun) before(ctx context.Context) error {
	if !k.compaction && !k.bulk {
		return nil
	}
	stop := k.Cluster.Load(ctx, k.work())
	err := k.Cluster.Acknowledged(ctx, 3)
	for n := 0; err == nil && k.compaction && n < max(k.several, 1); n++ {
		if n > 0 {
			err = k.Cluster.Acknowledged(ctx, 3)
		}
		err = errors.Join(err, k.Serving.Do(ctx, node.Compact, nil, nil))
	}
	if err == nil && k.bulk {
		err = k.Cluster.Acknowledged(ctx, 10+k.Random.IntN(8))
	}
	return errors.Join(err, stop())
}

// perish runs the clients and the act until the victim is gone.
func (k *killRun) perish(ctx context.Context, victim *cluster.Member, work workload.Load, act func()) (bool, error) {
	stop := k.Cluster.Load(ctx, work)
	acted := make(chan struct{})
	go func() {
		defer close(acted)
		if act != nil {
			act()
		}
	}()
	event, fired := victim.AwaitFault(ctx, pointLimit)
	if fired && event.Rule == crashRule {
		_, fired = victim.AwaitFault(ctx, pointLimit)
	}
	if fired && k.cut {
		if err := k.Cluster.Clock.Sleep(ctx, time.Duration(k.Random.IntN(8))*time.Millisecond); err != nil {
			return false, err
		}
		k.Cluster.PowerCut()
	}
	if !fired { // it is alive: end it, so that nothing of it is left
		victim.Kill()
	}
	inner, cancel := context.WithTimeout(ctx, pointLimit)
	defer cancel()
	exit, err := victim.Wait(inner)
	k.Cluster.Serve(nil)
	<-acted
	if stopErr := stop(); stopErr != nil || err != nil {
		return false, errors.Join(err, stopErr)
	}
	k.Cluster.Mark(victim.Name, "life", "%s", exit)
	if exit.Reason != node.ExitKilled {
		return false, fmt.Errorf("the process ended as %s, not by SIGKILL", exit)
	}
	k.Serving = nil
	return fired, nil
}

// underWay starts a compaction and stops it after it has uploaded a part.
func (k *killRun) underWay(ctx context.Context) error {
	rule := pointfault.Rule{Name: "a compaction under way", Point: point.BaseAfterSegment, Do: pointfault.Park, Nth: 1}
	if err := k.Serving.Arm(ctx, k.Random.Uint64(), rule); err != nil {
		return err
	}
	go func() { _ = k.Serving.Do(ctx, node.Compact, nil, nil) }() // it dies with the process
	if _, ok := k.Serving.AwaitFault(ctx, pointLimit); !ok {
		return errors.New("no compaction came under way")
	}
	return nil
}

// layers takes one layer after the other until the process is gone.
func (k *killRun) layers(ctx context.Context, m *cluster.Member) {
	for ctx.Err() == nil {
		if m.Do(ctx, node.Compact, nil, nil) != nil {
			return
		}
	}
}

// largeWork is one client that commits more than fits one object.
func (k *killRun) largeWork() workload.Load {
	return workload.Load{Clients: 1, Mix: []string{"copy"}, Seed: k.Random.Uint64(), Copy: workload.CopySize{Rows: 48, RowBytes: 200_000}}
}
