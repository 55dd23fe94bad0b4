package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
)

// maxWhole is how many bytes of an answer are buffered before any of it is sent. A smaller answer is sent when the statement has ended,
// with a status that says how. A larger one is sent row by row, and is never in memory as a whole.
const maxWhole = 1 << 20

// errBrokenOff: a statement failed after the first part of its answer had been sent with status 200. The connection is cut, so that the
// client does not mistake the part for the whole.
var errBrokenOff = errors.New("the answer was cut off")

// answer writes a result as JSON.
type answer struct {
	w    http.ResponseWriter
	buf  bytes.Buffer
	rows int
	sent bool
}

// begin writes the columns.
func (a *answer) begin(columns []column) error {
	head, err := json.Marshal(columns)
	a.buf.WriteString(`{"columns":`)
	a.buf.Write(head)
	a.buf.WriteString(`,"rows":[`)
	return err
}

// row adds a row. An error means that the client has gone.
func (a *answer) row(values []json.RawMessage) error {
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	if a.rows > 0 {
		a.buf.WriteByte(',')
	}
	a.rows++
	a.buf.Write(text)
	if a.buf.Len() < maxWhole {
		return nil
	}
	return a.send()
}

func (a *answer) send() error {
	if !a.sent {
		a.sent = true
		a.w.Header().Set("Content-Type", "application/json")
		a.w.WriteHeader(http.StatusOK)
	}
	_, err := a.w.Write(a.buf.Bytes())
	a.buf.Reset()
	return err
}

// end writes the rest.
func (a *answer) end(tag string) error {
	text, err := json.Marshal(tag)
	a.buf.WriteString(`],"tag":`)
	a.buf.Write(text)
	a.buf.WriteString("}\n")
	return errors.Join(err, a.send())
}

// fail reports a failed statement: it returns the error if nothing has been sent; otherwise it writes it in place of the tag.
func (a *answer) fail(err error) error {
	if !a.sent {
		return err
	}
	_, body := describe(err)
	if text, e := json.Marshal(body); e == nil {
		a.buf.WriteString("],")
		a.buf.Write(text[1:]) // "error" and "outcome"
		_ = a.send()
		_ = http.NewResponseController(a.w).Flush()
	}
	return errBrokenOff
}

// single answers a single statement.
func single(w http.ResponseWriter, r *http.Request, c *session, s statement) error {
	if isCopy(s.SQL) { // it has no rows
		res, err := one(r.Context(), c, s)
		if err == nil {
			writeJSON(w, http.StatusOK, res)
		}
		return err
	}
	values, err := parameters(s.Params)
	if err != nil {
		return err
	}
	reader := c.ExecParams(r.Context(), s.SQL, values, nil, nil, nil)
	a := &answer{w: w}
	if err := a.begin(columns(reader.FieldDescriptions())); err != nil {
		return err
	}
	for reader.NextRow() {
		values, err := row(reader)
		if err != nil {
			_, e := reader.Close()
			return a.fail(errors.Join(err, e))
		}
		if err := a.row(values); err != nil {
			_, _ = reader.Close()
			return errBrokenOff // the client has gone
		}
	}
	tag, err := reader.Close()
	if err != nil {
		return a.fail(err)
	}
	if err := a.end(tag.String()); err != nil {
		return errBrokenOff
	}
	return nil
}
