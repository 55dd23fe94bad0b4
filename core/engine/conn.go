package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"blobpglite/core/clock"
)

var (
	_ net.Conn    = (*Conn)(nil)
	_ io.WriterTo = (*Conn)(nil)
)

// noWait is an ended context: nothing waits with it.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// fail records the error that ends all reading, unless it is only a missed deadline.
func (c *Conn) fail(ctx context.Context, err error) error {
	err = ioError(ctx, err)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.failed = err
	}
	return err
}

// ioError returns an error as a net.Conn does: os.ErrDeadlineExceeded or net.ErrClosed, if that is why ctx ended.
func ioError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, os.ErrDeadlineExceeded) {
		return cause
	}
	return net.ErrClosed
}

// Close tells the process that its client has gone: it rolls back an open transaction, and ends. Close does not wait for it.
func (c *Conn) Close() error {
	c.end()
	c.read.set(time.Time{})
	c.write.set(time.Time{})
	return c.process.Close()
}

// Cancel interrupts the running statement, which then fails with 57014.
func (c *Conn) Cancel() { c.process.Cancel() }

// Terminate ends the client's process, whatever it is running, as pg_terminate_backend does; the client gets 57P01.
func (c *Conn) Terminate() { c.process.Terminate() }

// Done is closed when the client's process has ended. Its answers can still be read.
func (c *Conn) Done() <-chan struct{} { return c.process.Done() }

// PID is the number of the client's process, as in pg_stat_activity.
func (c *Conn) PID() uint32 { return c.process.Process().PID() }

// RemoteAddr is a constant placeholder for the process.
func (c *Conn) RemoteAddr() net.Addr { return processAddr{} }

// LocalAddr is the client's address as PostgreSQL knows it.
func (c *Conn) LocalAddr() net.Addr {
	if c.remote.Remote != nil {
		return c.remote.Remote
	}
	return processAddr{}
}

type processAddr struct{}

func (processAddr) Network() string { return "pglite" }
func (processAddr) String() string  { return "postgresql" }

// SetDeadline bounds reads and writes.
func (c *Conn) SetDeadline(t time.Time) error {
	c.read.set(t)
	c.write.set(t)
	return nil
}

// SetReadDeadline bounds reads. An answer that was not read in time can still be read later.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.read.set(t)
	return nil
}

// SetWriteDeadline bounds writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.write.set(t)
	return nil
}

// deadline is a net.Conn's deadline as a context, which ends with os.ErrDeadlineExceeded.
type deadline struct {
	life  context.Context
	clock clock.Clock

	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   func() // of the timer; nil: there is none
}

func (d *deadline) begin(life context.Context, clk clock.Clock) {
	d.life, d.clock = life, clk
	d.ctx, d.cancel = context.WithCancelCause(life)
}

// context returns the context for an operation that begins now.
func (d *deadline) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ctx
}

// set replaces the deadline, including for operations already begun; zero: none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
	if d.ctx.Err() != nil {
		d.ctx, d.cancel = context.WithCancelCause(d.life)
	}
	if t.IsZero() || d.life.Err() != nil {
		return
	}
	left := t.Sub(d.clock.Now())
	if left <= 0 {
		d.cancel(os.ErrDeadlineExceeded)
		return
	}
	timer, quit, ctx := d.clock.NewTimer(left), make(chan struct{}), d.ctx
	d.stop = func() { close(quit) }
	go func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			d.mu.Lock()
			defer d.mu.Unlock()
			select {
			case <-quit: // the deadline has just been replaced
			default:
				d.cancel(os.ErrDeadlineExceeded)
			}
		case <-quit:
		case <-ctx.Done():
		}
	}()
}
