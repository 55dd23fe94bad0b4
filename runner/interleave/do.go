package interleave

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// do has a client do something, or keeps it back where the client waits for an answer.
func (w *world) do(ctx context.Context, c *client, a Action) error {
	if c.pending != nil && a.ends != aside && (a.ends != left || a.orderly) {
		c.held = append(c.held, a)
		w.note(c, a.Name, "later")
		return nil
	}
	if c.dead {
		if err := w.connect(ctx, c); err != nil {
			return err
		}
		w.note(c, "connect again", c.answer())
	}
	switch a.ends {
	case left:
		return w.leave(ctx, c, a)
	case aside:
		return w.cancel(ctx, c, a)
	}
	list := a.sends(c.name)
	if c.skipping {
		list = append([]pgproto3.FrontendMessage{&pgproto3.Sync{}}, list...)
	}
	for i, m := range list {
		if q, ok := m.(*pgproto3.Query); ok {
			list[i] = &pgproto3.Query{String: strings.ReplaceAll(q.String, "$other", strconv.FormatUint(uint64(w.other(c).pid), 10))}
		}
	}
	skipped := c.skipping
	if err := c.send(list...); err != nil {
		return w.ended(c, a)
	}
	if skipped {
		if how := c.read(ready); how != answered {
			return w.took(c, a, how)
		}
	}
	if err := w.took(c, a, c.read(a.ends)); err != nil || !a.kills || !strings.Contains(w.lines[len(w.lines)-1], `row "t"`) {
		return err
	}
	o := w.other(c)
	return w.took(o, Action{Name: "meanwhile"}, o.read(ready))
}

func (w *world) other(c *client) *client {
	if c == w.clients[0] {
		return w.clients[1]
	}
	return w.clients[0]
}

// took notes how an action went.
func (w *world) took(c *client, a Action, how outcome) (err error) {
	switch how {
	case answered:
		c.pending = nil
		w.note(c, a.Name, c.answer())
	case waits:
		w.note(c, a.Name, c.answer())
		c.pending = &a
		c.since, err = w.waiting(c.pid)
	case gone:
		return w.ended(c, a)
	case silent:
		w.note(c, a.Name, join([]string{c.answer(), "and then nothing, though it waits for no lock"}))
		return errNoAnswer
	}
	return err
}

// ended notes that the server has closed the connection.
func (w *world) ended(c *client, a Action) error {
	for c.read(ready) == answered {
	}
	w.note(c, a.Name, join([]string{c.answer(), "the server has closed the connection"}))
	c.close()
	c.dead, c.pending = true, nil
	return nil
}

// leave ends a connection, and comes again.
func (w *world) leave(ctx context.Context, c *client, a Action) error {
	if list := a.sends(c.name); len(list) > 0 {
		if err := c.send(list...); err != nil {
			return w.ended(c, a)
		}
	}
	if !a.orderly {
		if err := c.vanish(); err != nil {
			return w.ended(c, a)
		}
	}
	if c.pending != nil {
		c.ghosts = append(c.ghosts, &ghost{c.conn, c.since})
		c.pending = nil
		w.note(c, a.Name, "while it waits")
	} else {
		if err := c.drain(); err != nil {
			w.note(c, a.Name, err.Error())
			return errNoAnswer
		}
		c.close()
	}
	if err := w.connect(ctx, c); err != nil {
		return err
	}
	w.note(c, a.Name, "and again "+c.answer())
	return nil
}

// cancel asks the server to cancel what the client does.
func (w *world) cancel(ctx context.Context, c *client, a Action) error {
	if err := w.sendCancel(ctx, c); err != nil {
		return err
	}
	if c.pending == nil {
		w.note(c, a.Name, "asked for")
		return nil
	}
	return w.took(c, *c.pending, c.read(c.pending.ends))
}

func (w *world) sendCancel(ctx context.Context, c *client) (err error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", w.address)
	if err != nil {
		return fmt.Errorf("connect to cancel: %w", err)
	}
	defer func() { err = errors.Join(err, raw.Close()) }()
	side := &conn{raw: raw, wire: pgproto3.NewFrontend(raw, raw), limit: w.limit, clk: c.clk}
	if err := side.send(&pgproto3.CancelRequest{ProcessID: c.pid, SecretKey: c.secret}); err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	return side.drain() // the server closes it when it has sent the signal
}
