package isolation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
)

// Options of Run.
type Options struct {
	Conn string // a connection string
	Name string // of the test, for application_name
	// Patience is how long a step may take before it is cancelled, and twice that before the test is given up; zero: a minute.
	Patience time.Duration
	Clock    clock.Clock // nil: the system's
}

// ErrStuck means that a test did not come to its end: steps wait for each other, or do not let themselves be cancelled.
var ErrStuck = errors.New("the steps do not come to an end")

// look is how often the tester asks whether a step waits for a lock.
const look = 10 * time.Millisecond

// tester runs one specification.
type tester struct {
	spec     *Spec
	o        Options
	out      strings.Builder
	control  *pgconn.PgConn
	blocked  string // the statement that says whether a session waits for another one
	sessions []*session
	noticed  bool // somebody sent a notice
}

// Run runs all orders of a specification, and returns what PostgreSQL's tester would print. What it printed is returned with an error too.
// Errors: ErrStuck, those of connections and of a setup.
func Run(ctx context.Context, spec *Spec, o Options) (string, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	t := &tester{spec: spec, o: o}
	defer t.close()
	for _, name := range spec.unused() {
		fmt.Fprintf(&t.out, "unused step name: %s\n", name)
	}
	fmt.Fprintf(&t.out, "Parsed test spec with %d sessions\n", len(spec.Sessions))
	if err := t.connect(ctx); err != nil {
		return t.out.String(), err
	}
	err := spec.orders(func(order []Place) error { return t.permutation(ctx, order) })
	return t.out.String(), err
}

func (t *tester) connect(ctx context.Context) error {
	var err error
	if t.control, err = dial(ctx, t.o, "control connection", nil); err != nil {
		return err
	}
	var pids []string
	for _, s := range t.spec.Sessions {
		one := &session{t: t, name: s.Name, events: make(chan event, 1<<16)}
		if one.conn, err = dial(ctx, t.o, s.Name, one); err != nil {
			return err
		}
		t.sessions = append(t.sessions, one)
		pids = append(pids, strconv.Itoa(int(one.conn.PID())))
	}
	t.blocked = "SELECT pg_catalog.pg_isolation_test_session_is_blocked($1, '{" + strings.Join(pids, ",") + "}')"
	return nil
}

// dial opens a connection; notices go to the session, if there is one.
func dial(ctx context.Context, o Options, name string, s *session) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(o.Conn)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "isolation/" + o.Name + "/" + name
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if s != nil {
			s.events <- event{text: s.name + ": " + notice(n), notice: true}
		}
	}
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if s != nil {
			s.notified = append(s.notified, n)
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", name, err)
	}
	return conn, nil
}

func (t *tester) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, s := range t.sessions {
		if s.conn != nil {
			s.end(ctx)
		}
	}
	if t.control != nil {
		_ = t.control.Close(ctx)
	}
}

// permutation runs one order.
func (t *tester) permutation(ctx context.Context, order []Place) error {
	t.out.WriteString("\nstarting permutation:")
	for _, p := range order {
		t.out.WriteString(" " + p.Step.Name)
	}
	t.out.WriteString("\n")
	for _, sql := range t.spec.Setup {
		if err := t.whole(ctx, t.control, nil, sql); err != nil {
			return fmt.Errorf("setup failed: %w", err)
		}
	}
	for i, s := range t.spec.Sessions {
		if s.Setup != "" {
			if err := t.whole(ctx, t.sessions[i].conn, t.sessions[i], s.Setup); err != nil {
				return fmt.Errorf("setup of session %s failed: %w", s.Name, err)
			}
		}
	}
	var waiting []*Place
	for i := range order {
		p := &order[i]
		s := t.sessions[p.Step.session]
		var err error
		if waiting, err = t.free(ctx, s, waiting); err != nil {
			return err
		}
		s.send(ctx, p)
		for k := range p.blockers {
			if b := &p.blockers[k]; b.notices > 0 {
				b.target = b.notices + t.sessions[b.session].notices
			}
		}
		mustWait, err := t.try(ctx, p, true, false)
		if err != nil {
			return err
		}
		if waiting, err = t.tryAll(ctx, waiting, true); err != nil {
			return err
		}
		if mustWait {
			waiting = append(waiting, p)
		}
	}
	waiting, err := t.tryAll(ctx, waiting, false)
	if err == nil && len(waiting) > 0 {
		err = fmt.Errorf("%w: %s", ErrStuck, waiting[0].Step.Name)
	}
	if err != nil {
		return err
	}
	for i, s := range t.spec.Sessions { // a teardown may fail
		if s.Teardown != "" {
			_ = t.whole(ctx, t.sessions[i].conn, t.sessions[i], s.Teardown)
		}
	}
	if t.spec.Teardown != "" {
		_ = t.whole(ctx, t.control, nil, t.spec.Teardown)
	}
	return ctx.Err()
}

// free waits until a session is free for its next step.
func (t *tester) free(ctx context.Context, s *session, waiting []*Place) ([]*Place, error) {
	began := t.o.Clock.Monotonic()
	for s.active != nil {
		old := s.active
		still, err := t.try(ctx, old, false, true)
		if err != nil {
			return waiting, err
		}
		if !still {
			waiting = slices.DeleteFunc(waiting, func(p *Place) bool { return p == old })
		}
		if waiting, err = t.tryAll(ctx, waiting, true); err != nil {
			return waiting, err
		}
		if s.active != nil && t.o.Clock.Monotonic()-began > 2*t.o.Patience {
			return waiting, fmt.Errorf("%w: step %s", ErrStuck, s.active.Step.Name)
		}
	}
	return waiting, nil
}

// tryAll completes what can be completed of the steps that wait, and returns the others.
func (t *tester) tryAll(ctx context.Context, waiting []*Place, nonblock bool) ([]*Place, error) {
	for {
		t.noticed = false
		before, held := len(waiting), false
		for i := 0; i < len(waiting); {
			still, err := t.try(ctx, waiting[i], nonblock, true)
			if err != nil {
				return waiting, err
			}
			if still {
				held = held || len(waiting[i].blockers) > 0
				i++
			} else {
				waiting = slices.Delete(waiting, i, i+1)
			}
		}
		if !held || len(waiting) == before && !t.noticed {
			return waiting, nil
		}
	}
}

// whole runs SQL of a setup or a teardown, and prints the last result, if it has rows.
func (t *tester) whole(ctx context.Context, conn *pgconn.PgConn, s *session, sql string) error {
	results := conn.Exec(ctx, sql)
	var last *pgconn.Result
	for results.NextResult() {
		last = readResult(results)
	}
	err := results.Close()
	if s != nil {
		s.printNotices()
	}
	if err == nil && last != nil {
		printRows(&t.out, last)
	}
	return err
}

// waits says whether a session waits for another one of the test.
func (t *tester) waits(ctx context.Context, s *session) (bool, error) {
	pid := []byte(strconv.Itoa(int(s.conn.PID())))
	r := t.control.ExecParams(ctx, t.blocked, [][]byte{pid}, nil, nil, nil).Read()
	if r.Err != nil {
		return false, fmt.Errorf("ask whether session %s waits: %w", s.name, r.Err)
	}
	return len(r.Rows) == 1 && string(r.Rows[0][0]) == "t", nil
}
