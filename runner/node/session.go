package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/faults/clockfault"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/pointfault"
	"blobpglite/runner/workload"
)

// session does the operations, in whichever process it is.
type session struct {
	options Options
	system  clock.Clock
	clock   *clockfault.Clock // the engine's clock
	report  func(pointfault.Event)

	mu       sync.Mutex // guards the fields, never held during an operation
	loading  sync.Mutex // one loads the runtime
	runtime  *pglite.Runtime
	loadTime time.Duration
	engine   *engine.Engine
	bucket   *gcs.Store
	wire     *gcsfront.Transport
	faults   *pointfault.Injector
	exit     bool // end with the engine
	sessions sessions
}

func newSession(o Options) *session {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	system := clock.System()
	return &session{options: o, system: system, clock: clockfault.New(system)}
}

// current is the open engine; nil: none.
func (s *session) current() *engine.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engine
}

func (s *session) set(e *engine.Engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine = e
}

// poisoned says why the process must end, if it must.
func (s *session) poisoned() (Reason, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil || !s.exit || s.engine.Err() == nil {
		return "", false
	}
	return reasonOf(s.engine.Err()), true
}

// do runs one operation.
func (s *session) do(ctx context.Context, op Op, raw json.RawMessage) (any, error) {
	switch op {
	case Warm:
		return nil, s.warm(ctx)
	case Open:
		return with(op, raw, func(args OpenArgs) (any, error) { return s.open(ctx, args) })
	case Faults:
		return with(op, raw, s.setFaults)
	case Release:
		s.injector(0).Release()
		return nil, nil
	case Memory:
		peak, err := peakMemory()
		return MemoryResult{PeakBytes: peak}, err
	case Status:
		return s.status(), nil
	}
	e := s.current()
	if e == nil {
		return nil, fmt.Errorf("%s: %w", op, errNotOpen)
	}
	switch op {
	case Query:
		return with(op, raw, func(args QueryArgs) (any, error) {
			if args.Session == 0 {
				return query(ctx, e, args)
			}
			return s.sessions.query(ctx, e, args)
		})
	case Copy:
		return with(op, raw, func(args CopyArgs) (any, error) { return nil, s.sessions.copyIn(ctx, e, args) })
	case Load:
		return with(op, raw, func(args LoadArgs) (any, error) { return s.load(ctx, e, args) })
	case Verify:
		return with(op, raw, func(args VerifyArgs) (any, error) { return s.verify(ctx, e, args) })
	case Commit:
		return e.Commit(ctx, true)
	case Compact:
		return nil, e.Compact(ctx)
	case Close:
		return nil, s.close(ctx)
	case Abandon:
		e.Abandon()
		return nil, s.close(ctx)
	default:
		return nil, fmt.Errorf("there is no operation %q", op)
	}
}

// with decodes an operation's arguments.
func with[T any](op Op, raw json.RawMessage, do func(T) (any, error)) (any, error) {
	args, err := decodeArgs[T](op, raw)
	if err != nil {
		return nil, err
	}
	return do(args)
}

// warm loads the compiled PostgreSQL and the image of a new database.
func (s *session) warm(ctx context.Context) error {
	if err := s.loadRuntime(ctx); err != nil {
		return err
	}
	_, err := s.runtime.Template(ctx, memfs.Options{})
	return err
}

func (s *session) open(ctx context.Context, args OpenArgs) (any, error) {
	if s.current() != nil {
		return nil, errors.New("open: a database is open already")
	}
	if err := s.loadRuntime(ctx); err != nil {
		return nil, err
	}
	began := s.system.Monotonic()
	st, err := s.openStore(ctx, args)
	if err != nil {
		return nil, err
	}
	if args.Writer == "" {
		args.Writer = "experiment"
	}
	e, err := engine.Open(ctx, engine.Options{
		Runtime: s.runtime, Store: st, Create: args.Create, Mode: args.Mode, Writer: args.Writer, Clock: s.clock,
		Durability: args.Durability, LeaseTTL: args.LeaseTTL, AcquireTimeout: args.AcquireTimeout, CommitDeadline: args.CommitDeadline,
		FlushInterval: args.FlushInterval, IdleFlush: args.IdleFlush, RestoreBudget: args.RestoreBudget, Retain: args.Retain,
		Cache: args.Cache, Settings: args.Settings,
		Hook: s.injector(0).Hook(),
	})
	if err != nil {
		return nil, errors.Join(err, s.closeStore())
	}
	s.mu.Lock()
	s.engine, s.exit = e, args.ExitWhenPoisoned
	s.mu.Unlock()
	if _, err := e.Query(ctx, "SELECT 1"); err != nil {
		return nil, err
	}
	return OpenResult{Opened: e.Opened(), FirstRow: int64(s.system.Monotonic() - began), Runtime: int64(s.loadTime)}, nil
}

func (s *session) loadRuntime(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.runtime != nil {
		return nil
	}
	if s.options.Runtime != nil {
		s.runtime = s.options.Runtime
		return nil
	}
	at := s.system.Monotonic()
	rt, err := pglite.NewRuntime(ctx, pglite.Options{Progress: s.options.Progress})
	if err != nil {
		return err
	}
	s.runtime, s.loadTime = rt, s.system.Monotonic()-at
	return nil
}

func (s *session) openStore(ctx context.Context, args OpenArgs) (store.Store, error) {
	spec := args.Store
	if spec.Memory != nil {
		return store.Prefixed(spec.Memory, spec.Prefix), nil
	}
	o := gcs.Options{Bucket: spec.Bucket, Prefix: spec.Prefix, Endpoint: spec.Endpoint}
	var wire *gcsfront.Transport
	if len(args.HTTPRules) > 0 {
		if spec.Endpoint == "" {
			return nil, errors.New("open: rules between a client and the real service need a client that authenticates by itself")
		}
		var err error
		if wire, err = gcsfront.NewTransport(nil, gcsfront.TransportOptions{Rules: args.HTTPRules, Seed: args.HTTPSeed}); err != nil {
			return nil, err
		}
		o.HTTPClient = &http.Client{Transport: wire}
	}
	b, err := gcs.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucket, s.wire = b, wire
	return b, nil
}

func (s *session) closeStore() error {
	s.mu.Lock()
	b := s.bucket
	s.bucket = nil
	s.mu.Unlock()
	if b == nil {
		return nil
	}
	return b.Close()
}

func (s *session) close(ctx context.Context) error {
	e := s.current()
	if e == nil {
		return fmt.Errorf("close: %w", errNotOpen)
	}
	err := e.Close(ctx)
	s.set(nil)
	return errors.Join(err, s.closeStore())
}

func (s *session) status() StatusResult {
	e := s.current()
	switch {
	case e == nil:
		return StatusResult{Role: "none"}
	case e.Err() == nil:
		return StatusResult{Role: "holder"}
	}
	return StatusResult{Role: string(reasonOf(e.Err())), Why: e.Err().Error()}
}

// load runs the dataset's SQL and, if asked, leaves a transaction open and commits in the middle of it.
func (s *session) load(ctx context.Context, e *engine.Engine, args LoadArgs) (LoadResult, error) {
	d := workload.Dataset{Bytes: args.Bytes, Seed: args.Seed}
	var r LoadResult
	began := s.system.Monotonic()
	stop := s.follow(e, args.Bytes)
	_, err := e.Query(ctx, d.Load())
	stop()
	if err != nil {
		return r, fmt.Errorf("load %d rows: %w", d.Rows(), err)
	}
	r.LoadNS = int64(s.system.Monotonic() - began)
	r.Commit = e.LastCommit()
	if r.DatabaseBytes, err = databaseBytes(ctx, e); err != nil || !args.OpenTransaction {
		return r, err
	}
	if _, err := e.Query(ctx, d.OpenTransactionSQL()); err != nil {
		return r, fmt.Errorf("write in an open transaction: %w", err)
	}
	r.Commit, err = e.Commit(ctx, true)
	return r, err
}

// follow reports how much of the log has been written while a load runs. The log of a load is about 1.2 times the data.
func (s *session) follow(e *engine.Engine, bytes int64) (stop func()) {
	const logPerByte = 1.2
	total := int64(float64(bytes) * logPerByte)
	start := e.LogBytes()
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			t := s.system.NewTimer(500 * time.Millisecond)
			select {
			case <-done:
				t.Stop()
				return
			case <-t.C():
				s.options.Progress("loading rows", min(e.LogBytes()-start, total-1), total)
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

func databaseBytes(ctx context.Context, e *engine.Engine) (int64, error) {
	results, err := e.Query(ctx, "SELECT pg_database_size(current_database())")
	if err != nil {
		return 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return 0, errors.New("read the size of the database: no row")
	}
	return strconv.ParseInt(results[0].Rows[0][0], 10, 64)
}

func (s *session) verify(ctx context.Context, e *engine.Engine, args VerifyArgs) (VerifyResult, error) {
	d := workload.Dataset{Bytes: args.Bytes, Seed: args.Seed}
	began := s.system.Monotonic()
	s.options.Progress("verifying rows", 0, 0)
	results, err := e.Query(ctx, workload.VerifySQL)
	if err != nil {
		return VerifyResult{}, fmt.Errorf("verify: %w", err)
	}
	v, err := workload.ParseVerify(results)
	if err != nil {
		return VerifyResult{}, err
	}
	r := VerifyResult{VerifyNS: int64(s.system.Monotonic() - began), Rows: v.Rows}
	if wrong := d.Check(v); wrong != nil {
		r.Wrong = wrong.Error()
	}
	r.DatabaseBytes, err = databaseBytes(ctx, e)
	return r, err
}
