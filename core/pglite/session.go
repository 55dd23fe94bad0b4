package pglite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// sessionSettings can keep every session from beginning, where PostgreSQL itself starts with them.
var sessionSettings = []string{"local_preload_libraries", "session_preload_libraries", "transaction_timeout"}

// sessionsBegin looks whether sessions can begin, if a setting that could keep them from it is set: by the command line or, as lines
// has them, by ALTER SYSTEM. A server whose every client is sent away is not started at all.
func (c *Cluster) sessionsBegin(ctx context.Context, lines []confLine) error {
	var set []string
	for _, name := range sessionSettings {
		_, given := c.o.Settings[name]
		if given || slices.ContainsFunc(lines, func(l confLine) bool { return l.name == name }) {
			set = append(set, name)
		}
	}
	if len(set) == 0 {
		return nil
	}
	conn, err := c.Connect(ctx, ConnectOptions{Trusted: true})
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.Close()
		<-conn.Done()
	}()
	hello, err := (&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": "template1"},
	}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Send(ctx, hello); err != nil && !errors.Is(err, ErrHungUp) {
		return err
	}
	said := pgproto3.NewFrontend(&answerReader{ctx: ctx, conn: conn}, nil)
	for {
		m, err := said.Receive()
		if err != nil {
			return c.Err() // it has ended without a word
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			return nil
		case *pgproto3.ErrorResponse:
			if class := m.Code[:min(2, len(m.Code))]; class == "28" || class == "3D" {
				return nil // the role or the database has another name: nothing is known
			}
			return fmt.Errorf("no session can begin with what is set of %s: %s (SQLSTATE %s)", strings.Join(set, ", "), m.Message, m.Code)
		}
	}
}

// answerReader reads the answers of a process as a stream.
type answerReader struct {
	ctx  context.Context
	conn *Conn
	rest []byte
}

func (r *answerReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		a, err := r.conn.Next(r.ctx)
		if err != nil {
			return 0, err
		}
		r.rest = a.Bytes
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
