package isolation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// event is something that a session's server sent: a notice, a result, an error, the end of an answer.
type event struct {
	text   string // to be printed
	notice bool
	result bool
	end    bool
}

// session is one of the test's sessions.
type session struct {
	t        *tester
	name     string
	conn     *pgconn.PgConn
	events   chan event
	pending  []event // taken, and not printed yet
	ready    bool    // the first result of the active step is there
	ended    bool    // the answer to it is
	active   *Place
	notices  int // how many there were
	notified []*pgconn.Notification
}

// send sends a step's SQL; a goroutine reads the answer.
func (s *session) send(ctx context.Context, p *Place) {
	s.active, s.ready, s.ended, s.pending = p, false, false, nil
	go func() {
		defer func() { s.events <- event{end: true} }()
		results := s.conn.Exec(ctx, p.Step.SQL)
		for results.NextResult() {
			r := readResult(results)
			var out strings.Builder
			if r.Err == nil {
				printRows(&out, r)
			}
			s.events <- event{text: out.String(), result: true}
		}
		if err := results.Close(); err != nil {
			s.events <- event{text: failure(err), result: true}
		}
	}()
}

// readResult reads one result; its columns are there also if it has no rows.
func readResult(results *pgconn.MultiResultReader) *pgconn.Result {
	columns := slices.Clone(results.ResultReader().FieldDescriptions())
	r := results.ResultReader().Read()
	r.FieldDescriptions = columns
	return r
}

// failure is how an error is printed.
func failure(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		text := fmt.Sprintf("%s:  %s\n", pg.Severity, pg.Message)
		if pg.Severity == "FATAL" { // and the server closed the connection, which libpq tells of by itself
			text += "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.\n\n"
		}
		return text
	}
	return err.Error() + "\n"
}

// take notes an event. Notices are printed as they come, results when the step is said to be complete.
func (s *session) take(e event) {
	switch {
	case e.notice && !s.ready:
		s.print(e)
	case e.end:
		s.ready, s.ended = true, true
	default:
		s.ready = s.ready || e.result
		s.pending = append(s.pending, e)
	}
}

func (s *session) print(e event) {
	s.t.out.WriteString(e.text)
	if e.notice {
		s.notices++
		s.t.noticed = true
	}
}

// printNotices prints those that have come while no step was active.
func (s *session) printNotices() {
	for {
		select {
		case e := <-s.events:
			s.print(e)
		default:
			return
		}
	}
}

// end closes the connection, whatever it is at.
func (s *session) end(ctx context.Context) {
	if s.active != nil && !s.ended {
		_ = s.conn.CancelRequest(ctx)
		for !s.ended {
			select {
			case e := <-s.events:
				s.take(e)
			case <-ctx.Done():
				return
			}
		}
	}
	_ = s.conn.Close(ctx)
}

// try completes a step, if it can be. True: it cannot, for it waits for a lock and nonblock is set, or something that it is to wait for is not
// there yet. again: it was tried before.
func (t *tester) try(ctx context.Context, p *Place, nonblock, again bool) (bool, error) {
	s := t.sessions[p.Step.session]
	if !again {
		for _, b := range p.blockers {
			if b.once {
				t.announce(p)
				return true, nil
			}
		}
	}
	began, cancelled := t.o.Clock.Monotonic(), false
	for !s.ready {
		timer := t.o.Clock.NewTimer(look)
		select {
		case e := <-s.events:
			timer.Stop()
			s.take(e)
			continue
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		case <-timer.C():
		}
		if nonblock {
			waits, err := t.waits(ctx, s)
			if err != nil {
				return false, err
			}
			for more := waits; more; { // what has come meanwhile
				select {
				case e := <-s.events:
					s.take(e)
				default:
					more = false
				}
			}
			if waits && !s.ready {
				if !again {
					t.announce(p)
				}
				return true, nil
			}
		}
		switch took := t.o.Clock.Monotonic() - began; {
		case took > 2*t.o.Patience:
			return false, fmt.Errorf("%w: step %s", ErrStuck, p.Step.Name)
		case took > t.o.Patience && !cancelled:
			fmt.Fprintf(&t.out, "isolationtester: canceling step %s after %d seconds\n", p.Step.Name, int(took.Seconds()))
			cancelled = s.conn.CancelRequest(ctx) == nil
		}
	}
	if t.held(p) {
		if !again {
			t.announce(p)
		}
		return true, nil
	}
	return false, t.complete(ctx, p, s, again)
}

func (t *tester) announce(p *Place) {
	fmt.Fprintf(&t.out, "step %s: %s <waiting ...>\n", p.Step.Name, p.Step.SQL)
}

// complete prints a step's answer.
func (t *tester) complete(ctx context.Context, p *Place, s *session, again bool) error {
	if again {
		fmt.Fprintf(&t.out, "step %s: <... completed>\n", p.Step.Name)
	} else {
		fmt.Fprintf(&t.out, "step %s: %s\n", p.Step.Name, p.Step.SQL)
	}
	for {
		for _, e := range s.pending {
			s.print(e)
		}
		s.pending = nil
		if s.ended {
			break
		}
		select {
		case e := <-s.events:
			s.take(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, n := range s.notified {
		from := fmt.Sprintf("PID %d", n.PID)
		for _, other := range t.sessions {
			if other.conn.PID() == n.PID {
				from = other.name
			}
		}
		fmt.Fprintf(&t.out, "%s: NOTIFY \"%s\" with payload \"%s\" from %s\n", s.name, n.Channel, n.Payload, from)
	}
	s.notified, s.active = nil, nil
	return nil
}

// held says whether something that a step is to wait for is not there yet.
func (t *tester) held(p *Place) bool {
	for _, b := range p.blockers {
		other := (*session)(nil)
		if !b.once {
			other = t.sessions[b.session]
		}
		switch {
		case b.once:
		case b.notices > 0:
			if other.notices < b.target {
				return true
			}
		case other.active != nil && other.active.Step.Name == b.step:
			return true
		}
	}
	return false
}
