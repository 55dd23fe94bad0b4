package pglite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// ConnectOptions describes the client that connects.
type ConnectOptions struct {
	// Remote is the client's address, for pg_hba.conf and inet_client_addr. Nil, or not an IP address: a client on the same machine
	// (pg_hba.conf: local).
	Remote net.Addr
	// Trusted lets the client in without pg_hba.conf and without a password: for the host's own sessions.
	Trusted bool
	// Unlimited exempts the client from ClusterOptions.DataLimit.
	Unlimited bool
	// Reserved lets in superusers only; others get 53300, as in PostgreSQL when only reserved connections are left.
	Reserved bool
}

// Bounds of what waits between a client and its process, in bytes each way. A process passes on what it has written when it waits, and
// whenever chunkSize bytes have accumulated.
const (
	maxInput  = 1 << 20
	maxOutput = 1 << 20
	chunkSize = 64 << 10
	// maxLost is how many bytes a process may write to a client that has gone before it gets an error: a socket buffers about as much. So,
	// as with any PostgreSQL, a running statement with a short answer completes, and one with a long answer is ended.
	maxLost = 16 << 10
)

// Answer is a piece of what a process has answered, with the result of ClusterOptions.Mark.
type Answer struct {
	Bytes []byte
	Mark  uint64
}

// Conn is the connection to a client's process. One goroutine may write while another reads; any goroutine may call Close.
type Conn struct {
	p *Process

	// For the process, under the cluster's lock.
	output []byte // written, not yet passed on
	block  uint32 // the transaction whose block was open when it last passed something on; 0: none
	lost   int    // bytes written since the client went away

	mu      sync.Mutex
	input   []byte   // for the process
	gone    bool     // the client has gone
	answers []Answer // for the client
	queued  int      // bytes in them
	over    bool     // the process has ended
	heard   chan struct{}
	room    chan struct{} // the process has read
}

// Connect starts a process for a client; the process expects the startup packet next. Errors: ErrTooManyProcesses, ErrAddressSpace,
// ErrDead, the context's.
func (c *Cluster) Connect(ctx context.Context, o ConnectOptions) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	stopping := c.stopping
	c.mu.Unlock()
	if stopping {
		return nil, fmt.Errorf("%w: it is shutting down", ErrDead)
	}
	conn := &Conn{heard: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	_, err := c.spawn(KindClient, conn, func(p *Process) (bool, uint32, error) { return p.serve(o) })
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// serve is the body of a client's process.
func (p *Process) serve(o ConnectOptions) (exited bool, code uint32, err error) {
	in := p.in
	if o.Unlimited {
		in.files.dataLimit = 0
	}
	rules, err := p.c.rules()
	if o.Trusted {
		rules, err = hbaTree(trustsAll)
	}
	if err != nil {
		return false, 0, err
	}
	in.files.instead(rules, func() { _, exited, code, err = in.enterGuest(in.internal("load_hba")) })
	if err != nil || exited {
		return exited, code, err
	}
	sock, _ := in.files.add(&openFile{dev: socketDevice{conn: p.conn}})
	var data uint32
	const startupData = 24 // more than BackendStartupData
	err = in.guard(func() {
		at := uint32(in.call(in.fn.malloc, clientSocketSize))
		data = uint32(in.call(in.fn.malloc, startupData))
		clear(in.mem.bytes(at, clientSocketSize))
		clear(in.mem.bytes(data, startupData))
		in.mem.putU32(at, uint32(sock))
		in.mem.putU32(at+salenAt, in.putAddress(at+4, o.Remote))
		in.mem.putU32(p.c.rt.places.MyClientSocket, at)
		if o.Reserved { // PostgreSQL compares it with the number of free slots, which is never that large
			in.mem.putU32(in.mem.u32(in.option("superuser_reserved_connections")+optionVariable), maxBackends)
		}
	})
	if err != nil {
		return false, 0, err
	}
	_, exited, code, err = in.enterGuest(in.internal("BackendMain"), uint64(data), startupData)
	return exited, code, err
}

// maxBackends is more backends than PostgreSQL can have (postmaster.h).
const maxBackends = 0x3FFFF

// Of struct ClientSocket (libpq-be.h): the descriptor, then an address of 128 bytes, then its length.
const (
	clientSocketSize = 136
	salenAt          = 132
)

// putAddress writes a client's address in the guest C library's format, and returns its length.
func (in *Instance) putAddress(at uint32, remote net.Addr) uint32 {
	const afUnix = 1
	var to netip.AddrPort
	if tcp, ok := remote.(*net.TCPAddr); ok {
		to = tcp.AddrPort()
	}
	addr := to.Addr().Unmap()
	if !addr.IsValid() {
		in.mem.putU16(at, afUnix)
		return 2
	}
	in.mem.putU8(at+2, byte(to.Port()>>8))
	in.mem.putU8(at+3, byte(to.Port()))
	if addr.Is4() {
		in.mem.putU16(at, afInet)
		in.mem.putBytes(at+4, addr.AsSlice())
		return sockaddrSize
	}
	in.mem.putU16(at, afInet6)
	in.mem.putBytes(at+8, addr.AsSlice())
	return sockaddr6Sz
}

// socketDevice is the device of the client's socket.
type socketDevice struct {
	nullDevice
	conn *Conn
}

func (d socketDevice) ready() (readable, writable bool) {
	d.conn.mu.Lock()
	defer d.conn.mu.Unlock()
	return len(d.conn.input) > 0 || d.conn.gone, d.conn.queued < maxOutput || d.conn.gone
}

// recv is the guest's recv. It returns 0 at the end, and a negative number if there is nothing yet, because the guest's sockets do not
// block.
func (p *Process) recv(b []byte) int {
	c := p.conn
	if c == nil {
		return 0
	}
	c.mu.Lock()
	n := copy(b, c.input)
	c.input = c.input[n:]
	if len(c.input) == 0 {
		c.input = nil
	}
	gone := c.gone
	c.mu.Unlock()
	if n > 0 {
		signalOne(c.room)
		return n
	}
	if gone {
		return 0
	}
	p.in.mem.putU32(p.c.rt.places.Errno, uint32(eAGAIN))
	return -1
}

// send is the guest's send.
func (p *Process) send(b []byte) int {
	c := p.conn
	if c == nil {
		return len(b)
	}
	c.mu.Lock()
	full, gone := c.queued >= maxOutput, c.gone
	c.mu.Unlock()
	switch {
	case gone && c.lost+len(b) > maxLost:
		p.in.mem.putU32(p.c.rt.places.Errno, uint32(ePIPE))
		return -1
	case gone:
		c.lost += len(b)
		return len(b)
	case full:
		p.in.mem.putU32(p.c.rt.places.Errno, uint32(eAGAIN))
		return -1
	}
	c.output = append(c.output, b...)
	if len(c.output) >= chunkSize {
		c.flush(p)
	}
	return len(b)
}

// flush passes on what the process has written. The lock is held.
func (c *Conn) flush(p *Process) {
	if len(c.output) == 0 {
		return
	}
	a := Answer{Bytes: c.output, Mark: p.c.o.Mark(p, c.inBlock(p))}
	c.output = nil
	c.mu.Lock()
	if !c.gone {
		c.answers = append(c.answers, a)
		c.queued += len(a.Bytes)
	}
	c.mu.Unlock()
	if !p.turns.direct { // otherwise the goroutine that runs the process does that
		signalOne(c.heard)
	}
}

// inBlock reports whether what is passed on now concerns only the process's current transaction block. It notes that block.
func (c *Conn) inBlock(p *Process) bool {
	last := c.block
	c.block = 0
	if p.in.wasKilled() || p.in.dead != nil {
		return false
	}
	m := p.in.mem
	proc := m.u32(p.c.rt.places.MyProc)
	if proc == 0 {
		return false // not begun yet, or gone
	}
	at := p.c.rt.places
	current := m.u32(proc + at.layout.Offsets["PGPROC.vxid.lxid"])
	const started = 1 // TBLOCK_STARTED: a single statement; 0: none
	if current == 0 || m.u32(m.u32(at.CurrentTransactionState)+at.layout.Offsets["TransactionStateData.blockState"]) <= started {
		return false
	}
	c.block = current
	return current == last || beginsBlock(c.output)
}

// Next waits for the next piece of the process's answers. After the process has ended it returns io.EOF; after the cluster has ended, an
// error that wraps ErrDead. The caller may keep the bytes.
func (c *Conn) Next(ctx context.Context) (Answer, error) {
	for {
		c.mu.Lock()
		if len(c.answers) > 0 {
			a := c.answers[0]
			c.answers[0] = Answer{}
			c.answers = c.answers[1:]
			if len(c.answers) == 0 {
				c.answers = nil
			}
			full := c.queued >= maxOutput
			c.queued -= len(a.Bytes)
			again := full && c.queued < maxOutput
			c.mu.Unlock()
			if again {
				c.p.poke()
			}
			return a, nil
		}
		over := c.over
		c.mu.Unlock()
		if over {
			return Answer{}, c.p.why()
		}
		select {
		case <-c.heard:
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
}

// why returns the error that follows the last answer.
func (p *Process) why() error {
	if p.err == nil && inOrder(p.code) {
		return io.EOF
	}
	if err := p.c.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDead, p.err)
}

// Write sends bytes to the process. It waits while the process has too much unread. Errors: ErrHungUp, those that wrap ErrDead.
func (c *Conn) Write(b []byte) (int, error) { return c.Send(context.Background(), b) }

// Send is Write, but stops waiting when ctx ends.
func (c *Conn) Send(ctx context.Context, b []byte) (int, error) { return c.send(ctx, b, false) }

// Run is Send, but if nothing else needs the processor, it also runs the process on the caller's goroutine until the process waits,
// or for some milliseconds. Next then returns its answer immediately; call Announce to wake another goroutine that waits in Next.
// The caller's goroutine must not be locked to its thread (runtime.LockOSThread).
func (c *Conn) Run(ctx context.Context, b []byte) (int, error) { return c.send(ctx, b, true) }

// Await waits until Next would return immediately, Announce is called, or ctx ends.
func (c *Conn) Await(ctx context.Context) {
	if c.Ready() {
		return
	}
	select {
	case <-c.heard:
	case <-ctx.Done():
	}
}

// Ready reports whether Next would return immediately.
func (c *Conn) Ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answers) > 0 || c.over
}

// Answered reports whether there is an answer for Next.
func (c *Conn) Answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answers) > 0
}

// Announce wakes a goroutine that waits in Next or Await, so that it checks again.
func (c *Conn) Announce() { signalOne(c.heard) }

func (c *Conn) send(ctx context.Context, b []byte, run bool) (int, error) {
	done := 0
	for done < len(b) {
		c.mu.Lock()
		if c.gone || c.over {
			c.mu.Unlock()
			return done, ErrHungUp
		}
		n := min(len(b)-done, maxInput-len(c.input))
		c.input = append(c.input, b[done:done+n]...)
		c.mu.Unlock()
		if n > 0 {
			done += n
			if !run || done < len(b) || !c.p.runDirectly() {
				c.p.poke()
			}
			continue
		}
		select {
		case <-c.room:
		case <-c.p.done:
		case <-ctx.Done():
			return done, ctx.Err()
		}
	}
	return done, nil
}

// ErrHungUp: no more bytes can be sent, because the process has ended or Close was called. Next says why.
var ErrHungUp = errors.New("the connection has ended")

// Close tells the process that its client has gone; it rolls back and ends. Close does not wait for that; use Done.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.gone = true
	c.answers, c.queued = nil, 0
	c.mu.Unlock()
	signalOne(c.room)
	signalOne(c.heard)
	c.p.poke()
	return nil
}

// ended is called when the process has ended.
func (c *Conn) ended() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	signalOne(c.heard)
	signalOne(c.room)
}

// Process returns the process of the connection.
func (c *Conn) Process() *Process { return c.p }

// Done returns a channel that is closed when the process has ended.
func (c *Conn) Done() <-chan struct{} { return c.p.done }

func signalOne(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// beginsBlock reports whether the backend's messages in b, during which a transaction block began, concern only that block: the first
// command that completed began it, and none has ended it.
func beginsBlock(b []byte) bool {
	begun := false
	for len(b) >= 5 {
		kind := b[0]
		n := int(b[1])<<24 | int(b[2])<<16 | int(b[3])<<8 | int(b[4])
		if n < 4 || n+1 > len(b) {
			return false
		}
		body := b[5 : n+1]
		b = b[n+1:]
		switch kind {
		case '1', '2', '3', 'n', 't': // ParseComplete, BindComplete, CloseComplete, NoData, ParameterDescription
		case 'C':
			switch tag := string(body[:len(body)-1]); {
			case tag == "BEGIN" || tag == "START TRANSACTION":
				begun = true
			case !begun, tag == "COMMIT", tag == "ROLLBACK", tag == "PREPARE TRANSACTION":
				return false
			}
		case 'Z':
			if begun && len(body) == 1 && body[0] == 'I' {
				return false
			}
			if !begun {
				return false
			}
		default:
			if !begun {
				return false
			}
		}
	}
	return begun && len(b) == 0
}

// Cancel interrupts the running statement, as a CancelRequest does: it fails with 57014.
func (c *Conn) Cancel() { c.p.signal(sigINT) }

// Terminate ends the process, whatever it runs, as pg_terminate_backend does: the client gets 57P01.
func (c *Conn) Terminate() { c.p.signal(sigTERM) }
