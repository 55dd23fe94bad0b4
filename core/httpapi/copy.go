package httpapi

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// watched is a session's connection that watches the types of PostgreSQL's messages: JSON has no place for the data of COPY, and the client
// library neither rejects it nor passes it on. COPY FROM STDIN is ended immediately, so that nothing waits for data that never comes.
type watched struct {
	net.Conn
	head            []byte // of the current message
	left            int    // bytes of its body still to come
	copyIn, copyOut bool   // it was requested
}

// endCopy is CopyFail and a Sync: during a COPY, PostgreSQL ignores the Sync that was sent with the statement.
func endCopy() []byte {
	b, err := (&pgproto3.CopyFail{Message: "an HTTP request carries no COPY data"}).Encode(nil)
	if err == nil {
		b, err = (&pgproto3.Sync{}).Encode(b)
	}
	if err != nil {
		panic(err) // two constant messages
	}
	return b
}

// Read implements net.Conn. It answers a complete request for COPY data: nothing follows that message.
func (c *watched) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.scan(p[:n]) {
		if _, e := c.Write(endCopy()); e != nil {
			err = errors.Join(err, e)
		}
	}
	return n, err
}

// scan follows the messages, and says whether one that requests data has ended.
func (c *watched) scan(p []byte) (asked bool) {
	const header = 5 // type and length
	for len(p) > 0 {
		if len(c.head) < header {
			n := min(header-len(c.head), len(p))
			c.head = append(c.head, p[:n]...)
			p = p[n:]
			if len(c.head) < header {
				return asked
			}
			c.left = int(binary.BigEndian.Uint32(c.head[1:])) - 4
		}
		n := min(c.left, len(p))
		p, c.left = p[n:], c.left-n
		if c.left > 0 {
			return asked
		}
		switch c.head[0] {
		case 'G':
			c.copyIn, asked = true, true
		case 'H':
			c.copyOut = true
		}
		c.head = c.head[:0]
	}
	return asked
}

// errCopy is the answer to a COPY whose data would go through the request.
func errCopy() error {
	return &badRequest{
		status: http.StatusBadRequest, sqlstate: "0A000",
		text: "COPY FROM STDIN and COPY TO STDOUT are not supported over HTTP: use INSERT and SELECT, or connect to the PostgreSQL port",
	}
}

// run runs a statement through f. A COPY outside a transaction gets one, so that it can be undone if its rows cannot be returned (COPY
// (INSERT ... RETURNING ...) TO STDOUT).
func (s *session) run(ctx context.Context, sql string, f func() error) error {
	guarded := isCopy(sql) && s.TxStatus() == 'I'
	if guarded {
		if _, err := s.Exec(ctx, "BEGIN").ReadAll(); err != nil {
			return err
		}
	}
	err := f()
	switch {
	case s.conn.copyIn || s.conn.copyOut:
		s.conn.copyIn, s.conn.copyOut = false, false
		err = errCopy()
	case err == nil && guarded:
		_, err = s.Exec(ctx, "COMMIT").ReadAll()
		guarded = false
	}
	if guarded && !s.IsClosed() {
		_, rollback := s.Exec(ctx, "ROLLBACK").ReadAll()
		err = errors.Join(err, rollback)
	}
	return err
}

// copied runs a COPY between the database and its own files, which has no rows, and answers with lines.
func (a *API) copied(w http.ResponseWriter, r *http.Request, c *session, s statement) error {
	res, err := one(r.Context(), c, s)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	e := json.NewEncoder(w)
	_ = e.Encode(map[string]any{"columns": res.Columns})
	_ = e.Encode(map[string]string{"tag": res.Tag})
	return nil
}

// isCopy says whether a statement's first word is COPY. The text holds a single statement, and COPY cannot be part of another one.
func isCopy(sql string) bool {
	sql = skipComments(sql)
	const word = "copy"
	return len(sql) > len(word) && strings.EqualFold(sql[:len(word)], word) && !isWordByte(sql[len(word)])
}

func isWordByte(b byte) bool {
	return b == '_' || b == '$' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
}

// skipComments strips leading white space, comments and empty statements.
func skipComments(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\n\r\f\v;")
		switch {
		case strings.HasPrefix(sql, "--"):
			end := strings.IndexAny(sql, "\n\r")
			if end < 0 {
				return ""
			}
			sql = sql[end:]
		case strings.HasPrefix(sql, "/*"):
			sql = sql[blockComment(sql):]
		default:
			return sql
		}
	}
}

// blockComment is the length of the comment that sql begins with. Comments nest.
func blockComment(sql string) int {
	depth := 0
	for i := 0; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(sql)
}
