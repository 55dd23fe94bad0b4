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

// Where pgserve keeps its database.
const (
	InProcess    = "mem"   // the reference in memory, in pgserve itself
	NoLatency    = "none"  // the emulator
	ModelLatency = "model" // the emulator, as slow as the service is modeled to be
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

// Now returns the server that runs now.
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

// WithService builds and starts pgserve, with further flags, over a new prefix, calls f, and ends both.
func (r *Run) WithService(ctx context.Context, in string, f func(*Served) error, flags ...string) (err error) {
	return r.WithServiceIn(ctx, nil, in, f, flags...)
}

// WithServiceIn is WithService with further environment variables.
func (r *Run) WithServiceIn(ctx context.Context, env []string, in string, f func(*Served) error, flags ...string) (err error) {
	return r.WithProgram(ctx, "clients", in == ModelLatency, func(p Program) (err error) {
		s := &Served{r: r, Folder: p.Folder, program: p.Path, env: env, args: []string{"-lease-ttl", "2s", "-acquire-timeout", "1m", "-wake", "-log", "warn"}}
		s.args = append(s.args, flags...)
		if in == InProcess {
			s.args = append(s.args, "-store", "mem")
		} else {
			s.args = append(s.args, "-bucket", "gs://clients/db", "-endpoint", p.Endpoint)
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
		}()
		return f(s)
	})
}

// Program is a pgserve that was built from the present sources, and an emulator of a bucket for it.
type Program struct {
	Path, Folder string // of the program, and of the files it needs
	Front        *gcsfront.Front
	Endpoint     string // of the emulator
}

// WithProgram builds pgserve and serves an emulated bucket of that name, with modeled latency or without latency; it adds the bucket's
// operations to the run's.
func (r *Run) WithProgram(ctx context.Context, bucket string, modeled bool, f func(Program) error) (err error) {
	o := gcsfront.Options{Buckets: []string{bucket}, Seed: r.Seed}
	if modeled {
		o.Latency, o.Rate = model.DefaultLatency(), model.DefaultRate()
	}
	var p Program
	if p.Front, err = gcsfront.New(o); err != nil {
		return err
	}
	var stop func()
	if p.Endpoint, stop, err = p.Front.Serve(ctx); err != nil {
		return err
	}
	defer stop()
	r.On(p.Front)
	if p.Folder, err = os.MkdirTemp("", "blobpglite-"+bucket+"-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(p.Folder)
	r.Progress("building pgserve", 0, 0)
	if p.Path, err = r.Store.Program(ctx, p.Folder, r.Runtime.CacheDir()); err != nil {
		return err
	}
	defer func() { r.AddOps(OpsOf(p.Front.Counters().Ops)) }()
	return f(p)
}
