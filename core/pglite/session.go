package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/tetratelabs/wazero/api"
)

// Exit codes by which PGlite's build of PostgreSQL talks to its host.
const (
	exitAlive   = 99  // main: started, ready for messages
	exitLongjmp = 100 // an error was raised outside of any handler: call PostgresMainLongJmp
)

// maxReady is how often PostgreSQL may fail to send ReadyForQuery.
const maxReady = 5

// outputChunk is how much output is gathered before it is handed on.
const outputChunk = 64 << 10

// peer is the other end of the session while it runs.
type peer struct {
	next   func() ([]byte, error) // more complete messages; io.EOF: there are none
	queued []byte                 // messages from next that are not PostgreSQL's input yet
	ended  func() error           // the error of the session's context
	out    io.Writer
	err    error // why there is no more input
	broken error // the failure of out: output is dropped from then on
	eof    int   // how often PostgreSQL asked for input after the end
}

// lonely is a peer that says nothing.
func lonely(out io.Writer) peer {
	return peer{next: func() ([]byte, error) { return nil, io.EOF }, ended: func() error { return nil }, out: out}
}

// fetch is the next messages for PostgreSQL, as many as cut says; cut says 0 at a Terminate. io.EOF: there are none.
func (in *Instance) fetch(cut func([]byte) (int, error)) (b []byte, err error) {
	p := &in.peer
	defer func() { p.err = err }()
	switch {
	case p.err != nil:
		return nil, p.err
	case in.wasKilled():
		return nil, errKilled
	case p.broken != nil:
		return nil, p.broken
	}
	if err := p.ended(); err != nil {
		return nil, err
	}
	for len(p.queued) == 0 {
		if p.queued, err = p.next(); err != nil {
			return nil, err
		}
	}
	n, err := cut(p.queued)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	b, p.queued = p.queued[:n], p.queued[n:]
	return b, nil
}

// readInput is PostgreSQL's recv: it blocks until the client has sent something.
func (in *Instance) readInput(p []byte) int {
	if len(in.input) == 0 {
		in.flushOutput()
		in.input = in.more()
	}
	n := copy(p, in.input)
	in.input = in.input[n:]
	return n
}

// more is the next input in the middle of a command: COPY FROM STDIN. Where the client is gone, PostgreSQL gets what ends
// that in an orderly way: an end of file would end the whole instance.
func (in *Instance) more() []byte {
	if b, err := in.fetch(copyBatch); err == nil {
		return b
	}
	in.peer.eof++
	if in.peer.eof%2 == 1 {
		b, _ := (&pgproto3.CopyFail{Message: "the client has gone"}).Encode(nil)
		return b
	}
	b, _ := (&pgproto3.Sync{}).Encode(nil)
	return b
}

// writeOutput is PostgreSQL's send. It never fails: a client that is gone must not end the instance.
func (in *Instance) writeOutput(p []byte) int {
	if len(in.output)+len(p) > outputChunk {
		in.flushOutput()
	}
	if len(p) > outputChunk {
		in.send(p)
	} else {
		in.output = append(in.output, p...)
	}
	return len(p)
}

func (in *Instance) flushOutput() {
	if len(in.output) > 0 {
		in.send(in.output)
		in.output = in.output[:0]
	}
}

func (in *Instance) send(p []byte) {
	if in.peer.broken != nil {
		return
	}
	if _, err := in.peer.out.Write(p); err != nil {
		in.peer.broken = fmt.Errorf("write to the client: %w", err)
		in.setCancel()
	}
}

// Exec runs complete frontend messages and writes what PostgreSQL answers to w, in pieces, the last one before Exec
// returns; w must not keep a piece. SQL errors are answers like others; Terminate ends the messages. When ctx ends, what
// runs is cancelled, the messages behind the next Query or Sync are dropped, and Exec returns ctx's error after the
// answer. Errors: ErrMessage (nothing was run, unless it is about COPY), ErrBusy, ErrDead, those of w.
func (in *Instance) Exec(ctx context.Context, messages []byte, w io.Writer) error {
	n, err := complete(messages)
	if err != nil {
		return err
	}
	if n != len(messages) {
		return fmt.Errorf("%w: the last message is cut short", ErrMessage)
	}
	sent := false
	return in.session(ctx, w, func() ([]byte, error) {
		if sent {
			return nil, io.EOF
		}
		sent = true
		return messages, nil
	})
}

// Serve runs a client's session until the client sends Terminate or closes its end, reading messages from conn as
// PostgreSQL asks for them. The start-up packet is the caller's business. A transaction that the client left open is
// rolled back. The context is that of the whole session: when it ends, or the instance is killed, Serve stops waiting
// for a conn that has SetDeadline (a net.Conn), and the connection is of no more use.
func (in *Instance) Serve(ctx context.Context, conn io.ReadWriter) error {
	defer in.unblock(ctx, conn)()
	r := &messageReader{conn: conn}
	err := in.session(ctx, conn, r.next)
	switch {
	case errors.Is(err, ErrDead) || errors.Is(err, ErrBusy):
		return err
	case ctx.Err() == nil && errors.Is(r.err, io.EOF): // that the rest of the answers did not arrive is no wonder
		err = nil
	case ctx.Err() == nil && r.err != nil:
		err = r.err
	}
	return errors.Join(err, in.tidy(context.WithoutCancel(ctx)))
}

// unblock makes reads and writes of conn fail once ctx ends or the instance is killed. The function that it returns ends
// that.
func (in *Instance) unblock(ctx context.Context, conn io.ReadWriter) (stop func()) {
	d, ok := conn.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-in.killed:
		case <-ctx.Done():
		case <-done:
			return
		}
		_ = d.SetDeadline(time.Unix(1, 0)) // the past
	}()
	return func() {
		close(done)
		<-ended
	}
}

// tidy ends what a client left open. PostgreSQL may be in a transaction block, hold what an extended query did before
// its Sync, or skip everything until a Sync: the first ROLLBACK is for the second case, the last for the others.
func (in *Instance) tidy(ctx context.Context) error {
	var messages []byte
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "ROLLBACK"}, &pgproto3.Sync{}, &pgproto3.Query{String: "ROLLBACK"},
	} {
		var err error
		if messages, err = m.Encode(messages); err != nil {
			return fmt.Errorf("encode a rollback: %w", err)
		}
	}
	return in.Exec(ctx, messages, io.Discard)
}

// InTransaction says whether the session is within a transaction block, a failed one included.
func (in *Instance) InTransaction() (bool, error) {
	if err := in.acquire(); err != nil {
		return false, err
	}
	defer in.relinquish()
	open := false
	err := in.guard(func() { open = uint32(in.call(in.fn.inTransaction)) != 0 })
	return open, in.outcome(err)
}

// session feeds PostgreSQL from next until next or ctx ends, or the instance does.
func (in *Instance) session(ctx context.Context, w io.Writer, next func() ([]byte, error)) error {
	if err := in.acquire(); err != nil {
		return err
	}
	defer in.relinquish()
	if err := ctx.Err(); err != nil {
		return err
	}
	in.peer = peer{next: next, ended: ctx.Err, out: w}
	in.input, in.output = nil, in.output[:0]
	in.clearCancel()
	in.ending.Store(in.wasKilled())
	defer whenDone(ctx, in.insist)()
	if err := in.converse(); err != nil {
		return in.outcome(err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if in.peer.broken != nil || errors.Is(in.peer.err, io.EOF) {
		return in.peer.broken
	}
	return in.peer.err
}

// whenDone calls f once ctx ends. After the function that it returns, f neither runs nor will: a cancel that comes late
// would hit somebody else's statement.
func whenDone(ctx context.Context, f func()) (stop func()) {
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(ended)
		f()
	})
	return func() {
		if !cancel() {
			<-ended
		}
	}
}

// converse runs messages until there are no more: peer.err says why. Its own error means that the instance is dead.
func (in *Instance) converse() error {
	for {
		if len(in.input) == 0 && !in.unread() {
			if len(in.peer.queued) == 0 {
				if err := in.endBatch(); err != nil {
					return err
				}
				if err := in.writeLog(); err != nil {
					return err
				}
			}
			var err error
			if in.input, err = in.fetch(batch); errors.Is(err, errKilled) {
				in.dead = errKilled
				return errKilled
			} else if err != nil {
				return in.endBatch()
			}
		}
		if err := in.step(); err != nil {
			return err
		}
	}
}

// outcome is an error of a call, as its caller sees it: ErrDead if the instance is.
func (in *Instance) outcome(err error) error {
	if in.dead == nil || errors.Is(err, ErrDead) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDead, in.dead)
}

// unread says whether PostgreSQL holds input that it has taken and not yet worked on.
func (in *Instance) unread() bool {
	n, exited, _, err := in.enterGuest(in.fn.remaining)
	return err == nil && !exited && int32(n) > 0
}

// step lets PostgreSQL work on one message.
func (in *Instance) step() error {
	if limit := in.opts.StatementTimeout; limit > 0 {
		defer in.limit(limit)()
	}
	_, err := in.run(in.fn.mainLoopOnce)
	return err
}

// run calls a part of PostgreSQL's main loop. raised says that it raised an error, which was told to the client.
func (in *Instance) run(f api.Function) (raised bool, err error) {
	_, exited, code, err := in.enterGuest(f)
	if err != nil || !exited {
		return false, err
	}
	if code == exitLongjmp {
		_, exited, code, err = in.enterGuest(in.fn.mainLongJmp)
		if err != nil || !exited {
			return true, err
		}
	}
	in.flushOutput() // the FATAL message that says why
	in.dead = fmt.Errorf("PostgreSQL ended with exit code %d", code)
	return true, in.dead
}

// limit cancels what runs after d, until the function that it returns is called.
func (in *Instance) limit(d time.Duration) (stop func()) {
	timer, done, ended := in.clock.NewTimer(d), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer timer.Stop()
		select {
		case <-timer.C():
			in.overdue.Store(true)
			in.setCancel()
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-ended
		in.overdue.Store(false)
	}
}

// endBatch sends ReadyForQuery if it is due, and everything written.
func (in *Instance) endBatch() error {
	if in.dead != nil {
		return in.dead
	}
	raised, err := in.run(in.fn.sendReady)
	for attempt := 1; raised && err == nil; attempt++ { // a cancel, most likely
		if attempt == maxReady {
			in.dead = errors.New("PostgreSQL fails to say that it is ready")
			return in.dead
		}
		raised, err = in.run(in.fn.sendReady)
	}
	if err == nil {
		_, err = in.run(in.fn.flush)
	}
	in.flushOutput()
	return err
}

// Cancel interrupts what the instance is doing: it answers with SQLSTATE 57014. Where nothing runs, nothing happens: a
// cancel that comes just before its statement is lost, as with any PostgreSQL. It is safe to call from any goroutine.
func (in *Instance) Cancel() {
	if in.running.Load() {
		in.setCancel()
	}
}

// setCancel sets the flags that a signal handler of PostgreSQL would set.
func (in *Instance) setCancel() {
	in.cancelMu.Lock()
	defer in.cancelMu.Unlock()
	if in.linear.region == nil {
		return
	}
	consts := in.rt.main.consts
	in.storeFlag(uint32(consts["QueryCancelPending"]), 1)
	in.storeFlag(uint32(consts["InterruptPending"]), 1)
	if latch := in.loadWord(uint32(consts["MyLatch"])); latch != 0 {
		in.storeFlag(latch, 1)
	}
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// insist cancels what runs and what is yet to run in this session.
func (in *Instance) insist() {
	in.ending.Store(true)
	in.setCancel()
}

// reviveCancel repeats a cancel that must not get lost: PostgreSQL forgets one that comes while it reads a message. The
// next thing it does then is to read the clock, which calls this.
func (in *Instance) reviveCancel() {
	if in.ending.Load() || in.overdue.Load() {
		in.setCancel()
	}
}

// clearCancel forgets a cancel that came too late for what it was meant for.
func (in *Instance) clearCancel() {
	in.storeFlag(uint32(in.rt.main.consts["QueryCancelPending"]), 0)
	select {
	case <-in.wake:
	default:
	}
}

// word is in the reservation and not in the memory, whose slice changes while the guest runs.
func (in *Instance) word(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&in.linear.region[at])) }

func (in *Instance) storeFlag(at, v uint32)    { atomic.StoreUint32(in.word(at), v) }
func (in *Instance) loadWord(at uint32) uint32 { return atomic.LoadUint32(in.word(at)) }

// startup opens the session: PostgreSQL reads the start-up packet and answers with its parameters.
func (in *Instance) startup() error {
	params := map[string]string{"user": orDefault(in.opts.User), "database": orDefault(in.opts.Database)}
	packet, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: params}).Encode(nil)
	if err != nil {
		return fmt.Errorf("encode the start-up packet: %w", err)
	}
	var answer bytes.Buffer
	in.peer = lonely(&answer)
	in.input = packet
	port, _, _, err := in.enterGuest(in.fn.procPort)
	if err != nil {
		return err
	}
	status, exited, code, err := in.enterGuest(in.fn.processStartup, port, 1, 1)
	if err != nil {
		return err
	}
	if exited || int32(status) != 0 {
		return fmt.Errorf("the start-up packet was refused: status %d, exit code %d: %s", int32(status), code, strings.TrimSpace(answer.String()))
	}
	for _, f := range []func() error{
		func() error { _, _, _, err := in.enterGuest(in.fn.sendConnData); return err },
		func() error { _, _, _, err := in.enterGuest(in.fn.flush); return err },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	in.flushOutput()
	in.parameters = map[string]string{}
	return in.report(answer.Bytes())
}

func orDefault(name string) string {
	if name == "" {
		return "postgres"
	}
	return name
}

// Close shuts PostgreSQL down: a checkpoint is written, all files are complete. The data directory stays readable. The
// instance ends in any case.
func (in *Instance) Close(ctx context.Context) error {
	if err := in.acquire(); err != nil {
		if errors.Is(err, ErrDead) {
			return nil
		}
		return err
	}
	err := in.shutdown(ctx)
	in.dead = errors.Join(in.dead, errors.New("closed"))
	in.relinquish()
	return err
}

func (in *Instance) shutdown(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, _, _, err := in.enterGuest(in.fn.setActive, 0); err != nil {
		return err
	}
	in.files.dataLimit = 0 // of the last checkpoint
	in.input, _ = (&pgproto3.Terminate{}).Encode(nil)
	in.peer = lonely(io.Discard)
	_, exited, code, err := in.enterGuest(in.fn.mainLoopOnce)
	switch {
	case err != nil:
		return fmt.Errorf("shut down: %w", err)
	case !exited || code != 0:
		return fmt.Errorf("shut down: PostgreSQL did not exit as asked (exited %t, code %d)", exited, code)
	}
	if _, exited, code, err = in.enterGuest(in.fn.runAtexit); err != nil {
		return fmt.Errorf("shut down: %w", err)
	} else if exited && code != 0 {
		return fmt.Errorf("shut down: exit code %d", code)
	}
	return nil
}
