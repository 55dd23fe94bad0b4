package interleave

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// client is one of the two.
type client struct {
	name string
	*conn
	// pending is the action that has no answer yet, nil: none; since is when its wait began, in the server's words.
	pending *Action
	since   string
	held    []Action // what it will do after that
	welcome string   // what the server said when it connected
	looked  bool     // it was queried for what it has, at its end
	over    bool     // it has gone for good
	dead    bool     // the server has ended its connection
	ghosts  []*ghost // connections that it has vanished from while they waited
}

// ghost is a connection whose client has vanished, and whose process waits for a lock.
type ghost struct {
	*conn
	since string
}

// world is one run of one schedule.
type world struct {
	address string
	limit   time.Duration
	shared  bool // the clients have one connection for both
	words   *words
	watch   *conn
	clients [2]*client
	pids    []string // of all connections that the clients have had
	lines   []string // the transcript
}

// The state that every schedule begins with.
const (
	prepareOnce = `DROP TABLE IF EXISTS d; DROP ROLE IF EXISTS bob; CREATE ROLE bob;
		CREATE TABLE d (v text DEFAULT set_config('my.tenant', 'default', false))`
	prepareEach = `CREATE OR REPLACE FUNCTION f() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN ''nobody''; END';
		DROP TABLE IF EXISTS t; DROP SEQUENCE IF EXISTS q; CREATE SEQUENCE q; TRUNCATE d; ALTER ROLE postgres RESET ALL;
		CREATE TABLE t (id int PRIMARY KEY, n int, who text); INSERT INTO t VALUES (1, 10, 'one'), (2, 20, 'zwö')`
)

// The queries when a schedule has ended: to each client, and to the server when they have gone.
const (
	askClient = `SELECT concat_ws('; ', 'user ' || current_user || ' of ' || session_user, 'tenant ' || current_setting('my.tenant', true),
		'path ' || current_setting('search_path'), 'zone ' || current_setting('TimeZone'), 'encoding ' || current_setting('client_encoding'),
		(SELECT string_agg('statement ' || name || ' ' || from_sql || ' ' || statement, '; ' ORDER BY name) FROM pg_prepared_statements),
		(SELECT string_agg('cursor ' || name || ' ' || statement, '; ' ORDER BY name) FROM pg_cursors WHERE name <> ''),
		(SELECT string_agg('channel ' || c, '; ' ORDER BY c) FROM pg_listening_channels() c),
		(SELECT string_agg('temporary ' || relname, '; ' ORDER BY relname) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'),
		(SELECT string_agg('lock ' || objid || ' ' || mode, '; ' ORDER BY objid, mode) FROM pg_locks
			WHERE pid = pg_backend_pid() AND locktype = 'advisory')) AS has; SELECT lastval()`
	askServer = `SELECT concat_ws('; ',
		(SELECT 'sessions ' || count(*) FROM pg_stat_activity WHERE pid IN ($pids)),
		(SELECT 'locks ' || count(*) FROM pg_locks WHERE pid IN ($pids)),
		(SELECT 'temporary ' || string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'),
		(SELECT 't ' || string_agg(r::text, ' ' ORDER BY id) FROM public.t r), (SELECT 'q ' || last_value || ' ' || is_called FROM q)) AS has`
	askWaiting = `SELECT pid, coalesce(waitstart::text, '') FROM pg_locks WHERE NOT granted`
)

// run runs a schedule. An error means that the transcript says nothing about the server; errNoAnswer is not such an error, but the end of a
// transcript.
func (w *world) run(ctx context.Context, s Schedule) error {
	if _, err := w.ask(prepareEach); err != nil {
		return fmt.Errorf("prepare the table: %w", err)
	}
	for i := range w.clients {
		w.clients[i] = &client{name: clients[i : i+1]}
		if err := w.connect(ctx, w.clients[i]); err != nil {
			return err
		}
		w.note(w.clients[i], "connect", w.clients[i].answer())
	}
	for _, st := range s {
		if err := w.do(ctx, w.clients[st.client], st.action); err != nil {
			return err
		}
		if err := w.progress(ctx); err != nil {
			return err
		}
	}
	return w.finish(ctx)
}

// note adds a line to the transcript.
func (w *world) note(c *client, what, text string) {
	w.lines = append(w.lines, c.name+" "+what+": "+text)
}

// connect gives a client a connection of its own, or, if they are to share one, the existing one.
func (w *world) connect(ctx context.Context, c *client) (err error) {
	c.dead = false
	o := w.other(c)
	if w.shared && o != nil && c.conn == nil {
		c.conn = o.conn
		c.got = []string{strings.ReplaceAll(o.welcome, "application_name="+o.name, "application_name="+c.name)}
		return nil
	}
	if c.conn, err = dial(ctx, w.address, c.name, w.limit, w.words); err != nil {
		return err
	}
	c.welcome = join(slices.Clone(c.got))
	w.pids = append(w.pids, strconv.FormatUint(uint64(c.pid), 10))
	if w.shared && o != nil {
		o.conn, o.dead = c.conn, false
	}
	return nil
}

// ask has the third connection do something, and returns the rows.
func (w *world) ask(sql string) (rows [][]string, err error) {
	if err := w.watch.send(&pgproto3.Query{String: sql}); err != nil {
		return nil, fmt.Errorf("%w to a third connection: %w", errNoAnswer, err)
	}
	w.watch.row = func(values [][]byte) {
		var row []string
		for _, v := range values {
			row = append(row, string(v))
		}
		rows = append(rows, row)
	}
	how := w.watch.read(ready)
	text := w.watch.answer()
	if how != answered {
		return nil, fmt.Errorf("%w to a third connection: %s", errNoAnswer, text)
	}
	if strings.Contains(text, "ERROR ") {
		return nil, fmt.Errorf("the third connection: %s", text)
	}
	return rows, nil
}

// waiting says when the process began to wait; empty: it does not.
func (w *world) waiting(pid uint32) (string, error) {
	rows, err := w.ask(askWaiting)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(rows, func(r []string) bool { return r[0] == strconv.FormatUint(uint64(pid), 10) })
	if i < 0 {
		return "", nil
	}
	return "since " + rows[i][1], nil
}
