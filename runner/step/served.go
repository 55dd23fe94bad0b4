package step

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"blobpglite/faults/gcsfront"
	"blobpglite/faults/model"
	"blobpglite/runner/service"
)

// What pgserve keeps its database in.
const (
	inProcess    = "mem"   // the reference in memory, in pgserve itself
	noLatency    = "none"  // the emulator
	modelLatency = "model" // the emulator, as slow as the service is modelled to be
)

// served is a pgserve on an emulator of the run's own.
type served struct {
	r       *Run
	folder  string
	program string
	args    []string
	env     []string
	mu      sync.Mutex
	current *service.Service
}

func (s *served) now() *service.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// restart kills the server and starts another one at its address.
func (s *served) restart(ctx context.Context) error {
	old := s.now()
	old.Kill()
	fresh, err := service.Start(ctx, s.program, service.Options{Args: s.args, Env: s.env, Port: old.Port})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = fresh
	return nil
}

// withService builds and starts pgserve, with more flags, over a fresh place, and ends both after f.
func (r *Run) withService(ctx context.Context, in string, f func(*served) error, flags ...string) (err error) {
	return r.withServiceIn(ctx, nil, in, f, flags...)
}

// withServiceIn is withService with more of an environment.
func (r *Run) withServiceIn(ctx context.Context, env []string, in string, f func(*served) error, flags ...string) (err error) {
	o := gcsfront.Options{Buckets: []string{"clients"}, Seed: r.Seed}
	if in == modelLatency {
		o.Latency, o.Rate = model.DefaultLatency(), model.DefaultRate()
	}
	front, err := gcsfront.New(o)
	if err != nil {
		return err
	}
	base, stop, err := front.Serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	folder, err := os.MkdirTemp("", "blobpglite-clients-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(folder)
	r.Progress("building pgserve", 0, 0)
	s := &served{r: r, folder: folder, env: env, args: []string{"-lease-ttl", "2s", "-acquire-timeout", "1m", "-wake", "-log", "warn"}}
	s.args = append(s.args, flags...)
	if in == inProcess {
		s.args = append(s.args, "-store", "mem")
	} else {
		s.args = append(s.args, "-bucket", "gs://clients/db", "-endpoint", base)
	}
	if s.program, err = r.Store.Program(ctx, folder, r.Runtime.CacheDir()); err != nil {
		return err
	}
	if s.current, err = service.Start(ctx, s.program, service.Options{Args: s.args, Env: s.env}); err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if code, stopErr := s.now().Stop(ending); err == nil && ctx.Err() == nil && (stopErr != nil || code != 0) {
			r.check(checkClient, fmt.Sprintf("the server ended with code %d: %v: %s", code, stopErr, s.now().Log()))
		}
		counted := front.Counters()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Ops.ClassA, r.Ops.ClassB = r.Ops.ClassA+counted.ClassA, r.Ops.ClassB+counted.ClassB
		r.Ops.Delete += counted.Delete
		r.Ops.BytesUp, r.Ops.BytesDown = r.Ops.BytesUp+counted.BytesUp, r.Ops.BytesDown+counted.BytesDown
	}()
	return f(s)
}
