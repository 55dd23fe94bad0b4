package step

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"blobpglite/cloud/twin/platform"
	"blobpglite/core/clock"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/model"
	"blobpglite/runner/check"
	"blobpglite/runner/service"
)

// The twin's verbs run the real pgserve as Cloud Run would, over an emulator that is as slow as the service is modelled to
// be. Their figures are of this machine and that model. What Cloud Run does to an instance is done to the process by
// signals (SIGSTOP, SIGTERM, SIGKILL), so the product needs no endpoints for faults.

const twinBucket = "twin"

// twinOptions are what a twin's bucket does.
type twinOptions struct {
	rules []gcsfront.Rule
}

// twinRun is pgserve on the twin.
type twinRun struct {
	r       *Run
	clock   clock.Clock
	front   *gcsfront.Front
	base    string
	prefix  string
	program string
	args    []string
	client  *http.Client

	*platform.Platform
	server *httptest.Server

	mu       sync.Mutex
	events   []platform.Event // of the platform that runs
	happened chan struct{}    // closed and replaced by each
	changes  []check.Change   // of the bucket, below the prefix
}

// withTwin builds pgserve and gives f an empty bucket; f starts platforms on it.
func (r *Run) withTwin(ctx context.Context, o twinOptions, f func(*twinRun) error) error {
	t := &twinRun{r: r, clock: clock.System(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	defer t.client.CloseIdleConnections()
	var err error
	t.front, err = gcsfront.New(gcsfront.Options{
		Buckets: []string{twinBucket}, Seed: r.Seed, Latency: model.DefaultLatency(), Rate: model.DefaultRate(), Rules: o.rules, Observe: t.observe,
	})
	if err != nil {
		return err
	}
	base, stop, err := t.front.Serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	t.base = base
	folder, err := os.MkdirTemp("", "blobpglite-twin-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(folder)
	r.Progress("building pgserve", 0, 0)
	if t.program, err = r.pgserve(ctx, folder); err != nil {
		return err
	}
	t.fresh("db")
	defer func() { r.addOps(opsOf(t.front.Counters().Ops)) }()
	return f(t)
}

// pgserve builds pgserve once for all cells, in a folder of the cache, where nothing is done if it is up to date, and copies
// it to where nobody changes it.
func (r *Run) pgserve(ctx context.Context, folder string) (string, error) {
	if r.Store.pgserve == "" {
		here, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("build pgserve: %w", err)
		}
		sum := sha256.Sum256([]byte(here))
		cache := filepath.Join(r.Runtime.CacheDir(), "pgserve-"+hex.EncodeToString(sum[:8]))
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return "", fmt.Errorf("build pgserve: %w", err)
		}
		if r.Store.pgserve, err = service.Build(ctx, cache); err != nil {
			return "", err
		}
	}
	body, err := os.ReadFile(r.Store.pgserve)
	if err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	program := filepath.Join(folder, "pgserve")
	return program, os.WriteFile(program, body, 0o700)
}

// observe hears of what the bucket carried out.
func (t *twinRun) observe(g gcsfront.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key, ok := strings.CutPrefix(g.Key, t.prefix+"/"); ok {
		t.changes = append(t.changes, check.Change{
			At: g.At, Delete: g.Op == gcsfront.OpDelete, Key: key, Status: g.Status, Bytes: g.Bytes, WriteID: g.WriteID,
		})
	}
}

// fresh makes the next platforms serve another prefix.
func (t *twinRun) fresh(prefix string, flags ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prefix, t.changes = prefix, nil
	t.args = append([]string{
		"-bucket", "gs://" + twinBucket + "/" + prefix, "-endpoint", t.base, "-listen", "", "-log", "warn",
	}, flags...)
}

// revision is one of these arguments, and more.
func (t *twinRun) revision(name string, flags ...string) platform.Revision {
	return platform.Revision{Name: name, Program: t.program, Args: append(slices.Clone(t.args), flags...)}
}

// on runs f with a platform.
func (t *twinRun) on(ctx context.Context, o platform.Options, f func() error) (err error) {
	if o.Revision.Name == "" {
		o.Revision = t.revision("rev-1")
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 4096
	}
	t.mu.Lock()
	t.events, t.happened = nil, make(chan struct{})
	t.mu.Unlock()
	o.Event = t.event
	if t.Platform, err = platform.New(o); err != nil {
		return err
	}
	t.server = httptest.NewServer(t.Platform)
	defer func() {
		t.server.CloseClientConnections()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, t.Close(ending))
		t.server.Close()
	}()
	return f()
}

// event hears of what the platform does.
func (t *twinRun) event(e platform.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
	close(t.happened)
	t.happened = make(chan struct{})
}

// await waits until something has happened to an instance (0: any).
func (t *twinRun) await(ctx context.Context, instance int, what string) (platform.Event, error) {
	for {
		t.mu.Lock()
		i := slices.IndexFunc(t.events, func(e platform.Event) bool { return e.What == what && (instance == 0 || e.Instance == instance) })
		if i >= 0 {
			defer t.mu.Unlock()
			return t.events[i], nil
		}
		more := t.happened
		t.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return platform.Event{}, fmt.Errorf("wait for %q of instance %d: %w", what, instance, ctx.Err())
		}
	}
}

// counted is how often something has happened.
func (t *twinRun) counted(what string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, e := range t.events {
		if e.What == what {
			n++
		}
	}
	return n
}

// newest is the instance that was started last.
func (t *twinRun) newest() (platform.Status, error) {
	all := t.Instances()
	if len(all) == 0 {
		return platform.Status{}, errors.New("there is no instance")
	}
	return all[len(all)-1], nil
}

// shutAll tells all instances to go and waits until they have.
func (t *twinRun) shutAll(ctx context.Context) error {
	for _, i := range t.Instances() {
		gone := t.Gone(i.ID)
		if gone == nil {
			continue
		}
		if err := t.Shut(i.ID); err != nil {
			return err
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
