package isolation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// launch is a step that was sent.
type launch struct {
	*Launch
	targets []int // for each blocker, how many notices the other session must have received
}

// steps sends the steps of a permutation, and waits for all of them.
func (r *run) steps(ctx context.Context, p Permutation) error {
	var waiting []*launch // in the order in which they were sent
	for _, next := range p {
		session := next.step.session
		var err error
		if waiting, err = r.vacate(ctx, session, waiting); err != nil {
			return err
		}
		c := r.conns[session]
		if err := c.send(&pgproto3.Query{String: next.step.SQL}); err != nil {
			return r.end("failed to send query for step %s: %v\n\n", next.step.Name, err)
		}
		l := &launch{Launch: next, targets: make([]int, len(next.Blockers))}
		r.active[session] = l
		for i, b := range next.Blockers {
			if b.Kind == Notices {
				l.targets[i] = b.Notices + r.conns[b.step.session].notices
			}
		}
		waits, err := r.try(ctx, l, true, false)
		if err != nil {
			return err
		}
		if waiting, err = r.tryAll(ctx, waiting, true); err != nil {
			return err
		}
		if waits {
			waiting = append(waiting, l)
		}
	}
	waiting, err := r.tryAll(ctx, waiting, false)
	if err == nil && len(waiting) > 0 {
		err = r.end("failed to complete permutation due to mutually-blocking steps\n")
	}
	return err
}

// vacate waits until a session's step has completed, and meanwhile attends to the others.
func (r *run) vacate(ctx context.Context, session int, waiting []*launch) (_ []*launch, err error) {
	began := r.Clock.Monotonic()
	for r.active[session] != nil {
		old := r.active[session]
		waits, err := r.try(ctx, old, false, true) // it may still wait, for its blockers
		if err != nil {
			return nil, err
		}
		if !waits {
			waiting = slices.DeleteFunc(waiting, func(l *launch) bool { return l == old })
		}
		if waiting, err = r.tryAll(ctx, waiting, true); err != nil {
			return nil, err
		}
		took := r.Clock.Monotonic() - began
		if r.active[session] == nil || took <= 2*r.MaxWait {
			continue
		}
		r.printf("step %s timed out after %d seconds\nactive steps are:", r.active[session].step.Name, took/time.Second)
		for _, l := range r.active {
			if l != nil {
				r.printf(" %s", l.step.Name)
			}
		}
		return nil, r.end("\n")
	}
	return waiting, nil
}

// tryAll tries all steps that wait, again and again while the end of one, or a notice, could let another end.
func (r *run) tryAll(ctx context.Context, waiting []*launch, leaveBlocked bool) ([]*launch, error) {
	for {
		r.noticed = false
		var still []*launch
		hasBlockers := false
		for _, l := range waiting {
			waits, err := r.try(ctx, l, leaveBlocked, true)
			if err != nil {
				return nil, err
			}
			if waits {
				still = append(still, l)
				hasBlockers = hasBlockers || len(l.Blockers) > 0
			}
		}
		completed := len(still) < len(waiting)
		waiting = still
		if !hasBlockers || !completed && !r.noticed {
			return waiting, nil
		}
	}
}

// try waits for a step that was sent. True: it has not completed, because it waits for a lock (only with leaveBlocked), or it may not be
// reported yet. again: not for the first time.
func (r *run) try(ctx context.Context, l *launch, leaveBlocked, again bool) (bool, error) {
	waits := func() (bool, error) {
		if !again {
			r.printf("step %s: %s <waiting ...>\n", l.step.Name, l.step.SQL)
		}
		return true, nil
	}
	if !again && slices.ContainsFunc(l.Blockers, func(b Blocker) bool { return b.Kind == Once }) {
		return waits()
	}
	isBlocked, err := r.result(ctx, l, leaveBlocked)
	if err != nil {
		return false, err
	}
	if isBlocked || r.heldBack(l) {
		return waits()
	}
	return false, r.complete(ctx, l, again)
}

// result waits for the first result of a step. True: it waits for a lock instead.
func (r *run) result(ctx context.Context, l *launch, leaveBlocked bool) (bool, error) {
	c := r.conns[l.step.session]
	began, canceled := r.Clock.Monotonic(), false
	for c.busy() {
		if c.gone {
			return false, r.end("PQconsumeInput failed: %s\n", vanished)
		}
		some, err := c.await(ctx, r.Clock, pollInterval)
		if err != nil {
			return false, err
		}
		if some {
			continue
		}
		if leaveBlocked {
			isBlocked, err := r.isBlocked(ctx, l.step.session)
			if err != nil {
				return false, err
			}
			if isBlocked && c.busy() && !c.gone { // what arrived during that query is processed first
				return true, r.late(ctx, c)
			}
			if isBlocked {
				continue
			}
		}
		took := r.Clock.Monotonic() - began
		if took > r.MaxWait && !canceled {
			if err := c.cancel(ctx); err != nil {
				r.printf("PQcancel failed: %v\n", err)
			} else {
				r.printf("isolationtester: canceling step %s after %d seconds\n", l.step.Name, took/time.Second)
				canceled = true
			}
		}
		if took > 2*r.MaxWait {
			return false, r.end("step %s timed out after %d seconds\n", l.step.Name, took/time.Second)
		}
	}
	return false, nil
}

// late prints a waiting session's notices that are still on their way: its server wrote them before the answer that it waits, but over
// another connection.
func (r *run) late(ctx context.Context, c *conn) error {
	for c.busy() && !c.gone {
		some, err := c.await(ctx, r.Clock, pollInterval)
		if err != nil || !some {
			return err
		}
	}
	return nil
}

// heldBack says whether a blocker keeps a step from being reported as completed.
func (r *run) heldBack(l *launch) bool {
	for i, b := range l.Blockers {
		switch b.Kind {
		case Once:
		case Completed:
			if other := r.active[b.step.session]; other != nil && other.step == b.step {
				return true
			}
		case Notices:
			if r.conns[b.step.session].notices < l.targets[i] {
				return true
			}
		}
	}
	return false
}

// complete reports all results of a step.
func (r *run) complete(ctx context.Context, l *launch, again bool) error {
	text := l.step.SQL
	if again {
		text = "<... completed>"
	}
	r.printf("step %s: %s\n", l.step.Name, text)
	c := r.conns[l.step.session]
	for {
		res, err := c.next(ctx)
		if err != nil {
			return err
		}
		if res == nil {
			break
		}
		switch {
		case res.failed != nil:
			r.printf("%s:  %s\n", res.failed.Severity, res.failed.Message) // a detail may hold numbers of transactions
		case res.lost != "":
			r.printf("%s\n", res.lost)
		case res.odd != "":
			return r.end("unexpected answer in step %s: %s\n", l.step.Name, res.odd)
		default:
			table(r.out, res.names, res.rows)
		}
	}
	for _, n := range c.notifications() {
		sender := slices.IndexFunc(r.conns, func(c *conn) bool { return c.hijacked.PID == n.PID })
		from := fmt.Sprintf("PID %d", n.PID)
		if sender >= 0 {
			from = r.conns[sender].name
		}
		r.printf("%s: NOTIFY \"%s\" with payload \"%s\" from %s\n", c.name, n.Channel, n.Payload, from)
	}
	r.active[l.step.session] = nil
	return nil
}
