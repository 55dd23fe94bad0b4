package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/runner/history"
)

// Target returns where a client sends its next request, and the node's name. Nil: nowhere at present; the client tries again.
type Target func() (Conn, string)

// Load runs clients that work on the tables of LedgerSchema, and records everything in a history.
//
//	l := workload.Load{Clients: 4, Rate: 200, Mix: []string{"ledger", "bank", "register"}, Seed: 1, History: h, Target: holder, Outcome: outcomeOf}
//	done := l.Run(ctx)        // until ctx ends, and every request under way has ended
//
// The loop is open: each client has a schedule, and a request's latency counts from when it was meant to start, however late it did. With a
// rate of zero a client sends the next request when the last one was answered.
type Load struct {
	Clients int
	Rate    float64 // requests per second of all clients together; zero: as fast as answers arrive
	Mix     []string
	Seed    uint64
	History *history.History
	Target  Target
	// Outcome returns the outcome of a request that ended with an error.
	Outcome func(error) history.Outcome
	// Sabotage is about how often another session cancels the statement of one of the clients, or ends its session. Zero: never.
	Sabotage time.Duration
	// Latency is called for each request that was acknowledged. Nil: not called.
	Latency func(time.Duration)
	Copy    CopySize
	Clock   clock.Clock
}

// Mixes returns the names that Load.Mix may have.
func Mixes() []string { return slices.Sorted(maps.Keys(mixes())) }

func mixes() map[string]func(*maker) request {
	return map[string]func(*maker) request{
		"ledger": (*maker).append, "bank": (*maker).bank, "transaction": (*maker).transaction, "register": (*maker).register,
		"rows": (*maker).block, "ddl": (*maker).ddl, "copy": (*maker).large,
	}
}

// pause is how long a client without a target waits.
const pause = 5 * time.Millisecond

// Run loads until ctx ends, and waits for running requests, which ctx does not end. An error is one of the load itself.
func (l Load) Run(ctx context.Context) error {
	var kinds []func(*maker) request
	for _, name := range l.Mix {
		kind, ok := mixes()[name]
		if !ok {
			return fmt.Errorf("load: there is no workload %q: want some of %v", name, Mixes())
		}
		kinds = append(kinds, kind)
	}
	if len(kinds) == 0 || l.Clients < 1 {
		return errors.New("load: no workload, or no client, is asked for")
	}
	if l.Copy.Rows == 0 {
		l.Copy = CopySize{Rows: 60, RowBytes: 1000}
	}
	var wg sync.WaitGroup
	errs := make([]error, l.Clients)
	for i := range l.Clients {
		wg.Go(func() {
			m := &maker{h: l.History, random: rand.New(rand.NewPCG(l.Seed, uint64(i))), kinds: kinds, copies: l.Copy}
			errs[i] = l.client(ctx, m, i)
		})
	}
	var quiet sync.WaitGroup
	inner, stop := context.WithCancel(ctx)
	if l.Sabotage > 0 {
		quiet.Go(func() { l.sabotage(inner) })
	}
	wg.Wait()
	stop()
	quiet.Wait()
	return errors.Join(errs...)
}

// Sabotage picks a client's session, and cancels what it runs or ends it.
const (
	sabotageSQL     = "SELECT %s(pid) FROM pg_stat_activity WHERE application_name = '" + ClientName + "' AND pid <> pg_backend_pid() ORDER BY pid OFFSET %d LIMIT 1"
	sabotageSession = 1 << 40 // no client has so high a number
	// ClientName is the application_name of the clients' sessions.
	ClientName = "load"
)

// sabotage disturbs the clients until ctx ends. Its own errors are ignored: the clients see the effect.
func (l Load) sabotage(ctx context.Context) {
	random := rand.New(rand.NewPCG(l.Seed, sabotageSession))
	for l.Clock.Sleep(ctx, time.Duration((0.5+random.Float64())*float64(l.Sabotage))) == nil {
		how := "pg_cancel_backend"
		if random.IntN(3) == 0 {
			how = "pg_terminate_backend"
		}
		if conn, _ := l.Target(); conn != nil {
			_, _, _ = conn.In(sabotageSession, "").Query(context.WithoutCancel(ctx), fmt.Sprintf(sabotageSQL, how, random.IntN(l.Clients)))
		}
	}
}

// client sends one request after the other.
func (l Load) client(ctx context.Context, m *maker, n int) error {
	id := l.History.Client()
	interval := time.Duration(0)
	if l.Rate > 0 {
		interval = time.Duration(float64(l.Clients) / l.Rate * float64(time.Second))
	}
	began := l.Clock.Monotonic()
	due := began + interval*time.Duration(n)/time.Duration(l.Clients)
	for ctx.Err() == nil {
		now := l.Clock.Monotonic()
		if interval > 0 && now < due {
			if l.Clock.Sleep(ctx, due-now) != nil {
				return nil
			}
		}
		meant := l.Clock.Monotonic()
		if interval > 0 {
			meant = due
			due += interval
		}
		conn, name := l.Target()
		if conn == nil {
			if l.Clock.Sleep(ctx, pause) != nil {
				return nil
			}
			continue
		}
		conn = conn.In(id, Isolations()[n%len(Isolations())])
		outcome, err := l.ask(context.WithoutCancel(ctx), m, id, conn, name)
		if err != nil {
			return err
		}
		switch outcome {
		case history.OK:
			if l.Latency != nil {
				l.Latency(l.Clock.Monotonic() - meant)
			}
		case history.Unknown:
			id = l.History.Client() // the old one may still be at it
			fallthrough
		case history.Failed:
			if l.Clock.Sleep(ctx, pause) != nil {
				return nil
			}
		}
	}
	return nil
}

// ask sends one request and records it.
func (l Load) ask(ctx context.Context, m *maker, id int64, conn Conn, name string) (history.Outcome, error) {
	r := m.next()
	op := l.History.Begin(id, name, r.kind, r.in)
	var rows [][][]string
	var tags []string
	var err error
	committed := true // what ends it, if it ends with an error
	switch {
	case r.copy:
		err = conn.Copy(ctx, r.in["token"], l.Copy.Rows, l.Copy.RowBytes)
	case len(r.steps) > 0:
		committed, err = transact(ctx, conn, r.steps)
	default:
		rows, tags, err = conn.Query(ctx, r.sql)
	}
	if err != nil {
		outcome := history.Failed
		if committed {
			outcome = l.Outcome(err)
		}
		l.History.End(op, outcome, func(op *history.Op) { op.Error = err.Error() })
		return outcome, nil
	}
	var bad error
	l.History.End(op, history.OK, func(op *history.Op) {
		if r.done != nil {
			bad = r.done(op, rows, tags)
		}
	})
	if bad != nil {
		return history.OK, fmt.Errorf("load: the answer to %q: %w", r.sql, bad)
	}
	return history.OK, nil
}

// transact sends a transaction's statements one by one. sent says whether the last one, its COMMIT, was: before that, an error means that
// it is not committed, whatever the error is.
func transact(ctx context.Context, conn Conn, steps []string) (sent bool, err error) {
	for i, sql := range steps {
		sent = i == len(steps)-1
		_, tags, err := conn.Query(ctx, sql)
		switch {
		case err != nil && !sent:
			_, _, _ = conn.Query(ctx, "ROLLBACK") // if there still is a session
			return false, err
		case err != nil:
			return true, err
		case sent && !slices.Equal(tags, []string{"COMMIT"}):
			return false, fmt.Errorf("COMMIT was answered with %q", tags)
		}
	}
	return true, nil
}
