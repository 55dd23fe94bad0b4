package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"blobpglite/core/keeper"
)

const (
	maxBatch  = 1000  // statements of one request
	maxParams = 65535 // of a statement. Source: postgresql.org/docs/current/protocol-message-formats.html, Bind: an Int16
)

// request is the body of a POST /sql.
type request struct {
	SQL    string            `json:"sql"`
	Params []json.RawMessage `json:"params"`
	Batch  []statement       `json:"batch"`
}

type statement struct {
	SQL    string            `json:"sql"`
	Params []json.RawMessage `json:"params"`
}

type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// result is what one statement returned.
type result struct {
	Columns []column            `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
	Tag     string              `json:"tag"`
}

// badRequest is an error of whoever asks.
type badRequest struct {
	status         int
	text, sqlstate string
	reason         string // that refusals are counted by; empty: it is none
}

func (b *badRequest) Error() string { return b.text }

func bad(status int, format string, args ...any) error {
	return &badRequest{status: status, text: fmt.Sprintf(format, args...)}
}

// sql serves POST /sql.
func (a *API) sql(w http.ResponseWriter, r *http.Request) {
	at := a.o.Clock.Monotonic()
	rec := &recorder{ResponseWriter: w}
	err := a.run(rec, r)
	brokenOff := errors.Is(err, errBrokenOff)
	if err != nil && !brokenOff {
		a.fail(rec, err)
	}
	a.took.WithLabelValues(strconv.Itoa(rec.status)).Observe((a.o.Clock.Monotonic() - at).Seconds())
	if brokenOff {
		panic(http.ErrAbortHandler) // net/http's way to cut a connection
	}
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController through.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (a *API) run(w *recorder, r *http.Request) error {
	statements, batch, err := a.decode(w, r)
	if err != nil {
		return err
	}
	lines := accepts(r, "application/x-ndjson")
	if lines && batch {
		return bad(http.StatusBadRequest, "a batch is answered in one piece; ask for application/json")
	}
	done, err := a.begin()
	if err != nil {
		return err
	}
	defer done()
	c, err := a.connect.open(r.Context())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(r.Context())) }()
	if lines {
		return a.stream(w, r, c, statements[0])
	}
	if !batch {
		return single(w, r, c, statements[0])
	}
	if _, err := c.Exec(r.Context(), "BEGIN").ReadAll(); err != nil {
		return err
	}
	results := []result{}
	for i, s := range statements {
		res, err := one(r.Context(), c, s)
		if err != nil {
			return fmt.Errorf("statement %d of the batch: %w", i+1, err)
		}
		if c.TxStatus() != 'T' {
			return bad(http.StatusBadRequest, "statement %d has ended the batch's transaction: what came before it was committed if it said COMMIT", i+1)
		}
		results = append(results, res)
	}
	if _, err := c.Exec(r.Context(), "COMMIT").ReadAll(); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"results": results})
	return nil
}

// decode reads a request; every unknown field is an error.
func (a *API) decode(w http.ResponseWriter, r *http.Request) (statements []statement, batch bool, err error) {
	if err := jsonOnly(r); err != nil {
		return nil, false, err
	}
	body, err := a.body(w, r)
	if err != nil {
		return nil, false, err
	}
	if err := exactText(body); err != nil {
		return nil, false, err
	}
	var q request
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return nil, false, bad(http.StatusBadRequest, "the request is not what it should be, {\"sql\": text, \"params\": [...]} or {\"batch\": [...]}: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, false, bad(http.StatusBadRequest, "there is something behind the request")
	}
	switch {
	case q.SQL != "" && q.Batch != nil:
		return nil, false, bad(http.StatusBadRequest, "the request has \"sql\" and \"batch\"; send one of them")
	case q.SQL != "":
		return []statement{{q.SQL, q.Params}}, false, nil
	case q.Params != nil && q.Batch != nil:
		return nil, false, bad(http.StatusBadRequest, "the parameters of a batch belong to its statements")
	case len(q.Batch) == 0:
		return nil, false, bad(http.StatusBadRequest, "the request has no \"sql\"")
	case len(q.Batch) > maxBatch:
		return nil, false, bad(http.StatusBadRequest, "a batch of %d statements; %d at most", len(q.Batch), maxBatch)
	}
	for i, s := range q.Batch {
		if s.SQL == "" {
			return nil, false, bad(http.StatusBadRequest, "statement %d of the batch has no \"sql\"", i+1)
		}
		if endsTransaction(s.SQL) {
			return nil, false, bad(http.StatusBadRequest, "statement %d: a batch is one transaction, and ends by itself", i+1)
		}
	}
	return q.Batch, true, nil
}

// endsTransaction says whether a statement is one that begins or ends a transaction. What is hidden behind a comment is
// found when it has run.
func endsTransaction(sql string) bool {
	const enough = 100
	word := strings.FieldsFunc(strings.ToUpper(sql[:min(enough, len(sql))]), func(r rune) bool { return r < 'A' || r > 'Z' })
	if len(word) == 0 {
		return false
	}
	switch word[0] {
	case "BEGIN", "START", "COMMIT", "END", "ABORT":
		return true
	case "ROLLBACK":
		return len(word) < 2 || word[1] != "TO" && (len(word) < 3 || word[2] != "TO")
	}
	return false
}

func accepts(r *http.Request, kind string) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if name, _, err := mime.ParseMediaType(strings.TrimSpace(part)); err == nil && name == kind {
			return true
		}
	}
	return false
}

// parameters are PostgreSQL's texts of JSON values.
func parameters(values []json.RawMessage) ([][]byte, error) {
	if len(values) > maxParams {
		return nil, bad(http.StatusBadRequest, "%d parameters; a statement may have %d: send rows as one JSON array (json_to_recordset), or in a batch", len(values), maxParams)
	}
	out := make([][]byte, len(values))
	for i, v := range values {
		v = bytes.TrimSpace(v)
		switch {
		case len(v) == 0 || string(v) == "null":
		case v[0] == '"':
			var text string
			if err := json.Unmarshal(v, &text); err != nil {
				return nil, bad(http.StatusBadRequest, "parameter %d: %v", i+1, err)
			}
			out[i] = []byte(text)
		default:
			out[i] = v
		}
	}
	return out, nil
}

// one runs a statement and keeps its rows.
func one(ctx context.Context, c *session, s statement) (res result, err error) {
	values, err := parameters(s.Params)
	if err != nil {
		return result{}, err
	}
	err = c.run(ctx, s.SQL, func() error {
		res, err = all(ctx, c, s, values)
		return err
	})
	return res, err
}

func all(ctx context.Context, c *session, s statement, values [][]byte) (result, error) {
	reader := c.ExecParams(ctx, s.SQL, values, nil, nil, nil)
	res := result{Columns: columns(reader.FieldDescriptions()), Rows: [][]json.RawMessage{}}
	for reader.NextRow() {
		values, err := row(reader)
		if err != nil {
			_, e := reader.Close()
			return res, errors.Join(err, e)
		}
		res.Rows = append(res.Rows, values)
	}
	tag, err := reader.Close()
	res.Tag = tag.String()
	return res, err
}

// stream runs a statement and writes a line for each row as it comes.
func (a *API) stream(w *recorder, r *http.Request, c *session, s statement) error {
	if isCopy(s.SQL) {
		return a.copied(w, r, c, s)
	}
	values, err := parameters(s.Params)
	if err != nil {
		return err
	}
	reader := c.ExecParams(r.Context(), s.SQL, values, nil, nil, nil)
	e := json.NewEncoder(w)
	begun := false
	begin := func() error {
		if begun {
			return nil
		}
		begun = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		return e.Encode(map[string]any{"columns": columns(reader.FieldDescriptions())})
	}
	for reader.NextRow() {
		values, err := row(reader)
		if err != nil {
			_, body := describe(err)
			_ = errors.Join(begin(), e.Encode(body))
			_, _ = reader.Close()
			return nil
		}
		if err := errors.Join(begin(), e.Encode(values)); err != nil {
			_, _ = reader.Close()
			return nil // the client has gone
		}
	}
	tag, err := reader.Close()
	if err != nil && !begun {
		return err
	}
	if err := begin(); err != nil {
		return nil
	}
	if err != nil {
		_, body := describe(err)
		_ = e.Encode(body)
		return nil
	}
	_ = e.Encode(map[string]string{"tag": tag.String()})
	return nil
}

var types = pgtype.NewMap()

func columns(fields []pgconn.FieldDescription) []column {
	out := make([]column, len(fields))
	for i, f := range fields {
		out[i] = column{Name: f.Name, Type: "oid " + strconv.FormatUint(uint64(f.DataTypeOID), 10)}
		if t, ok := types.TypeForOID(f.DataTypeOID); ok {
			out[i].Type = t.Name
		}
	}
	return out
}

// row makes JSON of the row that was read last.
func row(r *pgconn.ResultReader) ([]json.RawMessage, error) {
	values, fields := r.Values(), r.FieldDescriptions()
	out := make([]json.RawMessage, len(values))
	for i, v := range values {
		if at := invalidUTF8(v); at >= 0 {
			return nil, &badValue{fields[i].Name, at, v[at]}
		}
		out[i] = value(v, fields[i].DataTypeOID)
	}
	return out, nil
}

// badValue is a text in the database that is none, and would be another one in JSON.
type badValue struct {
	column string
	at     int
	found  byte
}

func (b *badValue) Error() string {
	return fmt.Sprintf("column %q has a text that is not UTF-8: the byte 0x%02x at offset %d; ask for it as bytea (convert_to(%s, 'SQL_ASCII'))", b.column, b.found, b.at, b.column)
}

// value makes JSON of PostgreSQL's text.
func value(text []byte, oid uint32) json.RawMessage {
	if text == nil {
		return json.RawMessage("null")
	}
	switch oid {
	case pgtype.BoolOID:
		return json.RawMessage(strconv.FormatBool(string(text) == "t"))
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return bytes.Clone(text)
	case pgtype.Float4OID, pgtype.Float8OID:
		if f, err := strconv.ParseFloat(string(text), 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) && json.Valid(text) {
			return bytes.Clone(text)
		}
	case pgtype.JSONOID, pgtype.JSONBOID:
		if json.Valid(text) {
			return bytes.Clone(text)
		}
	}
	b, err := json.Marshal(string(text))
	if err != nil {
		return json.RawMessage("null") // a text always is JSON
	}
	return b
}

// fail answers with an error.
func (a *API) fail(w http.ResponseWriter, err error) {
	status, body := describe(err)
	if mine := (*badRequest)(nil); errors.As(err, &mine) && mine.reason != "" {
		a.guard.refused.WithLabelValues(mine.reason).Inc()
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(DefaultRetryAfter/time.Second)))
	}
	if status >= http.StatusInternalServerError {
		a.o.Logger.Warn("a request failed", "status", status, "error", err)
	}
	writeJSON(w, status, body)
}

// errorBody is the body of an answer that tells of an error.
type errorBody struct {
	Error struct {
		SQLState string `json:"sqlstate,omitempty"`
		Message  string `json:"message"`
		Detail   string `json:"detail,omitempty"`
		Hint     string `json:"hint,omitempty"`
		Position int32  `json:"position,omitempty"`
	} `json:"error"`
	Outcome string `json:"outcome"` // failed or unknown
}

// describe says how an error is answered.
func describe(err error) (int, errorBody) {
	var body errorBody
	body.Outcome = "failed"
	body.Error.Message = err.Error()
	var mine *badRequest
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &mine):
		body.Error.SQLState = mine.sqlstate
		return mine.status, body
	case errors.As(err, new(*badValue)):
		// The statement was executed, whatever it returns.
		body.Error.SQLState, body.Outcome = "22021", "unknown"
		return http.StatusInternalServerError, body
	case errors.As(err, &pg):
		body.Error.SQLState, body.Error.Message = pg.Code, pg.Message
		body.Error.Detail, body.Error.Hint, body.Error.Position = pg.Detail, pg.Hint, pg.Position
		status := statusOf(pg.Code, &body)
		if errors.As(err, new(*notOpen)) {
			status, body.Outcome = http.StatusServiceUnavailable, "failed"
		}
		return status, body
	case errors.Is(err, keeper.ErrClosed), errors.As(err, new(*notOpen)):
		return http.StatusServiceUnavailable, body
	}
	// The connection ended without a word: what ran may have been committed.
	body.Outcome = "unknown"
	return http.StatusInternalServerError, body
}

func statusOf(code string, body *errorBody) int {
	switch {
	case code == "08007":
		body.Outcome = "unknown"
		return http.StatusInternalServerError
	case code == "57P03", code == "57P01", code == "53300", code == "55P03":
		return http.StatusServiceUnavailable
	case code == "57014":
		return http.StatusGatewayTimeout
	case strings.HasPrefix(code, "23"), strings.HasPrefix(code, "40"):
		return http.StatusConflict
	case strings.HasPrefix(code, "53"), strings.HasPrefix(code, "58"), strings.HasPrefix(code, "XX"):
		return http.StatusInternalServerError
	case code == "28000", code == "28P01":
		return http.StatusUnauthorized
	}
	return http.StatusBadRequest
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func writeError(w http.ResponseWriter, status int, code, text string) {
	var body errorBody
	body.Error.SQLState, body.Error.Message, body.Outcome = code, text, "failed"
	writeJSON(w, status, body)
}
