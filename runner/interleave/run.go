package interleave

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Transcript holds the answers in a schedule, one per line.
type Transcript struct {
	Schedule string
	Lines    []string
	// Repeated is how many parameters the server reported again with the same value. They are not in Lines.
	Repeated int
}

// Options of Run.
type Options struct {
	// Limit of an answer that waits for no lock; 0: Limit.
	Limit time.Duration
	// Shared makes both clients use one connection, like a server that mixes them up, to check that this is found.
	Shared bool
	// Each is called with every transcript; it returns false to end the run. Nil: not called.
	Each func(Transcript) bool
}

// maxSilent is how many schedules may end without an answer, each of which takes the limit.
const maxSilent = 20

// Run runs schedules, one after the other, against the server at address, where postgres is a superuser without a password. Nothing else
// may use the server during that.
func Run(ctx context.Context, address string, schedules []Schedule, o Options) ([]Transcript, error) {
	if o.Limit == 0 {
		o.Limit = Limit
	}
	r := &runner{address: address, limit: o.Limit, shared: o.Shared}
	defer func() { r.hangUp() }()
	if err := r.watcher(ctx); err != nil {
		return nil, err
	}
	if _, err := (&world{watch: r.watch}).ask(prepareOnce); err != nil {
		return nil, fmt.Errorf("prepare the server: %w", err)
	}
	var all []Transcript
	silent := 0
	for i, s := range schedules {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		if i%tidyEach == tidyEach-1 {
			if err := r.tidy(ctx); err != nil {
				return all, err
			}
		}
		t, hung, err := r.one(ctx, s)
		if err != nil {
			return all, fmt.Errorf("schedule %q: %w", s, err)
		}
		all = append(all, t)
		if hung {
			silent++
		}
		if o.Each != nil && !o.Each(t) || silent == maxSilent {
			break
		}
	}
	return all, nil
}

// tidyEach is the number of schedules after which the catalogs need cleaning: each makes a table and drops one.
const tidyEach = 250

// tidy has the server forget what no longer exists.
func (r *runner) tidy(ctx context.Context) error {
	if _, err := (&world{watch: r.watch}).ask("VACUUM"); err != nil {
		return fmt.Errorf("tidy the catalogs: %w", err)
	}
	return r.watcher(ctx)
}

// runner has the third connection, which outlives schedules.
type runner struct {
	address string
	limit   time.Duration
	shared  bool
	watch   *conn
	words   *words
}

func (r *runner) watcher(ctx context.Context) (err error) {
	r.hangUp()
	r.words = newWords()
	r.watch, err = dial(ctx, r.address, "third", r.limit, r.words)
	if err == nil {
		r.watch.answer()
	}
	return err
}

func (r *runner) hangUp() {
	if r.watch != nil {
		r.watch.close()
		r.watch = nil
	}
}

// one runs a schedule, and says whether it was left in the middle because an answer did not come.
func (r *runner) one(ctx context.Context, s Schedule) (t Transcript, hung bool, err error) {
	t.Schedule = s.String()
	w := &world{address: r.address, limit: r.limit, shared: r.shared, words: r.words, watch: r.watch}
	before := r.words.repeated
	err = w.run(ctx, s)
	t.Lines, t.Repeated = w.lines, r.words.repeated-before
	if err == nil {
		return t, false, nil
	}
	for _, c := range w.clients {
		if c != nil {
			c.abandon()
		}
	}
	if ctx.Err() != nil || !errors.Is(err, errNoAnswer) {
		return t, false, errors.Join(err, ctx.Err())
	}
	t.Lines = append(t.Lines, "given up: "+err.Error())
	return t, true, r.clean(ctx)
}

// abandon closes all of a client's connections.
func (c *client) abandon() {
	if c.conn != nil {
		c.close()
	}
	for _, g := range c.ghosts {
		g.close()
	}
}

// clean ends what an abandoned schedule has left.
func (r *runner) clean(ctx context.Context) error {
	if err := r.watcher(ctx); err != nil {
		return err
	}
	const end = `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`
	if _, err := (&world{watch: r.watch}).ask(end); err != nil {
		return fmt.Errorf("end the sessions that are left: %w", err)
	}
	return nil
}
