package serverless

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/core/wal"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/check"
)

// EmulatedHost runs the real pgserve as Cloud Run would, over an emulated bucket with the service's modeled latency. Its figures are those
// of this machine and that model. What Cloud Run does to an instance is done to the process with signals (SIGSTOP, SIGTERM, SIGKILL), so
// the product needs no endpoints for faults.
type EmulatedHost struct {
	service *Service
	Front   *gcsfront.Front
	Program string
	env     []string           // of instances
	Watch   func(check.Change) // called with what the bucket carried out; nil: not called

	*platform.Platform
	server *httptest.Server

	mu       sync.Mutex
	events   []platform.Event // of the platform that runs
	happened chan struct{}    // closed and replaced by each
	observed []check.Change   // of the bucket, below the prefix
	prefix   string           // of the observed
}

var _ host = (*EmulatedHost)(nil)

// fresh begins to observe another prefix.
func (h *EmulatedHost) fresh(prefix string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prefix, h.observed = prefix, nil
}

// observe is called with everything that the bucket carried out.
func (h *EmulatedHost) observe(g gcsfront.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if key, ok := strings.CutPrefix(g.Key, h.prefix+"/"); ok {
		c := check.Change{At: g.At, Delete: g.Op == gcsfront.OpDelete, Key: key, Status: g.Status, Bytes: g.Bytes, WriteID: g.WriteID}
		h.observed = append(h.observed, c)
		if h.Watch != nil {
			h.Watch(c)
		}
	}
}

// revision returns the run's current settings, under a name.
func (h *EmulatedHost) revision(name string) platform.Revision {
	args := []string{"-listen", "", "-log", "warn"}
	if h.service.prefix != "" {
		args = append(args, "-bucket", "gs://"+h.service.bucket+"/"+h.service.prefix, "-endpoint", h.service.base)
	}
	return platform.Revision{Name: name, Program: h.Program, Args: append(args, h.service.flags...), Env: h.env}
}

func (h *EmulatedHost) begin(_ context.Context, o platform.Options) error {
	o.Revision = h.revision("rev-1")
	if o.MemoryMiB == 0 {
		o.MemoryMiB = defaultMemoryMiB
	}
	h.mu.Lock()
	h.events, h.happened = nil, make(chan struct{})
	h.mu.Unlock()
	o.Event = h.event
	p, err := platform.New(o)
	if err != nil {
		return err
	}
	h.Platform, h.server = p, httptest.NewServer(p)
	return nil
}

func (h *EmulatedHost) end(ctx context.Context, _ bool) error {
	h.server.CloseClientConnections()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err := h.Close(ending)
	h.server.Close()
	return err
}

func (h *EmulatedHost) address() string       { return h.server.URL }
func (h *EmulatedHost) prepare(*http.Request) {}

// Replace deploys the same program as the next revision, under that name: its instance starts before the old one is told to end.
func (h *EmulatedHost) Replace(ctx context.Context, name string) error {
	return h.Deploy(ctx, h.revision(name))
}

func (h *EmulatedHost) beside(_ context.Context, name string) (string, func(context.Context) error, error) {
	s := httptest.NewServer(h.Tagged(h.revision(name)))
	return s.URL, func(context.Context) error { s.Close(); return nil }, nil
}

// event is called with everything that the platform does.
func (h *EmulatedHost) event(e platform.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
	close(h.happened)
	h.happened = make(chan struct{})
}

// await waits until something has happened to an instance (0: any).
func (h *EmulatedHost) await(ctx context.Context, instance int, what string) (platform.Event, error) {
	for {
		h.mu.Lock()
		i := slices.IndexFunc(h.events, func(e platform.Event) bool { return e.What == what && (instance == 0 || e.Instance == instance) })
		if i >= 0 {
			defer h.mu.Unlock()
			return h.events[i], nil
		}
		more := h.happened
		h.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return platform.Event{}, fmt.Errorf("wait for %q of instance %d: %w", what, instance, ctx.Err())
		}
	}
}

// counted is how often something has happened.
func (h *EmulatedHost) counted(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, e := range h.events {
		if e.What == what {
			n++
		}
	}
	return n
}

// crashed says whether an instance has been killed.
func (h *EmulatedHost) crashed(id int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.events, func(e platform.Event) bool { return e.Instance == id && e.What == "crash" })
}

// Newest returns the instance that was started last.
func (h *EmulatedHost) Newest() (platform.Status, error) {
	all := h.Instances()
	if len(all) == 0 {
		return platform.Status{}, errors.New("there is no instance")
	}
	return all[len(all)-1], nil
}

func (h *EmulatedHost) current() (instanceOf, error) {
	i, err := h.Newest()
	return instanceOf{instance: i.ID}, err
}

func (h *EmulatedHost) retired(ctx context.Context, i instanceOf) (retirement, error) {
	told, err := h.await(ctx, i.instance, "term")
	if err != nil {
		return retirement{}, err
	}
	ended, err := h.await(ctx, i.instance, "exit")
	return retirement{told: told.At, ended: ended.At, how: ended.Detail}, err
}

func (h *EmulatedHost) sleep(ctx context.Context) (retirement, error) {
	i, err := h.current()
	if err != nil {
		return retirement{}, err
	}
	return h.retired(ctx, i)
}

// Leave ends all instances and waits for them. It does not check how they ended: events report trouble.
func (h *EmulatedHost) Leave(ctx context.Context) (retirement, error) {
	for _, i := range h.Instances() {
		gone := h.Gone(i.ID)
		if gone == nil {
			continue
		}
		if err := h.Shut(i.ID); err != nil {
			return retirement{}, err
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return retirement{}, ctx.Err()
		}
	}
	return retirement{}, nil
}

func (h *EmulatedHost) memory() (peak int64, passed bool) {
	return h.Bill().PeakRSSBytes, h.counted("out of memory") > 0
}

// quiet: requests to the bucket that are under way arrive, whether the process has CPU or not; frozen, it begins no others.
func (h *EmulatedHost) quiet(ctx context.Context, d time.Duration) error {
	return h.service.Clock.Sleep(ctx, d)
}

func (h *EmulatedHost) asked(context.Context) (int64, error) { return h.Front.Counters().Requests, nil }

func (h *EmulatedHost) records(context.Context) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, c := range h.observed {
		if !c.Delete && c.Status < 300 && strings.HasPrefix(c.Key, "wal/") && !strings.HasPrefix(c.WriteID, wal.FenceID) {
			n++
		}
	}
	return n, nil
}

// changes returns everything that the bucket carried out: the emulated one reports each.
func (h *EmulatedHost) changes(context.Context) ([]check.Change, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.observed), nil
}

// History returns all events of instances since begin.
func (h *EmulatedHost) History() []platform.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}
