package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
)

// Options of a run.
type Options struct {
	Config *pgconn.Config // each connection adds / and its session's name to the application's name
	Clock  clock.Clock
	// MaxWait is how long a step may take before it is canceled; after twice the time the run ends. 0: six minutes.
	MaxWait time.Duration
}

const (
	defaultMaxWait = 6 * time.Minute
	// pollInterval is how long a connection is silent before the run queries whether it waits for a lock.
	pollInterval = 10 * time.Millisecond
	// blocked is the name of the prepared statement for that query.
	blocked = "isolationtester_waiting"
)

// run is a specification being run.
type run struct {
	Options
	spec    *Spec
	out     io.Writer
	control *conn
	conns   []*conn   // of the sessions
	active  []*launch // the step of each session that was sent and not completed
	noticed bool      // a notice has arrived
}

// Run runs every permutation and writes what isolationtester writes. ErrEnded: it stopped early, and the last lines say why.
func (s *Spec) Run(ctx context.Context, o Options, out io.Writer) error {
	if o.MaxWait == 0 {
		o.MaxWait = defaultMaxWait
	}
	r := &run{Options: o, spec: s, out: out, active: make([]*launch, len(s.Sessions))}
	for _, name := range s.unused() {
		r.printf("unused step name: %s\n", name)
	}
	r.printf("Parsed test spec with %d sessions\n", len(s.Sessions))
	defer r.close()
	if err := r.connect(ctx); err != nil {
		return err
	}
	return s.each(func(p Permutation) error { return r.permutation(ctx, p) })
}

func (r *run) printf(format string, args ...any) { fmt.Fprintf(r.out, format, args...) }

// end writes why the run cannot continue.
func (r *run) end(format string, args ...any) error {
	r.printf(format, args...)
	return ErrEnded
}

func (r *run) close() {
	for _, c := range r.conns {
		c.close()
	}
	if r.control != nil {
		r.control.close()
	}
}

func (r *run) connect(ctx context.Context) (err error) {
	if r.control, err = r.dial(ctx, 0, "control connection"); err != nil {
		return err
	}
	var pids []string
	for i, s := range r.spec.Sessions {
		c, err := r.dial(ctx, i+1, s.Name)
		if err != nil {
			return err
		}
		r.conns = append(r.conns, c)
		pids = append(pids, fmt.Sprint(c.hijacked.PID))
		c.onNotice = func(text string) {
			r.noticed = true
			r.printf("%s: %s", c.name, text)
		}
	}
	query := "SELECT pg_catalog.pg_isolation_test_session_is_blocked($1, '{" + strings.Join(pids, ",") + "}')"
	res, err := r.control.exec(ctx, &pgproto3.Parse{Name: blocked, Query: query}, &pgproto3.Sync{})
	if err == nil && res != nil {
		err = r.end("prepare of lock wait query failed: %s", res.reason())
	}
	return err
}

// dial makes a connection whose application name identifies the session.
func (r *run) dial(ctx context.Context, number int, name string) (*conn, error) {
	c, err := dial(ctx, r.Config, name)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, r.end("Connection %d failed: %v\n", number, err)
	}
	res, err := c.exec(ctx, &pgproto3.Parse{Query: "SELECT set_config('application_name', current_setting('application_name') || '/' || $1, false)"},
		&pgproto3.Bind{Parameters: [][]byte{[]byte(name)}}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if err == nil && (!res.succeeded() || !res.query) {
		err = r.end("setting of application name failed: %s", res.reason())
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// permutation runs one.
func (r *run) permutation(ctx context.Context, p Permutation) error {
	var names strings.Builder
	for _, l := range p {
		names.WriteString(" " + l.Name)
	}
	r.printf("\nstarting permutation:%s\n", names.String())
	for _, sql := range r.spec.Setup {
		if err := r.query(ctx, r.control, "setup", sql); err != nil {
			return err
		}
	}
	for i, s := range r.spec.Sessions {
		for _, sql := range s.Setup {
			if err := r.query(ctx, r.conns[i], "setup of session "+s.Name, sql); err != nil {
				return err
			}
		}
	}
	if err := r.steps(ctx, p); err != nil {
		return err
	}
	for i, s := range r.spec.Sessions {
		for _, sql := range s.Teardown {
			if err := r.query(ctx, r.conns[i], "teardown of session "+s.Name, sql); err != nil && !errors.Is(err, ErrEnded) {
				return err
			}
		}
	}
	for _, sql := range r.spec.Teardown {
		if err := r.query(ctx, r.control, "teardown", sql); err != nil && !errors.Is(err, ErrEnded) {
			return err
		}
	}
	return nil
}

// query runs a setup or teardown; ErrEnded: it failed.
func (r *run) query(ctx context.Context, c *conn, what, sql string) error {
	res, err := c.exec(ctx, &pgproto3.Query{String: sql})
	if err != nil {
		return err
	}
	if !res.succeeded() {
		return r.end("%s failed: %s", what, res.reason())
	}
	table(r.out, res.names, res.rows)
	return nil
}

// isBlocked queries whether a session waits for another session of the test.
func (r *run) isBlocked(ctx context.Context, session int) (bool, error) {
	pid := []byte(fmt.Sprint(r.conns[session].hijacked.PID))
	res, err := r.control.exec(ctx, &pgproto3.Bind{PreparedStatement: blocked, Parameters: [][]byte{pid}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if err != nil {
		return false, err
	}
	if !res.succeeded() || len(res.rows) != 1 {
		return false, r.end("lock wait query failed: %s", res.reason())
	}
	return res.rows[0][0] == "t", nil
}
