package interleave

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// progress reads what waiting clients are told now, and lets them continue with what they held back.
func (w *world) progress(ctx context.Context) error {
	for again := true; again; {
		again = false
		for _, c := range w.clients {
			moved, err := w.settle(ctx, c)
			if err != nil {
				return err
			}
			again = again || moved
		}
	}
	return nil
}

// settle says whether a client, or a connection that it left waiting, has moved on.
func (w *world) settle(ctx context.Context, c *client) (moved bool, err error) {
	for i := 0; i < len(c.ghosts); i++ {
		g := c.ghosts[i]
		since, err := w.waiting(g.pid)
		if err != nil {
			return moved, err
		}
		if since != "" && since == g.since {
			continue
		}
		moved = true
		if how := g.read(ready); how == waits {
			if g.since, err = w.waiting(g.pid); err != nil {
				return moved, err
			}
			continue
		}
		if err := g.drain(); err != nil {
			w.note(c, "vanished", err.Error())
			return moved, errNoAnswer
		}
		g.close()
		w.note(c, "vanished", "and its session has ended")
		c.ghosts = slices.Delete(c.ghosts, i, i+1)
		i--
	}
	for c.pending != nil {
		since, err := w.waiting(c.pid)
		if err != nil {
			return moved, err
		}
		if since != "" && since == c.since {
			return moved, nil
		}
		moved = true
		if err := w.took(c, *c.pending, c.read(c.pending.ends)); err != nil {
			return moved, err
		}
	}
	if len(c.held) == 0 {
		return moved, nil
	}
	next := c.held[0]
	c.held = c.held[1:]
	return true, w.do(ctx, c, next)
}

// finish queries both clients for what they have, ends them, and queries the server for what they have left.
func (w *world) finish(ctx context.Context) error {
	for _, c := range w.clients {
		if c.pending == nil {
			if err := w.look(c); err != nil {
				return err
			}
		}
	}
	for {
		i := slices.IndexFunc(w.clients[:], func(c *client) bool { return !c.over && c.pending == nil })
		if i < 0 {
			break
		}
		c := w.clients[i]
		if err := w.look(c); err != nil {
			return err
		}
		if !c.dead && !(w.shared && w.other(c).over) {
			if err := c.send(&pgproto3.Terminate{}); err != nil {
				return w.ended(c, Action{Name: "end"})
			}
			if err := c.drain(); err != nil {
				w.note(c, "end", err.Error())
				return errNoAnswer
			}
			c.close()
		}
		c.over = true
		if err := w.progress(ctx); err != nil {
			return err
		}
	}
	for _, c := range w.clients {
		if !c.over || len(c.ghosts) > 0 {
			w.note(c, "end", "it waits still, though the other has gone")
			return errNoAnswer
		}
	}
	if err := w.watch.send(&pgproto3.Query{String: strings.ReplaceAll(askServer, "$pids", strings.Join(w.pids, ", "))}); err != nil {
		return err
	}
	how := w.watch.read(ready)
	w.lines = append(w.lines, "server: "+w.watch.answer())
	if how != answered {
		return errNoAnswer
	}
	return nil
}

// look queries a client for what it has.
func (w *world) look(c *client) error {
	if c.looked || c.dead {
		return nil
	}
	c.looked = true
	ask := func(name string, m pgproto3.FrontendMessage) error {
		if c.dead {
			return nil
		}
		if err := c.send(m); err != nil {
			return w.ended(c, Action{Name: name})
		}
		return w.took(c, Action{Name: name}, c.read(ready))
	}
	if err := ask("end", &pgproto3.Sync{}); err != nil {
		return err
	}
	if c.status == 'E' {
		if err := ask("end", &pgproto3.Query{String: "ROLLBACK"}); err != nil {
			return err
		}
	}
	return ask("has", &pgproto3.Query{String: askClient})
}
