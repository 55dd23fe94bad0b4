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

// do has a client do something, or queues it if the client waits for an answer.
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
	for i, m := range list {
		if q, ok := m.(*pgproto3.Query); ok {
			list[i] = &pgproto3.Query{String: strings.ReplaceAll(q.String, "$other", strconv.FormatUint(uint64(w.other(c).pid), 10))}
		}
	}
	if err := w.took(c, a, c.ask(a.ends, list...)); err != nil || !a.kills || !strings.Contains(w.lines[len(w.lines)-1], `row "t"`) {
		return err
	}
	o := w.other(c)
	how := o.read(ready)
	o.told = nil // it may have been ended before it could tell them
	return w.took(o, Action{Name: "meanwhile"}, how)
}

func (w *world) other(c *client) *client {
	if c == w.clients[0] {
		return w.clients[1]
	}
	return w.clients[0]
}

// took records how an action went.
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
		return w.stuck(c, a)
	}
	return err
}

// stuck records that no answer comes, and whether one does once another client has sent the server something: if so, it has forgotten to
// wake the client's process.
func (w *world) stuck(c *client, a Action) error {
	text := []string{c.answer(), "and then nothing, though it waits for no lock"}
	if _, err := w.ask("SELECT 1"); err != nil {
		text = append(text, err.Error())
	} else if c.read(a.ends) == answered {
		text = append(text, "when the third connection has asked something: "+c.answer())
	}
	w.note(c, a.Name, join(text))
	return errNoAnswer
}

// ended records that the server has closed the connection.
func (w *world) ended(c *client, a Action) error {
	for c.read(ready) == answered {
	}
	w.note(c, a.Name, join([]string{c.answer(), "the server has closed the connection"}))
	c.close()
	c.dead, c.pending = true, nil
	return nil
}

// leave ends a connection, and connects again.
func (w *world) leave(ctx context.Context, c *client, a Action) error {
	if c.pending == nil {
		if on, err := w.lastWords(c, a); err != nil || !on {
			return err
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

// lastWords sends what a client sends before it goes, and says whether the connection is still there.
func (w *world) lastWords(c *client, a Action) (on bool, err error) {
	list := a.sends(c.name)
	if !a.hears {
		if err := c.send(list...); err != nil {
			return false, w.ended(c, a)
		}
		return true, nil
	}
	a.ends = flushed
	err = w.took(c, a, c.ask(flushed, list...))
	return !c.dead, err
}

// cancel requests the server to cancel what the client does.
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
