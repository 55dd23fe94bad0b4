package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"blobpglite/core/lease"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
)

// Conn is a client's connection to a PostgreSQL process of its own: a net.Conn that speaks the wire protocol from the startup packet on.
// What is read from it is durable (but see HoldAnswers). PostgreSQL itself authenticates the client, and ends the connection with the
// protocol's messages. An error of Read other than io.EOF says why there is no answer: ErrFenced, ErrUnknown, ErrPoisoned, ErrClosed,
// ErrCrashed; then no success may be reported to the client. One goroutine may write while another reads.
type Conn struct {
	e       *Engine
	process *pglite.Conn
	remote  pglite.ConnectOptions

	unheld atomic.Bool // see HoldAnswers

	life        context.Context // until Close
	end         context.CancelFunc
	read, write deadline

	reading   sync.Mutex // guards the fields below
	answer    pglite.Answer
	hasAnswer bool   // answer is set and has not been released
	rest      []byte // unread bytes of what was released
	failed    error  // why nothing more follows
}

// Dial starts a process for a client; the client's startup packet comes next. ctx bounds the dialing only. Errors: ErrStarting,
// ErrPoisoned, ErrClosed, pglite.ErrTooManyProcesses, pglite.ErrAddressSpace, the context's.
func (e *Engine) Dial(ctx context.Context, o pglite.ConnectOptions) (*Conn, error) {
	process, err := e.connect(ctx, o)
	if err != nil {
		return nil, err
	}
	c := &Conn{e: e, process: process, remote: o}
	c.life, c.end = context.WithCancel(context.Background())
	c.read.begin(c.life, e.o.Clock)
	c.write.begin(c.life, e.o.Clock)
	return c, nil
}

// Write sends the client's bytes to PostgreSQL. It waits while PostgreSQL has much unread input.
func (c *Conn) Write(b []byte) (int, error) { return c.send(b, c.process.Send) }

func (c *Conn) send(b []byte, to func(context.Context, []byte) (int, error)) (int, error) {
	ctx := c.write.context()
	if err := ctx.Err(); err != nil {
		return 0, ioError(ctx, err)
	}
	// 1. May this engine still serve? An expired lease is renewed first; if another writer holds it, we are fenced. A Terminate message
	// needs no answer: sessions may end without a lease.
	if !isFarewell(b) {
		if err := c.e.admit(ctx); err != nil {
			return 0, ioError(ctx, err)
		}
	}
	// 2. PostgreSQL runs the statement in the client's own process, when it is that process's turn. What it writes to its log is captured
	// on the way (walship.go) and queued (groupcommit.go); nothing waits for that. PostgreSQL's answer is marked with what must be durable
	// before it leaves (mark.go).
	n, err := to(ctx, b)
	return n, ioError(ctx, c.e.clientError(err))
}

// isFarewell says whether bytes are a Terminate message and nothing else. They may by coincidence be the end of another message, whose
// beginning was checked then.
func isFarewell(b []byte) bool {
	return len(b) == 5 && b[0] == 'X' && b[1] == 0 && b[2] == 0 && b[3] == 0 && b[4] == 4
}

func (e *Engine) admit(ctx context.Context) error {
	if err := e.serves(); err != nil {
		return err
	}
	err := e.commits.mayServe(ctx)
	if errors.Is(err, lease.ErrLost) {
		return e.fail(err)
	}
	return err
}

// Read reads PostgreSQL's answers, once everything they report is durable.
func (c *Conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(c.rest) == 0 {
		if err := c.next(c.read.context()); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// HoldAnswers says whether answers wait until what they report is durable; initially they do. Answers that are not passed on need not wait:
// those to a login by the host, or to the cleanup of a session.
func (c *Conn) HoldAnswers(hold bool) { c.unheld.Store(!hold) }

// WriteTo copies to w everything that Read would read, until the connection ends. It implements io.WriterTo, for io.Copy.
func (c *Conn) WriteTo(w io.Writer) (total int64, err error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		if len(c.rest) == 0 {
			if !c.await(c.read.context()) {
				continue // Ask took the answer
			}
			if err := c.next(c.read.context()); errors.Is(err, io.EOF) {
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		n, err := w.Write(c.rest)
		total += int64(n)
		c.rest = c.rest[n:]
		if err != nil {
			return total, err
		}
	}
}

// await waits until there is something to read, or never will be; Ask may read in the meantime. It returns false if Ask took the answer.
func (c *Conn) await(ctx context.Context) bool {
	if c.hasAnswer || c.failed != nil {
		return true
	}
	c.reading.Unlock()
	c.process.Await(ctx)
	c.reading.Lock()
	return c.hasAnswer || c.failed != nil || len(c.rest) > 0 || ctx.Err() != nil || c.process.Ready()
}

// next waits for the next answer and until it may leave. If ctx ends first, the answer stays for the next call.
func (c *Conn) next(ctx context.Context) error {
	if c.failed != nil {
		return c.failed
	}
	if err := ctx.Err(); err != nil {
		return c.fail(ctx, err)
	}
	if !c.hasAnswer {
		answer, err := c.receive(ctx)
		if err != nil {
			return c.fail(ctx, c.e.clientError(err))
		}
		c.answer, c.hasAnswer = answer, true
	}
	at := mark(c.answer.Mark)
	if c.unheld.Load() {
		at = early
	}
	if err := c.e.release(ctx, at); err != nil {
		return c.fail(ctx, err)
	}
	c.rest, c.answer, c.hasAnswer = c.answer.Bytes, pglite.Answer{}, false
	return nil
}

// receive returns PostgreSQL's answer: one, or, where each would cost a request, all that are ready.
func (c *Conn) receive(ctx context.Context) (pglite.Answer, error) {
	answer, err := c.process.Next(ctx)
	if err != nil || c.e.o.ReadMode != ReadStrict {
		return answer, err
	}
	const most = 8 << 20
	for len(answer.Bytes) < most {
		more, err := c.process.Next(noWait) // what is ready, without waiting
		if err != nil {
			break // a failure will be reported again
		}
		answer.Bytes = append(answer.Bytes, more.Bytes...)
		answer.Mark = uint64(mark(answer.Mark).with(mark(more.Mark)))
	}
	return answer, nil
}

// release returns when an answer may leave. Errors: ErrFenced, ErrUnknown, the context's; on an error the client must not hear of success.
func (e *Engine) release(ctx context.Context, at mark) error {
	// 3. Within a transaction block nothing has been promised yet.
	if at.early() {
		return e.poisonedBy()
	}

	// 4. Everything the answer reports becomes durable, with the next append, together with what others have committed by then.
	began := e.o.Clock.Monotonic()
	committed, err := e.commits.waitFor(ctx, at)
	e.answers.waited(e.o.Clock.Monotonic() - began)
	if err != nil {
		return e.refused(ctx, err)
	}
	if !committed {
		return e.poisonedBy()
	}

	// 5. A client that writes faster than layers can be taken waits for the layer.
	e.commits.backpressure(ctx)

	// 6. Only now does the answer leave.
	if err := e.o.Hook.Fire(ctx, point.CommitBeforeAck); err != nil {
		return e.fail(err)
	}
	return nil
}

// poisonedBy is why the engine was poisoned; nil: it was not. Once it is, no answer leaves that has not waited for a record.
func (e *Engine) poisonedBy() error {
	if e.poison.Load() != nil {
		return e.poisoned()
	}
	return nil
}

// refused is the error for a client whose commit did not become durable. If its own context ended, or a read could not be proved fresh,
// only this answer is lost; any other error has poisoned the engine. An unknown outcome is reported as such, whatever ended the engine
// first: the record may be in the log.
func (e *Engine) refused(ctx context.Context, err error) error {
	if p := e.Err(); p != nil && !errors.Is(err, ErrUnknown) {
		return p
	}
	if ctx.Err() != nil || errors.Is(err, errUnproved) || errors.Is(err, ErrClosed) || errors.Is(err, ErrCrashed) {
		return err
	}
	return e.fail(fmt.Errorf("commit: %w", err))
}
