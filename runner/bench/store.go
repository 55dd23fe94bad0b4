package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/store/mem"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/scenario"
)

// Where a verb that needs no PostgreSQL may run.
const (
	onRun = "run" // the store of the run: fake-gcs, or the one named by -store
	OnMem = "mem" // the reference in memory
)

// StoreArg is the argument with which a step chooses one of these.
func StoreArg() scenario.Arg {
	return scenario.Arg{
		Name: "on", Default: onRun, OneOf: []string{onRun, OnMem},
		Doc: "run: the run's own store, with its requests counted; mem: the reference implementation in memory",
	}
}

// Place is a new, empty prefix in a store, seen by a client of its own.
type Place struct {
	store.Store
	// Another opens the same prefix through another client.
	Another func(ctx context.Context) (store.Store, error)
	Close   func()
	Wire    *statuses // answers seen; nil: they cannot be seen
}

// OpenPlace makes a new prefix, on a store named by StoreArg. Close it.
func (r *Run) OpenPlace(ctx context.Context, on string) (*Place, error) {
	spec := r.Store.Fresh(r.Cell.Probe)
	if on == OnMem && spec.Memory == nil {
		spec.Memory, spec.Prefix = mem.New(mem.Options{}), "mem"
	}
	if spec.Memory != nil {
		st := store.Prefixed(spec.Memory, spec.Prefix)
		return &Place{Store: st, Another: func(context.Context) (store.Store, error) { return st, nil }, Close: func() {}}, nil
	}
	p, err := OpenBucketPlace(ctx, spec.Bucket, spec.Endpoint, spec.Prefix)
	if err != nil || p.Wire == nil { // only an emulator's is emptied by Close
		return p, err
	}
	closePlace := p.Close
	p.Close = func() { r.swept(context.WithoutCancel(ctx), p.Store); closePlace() }
	return p, nil
}

// OpenBucketPlace opens a prefix of a bucket; endpoint empty: the real service. Close it.
func OpenBucketPlace(ctx context.Context, bucket, endpoint, prefix string) (*Place, error) {
	p := &Place{}
	var opened []func()
	var mu sync.Mutex
	o := gcs.Options{Bucket: bucket, Endpoint: endpoint, Prefix: prefix}
	if endpoint != "" { // the client of the real service authenticates, and is not ours
		p.Wire = &statuses{}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 64
		p.Wire.next = transport
		o.HTTPClient = &http.Client{Transport: p.Wire}
		opened = append(opened, transport.CloseIdleConnections)
	}
	p.Another = func(ctx context.Context) (store.Store, error) {
		st, err := gcs.Open(ctx, o)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		opened = append(opened, func() { _ = st.Close() })
		return st, nil
	}
	p.Close = func() {
		if p.Wire != nil && p.Store != nil {
			sweep(context.WithoutCancel(ctx), p.Store)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, c := range opened {
			c()
		}
	}
	var err error
	if p.Store, err = p.Another(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// sweep empties a place on an emulator, whose requests take longer the more objects it has. Errors do not matter: the prefix is not used
// again.
func sweep(ctx context.Context, st store.Store) {
	for a, err := range st.List(ctx, "", "") {
		if err != nil || st.Delete(ctx, a.Key) != nil {
			return
		}
	}
}

// FaultyPlace makes a place on an emulator of its own, with the faults of o.
func (r *Run) FaultyPlace(ctx context.Context, o gcsfront.Options) (*Place, *gcsfront.Front, error) {
	const bucket = "faulty"
	o.Buckets, o.Seed = []string{bucket}, r.Seed
	front, err := gcsfront.New(o)
	if err != nil {
		return nil, nil, err
	}
	base, stop, err := front.Serve(ctx)
	if err != nil {
		return nil, nil, err
	}
	r.On(front)
	p, err := OpenBucketPlace(ctx, bucket, base, r.Cell.Probe)
	if err != nil {
		stop()
		return nil, nil, err
	}
	closeClients := p.Close
	p.Close = func() { r.swept(context.WithoutCancel(ctx), p.Store); closeClients(); stop() }
	return p, front, nil
}

// statuses counts the answers that matter to conditions.
type statuses struct {
	next             http.RoundTripper
	refused, Limited atomic.Int64 // 412 and 429
}

func (s *statuses) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.next.RoundTrip(r)
	if err == nil {
		switch answer.StatusCode {
		case http.StatusPreconditionFailed:
			s.refused.Add(1)
		case http.StatusTooManyRequests:
			s.Limited.Add(1)
		}
	}
	return answer, err
}

// Measure records the answers counted by Wire, if there is one.
func (p *Place) Measure(r *Run) {
	if p.Wire != nil {
		r.Metrics.Value("status_412_count", float64(p.Wire.refused.Load()))
		r.Metrics.Value("status_429_count", float64(p.Wire.Limited.Load()))
	}
}

// WireDocs documents the metrics of Measure.
func WireDocs() []scenario.MetricDoc {
	return MetricDocs("status_412_count", "412 answers from the emulator; not visible on mem or on a real bucket", "status_429_count", "429 answers from the "+
		"emulator; not visible on mem or on a real bucket")
}

// SkippingClock is a virtual clock whose Sleep moves it, and does not wait.
type SkippingClock struct{ *clock.Virtual }

// NewSkippingClock makes a clock that starts at a fixed date.
func NewSkippingClock() SkippingClock {
	return SkippingClock{clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
}

// Sleep advances the clock by d and returns immediately.
func (s SkippingClock) Sleep(ctx context.Context, d time.Duration) error {
	if d > 0 {
		s.Advance(d)
	}
	return ctx.Err()
}

// AtOnce runs n functions concurrently, lets all of them start together, and waits for them.
func AtOnce(n int, do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

// Wrongf formats what is wrong; if wrong is false it returns an empty text.
func Wrongf(wrong bool, format string, args ...any) string {
	if !wrong {
		return ""
	}
	return fmt.Sprintf(format, args...)
}
