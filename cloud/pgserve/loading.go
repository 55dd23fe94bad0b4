package main

import (
	"context"
	"os"
	"time"

	"blobpglite/core/pglite"
)

// loading loads PostgreSQL from the compilation cache into memory. Meanwhile the listeners are open, clients wait, and the database is
// fetched concurrently.
type loading struct {
	done    chan struct{}
	stop    context.CancelFunc
	runtime *pglite.Runtime
	took    time.Duration
	err     error
}

// load starts loading PostgreSQL. If that fails, the service ends.
func (s *service) load(ctx context.Context) {
	l := &loading{done: make(chan struct{})}
	ctx, l.stop = context.WithCancel(ctx)
	s.loading = l
	go func() {
		defer close(l.done)
		at := s.clock.Monotonic()
		l.runtime, l.err = pglite.NewRuntime(ctx, pglite.Options{Extensions: s.c.extensions, Progress: func(step string, done, total int64) {
			s.c.log.Debug("set-up", "step", step, "done", done, "total", total)
		}})
		l.took = s.clock.Monotonic() - at
		if l.err != nil {
			if ctx.Err() == nil {
				s.failures <- l.err
			}
			return
		}
		if l.runtime.Cold() && os.Getenv("K_SERVICE") != "" {
			s.c.log.Error("PostgreSQL was compiled at the start, because the image's cache is not this program's: rebuild the image", "ms", l.took.Milliseconds())
		}
		s.c.log.Info("PostgreSQL is loaded", "ms", l.took.Milliseconds(), "compiled", l.runtime.Cold(), "checked", because(l.runtime.Checked()))
	}()
}

// because is the reason why the compiled code checks bounds, for the log.
func because(checked error) string {
	if checked == nil {
		return "no"
	}
	return checked.Error()
}

// wait waits for PostgreSQL. Its error ends the service.
func (l *loading) wait(ctx context.Context) (*pglite.Runtime, error) {
	select {
	case <-l.done:
		return l.runtime, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// close stops loading, or releases what was loaded.
func (l *loading) close() error {
	l.stop()
	<-l.done
	if l.runtime == nil {
		return nil // the error was reported already
	}
	return l.runtime.Close()
}

// began returns times of the process's own start, for /metrics.json: when the listeners were open, and how long PostgreSQL took to load.
func (s *service) began() map[string]time.Duration {
	times := map[string]time.Duration{"listening": time.Duration(s.listening.Load())}
	select {
	case <-s.loading.done:
		times["runtime"] = s.loading.took
	default:
	}
	return times
}
