package httpapi

import (
	"errors"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/engine"
	"blobpglite/core/keeper"
)

// bootTimes is /metrics.json: the last cold start, in milliseconds.
type bootTimes struct {
	State     keeper.State       `json:"state"`
	Reason    string             `json:"reason,omitempty"`
	Openings  int64              `json:"openings"`
	Failures  int64              `json:"failures"`
	Retired   int64              `json:"retired"`
	Epoch     uint64             `json:"epoch"`
	Created   bool               `json:"created"`
	BootMS    map[string]float64 `json:"boot_ms"`
	RawBytes  int64              `json:"raw_bytes"`
	Stored    int64              `json:"stored_bytes"`
	Records   int                `json:"records"`
	HeapBytes uint64             `json:"heap_bytes"`
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func bootOf(s keeper.Stats) bootTimes {
	ms := milliseconds
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b := s.Boot
	return bootTimes{
		State: s.State, Reason: s.Reason, Openings: s.Openings, Failures: s.Failures, Retired: s.Retired,
		Epoch: b.Epoch, Created: b.Created, RawBytes: b.RawBytes, Stored: b.Stored, Records: b.Records, HeapBytes: m.HeapSys,
		BootMS: map[string]float64{
			"lease": ms(b.Lease), "manifest": ms(b.Manifest), "fence": ms(b.Claim), "restore": ms(b.Restore), "download": ms(b.Download),
			"decompress": ms(b.Decompress), "replay": ms(b.Replay), "runtime_wait": ms(b.Runtime), "start": ms(b.Start), "open": ms(b.Wall), "first_caller": ms(s.BootWall),
		},
	}
}

// Wire holds the figures of the wire protocol's server for Gauges.
type Wire struct {
	Clients  map[string]int   // connections, by what they do
	Refusals map[string]int64 // refused connections, by reason
	Cancels  int64            // cancel requests passed on
	Vanished int64            // statements ended because their clients had gone
}

// figures is a metric whose values are read when it is collected.
type figures struct {
	name, help string
	labels     []string
	kind       prometheus.ValueType
	collect    func(add func(value float64, labels ...string))
}

func (f figures) desc() *prometheus.Desc {
	return prometheus.NewDesc("blobpglite_"+f.name, f.help, f.labels, nil)
}

// Describe implements prometheus.Collector.
func (f figures) Describe(to chan<- *prometheus.Desc) { to <- f.desc() }

// Collect implements prometheus.Collector.
func (f figures) Collect(to chan<- prometheus.Metric) {
	desc := f.desc()
	f.collect(func(value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, f.kind, value, labels...)
	})
}

func gauge(name, help string, value func() float64) figures {
	return figures{name: name, help: help, kind: prometheus.GaugeValue, collect: func(add func(float64, ...string)) { add(value()) }}
}

func counter(name, help string, value func() float64) figures {
	return figures{name: name, help: help, kind: prometheus.CounterValue, collect: func(add func(float64, ...string)) { add(value()) }}
}

// by is a figure for each value of a label.
func by[N int | int64](kind prometheus.ValueType, name, help, label string, values func() map[string]N) figures {
	return figures{name: name, help: help, labels: []string{label}, kind: kind, collect: func(add func(float64, ...string)) {
		for key, n := range values() {
			add(float64(n), key)
		}
	}}
}

func register(registry prometheus.Registerer, all ...figures) error {
	var errs []error
	for _, f := range all {
		errs = append(errs, registry.Register(f))
	}
	return errors.Join(errs...)
}

// flag is a boolean as a metric's value: 1 or 0.
func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Gauges registers the metrics of the keeper, of PostgreSQL and of the wire protocol's server (wire nil: there is none).
func Gauges(registry prometheus.Registerer, k *keeper.Keeper, wire func() Wire) error {
	all := []figures{
		gauge("open", "1 while the database is open", func() float64 { return flag(k.Stats().State == keeper.Open) }),
		gauge("leased", "1 while the lease is held; at rest it expires, and the next request renews it", func() float64 { return flag(k.Stats().Leased) }),
		gauge("settings_left_out", "server parameters with which PostgreSQL could not start, left out at the last opening; the log names them", func() float64 { return float64(len(k.Stats().Boot.LeftOut)) }),
		gauge("epoch", "epoch of the last opening", func() float64 { return float64(k.Stats().Boot.Epoch) }),
		counter("openings_total", "openings of the database that were begun", func() float64 { return float64(k.Stats().Openings) }),
		counter("opening_failures_total", "openings of the database that failed", func() float64 { return float64(k.Stats().Failures) }),
		counter("commits_total", "commits acknowledged after they were durable", func() float64 { return float64(k.Stats().Commits.Commits) }),
		counter("records_total", "records appended to the log", func() float64 { return float64(k.Stats().Commits.Records) }),
		counter("wal_bytes_total", "bytes of PostgreSQL's log that were shipped", func() float64 { return float64(k.Stats().Commits.Bytes) }),
		counter("append_seconds_total", "time taken by appends to the log", func() float64 { return k.Stats().Commits.Append.Seconds() }),
		gauge("memory_bytes", "memory that the process has from the system, without PostgreSQL's own", func() float64 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return float64(m.Sys)
		}),
	}
	for name, d := range map[string]func(keeper.Stats) time.Duration{
		"lease": func(s keeper.Stats) time.Duration { return s.Boot.Lease }, "manifest": func(s keeper.Stats) time.Duration { return s.Boot.Manifest },
		"fence": func(s keeper.Stats) time.Duration { return s.Boot.Claim }, "restore": func(s keeper.Stats) time.Duration { return s.Boot.Restore },
		"replay": func(s keeper.Stats) time.Duration { return s.Boot.Replay }, "start": func(s keeper.Stats) time.Duration { return s.Boot.Start },
		"all": func(s keeper.Stats) time.Duration { return s.BootWall },
	} {
		all = append(all, gauge("boot_"+name+"_seconds", "time that this part of the last opening took", func() float64 { return d(k.Stats()).Seconds() }))
	}
	all = append(all, ofPostgreSQL(func() engine.Stats { return k.Stats().Engine })...)
	all = append(all, ofPages(func() engine.Stats { return k.Stats().Engine })...)
	if wire != nil {
		all = append(all, ofWire(wire)...)
	}
	return register(registry, all...)
}

// ofPostgreSQL returns the figures of PostgreSQL's processes. Counters restart with each start of PostgreSQL.
func ofPostgreSQL(stats func() engine.Stats) []figures {
	return []figures{
		{
			name: "processes", help: "PostgreSQL's processes, by kind and state: one runs at a time, queued ones wait for the lock, resting ones for their client, a row or a time",
			labels: []string{"kind", "state"}, kind: prometheus.GaugeValue, collect: func(add func(float64, ...string)) {
				s := stats().Cluster
				for kind, n := range s.Processes {
					running := 0
					if s.Running == kind {
						running = 1
					}
					queued := min(s.Queued[kind], n-running)
					add(float64(running), kind, "running")
					add(float64(queued), kind, "queued")
					add(float64(n-running-queued), kind, "resting")
				}
			},
		},
		counter("processes_started_total", "PostgreSQL processes started, for connections and for shared work", func() float64 { return float64(stats().Cluster.Spawned) }),
		counter("process_start_seconds_total", "time taken by starting processes, without the login", func() float64 { return stats().Cluster.SpawnTime.Seconds() }),
		counter("lock_switches_total", "times that the lock went to another process", func() float64 { return float64(stats().Cluster.Switches) }),
		counter("lock_yields_total", "times that a process let others run after it had run for long", func() float64 { return float64(stats().Cluster.Yields) }),
		counter("direct_runs_total", "times that a process ran directly, on the goroutine that gave it work", func() float64 { return float64(stats().Cluster.Direct) }),
		counter("handovers_total", "of the direct runs, those handed over to the process's own goroutine because they took long or had to wait", func() float64 { return float64(stats().Cluster.HandedOver) }),
		counter("lock_waits_total", "times that a process had to wait for the lock", func() float64 { return float64(stats().Cluster.Waits) }),
		counter("lock_wait_seconds_total", "time spent waiting", func() float64 { return stats().Cluster.Waited.Seconds() }),
		counter("signals_total", "signals sent between PostgreSQL processes", func() float64 { return float64(stats().Cluster.Signals) }),
		counter("checkpoints_requested_total", "checkpoints that were requested", func() float64 { return float64(stats().Cluster.Checkpoints) }),
		gauge("code_checked", "1: PostgreSQL's compiled code checks the bounds of each load and store, which is slower; 0: its memory is guarded", func() float64 { return flag(stats().Cluster.Checked) }),
		counter("restarts_total", "restarts of PostgreSQL after a crash", func() float64 { return float64(stats().Restarts) }),
		counter("answers_held_total", "answers that waited until what they show was durable", func() float64 { return float64(stats().Answers) }),
		counter("answer_wait_seconds_total", "time that answers waited to become durable", func() float64 { return stats().Waited.Seconds() }),
	}
}

// ofPages returns the figures about which of the database's files are in memory, and about the layer behind them. Counters restart with
// each opening.
func ofPages(stats func() engine.Stats) []figures {
	return []figures{
		by(prometheus.GaugeValue, "cache_bytes", "bytes of the database's files, unless -cache is 0: the budget, in memory (of these, unsettled: in no layer yet, and temporary: of running queries), away in the bucket, and temporary files in -temp-dir", "state", func() map[string]int64 {
			s := stats().Cache
			return map[string]int64{"budget": s.Budget, "resident": s.Resident, "unsettled": s.Unsettled, "away": s.Away, "temporary": s.TempMemory, "temporary_disk": s.TempDisk}
		}),
		by(prometheus.GaugeValue, "layer_bytes", "bytes of the newest layer, as stored: of all objects that it needs, and of these the live ones, which it uses", "state", func() map[string]int64 {
			u := stats().Use
			return map[string]int64{"stored": u.StoredBytes, "live": u.LiveBytes}
		}),
		gauge("wake_read_bytes", "bytes of the layer, as stored, that were read from the start of the last opening until its first rows were there", func() float64 { return float64(stats().WakeBytes) }),
		by(prometheus.CounterValue, "page_frames_total", "frames of pages fetched: those that a process waited for, those fetched ahead, and how many of the latter were used", "how", func() map[string]int64 {
			p := stats().Cache.Pages
			return map[string]int64{"waited": p.Waited, "ahead": p.Ahead, "ahead_used": p.AheadUsed}
		}),
		gauge("page_waiting", "PostgreSQL processes that are waiting for pages now", func() float64 { return float64(stats().Cluster.Fetching) }),
		counter("page_waits_total", "times that a PostgreSQL process had to wait for pages, since its last start: one round trip to the bucket each, for any number of frames", func() float64 { return float64(stats().Cluster.Fetches) }),
		counter("page_wait_seconds_total", "time spent waiting", func() float64 { return stats().Cluster.FetchTime.Seconds() }),
		counter("page_requests_total", "requests to the store for pages", func() float64 { return float64(stats().Cache.Pages.Requests) }),
		counter("page_read_bytes_total", "bytes of pages fetched, as stored", func() float64 { return float64(stats().Cache.Pages.Bytes) }),
		counter("page_errors_total", "fetches that failed for good, so that statements ended with 58030", func() float64 { return float64(stats().Cache.Pages.Errors) }),
		counter("cache_evicted_bytes_total", "bytes of pages dropped from memory to stay within the budget", func() float64 { return float64(stats().Cache.Evicted) }),
	}
}

// ofWire returns the figures of the wire protocol's server.
func ofWire(wire func() Wire) []figures {
	return []figures{
		by(prometheus.GaugeValue, "clients", "connections of the wire protocol, by what they do", "state", func() map[string]int { return wire().Clients }),
		by(prometheus.CounterValue, "connections_refused_total", "connections of the wire protocol refused, by reason", "reason", func() map[string]int64 { return wire().Refusals }),
		counter("cancels_total", "cancel requests passed on", func() float64 { return float64(wire().Cancels) }),
		counter("vanished_total", "statements ended because their clients had disconnected", func() float64 { return float64(wire().Vanished) }),
	}
}

// ofPool returns the figures of the requests' sessions.
func ofPool(p *pool) []figures {
	return []figures{
		by(prometheus.GaugeValue, "http_sessions", "sessions of HTTP requests, by what they do", "state", func() map[string]int {
			idle, busy := p.figures()
			return map[string]int{"idle": idle, "busy": busy}
		}),
		counter("http_sessions_opened_total", "sessions opened for HTTP requests", func() float64 { return float64(p.opened.Load()) }),
		gauge("http_requests_waiting", "HTTP requests that are waiting for a session", func() float64 { return float64(p.waiting.Load()) }),
	}
}
