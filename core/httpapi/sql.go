package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// sql serves POST /sql.
func (a *API) sql(w http.ResponseWriter, r *http.Request) {
	at := a.o.Clock.Monotonic()
	rec := &recorder{ResponseWriter: w, begin: a.tellPosition}
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

// recorder records the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	begin  func(http.Header) // called before the status is sent
}

func (r *recorder) WriteHeader(status int) {
	r.starts(status)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.starts(http.StatusOK)
	return r.ResponseWriter.Write(p)
}

// starts records the status, and completes the header.
func (r *recorder) starts(status int) {
	if r.status == 0 {
		r.status = status
		r.begin(r.Header())
	}
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
		return bad(http.StatusBadRequest, "a batch is answered in one piece: request application/json")
	}
	database, err := a.database(r)
	if err != nil {
		return err
	}
	done, err := a.begin()
	if err != nil {
		return err
	}
	defer done()
	if err := a.awaitPosition(r); err != nil {
		return err
	}
	c, err := a.session(r.Context(), database)
	if err != nil {
		return err
	}
	defer func() { a.pool.release(c, r.Context().Err() == nil) }()
	switch {
	case lines:
		return a.stream(w, r, c, statements[0])
	case batch:
		return atOnce(w, r, c, statements)
	}
	return single(w, r, c, statements[0])
}

// atOnce answers a batch, which is one transaction.
func atOnce(w http.ResponseWriter, r *http.Request, c *session, statements []statement) error {
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
			return bad(http.StatusBadRequest, "statement %d has ended the batch's transaction: if it was a COMMIT, the statements before it are committed", i+1)
		}
		if encoding := c.ParameterStatus("client_encoding"); encoding != "UTF8" {
			return bad(http.StatusBadRequest, "statement %d has set client_encoding to %s, but JSON needs UTF8", i+1, encoding)
		}
		results = append(results, res)
	}
	if _, err := c.Exec(r.Context(), "COMMIT").ReadAll(); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"results": results})
	return nil
}

// one runs a statement and collects its rows.
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

// stream runs a statement and writes a line for each row as it arrives.
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
