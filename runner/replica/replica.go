package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/service"
)

// readers are a writer and replicas, each a pgserve of its own, over one prefix of a bucket of the run's own.
type readers struct {
	r       *bench.Run
	clk     clock.Clock
	front   *gcsfront.Front
	base    string // its URL
	program string
	args    []string
	running map[string]*service.Service
}

// withReaders builds pgserve and gives f a bucket, either with the service's modeled latency or one that answers immediately.
func withReaders(ctx context.Context, r *bench.Run, modeled bool, f func(*readers) error) error {
	return r.WithProgram(ctx, "readers", modeled, func(p bench.Program) error {
		w := &readers{
			r: r, clk: clock.System(), front: p.Front, base: p.Endpoint, program: p.Path, running: map[string]*service.Service{},
			args: []string{"-bucket", "gs://readers/db", "-endpoint", p.Endpoint, "-log", "warn", "-lease-ttl", "2s", "-acquire-timeout", "1m", "-restore-budget", "-1s"},
		}
		defer func() {
			for _, s := range w.running {
				s.Kill()
			}
		}()
		return f(w)
	})
}

// start starts a process under a name: in the place, and at the address, of the previous one with that name.
func (w *readers) start(ctx context.Context, name string, flags ...string) (*service.Service, error) {
	port := 0
	if old := w.running[name]; old != nil {
		port = old.Port
		old.Kill()
	}
	s, err := service.Start(ctx, w.program, service.Options{Args: append(append([]string{}, w.args...), flags...), Port: port})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	w.running[name] = s
	return s, nil
}

func (w *readers) writer(ctx context.Context, flags ...string) (*service.Service, error) {
	return w.start(ctx, "the writer", flags...)
}

func (w *readers) replica(ctx context.Context, n int, flags ...string) (*service.Service, error) {
	return w.start(ctx, fmt.Sprintf("replica %d", n), append([]string{"-replica"}, flags...)...)
}

// end kills a process for good.
func (w *readers) end(name string) {
	if s := w.running[name]; s != nil {
		s.Kill()
		delete(w.running, name)
	}
}

// connectTo connects, again and again while the process starts, for a while.
func (w *readers) connectTo(ctx context.Context, s *service.Service, database string) (*pgx.Conn, error) {
	until := w.clk.Monotonic() + time.Minute
	for {
		conn, err := pgx.Connect(ctx, strings.Replace(s.URL(), "/postgres?", "/"+database+"?", 1))
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil || w.clk.Monotonic() > until {
			return nil, fmt.Errorf("connect: %w: %s", err, bench.Tail(s.Log()))
		}
		if err := w.clk.Sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// do runs statements, each on its own.
func (w *readers) do(ctx context.Context, s *service.Service, statements ...string) error {
	conn, err := w.connectTo(ctx, s, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.80s: %w", sql, err)
		}
	}
	return nil
}

// text returns one value of one row. The caller judges an error from PostgreSQL, or of a lost connection.
func text(ctx context.Context, conn *pgx.Conn, sql string) (out string, err error) {
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	for _, res := range results {
		if res.Err != nil {
			return "", res.Err
		}
		if len(res.Rows) == 1 && len(res.Rows[0]) == 1 {
			out = string(res.Rows[0][0])
		}
	}
	return out, nil
}

// position is the writer's, after everything that it has acknowledged.
func (w *readers) position(ctx context.Context, s *service.Service) (string, error) {
	conn, err := w.connectTo(ctx, s, "postgres")
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return text(ctx, conn, "SHOW blobpglite.position")
}

// arrive waits until a replica has reached a position: the replica itself is asked to wait, in statements that may fail while it moves.
func (w *readers) arrive(ctx context.Context, s *service.Service, position string) error {
	var last error
	for range 10 {
		conn, err := w.connectTo(ctx, s, "postgres")
		if err != nil {
			return err
		}
		_, last = text(ctx, conn, "SET blobpglite.wait_for = '"+position+"'")
		_ = conn.Close(context.WithoutCancel(ctx))
		if last == nil || ctx.Err() != nil {
			return errors.Join(last, ctx.Err())
		}
	}
	return last
}
