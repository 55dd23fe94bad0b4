package pgwire

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// leaveTimeout bounds how long a client that has gone waits for its turn to clean up. If it does not get it, the names of
// its statements stay until the database is opened again; nobody else can use them.
const leaveTimeout = time.Minute

// introduce takes the client's state into the session when it logs in, so that what is wrong with it is said at once.
// What PostgreSQL reports of the client's settings is added to reported.
func (c *client) introduce(reported map[string]string) error {
	if err := c.takeTurn(); err != nil {
		c.giveTurn()
		return c.sayUser(err)
	}
	defer c.giveTurn()
	names := sortedKeys(reported)
	var columns []string
	for _, name := range names {
		columns = append(columns, fmt.Sprintf("pg_catalog.current_setting(%s)", quoteLiteral(name)))
	}
	r, err := c.session.do(c.ctx, c, "SELECT "+strings.Join(columns, ","))
	if err != nil {
		return err
	}
	for i, name := range names {
		reported[name] = r[0].Rows[0][i]
	}
	return nil
}

// sayUser makes clear that it is the user who is unknown.
func (c *client) sayUser(err error) error {
	if f, ok := err.(*failed); ok && f.code == "22023" && strings.Contains(f.message, "role") {
		return failure("28000", "%s", f.message)
	}
	return err
}

// leave removes what the client leaves in the session: its transaction is rolled back, its statements are closed.
func (c *client) leave() {
	defer c.srv.unregister(c)
	if c.session.engine.Err() != nil {
		c.giveTurn()
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(c.srv.ctx), leaveTimeout)
	defer stop()
	inTurn := c.turn != nil
	trace := len(c.statements) > 0 || len(c.channels) > 0 || c.session.last.Load() == c
	if !inTurn && !trace {
		return
	}
	if !inTurn {
		turn, err := c.session.engine.Take(ctx)
		if err != nil {
			return
		}
		c.turn = turn
		c.session.held(c)
	}
	defer c.giveTurn()
	if err := c.cleanUp(ctx, inTurn); err != nil {
		c.session.unknown = true
		c.srv.o.Logger.Warn("a client's state was not removed", "client", c.id, "error", err)
	}
}

// cleanUp is done in the client's last turn.
func (c *client) cleanUp(ctx context.Context, inTurn bool) error {
	s := c.session
	if inTurn {
		// As pglite's own: PostgreSQL may be in a block, hold what came before a Sync, or skip everything up to one.
		var messages []byte
		for _, m := range []pgproto3.FrontendMessage{
			&pgproto3.Query{String: "ROLLBACK"}, &pgproto3.Sync{}, &pgproto3.Query{String: "ROLLBACK"},
		} {
			var err error
			if messages, err = m.Encode(messages); err != nil {
				return err
			}
		}
		if _, err := s.feed(ctx, c, messages); err != nil {
			return err
		}
	}
	if s.last.CompareAndSwap(c, nil) {
		if c.dirty != 0 || c.pinned != "" {
			s.unknown = true
		}
	}
	if inTurn && (c.pinned != "" || c.dirty&usesPins != 0) {
		for _, q := range []string{asSuperuser, "CLOSE ALL", "SELECT pg_catalog.pg_advisory_unlock_all()", "DISCARD TEMP"} {
			if _, err := s.do(ctx, c, q); err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
		}
		c.pinned = ""
		c.pin.Store(nil)
	}
	if err := c.closeStatements(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	listened := len(c.channels) > 0
	clear(c.channels)
	s.mu.Unlock()
	if listened {
		return s.channels(ctx, c)
	}
	return nil
}

func (c *client) closeStatements(ctx context.Context) error {
	if len(c.statements) == 0 {
		return nil
	}
	c.unit = c.unit[:0]
	for _, st := range c.statements {
		c.addMessage('C', []byte{'S'}, []byte(st.key), []byte{0})
	}
	c.addMessage('S')
	clear(c.statements)
	_, err := c.session.feed(ctx, c, c.unit)
	return err
}
