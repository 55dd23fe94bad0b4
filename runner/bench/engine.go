package bench

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/store"
)

// ExperimentTTL is the lease of an engine that is going to be killed: the next opening waits for it.
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

// NoLayers makes an engine take no layer by itself: for experiments that look at its log.
func NoLayers(o *engine.Options) { o.RestoreBudget = -1 }

// LongLease gives an engine a long lease: for measurements in which renewals would be counted with the commits.
func LongLease(o *engine.Options) { o.LeaseTTL = time.Hour }

// OwnCPU is the processor time that this process has used.
func OwnCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read the process's times: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
