package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/mutant"
	"blobpglite/runner/bench"
	"blobpglite/runner/check"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
	"blobpglite/runner/serverless"
	"blobpglite/runner/workload"
)

// billParts are how a month's operations are broken down: by store, class and folder.
func billParts() []string {
	return []string{"a_wal", "a_lease", "a_manifest", "a_base", "a_page", "a_part", "a_other", "b_wal", "b_lease", "b_manifest", "b_base", "b_page", "b_part", "b_other"}
}

func soakBillVerb() bench.Verb {
	docs := bench.MetricDocs("month_usd", "a month of everything at list price, before any free tier", "month_free_usd", "a month of everything after "+
		"Cloud Run's free tier; the bucket's, which exists only in some regions, is not deducted",
		"month_run_usd", "a month's Cloud Run: CPU, memory and requests", "month_operations_usd", "a month's operations of the bucket", "month_storage_usd", "a month's bytes stored, by the hour", "month_always_usd", "a month of everything with an instance that always has CPU",
		"wake_class_a_count", "class A operations of a cold start, including its writes", "wake_class_b_count", "class B operations of a cold start", "wake_billed_ms", "billed time of a wake, from "+
			"the start to the end of its instance", "billed_requests_count", "requests that Cloud Run billed",
		"vcpu_seconds_count", "vCPU seconds that Cloud Run billed", "gib_seconds_count", "GiB seconds that Cloud Run billed, rounded", "store_class_a_count", "class A operations counted by "+
			"the store", "store_class_b_count", "class B operations counted by "+
			"the store", "store_delete_count", "deletions counted by the store", "store_not_billed_count", "requests the store answered "+
			"with an error, which are not billed",
		"product_class_a_count", "class A operations counted by the instances, from the last line of their logs", "product_class_b_count", "class B operations counted by "+
			"the instances", "product_delete_count", "deletions counted by the "+
			"instances", "product_not_billed_count", "requests answered with an "+
			"error, counted by the instances",
		"instances_count", "instances that lived and ended", "writes_count", "acknowledged writes", "stored_bytes", "mean of bytes stored, by the "+
			"hour")
	for _, p := range billParts() {
		class, folder, _ := strings.Cut(p, "_")
		docs = append(docs, scenario.MetricDoc{Name: "month_" + p + "_usd", Doc: "a month's operations of class " + strings.ToUpper(class) + " in " + folder + "/"})
	}
	return bench.Verb{
		Cloud: bench.NotOnCloudRun("its time and its account are the emulator's"),
		Verb: scenario.Verb{
			Name: "soakbill",
			Doc: "a day of the small application's traffic without faults; what the Cloud Run emulator billed and the store counted gives " +
				"the price of a month, and is compared with what the product's own instances counted: the numbers must be exactly equal",
			Args: []scenario.Arg{
				{Name: "hours", Kind: scenario.KindInt, Default: "24", Doc: "of traffic"},
				{Name: "size", Kind: scenario.KindSize, Default: "10MB", Doc: "of the rows already in the database"},
				{Name: "clients", Kind: scenario.KindInt, Default: "1", Doc: "that share a burst's writes, up to 5; each writes one row after the other"},
				{Name: "durability", OneOf: []string{"strict", "interval", "sleep"}, Default: "strict", Doc: "see pgserve -durability"},
			},
			Metrics: docs,
		},
		Run: runSoakBill,
	}
}

// storedOver is what the bucket holds and which requests it got, as the store saw it.
type storedOver struct {
	mu     sync.Mutex
	sizes  map[string]int64
	stored int64
	since  time.Time
	hours  float64 // byte-hours
}

// change tracks what is stored.
func (p *storedOver) change(c check.Change, now time.Time) {
	if c.Status >= 300 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hours += float64(p.stored) * now.Sub(p.since).Hours()
	p.since = now
	p.stored -= p.sizes[c.Key]
	delete(p.sizes, c.Key)
	if !c.Delete {
		p.sizes[c.Key] = c.Bytes
		p.stored += c.Bytes
	}
}

func runSoakBill(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return bill(ctx, r, args.Int("hours"), int64(args.Size("size")), args.String("durability"), args.Int("clients"), nil)
}

func bill(ctx context.Context, r *bench.Run, hours int, size int64, durability string, clients int, broken *mutant.Mutant) error {
	return withSoak(ctx, r, broken, serverless.Options{}, func(s *soak) error {
		p := &storedOver{sizes: map[string]int64{}, since: s.Clock.Now()}
		s.Emulated.Watch = func(c check.Change) { p.change(c, s.Clock.Now()) }
		s.Fresh("db", "-log", "info", "-durability", durability)
		for c := range clients {
			s.chains = append(s.chains, newChain(c+1, r.Seed))
		}
		if err := s.Load(ctx, size); err != nil {
			return err
		}
		if err := s.On(ctx, platform.Options{}, func() error { return s.make(ctx) }); err != nil {
			return err
		}
		p.mu.Lock()
		p.hours, p.since = 0, s.Clock.Now()
		p.mu.Unlock()
		s.begun = s.Clock.Now()
		before, parts := s.Emulated.Front.Counters(), s.Emulated.Front.Asked()
		var bill platform.Bill
		o := platform.Options{VCPU: 1, MemoryMiB: 512, Idle: workload.TrafficIdle, Passed: s.time.Reach}
		wakes := workload.Traffic(r.Seed, hours)
		err := s.On(ctx, o, func() error {
			for i, w := range wakes {
				r.Progress(fmt.Sprintf("%s %s: a wake", r.Cell.Probe, r.Cell.Label), int64(i), int64(len(wakes)))
				if err := s.billedWake(ctx, w, &bill); err != nil {
					return fmt.Errorf("wake %d: %w", i+1, err)
				}
			}
			return s.until(ctx, time.Duration(hours)*time.Hour)
		})
		if err != nil {
			return err
		}
		p.change(check.Change{Key: "", Delete: true}, s.Clock.Now())
		return s.account(account{
			hours: hours, wakes: len(wakes), bill: bill, before: before, parts: parts, stored: p.hours / float64(hours),
		})
	})
}

// billedWake is a wake whose writes come one after the other, and the gap after it.
func (s *soak) billedWake(ctx context.Context, w workload.Wake, bill *platform.Bill) error {
	if err := s.until(ctx, w.At); err != nil {
		return err
	}
	if w.Kind == "report" {
		if _, err := s.patiently(ctx, "SELECT count(*), min(n) FROM rows"); err != nil {
			return err
		}
	}
	for i, visit := range w.Visits {
		if err := s.until(ctx, w.At+visit); err != nil {
			return err
		}
		n := w.Writes / len(w.Visits)
		if i == 0 {
			n += w.Writes % len(w.Visits)
		}
		if err := s.together(ctx, n); err != nil {
			return err
		}
	}
	if err := s.until(ctx, w.At+w.Visits[len(w.Visits)-1]+workload.TrafficIdle+30*time.Second); err != nil { // it has been let go
		return err
	}
	now := s.Emulated.Bill()
	s.Run.Metrics.Duration("wake_billed_ms", now.Active-bill.Active)
	*bill = now
	return nil
}

// together writes n rows, all clients concurrently, each one row after the other.
func (s *soak) together(ctx context.Context, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, c := range s.chains {
		rows := (n + len(s.chains) - 1 - i) / len(s.chains)
		g.Go(func() error {
			for range rows {
				if err := c.write(ctx, s.Clock, s.SQL, func() {}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// account is what a stretch of traffic has used.
type account struct {
	hours, wakes int
	bill         platform.Bill
	before       gcsfront.Counters
	parts        map[string]int64 // asked before it
	stored       float64          // bytes, in the mean
}

// account extrapolates the month, and compares the two counts of requests.
func (s *soak) account(a account) error {
	m := s.Run.Metrics
	now := s.Emulated.Front.Counters()
	counted := record.Ops{ClassA: now.ClassA - a.before.ClassA, ClassB: now.ClassB - a.before.ClassB, Delete: now.Delete - a.before.Delete}
	free := now.Requests - a.before.Requests - counted.ClassA - counted.ClassB - counted.Delete
	told, instances, err := s.toldByInstances()
	if err != nil {
		return err
	}
	for name, n := range map[string]int64{
		"store_class_a_count": counted.ClassA, "store_class_b_count": counted.ClassB, "store_delete_count": counted.Delete, "store_not_billed_count": free,
		"product_class_a_count": told.ClassA, "product_class_b_count": told.ClassB, "product_delete_count": told.Deleted, "product_not_billed_count": told.NotBilled,
		"instances_count": int64(instances), "billed_requests_count": a.bill.Requests, "writes_count": int64(s.acked()),
		"vcpu_seconds_count": int64(a.bill.Active.Seconds() * a.bill.VCPU), "gib_seconds_count": int64(a.bill.Active.Seconds() * a.bill.MemoryGiB),
	} {
		m.Value(name, float64(n))
	}
	s.Run.Check(checkReconciled, bench.Wrongf(told.ClassA != counted.ClassA || told.ClassB != counted.ClassB || told.Deleted != counted.Delete || told.NotBilled != free,
		"the store counted %d of class A, %d of class B, %d deletions and %d that are not billed; %d instances say %d, %d, %d, %d",
		counted.ClassA, counted.ClassB, counted.Delete, free, instances, told.ClassA, told.ClassB, told.Deleted, told.NotBilled))
	share := serverless.MonthDays * 24 / float64(a.hours)
	month := platform.Bill{Requests: int64(float64(a.bill.Requests) * share), Active: time.Duration(float64(a.bill.Active) * share), Life: serverless.MonthDays * 24 * time.Hour, VCPU: a.bill.VCPU, MemoryGiB: a.bill.MemoryGiB}
	run, operations, storage := month.Cost(platform.Options{CPU: platform.InRequests}), counted.CostUSD()*share, a.stored/1e9*record.PriceStorageUSD
	always := month.Cost(platform.Options{CPU: platform.Always, MinInstances: 1}) + float64(s.acked())*share*record.PriceClassAUSD + storage
	for name, usd := range map[string]float64{
		"month_usd": run + operations + storage, "month_free_usd": month.BeyondFree() + operations + storage, "month_run_usd": run, "month_operations_usd": operations,
		"month_storage_usd": storage, "month_always_usd": always,
	} {
		m.Value(name, usd)
	}
	m.Value("stored_bytes", a.stored)
	m.Value("wake_class_a_count", float64(counted.ClassA)/float64(a.wakes))
	m.Value("wake_class_b_count", float64(counted.ClassB)/float64(a.wakes))
	asked := s.Emulated.Front.Asked()
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		n := asked[key] - a.parts[key]
		class, folder, _ := strings.Cut(key, "_")
		price := map[string]float64{"a": record.PriceClassAUSD, "b": record.PriceClassBUSD}[class]
		if !slices.Contains(billParts(), key) {
			key = class + "_other"
		}
		if price > 0 && n > 0 {
			m.Value("month_"+key+"_usd", float64(n)*share*price)
			s.Run.Notes = append(s.Run.Notes, fmt.Sprintf("class %s in %s: %.1f a wake", strings.ToUpper(class), folder, float64(n)/float64(a.wakes)))
		}
	}
	return nil
}

// lastWords are an instance's last log line, about its requests to the bucket.
type lastWords struct {
	Message   string `json:"message"`
	ClassA    int64  `json:"class_a"`
	ClassB    int64  `json:"class_b"`
	Deleted   int64  `json:"deleted"`
	NotBilled int64  `json:"not_billed"`
}

// toldByInstances adds up what the instances reported at their ends, and says how many did.
func (s *soak) toldByInstances() (sum lastWords, instances int, err error) {
	started := 0
	for _, e := range s.Emulated.History() {
		if e.What == "start" {
			started++
		}
		var w lastWords
		if e.What != "log" || !strings.HasPrefix(e.Detail, "{") || json.Unmarshal([]byte(e.Detail), &w) != nil || !strings.HasPrefix(w.Message, "ended: ") {
			continue
		}
		instances++
		sum.ClassA, sum.ClassB, sum.Deleted, sum.NotBilled = sum.ClassA+w.ClassA, sum.ClassB+w.ClassB, sum.Deleted+w.Deleted, sum.NotBilled+w.NotBilled
	}
	if instances != started {
		err = fmt.Errorf("%d instances were started, and %d have said at their end what they asked for", started, instances)
	}
	return sum, instances, err
}

func soakIdleVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.NotOnCloudRun("its hour is the emulator's"),
		Verb: scenario.Verb{
			Name: "soakidle",
			Doc: "an instance that always has CPU and nothing to do: after a burst of writes and a quarter of an hour, an hour passes in " +
				"steps of a second, and the bucket counts the requests",
			Args: []scenario.Arg{
				{Name: "rows", Kind: scenario.KindInt, Default: "20", Doc: "writes in the burst"},
			},
			Metrics: bench.MetricDocs("idle_request_count", "requests of any class in the idle hour", "burst_request_count", "requests of the burst of writes before the idle hour", "behind_request_count", "requests in the quarter of an hour after the burst"),
		},
		Run: runSoakIdle,
	}
}

// idleAfter is how long PostgreSQL is busy after a burst: its checkpoint comes within five minutes, and writes a record; autovacuum looks
// once a minute.
const idleAfter = 15 * time.Minute

func runSoakIdle(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return idleHour(ctx, r, args.Int("rows"), nil)
}

func idleHour(ctx context.Context, r *bench.Run, rows int, broken *mutant.Mutant) error {
	return withSoak(ctx, r, broken, serverless.Options{}, func(s *soak) error {
		s.Fresh("db", "-log", "warn")
		s.chains = []*chain{newChain(1, r.Seed)}
		o := platform.Options{CPU: platform.Always, MinInstances: 1, Passed: s.time.Reach}
		return s.On(ctx, o, func() error {
			for _, sql := range strings.Split(chainSchema, ";\n") {
				if _, err := s.patiently(ctx, sql); err != nil {
					return err
				}
			}
			for range rows {
				if err := s.chains[0].write(ctx, s.Clock, s.SQL, func() {}); err != nil {
					return err
				}
			}
			counted := func() float64 { return float64(s.Emulated.Front.Counters().Requests) }
			burst := counted()
			r.Metrics.Value("burst_request_count", burst)
			if err := s.passing(ctx, idleAfter); err != nil {
				return err
			}
			settled, parts := counted(), s.Emulated.Front.Asked()
			r.Metrics.Value("behind_request_count", settled-burst)
			if err := s.passing(ctx, time.Hour); err != nil {
				return err
			}
			idle := counted() - settled
			r.Metrics.Value("idle_request_count", idle)
			r.Check(checkIdle, bench.Wrongf(idle > 0, "%v requests in an idle hour: %s", idle, askedSince(parts, s.Emulated.Front.Asked())))
			return lost(s.Run, s.readBack(ctx))
		})
	})
}

// askedSince says what was requested between two counts.
func askedSince(before, now map[string]int64) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if n := now[key] - before[key]; n > 0 {
			all = append(all, fmt.Sprintf("%d of class %s", n, strings.Replace(key, "_", " in ", 1)))
		}
	}
	return strings.Join(all, ", ")
}

// passing skips time for an instance that has CPU: in steps, with a moment for what its timers begin.
func (s *soak) passing(ctx context.Context, d time.Duration) error {
	for left := d; left > 0; left -= time.Second {
		s.Run.Progress(s.Run.Cell.Probe+": time passes", int64(d-left), int64(d))
		if err := s.Emulated.Pass(ctx, min(left, time.Second)); err != nil {
			return err
		}
		if err := s.Clock.Sleep(ctx, 3*time.Millisecond); err != nil {
			return err
		}
	}
	return s.Clock.Sleep(ctx, time.Second) // what was begun last arrives
}
