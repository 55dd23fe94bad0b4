// Package storefault makes any store slow, limited and faulty: a store.Store around another one.
//
//	st, err := storefault.New(mem.New(mem.Options{}), storefault.Options{
//		Seed: 1, Latency: model.DefaultLatency(), Rate: model.DefaultRate(),
//		Rules: []storefault.Rule{{Op: storefault.OpPut, KeyClass: "wal", Phase: storefault.After, Nth: 3, Do: storefault.Lose}},
//	})
//	defer st.Close()
//
// A request passes through
//
//	half the latency, rules of phase before -> rate limit -> the store -> rules of phase after, half the latency -> reply
//
// It works at the level of the contract: its faults are those that a caller of store.Store must survive (a reply lost after the write was
// applied, a write applied long after its sender gave up). gcsfront emulates what a service does to its client below the contract. Time is
// the Clock's, real or virtual. Thousands of requests in flight share a single lock, which is not held during a request.
package storefault

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/faults/model"
)

// Options configures a Store. The zero value adds nothing.
type Options struct {
	Clock   clock.Clock    // latency, delays and the rate limit; nil: the system clock
	Seed    uint64         // of latencies and of rules with a probability
	Latency *model.Latency // nil: none is added
	Rate    *model.Rate    // limit per object name, for writes and deletes, including refused ones; nil: none
	Rules   []Rule         // faults, tried in order
}

// Store is a store with faults. Create it with New, end it with Close. It is safe for concurrent use, and reads ranges even if the
// underlying store does not.
type Store struct {
	st      store.Store
	clock   clock.Clock
	latency *model.Sampler
	limiter *model.Limiter
	rules   *rules

	throttled atomic.Int64

	// life ends with Close: held requests that are not due by then are dropped.
	life context.Context
	stop context.CancelFunc
	held sync.WaitGroup
}

var (
	_ store.Store       = (*Store)(nil)
	_ store.RangeGetter = (*Store)(nil)
)

// New wraps a store. An unusable option is an error that names it.
func New(st store.Store, o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	rules, err := newRules(o.Rules, o.Seed)
	if err != nil {
		return nil, fmt.Errorf("make a faulty store: %w", err)
	}
	limiter, err := model.NewLimiter(o.Rate, o.Clock)
	if err != nil {
		return nil, fmt.Errorf("make a faulty store: %w", err)
	}
	latency, err := model.NewSampler(o.Latency, o.Seed)
	if err != nil {
		return nil, fmt.Errorf("make a faulty store: %w", err)
	}
	s := &Store{st: st, clock: o.Clock, latency: latency, limiter: limiter, rules: rules}
	s.life, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close drops the held requests that are not yet due and waits for the others. No request may follow it or be under way. It does not close
// the underlying store.
func (s *Store) Close() {
	s.stop()
	s.held.Wait()
}

// Fired returns, for each rule in order, how often it matched and struck. A rule that never struck tested nothing.
func (s *Store) Fired() []Fired { return s.rules.fired() }

// Throttled returns how many writes the rate limit refused, not counting those refused by rules.
func (s *Store) Throttled() int64 { return s.throttled.Load() }

// Above implements store.Placed: it returns that of the underlying store, without faults.
func (s *Store) Above() []store.Store { return store.Above(s.st) }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	return s.read(ctx, key, func() (store.Object, error) { return s.st.Get(ctx, key) })
}

// GetRange implements store.RangeGetter. If the store does not read ranges, it cuts them from the whole object, as slowly as the range
// alone would be.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (store.Object, error) {
	if err := store.CheckRange(key, offset, length); err != nil {
		return store.Object{}, failure(OpGet, key, err)
	}
	return s.read(ctx, key, func() (store.Object, error) {
		if r, ok := s.st.(store.RangeGetter); ok {
			return r.GetRange(ctx, key, offset, length)
		}
		o, err := s.st.Get(ctx, key)
		size := int64(len(o.Body))
		start := min(offset, size)
		o.Body = o.Body[start : start+min(length, size-start)]
		return o, err
	})
}

func (s *Store) read(ctx context.Context, key string, get func() (store.Object, error)) (store.Object, error) {
	there := s.latency.Sample(model.Get, 0) / 2
	if err := s.before(ctx, OpGet, key, there); err != nil {
		return store.Object{}, err
	}
	o, err := get()
	back := s.latency.Sample(model.Get, int64(len(o.Body))) - there
	if lost := s.after(ctx, OpGet, key, back); lost != nil {
		return store.Object{}, lost
	}
	return o, err
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	if err := store.CheckPut(key, body, writeID, cond); err != nil {
		return 0, failure(OpPut, key, err)
	}
	var gen store.Gen
	err := s.write(ctx, OpPut, key, s.latency.Sample(model.Put, int64(len(body))),
		func() (err error) { gen, err = s.st.Put(ctx, key, body, writeID, cond); return err },
		func() func() {
			body := slices.Clone(body) // the caller may reuse it once Put returns
			return func() { _, _ = s.st.Put(s.life, key, body, writeID, cond) }
		})
	if err != nil {
		return 0, err
	}
	return gen, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return failure(OpDelete, key, err)
	}
	return s.write(ctx, OpDelete, key, s.latency.Sample(model.Delete, 0),
		func() error { return s.st.Delete(ctx, key) },
		func() func() { return func() { _ = s.st.Delete(s.life, key) } })
}

// write sends a write with the given latency: apply does it now; later copies what it needs and returns a function that does it after the
// caller has gone.
func (s *Store) write(ctx context.Context, op Op, key string, latency time.Duration, apply func() error, later func() func()) error {
	if err := ctx.Err(); err != nil {
		return failure(op, key, err)
	}
	e := s.rules.decide(op, key, Before)
	if err := s.clock.Sleep(ctx, latency/2+e.delay); err != nil {
		return failure(op, key, fmt.Errorf("%w: %w", store.ErrUnknown, err))
	}
	if e.action == Hold {
		s.hold(e.hold, later())
	}
	if e.action != "" {
		return injected(op, key, e.action)
	}
	if !s.limiter.Allow(key) {
		s.throttled.Add(1)
		return failure(op, key, fmt.Errorf("%w: the name is written more often than the rate limit allows", store.ErrThrottled))
	}
	err := apply()
	if lost := s.after(ctx, op, key, latency-latency/2); lost != nil {
		return lost
	}
	return err
}

// hold applies a write after d.
func (s *Store) hold(d time.Duration, apply func()) {
	s.held.Go(func() {
		if s.clock.Sleep(s.life, d) == nil {
			apply()
		}
	})
}

// before lets a read travel to the store, unless a rule ends it.
func (s *Store) before(ctx context.Context, op Op, key string, latency time.Duration) error {
	if err := ctx.Err(); err != nil {
		return failure(op, key, err)
	}
	e := s.rules.decide(op, key, Before)
	if err := s.clock.Sleep(ctx, latency+e.delay); err != nil {
		return failure(op, key, err)
	}
	if e.action != "" {
		return injected(op, key, e.action)
	}
	return nil
}

// after lets the reply travel back, unless a rule ends it. A write whose caller stops waiting has an unknown outcome.
func (s *Store) after(ctx context.Context, op Op, key string, latency time.Duration) error {
	e := s.rules.decide(op, key, After)
	err := s.clock.Sleep(ctx, latency+e.delay)
	switch {
	case err != nil && op.writes():
		return failure(op, key, fmt.Errorf("%w: %w", store.ErrUnknown, err))
	case err != nil:
		return failure(op, key, err)
	case e.action != "":
		return injected(op, key, e.action)
	}
	return nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return func(yield func(store.Attrs, error) bool) {
		if err := store.CheckList(prefix, after); err != nil {
			yield(store.Attrs{}, failure(OpList, prefix, err))
			return
		}
		for {
			page, err := s.page(ctx, prefix, after)
			if err != nil {
				yield(store.Attrs{}, err)
				return
			}
			for _, a := range page {
				if !yield(a, nil) {
					return
				}
			}
			if len(page) < store.PageSize {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

// page requests up to store.PageSize objects.
func (s *Store) page(ctx context.Context, prefix, after string) ([]store.Attrs, error) {
	latency := s.latency.Sample(model.List, 0)
	if err := s.before(ctx, OpList, prefix, latency/2); err != nil {
		return nil, err
	}
	var page []store.Attrs
	for a, err := range s.st.List(ctx, prefix, after) {
		if err != nil {
			return nil, err
		}
		page = append(page, a)
		if len(page) == store.PageSize {
			break
		}
	}
	if err := s.after(ctx, OpList, prefix, latency-latency/2); err != nil {
		return nil, err
	}
	return page, nil
}

// injected is the error that the caller gets when a rule strikes.
func injected(op Op, key string, a Action) error {
	var told error
	switch {
	case a == Throttle:
		told = store.ErrThrottled
	case a == Deny:
		told = store.ErrDenied
	case op.writes():
		told = store.ErrUnknown
	default:
		told = store.ErrUnavailable
	}
	return failure(op, key, fmt.Errorf("%w: %w: %s", told, ErrInjected, a))
}

// ErrInjected is wrapped by every error that a rule caused, in addition to the contract's own: for tests that check where an error came
// from.
var ErrInjected = errors.New("injected fault")

func failure(op Op, key string, err error) error {
	return &store.OpError{Op: string(op), Key: key, Err: err}
}
