package httpapi

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// Metered is a view of a store that counts and times its operations for Prometheus. It is safe for concurrent use.
type Metered struct {
	store.Store
	clock      clock.Clock
	took       *prometheus.HistogramVec
	operations *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	received   atomic.Int64
}

var (
	_ store.Store       = (*Metered)(nil)
	_ store.RangeGetter = (*Metered)(nil)
	_ store.Placed      = (*Metered)(nil)
)

// Meter returns a metered view of s. An error means that registry already has metrics of these names.
func Meter(s store.Store, registry prometheus.Registerer, clk clock.Clock) (*Metered, error) {
	m := &Metered{
		Store: s, clock: clk,
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "blobpglite_store_seconds", Help: "duration of store operations", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, []string{"op", "object"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blobpglite_store_operations_total", Help: "store operations as they are billed: a is put and list, b is get, delete is free",
		}, []string{"class", "object", "result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blobpglite_store_bytes_total", Help: "bytes of bodies sent (up) and received (down)",
		}, []string{"direction"}),
	}
	return m, errors.Join(registry.Register(m.took), registry.Register(m.operations), registry.Register(m.bytes))
}

// Received returns how many bytes of bodies have been received.
func (m *Metered) Received() int64 { return m.received.Load() }

// count counts received bytes.
func (m *Metered) count(o store.Object) {
	m.received.Add(int64(len(o.Body)))
	m.bytes.WithLabelValues("down").Add(float64(len(o.Body)))
}

// done records an operation that began at at.
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
	m.count(o)
	return o, err
}

// GetRange implements store.RangeGetter. If the store is not a RangeGetter, it reads, and counts, the whole object.
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
	m.count(o)
	return o, err
}

// Above implements store.Placed. The views are metered, too.
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

// List implements store.Store. It counts one operation for each page begun.
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
