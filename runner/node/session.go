package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/runner/workload"
)

// session does the operations, in whatever process it is.
type session struct {
	options  Options
	clock    clock.Clock
	runtime  *pglite.Runtime
	loadTime time.Duration
	engine   *engine.Engine
	bucket   *gcs.Store
}

func newSession(o Options) *session {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	return &session{options: o, clock: clock.System()}
}

// do runs one operation.
func (s *session) do(ctx context.Context, op Op, raw json.RawMessage) (any, error) {
	if op != Open && op != Memory && s.engine == nil {
		return nil, fmt.Errorf("%s: no database is open", op)
	}
	switch op {
	case Open:
		args, err := decodeArgs[OpenArgs](op, raw)
		if err != nil {
			return nil, err
		}
		return s.open(ctx, args)
	case Load:
		args, err := decodeArgs[LoadArgs](op, raw)
		if err != nil {
			return nil, err
		}
		return s.load(ctx, args)
	case Verify:
		args, err := decodeArgs[VerifyArgs](op, raw)
		if err != nil {
			return nil, err
		}
		return s.verify(ctx, args)
	case Commit:
		return s.engine.Commit(ctx, true)
	case Memory:
		peak, err := peakMemory()
		return MemoryResult{PeakBytes: peak}, err
	case Close:
		return nil, s.close(ctx)
	case Abandon:
		s.engine.Abandon()
		return nil, s.close(ctx)
	default:
		return nil, fmt.Errorf("there is no operation %q", op)
	}
}

func (s *session) open(ctx context.Context, args OpenArgs) (OpenResult, error) {
	if s.engine != nil {
		return OpenResult{}, errors.New("open: a database is open already")
	}
	if err := s.loadRuntime(ctx); err != nil {
		return OpenResult{}, err
	}
	began := s.clock.Monotonic()
	st, err := s.openStore(ctx, args.Store)
	if err != nil {
		return OpenResult{}, err
	}
	e, err := engine.Open(ctx, engine.Options{
		Runtime: s.runtime, Store: st, Create: args.Create, Mode: args.Mode, Writer: "experiment", Clock: s.clock,
	})
	if err != nil {
		return OpenResult{}, errors.Join(err, s.closeStore())
	}
	s.engine = e
	if _, err := e.Query(ctx, "SELECT 1"); err != nil {
		return OpenResult{}, err
	}
	return OpenResult{Opened: e.Opened(), FirstRow: int64(s.clock.Monotonic() - began), Runtime: int64(s.loadTime)}, nil
}

func (s *session) loadRuntime(ctx context.Context) error {
	if s.runtime != nil {
		return nil
	}
	if s.options.Runtime != nil {
		s.runtime = s.options.Runtime
		return nil
	}
	at := s.clock.Monotonic()
	rt, err := pglite.NewRuntime(ctx, pglite.Options{Progress: s.options.Progress})
	if err != nil {
		return err
	}
	s.runtime, s.loadTime = rt, s.clock.Monotonic()-at
	return nil
}

func (s *session) openStore(ctx context.Context, spec StoreSpec) (store.Store, error) {
	if spec.Memory != nil {
		return store.Prefixed(spec.Memory, spec.Prefix), nil
	}
	b, err := gcs.Open(ctx, gcs.Options{Bucket: spec.Bucket, Prefix: spec.Prefix, Endpoint: spec.Endpoint})
	if err != nil {
		return nil, err
	}
	s.bucket = b
	return b, nil
}

func (s *session) closeStore() error {
	if s.bucket == nil {
		return nil
	}
	b := s.bucket
	s.bucket = nil
	return b.Close()
}

func (s *session) close(ctx context.Context) error {
	e := s.engine
	s.engine = nil
	return errors.Join(e.Close(ctx), s.closeStore())
}

// load runs the dataset's SQL and, if asked, leaves a transaction open and commits in the middle of it.
func (s *session) load(ctx context.Context, args LoadArgs) (LoadResult, error) {
	d := workload.Dataset{Bytes: args.Bytes, Seed: args.Seed}
	var r LoadResult
	began := s.clock.Monotonic()
	stop := s.follow(args.Bytes)
	_, err := s.engine.Query(ctx, d.Load())
	stop()
	if err != nil {
		return r, fmt.Errorf("load %d rows: %w", d.Rows(), err)
	}
	r.LoadNS = int64(s.clock.Monotonic() - began)
	r.Commit = s.engine.LastCommit()
	if r.DatabaseBytes, err = s.databaseBytes(ctx); err != nil || !args.OpenTransaction {
		return r, err
	}
	if _, err := s.engine.Query(ctx, d.OpenTransactionSQL()); err != nil {
		return r, fmt.Errorf("write in an open transaction: %w", err)
	}
	r.Commit, err = s.engine.Commit(ctx, true)
	return r, err
}

// follow reports how much of the log has been written while a load runs. The log of a load is about 1.2 times the
// data.
func (s *session) follow(bytes int64) (stop func()) {
	const logPerByte = 1.2
	total := int64(float64(bytes) * logPerByte)
	start := s.engine.LogBytes()
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			t := s.clock.NewTimer(500 * time.Millisecond)
			select {
			case <-done:
				t.Stop()
				return
			case <-t.C():
				s.options.Progress("loading rows", min(s.engine.LogBytes()-start, total-1), total)
			}
		}
	}()
	var once atomic.Bool
	return func() {
		if once.CompareAndSwap(false, true) {
			close(done)
			<-ended
		}
	}
}

func (s *session) databaseBytes(ctx context.Context) (int64, error) {
	results, err := s.engine.Query(ctx, "SELECT pg_database_size(current_database())")
	if err != nil {
		return 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return 0, errors.New("read the size of the database: no row")
	}
	return strconv.ParseInt(results[0].Rows[0][0], 10, 64)
}

func (s *session) verify(ctx context.Context, args VerifyArgs) (VerifyResult, error) {
	d := workload.Dataset{Bytes: args.Bytes, Seed: args.Seed}
	began := s.clock.Monotonic()
	s.options.Progress("verifying rows", 0, 0)
	results, err := s.engine.Query(ctx, workload.VerifySQL)
	if err != nil {
		return VerifyResult{}, fmt.Errorf("verify: %w", err)
	}
	v, err := workload.ParseVerify(results)
	if err != nil {
		return VerifyResult{}, err
	}
	r := VerifyResult{VerifyNS: int64(s.clock.Monotonic() - began), Rows: v.Rows}
	if wrong := d.Check(v); wrong != nil {
		r.Wrong = wrong.Error()
	}
	r.DatabaseBytes, err = s.databaseBytes(ctx)
	return r, err
}
