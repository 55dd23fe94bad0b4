package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Feed runs the messages that next returns, until next returns io.EOF, and writes what PostgreSQL answers to w, as Exec
// does. Each call of next returns one or more complete messages, or blocks until there are some: it is called whenever
// PostgreSQL has worked on everything it has been given, also in the middle of COPY FROM STDIN, and everything it has
// answered so far has been written to w by then. At io.EOF in the middle of a COPY the COPY fails. Errors: ErrMessage,
// ErrBusy, ErrDead, those of next and of w, the context's.
func (in *Instance) Feed(ctx context.Context, next func() ([]byte, error), w io.Writer) error {
	return in.session(ctx, w, func() ([]byte, error) {
		b, err := next()
		if err != nil {
			return nil, err
		}
		n, err := complete(b)
		if err == nil && n != len(b) {
			err = fmt.Errorf("%w: the last message is cut short", ErrMessage)
		}
		return b, err
	})
}

// Parameters are what PostgreSQL reports of itself when a session starts (server_version, TimeZone, ...): the caller's
// own copy.
func (in *Instance) Parameters() map[string]string { return maps.Clone(in.parameters) }

// report notes the parameters among PostgreSQL's answers.
func (in *Instance) report(answers []byte) error {
	frontend := pgproto3.NewFrontend(bytes.NewReader(answers), io.Discard)
	for {
		m, err := frontend.Receive()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the answer to the start-up packet: %w", err)
		}
		if p, ok := m.(*pgproto3.ParameterStatus); ok {
			in.parameters[p.Name] = p.Value
		}
	}
}
