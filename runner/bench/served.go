package bench

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
	InProcess    = "mem"   // the reference in memory, in pgserve itself
	NoLatency    = "none"  // the emulator
	ModelLatency = "model" // the emulator, as slow as the service is modelled to be
)

// Served is a pgserve on an emulator of the run's own.
type Served struct {
	r       *Run
	Folder  string
	program string
	args    []string
	env     []string
	mu      sync.Mutex
	current *service.Service
}

func (s *Served) Now() *service.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Restart kills the server and starts another one at its address.
func (s *Served) Restart(ctx context.Context) error {
	old := s.Now()
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

// WithService builds and starts pgserve, with more flags, over a fresh place, and ends both after f.
func (r *Run) WithService(ctx context.Context, in string, f func(*Served) error, flags ...string) (err error) {
	return r.WithServiceIn(ctx, nil, in, f, flags...)
}

// WithServiceIn is WithService with more of an environment.
func (r *Run) WithServiceIn(ctx context.Context, env []string, in string, f func(*Served) error, flags ...string) (err error) {
	o := gcsfront.Options{Buckets: []string{"clients"}, Seed: r.Seed}
	if in == ModelLatency {
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
	s := &Served{r: r, Folder: folder, env: env, args: []string{"-lease-ttl", "2s", "-acquire-timeout", "1m", "-wake", "-log", "warn"}}
	s.args = append(s.args, flags...)
	if in == InProcess {
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
		if code, stopErr := s.Now().Stop(ending); err == nil && ctx.Err() == nil && (stopErr != nil || code != 0) {
			r.Check(CheckClient, fmt.Sprintf("the server ended with code %d: %v: %s", code, stopErr, s.Now().Log()))
		}
		r.AddOps(OpsOf(front.Counters().Ops))
	}()
	return f(s)
}
