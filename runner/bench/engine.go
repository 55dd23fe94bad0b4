package bench

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
)

// ExperimentTTL is the lease of an engine that is about to be killed: the next opening waits for it.
const ExperimentTTL = 200 * time.Millisecond

// OpenEngine opens an engine in mode log, in this process.
func (r *Run) OpenEngine(ctx context.Context, st store.Store, change ...func(*engine.Options)) (*engine.Engine, error) {
	o := engine.Options{
		Runtime: r.Runtime, Store: st, Create: true, Mode: engine.ModeLog, Writer: "experiment", LeaseTTL: ExperimentTTL,
		AcquireTimeout: 30 * time.Second,
	}
	for _, c := range change {
		c(&o)
	}
	return engine.Open(ctx, o)
}

// NoLayers keeps an engine from taking layers by itself: for experiments that look at its log.
func NoLayers(o *engine.Options) { o.RestoreBudget = -1 }

// LongLease gives an engine a long lease: for measurements in which renewals would be counted along with the commits.
func LongLease(o *engine.Options) { o.LeaseTTL = time.Hour }

// OwnCPU is the processor time that this process has used.
func OwnCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read the process's times: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// Connect connects a client to an engine, with a process of its own (the engine's Query is one session for all). Close it after use.
func Connect(ctx context.Context, e *engine.Engine) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("postgres://postgres@database/postgres?sslmode=disable")
	if err != nil {
		return nil, err
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"database"}, nil }
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.Dial(ctx, pglite.ConnectOptions{Trusted: true})
	}
	return pgconn.ConnectConfig(ctx, config)
}
