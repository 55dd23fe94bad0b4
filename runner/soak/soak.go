package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/faults/clockfault/passing"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/model"
	"blobpglite/faults/mutant"
	"blobpglite/runner/bench"
	"blobpglite/runner/check"
	"blobpglite/runner/scenario"
	"blobpglite/runner/serverless"
	"blobpglite/runner/workload"
)

const (
	soakClients = 5                // of them soakDrivers over PostgreSQL's protocol
	soakDrivers = 2                //
	afterCrash  = 31 * time.Second // the lease of a process that died has expired by then
	soakGrace   = 10 * time.Minute // of harness steps
	clockStep   = 3 * time.Minute  // how far an instance's wall clock may be off
)

// Folders of a run that instances write to: the one that any program uses for temporary files, and the disk for queries' ones.
const tempFolder, spillFolder = "temp", "spill"

func soakVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.OnCloudRun,
		Verb: scenario.Verb{
			Name: "soak",
			Doc: "many hours of a small application's traffic (runner/workload, Traffic), on the Cloud Run emulator's own clock, which " +
				"skips gaps in which nothing happens. Instances are killed, told to go and replaced in the middle of it, stalled, and " +
				"their clocks stepped; requests to the bucket fail and replies are lost. Every write is a link of a hash chain, read back " +
				"after each wake by the service and by a second reader; the prefix is verified each hour; indexes, and a dump restored " +
				"elsewhere, each day. Every other revision takes layers often, and its deletions take as long as a restore, so that " +
				"restores hit the middle of collections. On Cloud Run gaps are real, and only what can be done there from outside is " +
				"done: revisions are replaced in the middle of writes, and instances told to go",
			Args: []scenario.Arg{
				{Name: "hours", Kind: scenario.KindInt, Required: true, Doc: "of traffic"},
				{Name: "disturb", Kind: scenario.KindInt, Default: "2", Doc: "maximum kills and switches in a wake"},
				{Name: "fault_percent", Kind: scenario.KindInt, Default: "9", Doc: "percentage of requests to the bucket that are disturbed"},
				{Name: "latency_percent", Kind: scenario.KindInt, Default: "100", Doc: "percentage of the modeled latency applied to each " +
					"request; most of a soak is spent waiting for it"},
				{Name: "hurry", Kind: scenario.KindInt, Default: "1", Doc: "on Cloud Run, where an hour takes an hour: by which factor " +
					"time is shortened. For rehearsals"},
			},
			Metrics: bench.MetricDocs("cold_ms", "time to the first answer of a wake", "commit_ms", "time from a write to its "+
				"acknowledgement, disturbances included", "wake_count", "starts of an instance for a first request",
				"acknowledged_count", "acknowledged writes", "kill_count", "instances killed (SIGKILL), at work or frozen", "switch_count", "revisions replaced, mostly in the middle of writes",
				"told_count", "instances told to go (SIGTERM) by the experiment", "store_fault_count", "disturbed requests to the bucket", "stall_count", "times an instance had no CPU for half a minute",
				"step_count", "instances whose wall clock was off", "read_back_count", "times the whole chain was read from the service "+
					"and compared", "second_reader_count", "times the whole chain was "+
					"read from the bucket by a reader concurrent with the writer, and compared",
				"at_random_count", "concurrent readings that began at a random moment of a burst", "in_collection_count", "concurrent readings that "+
					"began with a collection's first deletion, while it continued to delete", "verify_count", "deep verifications of the prefix", "verify_ms", "time of a deep verification of the prefix", "dump_count", "dumps restored into a fresh database, and compared",
				"leaked_count", "instances, processes, files next to the bucket and objects in it that were left at the end", "virtual_hours_count", "hours that passed on the emulator's own clock; on Cloud Run, hours of its traffic", "real_hours_count", "hours that passed in real time on Cloud Run; 0: none", "object_count", "objects in the bucket at the end of a day", "stored_bytes", "bytes in the bucket at the end of a day"),
		},
		Run: runSoak,
	}
}

// soak is one run.
type soak struct {
	*serverless.Service
	time    *passing.File
	random  *rand.Rand
	chains  []*chain
	days    []soakWake // for the picture
	begun   time.Time  // by the emulator's time
	naming  sync.Mutex // of revisions, in
	revs    int
	usual   []string // flags
	disturb int
	hurry   int      // on Cloud Run: time is this many times shorter than it is
	folder  string   // of the run, on this machine; the service writes to tempFolder and spillFolder below it
	grounds *grounds // nil: what the service writes besides its bucket cannot be seen

	written atomic.Int64 // in the wake
	events  sync.WaitGroup
	failed  chan error // of what runs concurrently

	kills, switches, told, stalls, steps atomic.Int64
	deletes                              chan struct{} // one is being carried out
	deleted                              atomic.Int64  // so many were
	inCollection                         atomic.Int64  // restores in the course of which more were
	aimed                                func() error  // waits for the reader that was armed last; nil: none was
	still                                sync.RWMutex  // read-locked while an aimed reader reads: no time is let pass then
}

func runSoak(ctx context.Context, r *bench.Run, args scenario.Args) error {
	sp := span{hours: args.Int("hours"), disturb: args.Int("disturb"), faults: args.Int("fault_percent"), latency: args.Int("latency_percent")}
	if r.Cloud != nil {
		return liveThere(ctx, r, sp, args.Int("hurry"))
	}
	return liveThrough(ctx, r, sp, nil)
}

// span is how long a soak is, and what it has to live through.
type span struct {
	hours   int
	disturb int // kills and switches that a wake has at most
	faults  int // of a hundred requests at the bucket
	latency int // percent of the modeled one
}

func liveThrough(ctx context.Context, r *bench.Run, sp span, broken *mutant.Mutant) error {
	if sp.latency < 1 || sp.latency > 1000 {
		return fmt.Errorf("latency_percent is %d, must be from 1 to 1000", sp.latency)
	}
	o := serverless.Options{Rules: storeFaults(sp.faults), Latency: slowDeletions(), LatencyScale: float64(sp.latency) / 100}
	return withSoak(ctx, r, broken, o, func(s *soak) error {
		s.disturb = sp.disturb
		s.usual = []string{"-log", "info", "-listen", "127.0.0.1:0", "-temp-dir", filepath.Join(s.folder, spillFolder)}
		s.Fresh("db", s.usual...)
		for c := range soakClients {
			s.chains = append(s.chains, newChain(c+1, r.Seed))
		}
		passed := func(d time.Duration) {
			s.still.Lock()
			defer s.still.Unlock()
			s.time.Reach(d)
		}
		err := s.On(ctx, platform.Options{Idle: workload.TrafficIdle, Passed: passed}, func() error { return errors.Join(s.live(ctx, sp.hours), s.hit()) })
		s.record(sp.hours)
		if err = lost(r, err); err == nil {
			err = s.after(ctx)
		}
		if err != nil || r.Failed() {
			err = errors.Join(err, s.keepFailure(ctx))
		}
		return err
	})
}

// lost turns data lost by the database into a failed check; other errors are returned.
func lost(r *bench.Run, err error) error {
	var lost errLost
	if errors.As(err, &lost) {
		r.Check(bench.CheckDurability, lost.text)
		return nil
	}
	return err
}

// withSoak gives f a service on skipped time. The rest of o is the soak's own.
func withSoak(ctx context.Context, r *bench.Run, broken *mutant.Mutant, o serverless.Options, f func(*soak) error) error {
	folder, err := os.MkdirTemp("", "blobpglite-soak-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(folder)
	var mutants []mutant.Mutant
	if broken != nil {
		mutants = append(mutants, *broken)
	}
	root, err := mutant.Root(".")
	if err != nil {
		return err
	}
	for _, name := range []string{tempFolder, spillFolder} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
	}
	r.Progress("building pgserve", 0, 0)
	program, err := mutant.BuildService(ctx, root, folder, mutants...)
	if err != nil {
		return err
	}
	clk, err := passing.Create(folder + "/time")
	if err != nil {
		return err
	}
	ground, err := survey([]string{folder}, []string{"/dev/shm", r.Runtime.CacheDir()})
	if err != nil {
		return err
	}
	s := &soak{
		folder: folder, grounds: ground,
		time: clk, random: rand.New(rand.NewPCG(r.Seed, 0x736f616b)), begun: clk.Clock().Now(), hurry: 1,
		failed: make(chan error, 1), deletes: make(chan struct{}, 1),
	}
	o.Program, o.Env, o.Clock, o.Changed = program, []string{clk.Variable(), "TMPDIR=" + filepath.Join(folder, tempFolder)}, clk.Clock(), s.heard
	return serverless.WithService(ctx, r, o, func(t *serverless.Service) error {
		s.Service = t
		defer func() {
			for _, fired := range t.Emulated.Front.Fired() {
				r.Struck(fired.Rule.String(), fired.Fired)
			}
		}()
		return f(s)
	})
}

// slowDelete is how long a deletion takes in the soak: a collection, eight at a time, should take as long as a restore.
const slowDelete = 400 * time.Millisecond

func slowDeletions() *gcsfront.Latency {
	latency := model.DefaultLatency()
	latency.Delete = []model.LatencyPoint{{Bytes: 1 << 10, Median: slowDelete, Sigma: 0.18}}
	return latency
}

// storeFaults are what happens to percent of a hundred requests to the bucket.
func storeFaults(percent int) []gcsfront.Rule {
	p := float64(percent) / 100
	if p == 0 {
		return nil
	}
	return []gcsfront.Rule{
		{Phase: gcsfront.Before, Do: gcsfront.Throttle, Probability: p / 6},
		{Phase: gcsfront.Before, Do: gcsfront.Unavailable, Probability: p / 6},
		{Phase: gcsfront.Before, Do: gcsfront.Delay, Delay: 300 * time.Millisecond, Probability: p / 6},
		{Op: gcsfront.OpPut, Phase: gcsfront.After, Do: gcsfront.Lose, Probability: p / 6},
		{Op: gcsfront.OpPut, Phase: gcsfront.After, Do: gcsfront.Unavailable, Probability: p / 6},
		{Op: gcsfront.OpGet, Phase: gcsfront.After, Do: gcsfront.Reset, N: 100, Probability: p / 3},
	}
}

// heard is called with every change of the bucket.
func (s *soak) heard(c check.Change) {
	if c.Delete {
		s.deleted.Add(1)
		select {
		case s.deletes <- struct{}{}:
		default:
		}
	}
}

// now is how much of the traffic's time has passed.
func (s *soak) now() time.Duration { return s.Clock.Now().Sub(s.begun) * time.Duration(s.hurry) }

// live is the whole traffic.
func (s *soak) live(ctx context.Context, hours int) error {
	if err := s.make(ctx); err != nil {
		return err
	}
	wakes := workload.Traffic(s.Run.Seed, hours)
	hour, day := 1, 1
	for i, w := range wakes {
		if err := s.until(ctx, w.At); err != nil {
			return err
		}
		if err := s.wake(ctx, w, i%4 == 1, i%5 == 3); err != nil {
			return fmt.Errorf("wake %d, at %v: %w", i+1, w.At, err)
		}
		s.Run.Progress(fmt.Sprintf("%s: hours of %d; %d writes, %d kills and switches", s.Run.Cell.Probe, hours, s.acked(), s.kills.Load()+s.switches.Load()), int64(s.now().Hours()), int64(hours))
		for ; time.Duration(hour)*time.Hour <= s.now(); hour++ {
			if err := s.verify(ctx); err != nil {
				return err
			}
		}
		for ; time.Duration(day)*24*time.Hour <= s.now()+time.Hour; day++ {
			if err := s.daily(ctx); err != nil {
				return err
			}
		}
	}
	if err := s.verify(ctx); err != nil {
		return err
	}
	if err := s.until(ctx, time.Duration(hours)*time.Hour); err != nil {
		return err
	}
	if day == 1 { // less than one: its checks all the same
		return s.daily(ctx)
	}
	return nil
}

// make creates the tables, with an instance that ends. A statement with an unknown outcome is sent again, and may be done twice.
func (s *soak) make(ctx context.Context) error {
	for _, sql := range append(strings.Split(chainSchema, ";\n"), "CREATE EXTENSION IF NOT EXISTS amcheck") {
		if _, err := s.patiently(ctx, sql); err != nil {
			return err
		}
	}
	_, err := s.Leave(ctx)
	return err
}

func (s *soak) acked() int {
	n := 0
	for _, c := range s.chains {
		n += c.acked()
	}
	return n
}

// until skips time up to a moment of the traffic. What is already late stays late.
func (s *soak) until(ctx context.Context, at time.Duration) error {
	if s.Emulated == nil {
		return s.Clock.Sleep(ctx, max(at-s.now(), 0)/time.Duration(s.hurry))
	}
	ctx, cancel := context.WithTimeout(ctx, soakGrace)
	defer cancel()
	if d := at - s.now(); d > 0 {
		return s.Emulated.Pass(ctx, d)
	}
	return nil
}
