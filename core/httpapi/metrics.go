package httpapi

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/clock"
	"blobpglite/core/keeper"
	"blobpglite/core/pgwire"
	"blobpglite/core/store"
)

// bootTimes is /metrics.json: the last wake, in milliseconds.
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

// Metered is a store that counts and times what passes through it, for Prometheus.
type Metered struct {
	store.Store
	clock      clock.Clock
	took       *prometheus.HistogramVec
	operations *prometheus.CounterVec
	bytes      *prometheus.CounterVec
}

var (
	_ store.Store       = (*Metered)(nil)
	_ store.RangeGetter = (*Metered)(nil)
	_ store.Placed      = (*Metered)(nil)
)

// Meter makes a metered view of a store.
func Meter(s store.Store, registry prometheus.Registerer, clk clock.Clock) (*Metered, error) {
	m := &Metered{
		Store: s, clock: clk,
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "blobpglite_store_seconds", Help: "time of store operations", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, []string{"op", "object"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blobpglite_store_operations_total", Help: "store operations as they are billed: a is put and list, b is get, delete is free",
		}, []string{"class", "object", "result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blobpglite_store_bytes_total", Help: "bodies sent (up) and received (down)",
		}, []string{"direction"}),
	}
	return m, errors.Join(registry.Register(m.took), registry.Register(m.operations), registry.Register(m.bytes))
}

// done notes an operation.
func (m *Metered) done(op, class, key string, at time.Duration, err error) {
	object, _, _ := strings.Cut(key, "/")
	m.took.WithLabelValues(op, object).Observe((m.clock.Monotonic() - at).Seconds())
	m.operations.WithLabelValues(class, object, outcome(err)).Inc()
}

func outcome(err error) string {
	for _, c := range []struct {
		err  error
		name string
	}{
		{nil, "ok"}, {store.ErrNotFound, "not found"}, {store.ErrConflict, "conflict"}, {store.ErrThrottled, "throttled"},
		{store.ErrUnknown, "unknown"}, {store.ErrDenied, "denied"},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "failed"
}

// Get implements store.Store.
func (m *Metered) Get(ctx context.Context, key string) (store.Object, error) {
	at := m.clock.Monotonic()
	o, err := m.Store.Get(ctx, key)
	m.done("get", "b", key, at, err)
	m.bytes.WithLabelValues("down").Add(float64(len(o.Body)))
	return o, err
}

// GetRange implements store.RangeGetter, if the store below does.
func (m *Metered) GetRange(ctx context.Context, key string, offset, length int64) (store.Object, error) {
	r, ok := m.Store.(store.RangeGetter)
	if !ok {
		o, err := m.Get(ctx, key)
		from := min(offset, int64(len(o.Body)))
		o.Body = o.Body[from:min(from+length, int64(len(o.Body)))]
		return o, err
	}
	at := m.clock.Monotonic()
	o, err := r.GetRange(ctx, key, offset, length)
	m.done("get", "b", key, at, err)
	m.bytes.WithLabelValues("down").Add(float64(len(o.Body)))
	return o, err
}

// Above implements store.Placed. What is read there is counted too.
func (m *Metered) Above() []store.Store {
	views := store.Above(m.Store)
	for i, v := range views {
		views[i] = &Metered{Store: v, clock: m.clock, took: m.took, operations: m.operations, bytes: m.bytes}
	}
	return views
}

// Put implements store.Store.
func (m *Metered) Put(ctx context.Context, key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	at := m.clock.Monotonic()
	g, err := m.Store.Put(ctx, key, body, writeID, cond)
	m.done("put", "a", key, at, err)
	m.bytes.WithLabelValues("up").Add(float64(len(body)))
	return g, err
}

// Delete implements store.Store.
func (m *Metered) Delete(ctx context.Context, key string) error {
	at := m.clock.Monotonic()
	err := m.Store.Delete(ctx, key)
	m.done("delete", "delete", key, at, err)
	return err
}

// List implements store.Store. One operation is counted for each page that is begun.
func (m *Metered) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return func(yield func(store.Attrs, error) bool) {
		at, n := m.clock.Monotonic(), 0
		for a, err := range m.Store.List(ctx, prefix, after) {
			if n%store.PageSize == 0 {
				m.done("list", "a", prefix, at, err)
			}
			n++
			if !yield(a, err) {
				return
			}
		}
		if n == 0 {
			m.done("list", "a", prefix, at, nil)
		}
	}
}

// Gauges registers what can be read at any time: the keeper's and the server's figures.
func Gauges(registry prometheus.Registerer, k *keeper.Keeper, srv *pgwire.Server) error {
	var errs []error
	gauge := func(name, help string, f func() float64) {
		errs = append(errs, registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "blobpglite_" + name, Help: help}, f)))
	}
	counter := func(name, help string, f func() float64) {
		errs = append(errs, registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "blobpglite_" + name, Help: help}, f)))
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge("open", "1 while the database is open", func() float64 { return flag(k.Stats().State == keeper.Open) })
	gauge("leased", "1 while the lease is held; at rest it runs out and is renewed by the next request", func() float64 { return flag(k.Stats().Leased) })
	gauge("settings_left_out", "server parameters that PostgreSQL could not start with and that were left out at the last opening; the log names them", func() float64 { return float64(len(k.Stats().Boot.LeftOut)) })
	gauge("epoch", "of the last opening", func() float64 { return float64(k.Stats().Boot.Epoch) })
	for name, d := range map[string]func(keeper.Stats) time.Duration{
		"lease": func(s keeper.Stats) time.Duration { return s.Boot.Lease }, "manifest": func(s keeper.Stats) time.Duration { return s.Boot.Manifest },
		"fence": func(s keeper.Stats) time.Duration { return s.Boot.Claim }, "restore": func(s keeper.Stats) time.Duration { return s.Boot.Restore },
		"replay": func(s keeper.Stats) time.Duration { return s.Boot.Replay }, "start": func(s keeper.Stats) time.Duration { return s.Boot.Start },
		"all": func(s keeper.Stats) time.Duration { return s.BootWall },
	} {
		gauge("boot_"+name+"_seconds", "of the last opening", func() float64 { return d(k.Stats()).Seconds() })
	}
	counter("openings_total", "begun", func() float64 { return float64(k.Stats().Openings) })
	counter("opening_failures_total", "openings that failed", func() float64 { return float64(k.Stats().Failures) })
	counter("commits_total", "acknowledged when they were durable", func() float64 { return float64(k.Stats().Commits.Commits) })
	counter("records_total", "appended to the log", func() float64 { return float64(k.Stats().Commits.Records) })
	counter("wal_bytes_total", "of PostgreSQL's log, shipped", func() float64 { return float64(k.Stats().Commits.Bytes) })
	counter("append_seconds_total", "time that appends took", func() float64 { return k.Stats().Commits.Append.Seconds() })
	gauge("clients", "connections that have logged in", func() float64 { return float64(srv.Stats().Clients) })
	gauge("clients_waiting", "for their turn", func() float64 { return float64(srv.Stats().Waiting) })
	gauge("pinned", "1 while a client keeps the session", func() float64 { return flag(srv.Stats().Pinned != "") })
	gauge("startups", "connections that are logging in", func() float64 { return float64(srv.Stats().Startups) })
	counter("clients_refused_total", "connections refused", func() float64 { return float64(srv.Stats().Refused) })
	errs = append(errs, registry.Register(refusals{srv, prometheus.NewDesc("blobpglite_connections_refused_total",
		"connections of the wire protocol that were refused, by reason", []string{"reason"}, nil)}))
	counter("session_switches_total", "how often the session changed its client", func() float64 { return float64(srv.Stats().Switches) })
	gauge("memory_bytes", "that the process has from the system, without PostgreSQL's own", func() float64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.Sys)
	})
	return errors.Join(errs...)
}

// refusals collects why connections of the wire protocol were refused.
type refusals struct {
	srv  *pgwire.Server
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (r refusals) Describe(to chan<- *prometheus.Desc) { to <- r.desc }

// Collect implements prometheus.Collector.
func (r refusals) Collect(to chan<- prometheus.Metric) {
	for reason, n := range r.srv.Stats().Refusals {
		to <- prometheus.MustNewConstMetric(r.desc, prometheus.CounterValue, float64(n), reason)
	}
}
