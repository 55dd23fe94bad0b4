package pglite

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// probe logs in, because there are settings with which PostgreSQL starts but lets no client in. A missing user or database is not their
// fault, and not an error.
func (c *Cluster) probe(ctx context.Context) error {
	conn, err := c.Connect(ctx, ConnectOptions{Trusted: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	packet, err := (&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": "postgres"},
	}).Encode(nil)
	if err == nil {
		_, err = conn.Write(packet)
	}
	if err != nil {
		return err
	}
	answers := pgproto3.NewFrontend(&connReader{ctx: ctx, conn: conn}, io.Discard)
	for {
		m, err := answers.Receive()
		if err != nil {
			return fmt.Errorf("log in: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			return nil
		case *pgproto3.ErrorResponse:
			const noRole, noDatabase = "28000", "3D000"
			if m.Code == noRole || m.Code == noDatabase {
				return nil
			}
			return fmt.Errorf("log in: %w", pgconn.ErrorResponseToPgError(m))
		}
	}
}

// turnsAway names the command-line settings that can keep out every client although PostgreSQL itself starts; empty: none is set.
func (c *Cluster) turnsAway() string {
	var set []string
	for _, name := range []string{"local_preload_libraries", "session_preload_libraries", "transaction_timeout"} {
		if _, given := c.o.Settings[name]; given {
			set = append(set, name)
		}
	}
	if len(set) == 0 {
		return ""
	}
	return "with what is set of " + strings.Join(set, ", ") + ": "
}

// connReader reads answers as a stream.
type connReader struct {
	ctx  context.Context
	conn *Conn
	rest []byte
}

func (r *connReader) Read(b []byte) (int, error) {
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
