package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/store"
)

// ErrConditionsIgnored: the store accepts writes whose precondition does not hold (seen on S3-compatible endpoints and on
// emulators). Two writers would overwrite each other: do not keep a database there.
var ErrConditionsIgnored = errors.New("the store ignores preconditions")

// probeCleanupTimeout bounds the removal of the probe's object when the probe was cancelled.
const probeCleanupTimeout = 10 * time.Second

// Probe checks on this very bucket that the two primitives work: of two creations of one name the second is refused, a
// swap at the current generation is done, and one at a stale generation refused. It writes one small object under
// probe/ and removes it: about six requests, once per database. A store that ignores conditions is an error that wraps
// ErrConditionsIgnored; other errors are those of Put, Get and Delete.
func (s *Store) Probe(ctx context.Context) error {
	key := "probe/" + store.NewWriteID()
	first, err := s.Put(ctx, key, []byte("first"), store.NewWriteID(), store.IfAbsent())
	if err != nil && !errors.Is(err, store.ErrUnknown) {
		return fmt.Errorf("probe %s: create an object: %w", s, err) // and nothing to remove
	}
	if err == nil {
		err = s.probeObject(ctx, key, first)
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCleanupTimeout)
	defer cancel()
	if left := s.Delete(cleanup, key); left != nil {
		err = errors.Join(err, fmt.Errorf("probe %s: remove the probe's object: %w", s, left))
	}
	return err
}

// probeObject tries the conditions on an object of generation first.
func (s *Store) probeObject(ctx context.Context, key string, first store.Gen) error {
	if err := s.mustConflict(ctx, key, store.IfAbsent(), "creating a name that exists"); err != nil {
		return err
	}
	want := []byte("swapped")
	second, err := s.Put(ctx, key, want, store.NewWriteID(), store.IfGen(first))
	if err != nil {
		return fmt.Errorf("probe %s: swap an object at its current generation: %w", s, err)
	}
	if second <= first {
		return fmt.Errorf("probe %s: %w: generation %d was followed by %d", s, ErrConditionsIgnored, first, second)
	}
	if err := s.mustConflict(ctx, key, store.IfGen(first), "swapping at a stale generation"); err != nil {
		return err
	}
	o, err := s.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("probe %s: %w", s, err)
	}
	if o.Gen != second || !bytes.Equal(o.Body, want) {
		return fmt.Errorf("probe %s: %w: a refused write was applied: wrote generation %d, read %d", s, ErrConditionsIgnored, second, o.Gen)
	}
	return nil
}

// mustConflict puts under a condition that does not hold.
func (s *Store) mustConflict(ctx context.Context, key string, cond store.Cond, what string) error {
	_, err := s.Put(ctx, key, []byte("must not be stored"), store.NewWriteID(), cond)
	switch {
	case err == nil:
		return fmt.Errorf("probe %s: %w: %s succeeded; two writers would overwrite each other: "+
			"use a bucket of Google Cloud Storage through its JSON API", s, ErrConditionsIgnored, what)
	case !errors.Is(err, store.ErrConflict):
		return fmt.Errorf("probe %s: %s: %w", s, what, err)
	}
	return nil
}
