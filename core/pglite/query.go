package pglite

import (
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Result is what one SQL statement returned, in text format.
type Result struct {
	Columns []string
	Rows    [][]string // NULL is empty here; see Null
	Tag     string     // the command tag

	nulls map[field]bool
}

// field is one value of a Result.
type field struct{ row, column int }

// Null reports whether a value of Rows is NULL.
func (r Result) Null(row, column int) bool { return r.nulls[field{row, column}] }

// ErrMessage: the bytes are not complete frontend messages, or the messages make no sense.
var ErrMessage = errors.New("malformed frontend message")

// ParseResults parses the answers to a simple query, up to the end of r. A SQL error is a *pgconn.PgError.
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
					if cur.nulls == nil {
						cur.nulls = map[field]bool{}
					}
					cur.nulls[field{len(cur.Rows), i}] = true
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
