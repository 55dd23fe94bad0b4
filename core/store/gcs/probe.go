package gcs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"blobpglite/core/store"
)

// ErrConditionsIgnored: the store accepts writes whose precondition does not hold (seen on S3-compatible endpoints
// and on emulators). Two writers would overwrite each other: do not keep a database there.
var ErrConditionsIgnored = errors.New("the store ignores preconditions")

// probeCleanupTimeout bounds the removal of the probe's object when the probe was canceled.
const probeCleanupTimeout = 10 * time.Second

// Probe checks in this bucket that the two primitives work: of two creations of one name the second is refused, a
// swap at the current generation succeeds, and a swap at another generation is refused. It writes three small objects
// under probe/, in parallel and each within the limit of one write per second and name, and removes them: about a
// dozen requests in the time of four, once per database. A store that ignores conditions is ErrConditionsIgnored;
// other errors are those of Put, Get and Delete.
func (s *Store) Probe(ctx context.Context) error {
	id := store.NewWriteID()
	tries := []struct {
		name string
		try  func(ctx context.Context, key string, first store.Gen) error
	}{
		{"create", func(ctx context.Context, key string, first store.Gen) error {
			return s.mustRefuse(ctx, key, store.IfAbsent(), first, "creating a name that exists")
		}},
		{"swap", s.mustSwap},
		{"stale", func(ctx context.Context, key string, first store.Gen) error {
			return s.mustRefuse(ctx, key, store.IfGen(first-1), first, "swapping at a stale generation")
		}},
	}
	var all sync.WaitGroup
	errs := make([]error, len(tries))
	for i, t := range tries {
		all.Go(func() { errs[i] = s.probeObject(ctx, "probe/"+id+"-"+t.name, t.try) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// The probe's bodies.
const (
	probeFirst   = "first"
	probeSwapped = "swapped"
	probeRefused = "must not be stored"
)

// probeObject makes an object, runs a try on it, and removes it.
func (s *Store) probeObject(ctx context.Context, key string, try func(context.Context, string, store.Gen) error) error {
	first, err := s.Put(ctx, key, []byte(probeFirst), store.NewWriteID(), store.IfAbsent())
	if err != nil && !errors.Is(err, store.ErrUnknown) {
		return fmt.Errorf("probe %s: create an object: %w", s, err) // nothing to remove
	}
	if err == nil {
		err = try(ctx, key, first)
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCleanupTimeout)
	defer cancel()
	if left := s.Delete(cleanup, key); left != nil {
		err = errors.Join(err, fmt.Errorf("probe %s: remove the probe's object: %w", s, left))
	}
	return err
}

// mustSwap swaps an object of generation first.
func (s *Store) mustSwap(ctx context.Context, key string, first store.Gen) error {
	second, err := s.Put(ctx, key, []byte(probeSwapped), store.NewWriteID(), store.IfGen(first))
	if err != nil {
		return fmt.Errorf("probe %s: swap an object at its current generation: %w", s, err)
	}
	if second <= first {
		return fmt.Errorf("probe %s: %w: generation %d was followed by %d", s, ErrConditionsIgnored, first, second)
	}
	return s.mustHold(ctx, key, second, probeSwapped)
}

// mustHold reads an object.
func (s *Store) mustHold(ctx context.Context, key string, gen store.Gen, body string) error {
	o, err := s.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("probe %s: %w", s, err)
	}
	if o.Gen != gen || string(o.Body) != body {
		return fmt.Errorf("probe %s: %w: a refused write was applied: generation %d was there before it, %d after it", s, ErrConditionsIgnored, gen, o.Gen)
	}
	return nil
}

// mustRefuse puts under a condition that does not hold, over an object of generation first.
func (s *Store) mustRefuse(ctx context.Context, key string, cond store.Cond, first store.Gen, what string) error {
	_, err := s.Put(ctx, key, []byte(probeRefused), store.NewWriteID(), cond)
	switch {
	case err == nil:
		return fmt.Errorf("probe %s: %w: %s succeeded; two writers would overwrite each other: "+
			"use a bucket of Google Cloud Storage through its JSON API", s, ErrConditionsIgnored, what)
	case !errors.Is(err, store.ErrConflict):
		return fmt.Errorf("probe %s: %s: %w", s, what, err)
	}
	return s.mustHold(ctx, key, first, probeFirst)
}
