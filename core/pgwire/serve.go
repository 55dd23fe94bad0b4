package pgwire

import (
	"context"
	"errors"

	"blobpglite/core/pglite"
)

// serve serves the connection from start to end. ctx ends when the server accepts no more connections. The error is for the log.
func (c *client) serve(ctx context.Context) error {
	deadline := c.o.Clock.Now().Add(c.o.StartupTimeout)
	_ = c.raw.SetWriteDeadline(deadline)
	c.limit(deadline)
	h, err := greet(ctx, c.raw, c.o.TLS, c.o.RequireTLS)
	c.conn = h.conn
	switch {
	case err == nil && h.cancel:
		c.pass(ctx, h.packet)
		return nil
	case err == nil:
		err = c.begin(ctx, h.packet)
	}
	if err != nil {
		return c.refuse(err)
	}
	return c.run()
}

// begin gets the client its place, and sends the startup packet to its process.
func (c *client) begin(ctx context.Context, packet []byte) error {
	reserved, err := c.gate.place(ctx, c.arrival)
	if err != nil {
		return err
	}
	if c.backend, err = c.o.Backend.Dial(ctx, pglite.ConnectOptions{Remote: c.raw.RemoteAddr(), Reserved: reserved}); err != nil {
		return err
	}
	// Opening the database may have taken long; the time for the password begins now.
	deadline := c.o.Clock.Now().Add(c.o.StartupTimeout)
	_ = c.raw.SetWriteDeadline(deadline)
	c.limit(deadline)
	_, _ = c.backend.Write(packet) // reading the process reports what is wrong with it
	return nil
}

// pass passes a cancel request to PostgreSQL, which knows the keys. If no client has a process, it does nothing, and does not open the
// database.
func (c *client) pass(ctx context.Context, packet []byte) {
	done, may := c.gate.cancel(ctx, c.arrival)
	if !may {
		return
	}
	defer done()
	backend, err := c.o.Backend.Dial(ctx, pglite.ConnectOptions{Remote: c.raw.RemoteAddr()})
	if err != nil {
		c.o.Logger.Info("a cancel request was dropped", "error", err)
		return
	}
	c.counts.cancels.Add(1)
	_, _ = backend.Write(packet)
	t := c.o.Clock.NewTimer(c.o.StartupTimeout)
	defer t.Stop()
	select {
	case <-backend.Done():
	case <-t.C():
	case <-c.arrival.gone:
	}
	_ = backend.Close()
}

// refuse tells a client without a process why it gets none.
func (c *client) refuse(err error) error {
	if errors.Is(err, errHandshake) {
		c.gate.countRefusal(c.refusalReason(refusedTLS))
		return nil
	}
	f := c.blame(err)
	if f == nil {
		return nil // the client has gone
	}
	c.gate.countRefusal(c.refusalReason(refusedCode(f.code)))
	c.say(f)
	c.linger(c.drain)
	return f
}
