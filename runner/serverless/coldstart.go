package serverless

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

// What an instance boots from.
const (
	bootFloor   = "floor"   // a bucket in its own memory: what remains without the network
	bootNew     = "new"     // an empty prefix: the database is made
	bootRestore = "restore" // a database of a size
	bootRecords = "records" // a small layer, and many records after it
)

// nameRest is how long a name must rest after it was written: the lease is released and taken again, a bucket takes one write per second
// and name, and real boots are not that frequent.
const nameRest = 1500 * time.Millisecond

// bootSteps are the parts of a wake that an instance reports, in order; each is a metric. They overlap.
func bootSteps() []string {
	return []string{"listening", "runtime", "lease", "manifest", "fence", "restore", "download", "decompress", "replay", "start", "open"}
}

func twinBootVerb() bench.Verb {
	v := scenario.Verb{
		Name: "twinboot",
		Doc: "pgserve as a service: a request finds no instance, so one is started; timed until the first row. The parts are the instance's " +
			"own (/metrics.json), and overlap. On the Cloud Run emulator the bucket has the modeled latency",
		Args: []scenario.Arg{
			{Name: "of", Required: true, OneOf: []string{bootFloor, bootNew, bootRestore, bootRecords}, Doc: "floor: no bucket; new: the " +
				"database is created; restore: one of a given size; records: one with many small commits"},
			{Name: "size", Kind: scenario.KindSize, Default: "0MB", Doc: "for restore: of the rows"},
			{Name: "records", Kind: scenario.KindInt, Default: "500", Doc: "for records: commits since the layer"},
			{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "how often"},
		},
		Metrics: bench.MetricDocs("first_row_ms", "time from the request that starts the process to the first row over HTTP", "peak_bytes", "resident memory of the "+
			"instance; unknown on Cloud Run",
			"records_count", "records replayed"),
	}
	for _, s := range bootSteps() {
		v.Metrics = append(v.Metrics, scenario.MetricDoc{Name: s + "_ms", Doc: "part of the cold start: " + s})
	}
	return bench.Verb{Verb: v, Run: twinBoot, Cloud: bench.OnCloudRun}
}

func twinBoot(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		of, size, rounds := args.String("of"), int64(args.Size("size")), args.Int("rounds")
		ask, want := "SELECT 1", "1"
		switch of {
		case bootRestore:
			if err := t.Load(ctx, size); err != nil {
				return err
			}
			ask, want = "SELECT count(*) FROM rows", "0"
			if size > 0 {
				ask, want = "SELECT id FROM rows WHERE id = 1", "1"
			}
		case bootRecords:
			t.Fresh("records", "-restore-budget", "-1ns")
			if err := t.commits(ctx, args.Int("records")); err != nil {
				return err
			}
			ask, want = "SELECT count(*) FROM rows", strconv.Itoa(args.Int("records"))
		case bootFloor:
			t.prefix, t.flags = "", []string{"-store", "mem"}
		}
		for round := range rounds {
			r.Progress(fmt.Sprintf("%s %s: boot", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
			if err := t.Clock.Sleep(ctx, nameRest); err != nil {
				return err
			}
			if of == bootNew {
				t.Fresh(fmt.Sprintf("new-%d", round))
			}
			if err := t.boot(ctx, ask, want); err != nil {
				return err
			}
		}
		return nil
	})
}

// commits fills a table with n commits.
func (t *Service) commits(ctx context.Context, n int) error {
	return t.On(ctx, platform.Options{CPU: platform.Always}, func() error {
		if _, err := t.must(ctx, "CREATE TABLE rows (id int PRIMARY KEY)"); err != nil {
			return err
		}
		for i := range n {
			t.Run.Progress("committing", int64(i), int64(n))
			if _, err := t.must(ctx, fmt.Sprintf("INSERT INTO rows VALUES (%d)", i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// boot is one cold request, and its result.
func (t *Service) boot(ctx context.Context, ask, want string) error {
	return t.On(ctx, platform.Options{}, func() error {
		at := t.Clock.Monotonic()
		a, err := t.must(ctx, ask)
		if err != nil {
			return err
		}
		t.Run.Metrics.Duration("first_row_ms", t.Clock.Monotonic()-at)
		wrong := bench.Wrongf(len(a.Rows) != 1 || len(a.Rows[0]) != 1 || string(a.Rows[0][0]) != want, "%s: %s, not %s", ask, a.Text, want)
		t.Run.Check(bench.CheckDurability, wrong)
		s, err := t.split(ctx)
		if err != nil {
			return err
		}
		for _, step := range bootSteps() {
			if ms, ok := s.BootMS[step]; ok {
				t.Run.Metrics.Value(step+"_ms", ms)
			}
		}
		t.Run.Metrics.Value("records_count", float64(s.Records))
		if _, err := t.Leave(ctx); err != nil {
			return err
		}
		t.tellPeak()
		return nil
	})
}

// tellPeak records the memory that instances had, where that is known.
func (t *Service) tellPeak() {
	if peak, _ := t.memory(); peak > 0 {
		t.Run.Metrics.Value("peak_bytes", float64(peak))
	}
}

func twinTierVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.OnCloudRun,
		Verb: scenario.Verb{
			Name: "twintier",
			Doc: "a database of a given size is opened under increasing memory limits, read in full, written, and put to sleep; the " +
				"result is the smallest limit under which this works",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "of the database's rows"},
				{Name: "tiers", Kind: scenario.KindStrings, Required: true, Doc: "limits in MiB, increasing"},
			},
			Metrics: bench.MetricDocs("tier_bytes", "smallest memory limit that suffices", "peak_bytes", "resident memory under the "+
				"smallest limit that suffices; unknown on Cloud Run", "tried_count", "memory limits tried"),
		},
		Run: twinTier,
	}
}

func twinTier(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		size := int64(args.Size("size"))
		if err := t.Load(ctx, size); err != nil {
			return err
		}
		for n, text := range args.Strings("tiers") {
			mib, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("tier %q: a number of MiB", text)
			}
			r.Progress(fmt.Sprintf("%s %s: under %d MiB", r.Cell.Probe, r.Cell.Label, mib), int64(n), int64(len(args.Strings("tiers"))))
			why, err := t.tier(ctx, mib, size)
			if err != nil {
				return err
			}
			if why != "" {
				r.Notes = append(r.Notes, fmt.Sprintf("%d MiB: %s", mib, why))
				continue
			}
			r.Metrics.Value("tier_bytes", float64(mib)*(1<<20))
			t.tellPeak()
			r.Metrics.Value("tried_count", float64(n+1))
			r.Check(bench.CheckDurability, "")
			return nil
		}
		r.Check(bench.CheckDurability, fmt.Sprintf("%d MB does not fit under any limit", size/1e6))
		return nil
	})
}

// tier tries one limit. Why: what was not possible under it.
func (t *Service) tier(ctx context.Context, mib int, size int64) (why string, err error) {
	rows := (workload.Dataset{Bytes: size}).Rows()
	flags := t.flags
	defer func() { t.flags = flags }()
	t.flags = append(slices.Clone(flags), "-container-memory", strconv.Itoa(mib<<20)) // there the control group says so
	err = t.On(ctx, platform.Options{MemoryMiB: mib}, func() error {
		for _, ask := range []string{
			"SELECT count(*) FROM rows WHERE length(text_that_compresses) > 0 AND length(bytes_that_do_not) > 0",
			fmt.Sprintf("UPDATE rows SET n = n + 1 WHERE chunk = %d", mib%7),
			"SELECT count(*) FROM rows WHERE n >= 0",
		} {
			a, err := t.SQL(ctx, ask)
			_, passed := t.memory()
			switch {
			case err != nil:
				return err
			case passed || a.Status != http.StatusOK:
				why = fmt.Sprintf("status %d: %.200s", a.Status, a.Text)
				return nil
			case ask[:6] == "SELECT" && (len(a.Rows) != 1 || string(a.Rows[0][0]) != strconv.Itoa(rows)):
				return fmt.Errorf("%s: %s, not %d", ask, a.Text, rows)
			}
		}
		left, err := t.Leave(ctx)
		switch _, passed := t.memory(); {
		case passed:
			why = "out of memory when it ended"
		case left.how != "" && left.how != endedWell:
			why = "when it ended: " + left.how
		}
		return err
	})
	return why, err
}

func twinSleepVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.OnCloudRun,
		Verb: scenario.Verb{
			Name: "twinsleep",
			Doc:  "scale to zero: a row is written, the platform ends the idle instance, and the next request, which finds none, reads the row",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Default: "0MB", Doc: "of the database's rows"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "20", Doc: "how often"},
				{Name: "idle", Kind: scenario.KindDuration, Default: "2s", Doc: "how long an idle instance is kept; below 2 s the lease, " +
					"which is a single name, is written too often. On Cloud Run: until it is scaled to zero"},
			},
			Metrics: bench.MetricDocs("cold_ms", "time of a request that finds no instance", "warm_ms", "time of the next request, which finds the instance", "leave_ms", "time from SIGTERM to the end of the process"),
		},
		Run: twinSleep,
	}
}

func twinSleep(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		if err := t.Load(ctx, int64(args.Size("size"))); err != nil {
			return err
		}
		return t.On(ctx, platform.Options{Idle: args.Duration("idle")}, func() error {
			if _, err := t.must(ctx, "CREATE TABLE wakes (n int PRIMARY KEY)"); err != nil {
				return err
			}
			for round := range args.Int("rounds") {
				r.Progress(fmt.Sprintf("%s %s: sleeping", r.Cell.Probe, r.Cell.Label), int64(round), int64(args.Int("rounds")))
				if err := t.idleCycle(ctx, round); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// idleCycle writes a row, waits until the platform has ended the instance, and requests the row.
func (t *Service) idleCycle(ctx context.Context, round int) error {
	if _, err := t.must(ctx, fmt.Sprintf("INSERT INTO wakes VALUES (%d)", round)); err != nil {
		return err
	}
	gone, err := t.sleep(ctx)
	if err != nil {
		return err
	}
	t.Run.Metrics.Duration("leave_ms", gone.took())
	at := t.Clock.Monotonic()
	n, err := t.number(ctx, "SELECT count(*) FROM wakes")
	if err != nil {
		return err
	}
	t.Run.Metrics.Duration("cold_ms", t.Clock.Monotonic()-at)
	t.Run.Check(bench.CheckDurability, bench.Wrongf(n != int64(round)+1, "%d rows were acknowledged, but after the wake there are %d", round+1, n))
	at = t.Clock.Monotonic()
	if _, err := t.must(ctx, "SELECT 1"); err != nil {
		return err
	}
	t.Run.Metrics.Duration("warm_ms", t.Clock.Monotonic()-at)
	return nil
}
