package pgwire

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/pglite"
)

// stand stands in for PostgreSQL: a test defines what a process does.
type stand struct {
	// run is a process. Its result ends the connection: nil is an orderly end.
	run    func(p *standProcess) error
	refuse func(o pglite.ConnectOptions) error // nil: every connection is accepted
	dials  atomic.Int64
}

func (s *stand) Dial(_ context.Context, o pglite.ConnectOptions) (Conn, error) {
	s.dials.Add(1)
	if s.refuse != nil {
		if err := s.refuse(o); err != nil {
			return nil, err
		}
	}
	p := &standProcess{o: o, terminated: make(chan struct{}), done: make(chan struct{})}
	p.requests, p.in = io.Pipe()
	p.out, p.answers = io.Pipe()
	go func() {
		err := s.run(p)
		_ = p.requests.CloseWithError(pglite.ErrHungUp)
		_ = p.answers.CloseWithError(err)
		close(p.done)
	}()
	return p, nil
}

// standProcess is both ends of a process.
type standProcess struct {
	o          pglite.ConnectOptions
	requests   *io.PipeReader
	in         *io.PipeWriter
	out        *io.PipeReader
	answers    *io.PipeWriter
	once       sync.Once
	terminated chan struct{}
	done       chan struct{}
}

func (p *standProcess) Read(b []byte) (int, error)             { return p.out.Read(b) }
func (p *standProcess) Write(b []byte) (int, error)            { return p.in.Write(b) }
func (p *standProcess) Ask(b []byte, _ io.Writer) (int, error) { return p.in.Write(b) }
func (p *standProcess) Terminate()                             { p.once.Do(func() { close(p.terminated) }) }
func (p *standProcess) Done() <-chan struct{}                  { return p.done }

// Close says that the client has gone: there is nothing more to read, and writes are discarded.
func (p *standProcess) Close() error {
	go func() { _, _ = io.Copy(io.Discard, p.out) }()
	return p.in.Close()
}

// startup reads the startup packet.
func (p *standProcess) startup() (packet []byte, err error) {
	packet, err = readPacket(p.requests)
	return packet, err
}

// say answers.
func (p *standProcess) say(messages ...pgproto3.BackendMessage) error {
	var b []byte
	var err error
	for _, m := range messages {
		if b, err = m.Encode(b); err != nil {
			return err
		}
	}
	_, err = p.answers.Write(b)
	return err
}

// welcome lets the client in without a password.
func (p *standProcess) welcome() error {
	if _, err := p.startup(); err != nil {
		return err
	}
	return p.say(&pgproto3.AuthenticationOk{}, &pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// next reads a message of the client's.
func (p *standProcess) next() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(p.requests, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, int(head[1])<<24|int(head[2])<<16|int(head[3])<<8|int(head[4])-4)
	_, err = io.ReadFull(p.requests, body)
	return head[0], body, err
}

// heard are the messages up to the end of a connection, in short.
func heard(t testing.TB, r io.Reader) (all []string) {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		all = append(all, err.Error())
	}
	for len(b) > 0 {
		if len(b) < header || int(binary.BigEndian.Uint32(b[1:]))+1 > len(b) {
			return append(all, fmt.Sprintf("part of a message: %q", b))
		}
		size := int(binary.BigEndian.Uint32(b[1:])) + 1
		m, err := pgproto3.NewFrontend(bytes.NewReader(b[:size]), io.Discard).Receive()
		if err != nil {
			return append(all, err.Error())
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			all = append(all, e.Severity+" "+e.Code)
		} else {
			all = append(all, fmt.Sprintf("%T", m)[len("*pgproto3."):])
		}
		b = b[size:]
	}
	return all
}
