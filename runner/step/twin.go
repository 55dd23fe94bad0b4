package step

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"blobpglite/cloud/twin/platform"
	"blobpglite/core/clock"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/model"
	"blobpglite/runner/service"
)

const twinBucket = "twin"

// defaultMemoryMiB is what an instance has where memory is not the question.
const defaultMemoryMiB = 4096

// twinOptions are what a twin's bucket does.
type twinOptions struct {
	rules []gcsfront.Rule
}

// twinRun is pgserve as a service, on the twin or on Cloud Run, and how it is asked. What is special to where it runs is the
// host's.
type twinRun struct {
	host
	r      *Run
	clock  clock.Clock
	client *http.Client

	bucket, base string   // base: of the emulator
	prefix       string   // of the database; empty: it is in the service's memory
	flags        []string // of pgserve, name and value each

	// local is the host where that is the twin, for verbs that Cloud Run cannot do; else nil.
	local *twinHost

	mu sync.Mutex // guards what clients share
}

// withTwin gives f pgserve and an empty bucket; f says when it runs.
func (r *Run) withTwin(ctx context.Context, o twinOptions, f func(*twinRun) error) error {
	t := &twinRun{r: r, clock: clock.System(), client: newTwinClient()}
	defer t.client.CloseIdleConnections()
	if r.Cloud != nil {
		t.host = &cloudHost{run: t, Service: r.Cloud.Service}
		t.bucket, t.base = r.Store.Bucket, r.Store.Endpoint
		t.fresh("db")
		return f(t)
	}
	h := &twinHost{run: t}
	t.host, t.local, t.bucket = h, h, twinBucket
	var err error
	h.front, err = gcsfront.New(gcsfront.Options{
		Buckets: []string{twinBucket}, Seed: r.Seed, Latency: model.DefaultLatency(), Rate: model.DefaultRate(), Rules: o.rules, Observe: h.observe,
	})
	if err != nil {
		return err
	}
	base, stop, err := h.front.Serve(ctx)
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
	if h.program, err = r.Store.Program(ctx, folder, r.Runtime.CacheDir()); err != nil {
		return err
	}
	t.fresh("db")
	defer func() { r.addOps(opsOf(h.front.Counters().Ops)) }()
	return f(t)
}

func newTwinClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
}

// Program builds pgserve once for all cells, in a folder of the cache, where nothing is done if it is up to date, and copies
// it to a folder where nobody changes it. It returns its path.
func (s *Store) Program(ctx context.Context, folder, cacheDir string) (string, error) {
	if s.pgserve == "" {
		var err error
		if s.pgserve, err = buildService(ctx, cacheDir); err != nil {
			return "", err
		}
	}
	body, err := os.ReadFile(s.pgserve)
	if err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	program := filepath.Join(folder, "pgserve")
	return program, os.WriteFile(program, body, 0o700)
}

func buildService(ctx context.Context, cacheDir string) (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	sum := sha256.Sum256([]byte(here))
	cache := filepath.Join(cacheDir, "pgserve-"+hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	return service.Build(ctx, cache)
}

// fresh makes what runs next serve another prefix, with these flags.
func (t *twinRun) fresh(prefix string, flags ...string) {
	t.prefix, t.flags = prefix, slices.Clone(flags)
	if t.local != nil {
		t.local.fresh(prefix)
		return
	}
	t.prefix = t.r.Store.place(prefix).Prefix // other cells have had one of this name
}

// on runs f with the service. No instance exists when it begins, and none when it has ended.
func (t *twinRun) on(ctx context.Context, o platform.Options, f func() error) (err error) {
	if err := t.begin(ctx, o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.end(ctx, err != nil)) }()
	return f()
}
