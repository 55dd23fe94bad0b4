package serverless

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/core/clock"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/model"
	"blobpglite/runner/bench"
	"blobpglite/runner/check"
)

const emulatedBucket = "emulated"

// defaultMemoryMiB is an instance's memory where memory is not the question.
const defaultMemoryMiB = 4096

// Options says what an emulated service runs, and how its bucket behaves.
type Options struct {
	Rules   []gcsfront.Rule
	Latency *gcsfront.Latency // nil: as the service is modeled
	Program string            // of the service; empty: pgserve as built from here
	Env     []string          // of its instances
	Clock   clock.Clock       // of the bucket and of the waits; nil: the system clock
	Changed func(check.Change)
	// LatencyScale multiplies the modeled latency of the bucket; 0: 1.
	LatencyScale float64
}

// Service is pgserve as a service, on the Cloud Run emulator or on Cloud Run, and a client of it. The host holds what differs between the
// two.
type Service struct {
	host
	Run    *bench.Run
	Clock  clock.Clock
	client *http.Client

	bucket, base string   // base: of the emulated bucket
	prefix       string   // of the database; empty: it is in the service's memory
	flags        []string // of pgserve, name and value each

	// Emulated is the host, if that is the emulator, for verbs that Cloud Run cannot do; otherwise nil.
	Emulated *EmulatedHost

	mu sync.Mutex // guards what clients share
}

// WithService calls f with a pgserve and an empty bucket; the service runs when f says so (On).
func WithService(ctx context.Context, r *bench.Run, o Options, f func(*Service) error) error {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	t := &Service{Run: r, Clock: o.Clock, client: newClient()}
	defer t.client.CloseIdleConnections()
	if r.Cloud != nil {
		t.host = &cloudHost{service: t, Service: r.Cloud.Service}
		t.bucket, t.base = r.Store.Bucket, r.Store.Endpoint
		t.Fresh("db")
		return f(t)
	}
	if o.Latency == nil {
		o.Latency = model.DefaultLatency()
	}
	h := &EmulatedHost{service: t, Program: o.Program, env: o.Env, Watch: o.Changed}
	t.host, t.Emulated, t.bucket = h, h, emulatedBucket
	latency := *o.Latency
	latency.Scale = o.LatencyScale
	var err error
	h.Front, err = gcsfront.New(gcsfront.Options{
		Buckets: []string{emulatedBucket}, Clock: t.Clock, Seed: r.Seed, Latency: &latency, Rate: model.DefaultRate(), Rules: o.Rules, Observe: h.observe,
	})
	if err != nil {
		return err
	}
	base, stop, err := h.Front.Serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	r.On(h.Front)
	t.base = base
	if h.Program == "" {
		folder, err := os.MkdirTemp("", "blobpglite-runemu-")
		if err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer os.RemoveAll(folder)
		r.Progress("building pgserve", 0, 0)
		if h.Program, err = r.Store.Program(ctx, folder, r.Runtime.CacheDir()); err != nil {
			return err
		}
	}
	t.Fresh("db")
	defer func() { r.AddOps(bench.OpsOf(h.Front.Counters().Ops)) }()
	return f(t)
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
}

// Fresh makes the next revisions serve another prefix, with these flags.
func (t *Service) Fresh(prefix string, flags ...string) {
	t.prefix, t.flags = prefix, slices.Clone(flags)
	if t.Emulated != nil {
		t.Emulated.fresh(prefix)
		return
	}
	t.prefix = t.Run.Store.Fresh(prefix).Prefix // other cells have had one of this name
}

// Flags sets the flags of the next revisions.
func (t *Service) Flags(flags ...string) { t.flags = slices.Clone(flags) }

// On runs f while the service runs. There is no instance when f begins, and none when On has returned.
func (t *Service) On(ctx context.Context, o platform.Options, f func() error) (err error) {
	if err := t.begin(ctx, o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.end(ctx, err != nil)) }()
	return f()
}
