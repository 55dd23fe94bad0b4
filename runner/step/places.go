package step

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

// What a verb that needs no PostgreSQL may run on.
const (
	onRun = "run" // the store of the run: fake-gcs, or what -store says
	onMem = "mem" // the reference in memory
)

func onArg() scenario.Arg {
	return scenario.Arg{
		Name: "on", Default: onRun, OneOf: []string{onRun, onMem},
		Doc: "run: the store of the run, with its requests; mem: the reference in memory",
	}
}

// place is a fresh, empty prefix in a store, as a client of its own sees it.
type place struct {
	store.Store
	// another opens the same prefix through a second client.
	another func(ctx context.Context) (store.Store, error)
	close   func()
	wire    *statuses // answers seen; nil where there is no wire of ours
}

// openPlace makes a fresh prefix. Close it.
func (r *Run) openPlace(ctx context.Context, on string) (*place, error) {
	spec := r.Store.place(r.Cell.Probe)
	if on == onMem && spec.Memory == nil {
		spec.Memory, spec.Prefix = mem.New(mem.Options{}), "mem"
	}
	if spec.Memory != nil {
		st := store.Prefixed(spec.Memory, spec.Prefix)
		return &place{Store: st, another: func(context.Context) (store.Store, error) { return st, nil }, close: func() {}}, nil
	}
	return openBucketPlace(ctx, spec.Bucket, spec.Endpoint, spec.Prefix)
}

func openBucketPlace(ctx context.Context, bucket, endpoint, prefix string) (*place, error) {
	p := &place{}
	var opened []func()
	var mu sync.Mutex
	o := gcs.Options{Bucket: bucket, Endpoint: endpoint, Prefix: prefix}
	if endpoint != "" { // the client of the real service authenticates, and is not ours
		p.wire = &statuses{}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 64
		p.wire.next = transport
		o.HTTPClient = &http.Client{Transport: p.wire}
		opened = append(opened, transport.CloseIdleConnections)
	}
	p.another = func(ctx context.Context) (store.Store, error) {
		st, err := gcs.Open(ctx, o)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		opened = append(opened, func() { _ = st.Close() })
		return st, nil
	}
	p.close = func() {
		if p.wire != nil && p.Store != nil {
			sweep(context.WithoutCancel(ctx), p.Store)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, c := range opened {
			c()
		}
	}
	var err error
	if p.Store, err = p.another(ctx); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// sweep empties a place on an emulator, which takes the longer for each request the more objects it has. What is left
// behind harms nobody: the prefix is not used again.
func sweep(ctx context.Context, st store.Store) {
	for a, err := range st.List(ctx, "", "") {
		if err != nil || st.Delete(ctx, a.Key) != nil {
			return
		}
	}
}

// frontPlace is a place on an emulator of its own, made as faulty as o says.
func (r *Run) frontPlace(ctx context.Context, o gcsfront.Options) (*place, *gcsfront.Front, error) {
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
	p, err := openBucketPlace(ctx, bucket, base, r.Cell.Probe)
	if err != nil {
		stop()
		return nil, nil, err
	}
	closeClients := p.close
	p.close = func() { closeClients(); stop() }
	return p, front, nil
}

// statuses counts the answers that matter to conditions.
type statuses struct {
	next             http.RoundTripper
	refused, limited atomic.Int64 // 412 and 429
}

func (s *statuses) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.next.RoundTrip(r)
	if err == nil {
		switch answer.StatusCode {
		case http.StatusPreconditionFailed:
			s.refused.Add(1)
		case http.StatusTooManyRequests:
			s.limited.Add(1)
		}
	}
	return answer, err
}

// measure records what the wire saw, if there was one.
func (p *place) measure(r *Run) {
	if p.wire != nil {
		r.Metrics.Value("status_412_count", float64(p.wire.refused.Load()))
		r.Metrics.Value("status_429_count", float64(p.wire.limited.Load()))
	}
}

func wireDocs() []scenario.MetricDoc {
	return metricDocs("status_412_count", "answers of the emulator; not seen on mem and on a real bucket", "status_429_count", "likewise")
}

// skipping is a virtual clock that moves as soon as somebody sleeps: what waits for time does not wait.
type skipping struct{ *clock.Virtual }

func newSkipping() skipping {
	return skipping{clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
}

func (s skipping) Sleep(ctx context.Context, d time.Duration) error {
	if d > 0 {
		s.Advance(d)
	}
	return ctx.Err()
}

// each runs n functions at once, lets all of them start together, and waits for them.
func each(n int, do func(i int)) {
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

// wrongf words what is wrong, or nothing if it is not.
func wrongf(wrong bool, format string, args ...any) string {
	if !wrong {
		return ""
	}
	return fmt.Sprintf(format, args...)
}
