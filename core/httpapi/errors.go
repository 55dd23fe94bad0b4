package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/engine"
	"blobpglite/core/keeper"
)

// badRequest is an error in the request, or a bound that rejects it.
type badRequest struct {
	status         int
	text, sqlstate string
	reason         string // label of the refusal in the metrics; empty: not counted
}

func (b *badRequest) Error() string { return b.text }

func bad(status int, format string, args ...any) error {
	return &badRequest{status: status, text: fmt.Sprintf(format, args...)}
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

// errorBody is the body of an error answer.
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

// describe returns the status and the body of the answer to an error.
func describe(err error) (int, errorBody) {
	var body errorBody
	body.Outcome = "failed"
	body.Error.Message = err.Error()
	var mine *badRequest
	var pg *pgconn.PgError
	began := !errors.As(err, new(*notOpen)) && !pgconn.SafeToRetry(err)
	switch {
	case errors.As(err, &mine):
		body.Error.SQLState = mine.sqlstate
		return mine.status, body
	case errors.As(err, new(*badValue)):
		// The statement was executed; only its result cannot be returned.
		body.Error.SQLState, body.Outcome = "22021", "unknown"
		return http.StatusInternalServerError, body
	case errors.As(err, &pg):
		body.Error.SQLState, body.Error.Message = pg.Code, pg.Message
		body.Error.Detail, body.Error.Hint, body.Error.Position = pg.Detail, pg.Hint, pg.Position
		if began {
			return statusOf(pg.Code, &body), body
		}
		return statusOfNone(pg.Code), body
	}
	code, known := codeOf(err)
	body.Error.SQLState = code
	switch {
	case !began, known:
		return http.StatusServiceUnavailable, body
	}
	// The statement may have been committed.
	body.Outcome = "unknown"
	return http.StatusInternalServerError, body
}

// codeOf is the SQLSTATE of an error that does not come from PostgreSQL. none: nothing was committed.
func codeOf(err error) (code string, none bool) {
	for _, c := range []struct {
		err  error
		code string
		none bool
	}{
		{engine.ErrUnknown, "08007", false}, {engine.ErrFenced, "57P01", true}, {engine.ErrCrashed, "57P02", false},
		{engine.ErrMoved, "57P01", true}, {engine.ErrStale, "57P03", true}, {engine.ErrBehind, "55000", true},
		{engine.ErrLocked, "57P03", true}, {engine.ErrStarting, "57P03", true}, {keeper.ErrClosed, "57P01", true},
		{engine.ErrPoisoned, "57P01", false}, {engine.ErrClosed, "57P01", false}, {engine.ErrNoDatabase, "3D000", true},
	} {
		if errors.Is(err, c.err) {
			return c.code, c.none
		}
	}
	return "58000", false
}

// statusOfNone is the status for an error from PostgreSQL that prevented a session from being opened: nothing has run.
func statusOfNone(code string) int {
	switch code {
	case "3D000": // no such database
		return http.StatusNotFound
	case "55000": // it accepts no connections: template0
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

func statusOf(code string, body *errorBody) int {
	switch {
	case code == "08007", code == "57P02":
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
