package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Result is what one SQL statement returned, in text format.
type Result struct {
	Columns []string
	Rows    [][]string // NULL is NullText
	Tag     string     // the command tag
}

// NullText stands for NULL in a Result.
const NullText = "\x00null"

// Query runs SQL by the simple protocol, for the host's own statements and for tests: one or several statements,
// text results. A SQL error is a *pgconn.PgError.
func (in *Instance) Query(ctx context.Context, sql string) ([]Result, error) {
	message, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return nil, fmt.Errorf("encode a query of %d bytes: %w", len(sql), err)
	}
	var out bytes.Buffer
	if err := in.Exec(ctx, message, &out); err != nil {
		return nil, err
	}
	return ParseResults(&out)
}

// ParseResults reads the answers to a simple query: everything up to the end of r. A SQL error is a *pgconn.PgError.
func ParseResults(r io.Reader) ([]Result, error) {
	front := pgproto3.NewFrontend(r, nil)
	var results []Result
	var cur Result
	var failure error
	for {
		m, err := front.Receive()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return results, failure
		}
		if err != nil {
			return results, fmt.Errorf("read PostgreSQL's answer: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
			cur = Result{}
			for _, f := range m.Fields {
				cur.Columns = append(cur.Columns, string(f.Name))
			}
		case *pgproto3.DataRow:
			row := make([]string, len(m.Values))
			for i, v := range m.Values {
				if row[i] = string(v); v == nil {
					row[i] = NullText
				}
			}
			cur.Rows = append(cur.Rows, row)
		case *pgproto3.CommandComplete:
			cur.Tag = string(m.CommandTag)
			results = append(results, cur)
			cur = Result{}
		case *pgproto3.ErrorResponse:
			failure = pgconn.ErrorResponseToPgError(m)
		}
	}
}
