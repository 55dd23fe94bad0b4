// Package httpapi serves a database over HTTP: SQL in JSON, rows in JSON.
//
//	POST /sql            {"sql": "SELECT $1::int + 1 AS n", "params": [41]}
//	                     → 200 {"columns":[{"name":"n","type":"int4"}],"rows":[[42]],"tag":"SELECT 1"}
//	POST /sql            {"batch": [{"sql": ...}, ...]}        all or nothing → 200 {"results":[...]}
//	POST /sql            Accept: application/x-ndjson          a line with the columns, a line per row, a line with the tag
//	POST /sql            X-Blobpglite-Position: 0/1A2B3C       first waits until this service has got that far; see position.go
//	POST /sql?database=NAME                                    in a database other than Options.Database
//	GET /healthz         200 when statements can run: opens the database
//	GET /livez           200 as long as the process answers
//	GET /metrics         Prometheus
//	GET /                a page for people: what is going on, a box for SQL, tables; see page.go
//	GET /status.json     what is going on, and what the requests have cost so far; opens nothing
//	GET /metrics.json    how the last cold start went, step by step; steps run concurrently, so their sum may exceed the whole
//
// Errors are JSON: {"error":{"sqlstate":"23505","message":"...","detail":"..."},"outcome":"failed"}. The outcome is "failed" if nothing was
// committed, and "unknown" if that is not known (SQLSTATE 08007, and others): read before trying again.
//
//	400  the request cannot be parsed, or the statement is wrong; a text that cannot be stored as it is (a byte that is not
//	     UTF-8, half a surrogate pair, \u0000), with its place; COPY FROM STDIN and COPY TO STDOUT
//	401  the token is missing or wrong
//	403  the request comes from a web page of another origin
//	404  there is no such database
//	408  the body did not arrive in time
//	409  a constraint, or another transaction, is in the way (SQLSTATE classes 23 and 40)
//	413  the request is too large
//	415  the Content-Type is not application/json
//	421  the Host is not one of this service's names
//	503  the database cannot be opened, or is busy, or there are too many requests, sessions or connections; Retry-After says when to
//	     try again. If another writer has the lease, the message says "locked by writer X until T"
//	504  canceled, or timed out (57014)
//	500  everything else; see "outcome"
//
// What a browser sends on behalf of a foreign web page is refused, with or without a token: see guard.go.
//
// An answer of more than 1 MiB is sent row by row. If its statement fails after that, the status 200 has already been sent: "error" and
// "outcome" then take the place of the tag, and the connection is cut, so that the client does not mistake the part for the whole.
//
// Metrics (blobpglite_...), in addition to those of the keeper, the store and the listeners; PostgreSQL's count since its last start:
//
//	processes{kind,state}            running (one at a time), queued for the one lock, or resting
//	processes_started_total, process_start_seconds_total
//	lock_switches_total, lock_yields_total, lock_waits_total, lock_wait_seconds_total
//	answers_held_total, answer_wait_seconds_total    answers that waited until what they acknowledge was durable
//	restarts_total                   of PostgreSQL after a crash
//	cache_bytes{state}, cache_evicted_bytes_total    of the database's files: budget, resident, unsettled, away
//	page_frames_total{how}, page_requests_total, page_read_bytes_total, page_errors_total    of pages fetched on demand
//	page_waiting, page_waits_total, page_wait_seconds_total    PostgreSQL processes that wait for them
//	layer_bytes{state}               of the newest layer: stored, and the live part of it
//	wake_read_bytes                  of the layer, until the first rows of the last opening were there
//	http_sessions{state}, http_sessions_opened_total, http_requests_waiting
//
// Values: null, booleans, int2 to int8, float4 and float8 (NaN and infinities as text), json and jsonb become JSON of the same kind;
// everything else is PostgreSQL's text. Parameters are JSON: numbers, booleans and texts become PostgreSQL's text, arrays and objects
// become json.
//
// Each request has a session of its own, a PostgreSQL process, for as long as it runs: requests run concurrently, and one waits for another
// only where PostgreSQL makes it wait. Sessions are kept for later requests (pool.go). Before the answer ends, DISCARD ALL cleans them: no
// setting, temporary table, prepared statement, advisory lock, LISTEN, sequence's currval, role or open transaction is left for the next
// request. Two things PostgreSQL cannot undo in a session: a custom setting (SET app.tenant) then reads as an empty text, not as NULL, and
// libraries stay loaded. Settings of ALTER ROLE and ALTER DATABASE apply to new sessions; no session is used for longer than a minute. If a
// client goes away, its request is canceled and its session ended.
package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"blobpglite/core/clock"
)

// API is the HTTP service, an http.Handler. Create it with New, end it with Close. It is safe for concurrent use.
type API struct {
	o     Options
	mux   *http.ServeMux
	token [sha256.Size]byte
	pool  *pool
	took  *prometheus.HistogramVec
	guard *guard
	slots chan struct{} // a token for each running statement
}

// New makes the service. It does not open the database: the first request does. An error says which option is missing or out of range,
// or that a metric is already registered in Options.Registry.
func New(o Options) (*API, error) {
	if o.Keeper == nil {
		return nil, errors.New("serve HTTP: set Keeper")
	}
	if o.Database == "" {
		o.Database = "postgres"
	}
	if err := o.bounds(); err != nil {
		return nil, err
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := newConnector(o.Clock, o.User, o.dial, o.superuser)
	if err != nil {
		return nil, err
	}
	a := &API{
		o: o, mux: http.NewServeMux(), token: sha256.Sum256([]byte(o.Token)), pool: newPool(c, o), guard: newGuard(o),
		slots: make(chan struct{}, o.MaxRequests),
	}
	a.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "blobpglite_http_sql_seconds", Help: "duration of requests to /sql, by status", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"status"})
	if err := errors.Join(o.Registry.Register(a.took), o.Registry.Register(a.guard.refused), register(o.Registry, ofPool(a.pool)...)); err != nil {
		return nil, err
	}
	a.mux.HandleFunc("POST /sql", a.guarded(a.sql))
	a.mux.HandleFunc("GET /healthz", a.healthz)
	a.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	a.mux.Handle("GET /metrics", a.guarded(promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{}).ServeHTTP))
	a.mux.HandleFunc("GET /metrics.json", a.guarded(a.boot))
	a.pages()
	for pattern, h := range o.Routes {
		a.mux.HandleFunc(pattern, a.guarded(h))
	}
	return a, nil
}

// Close ends the sessions: idle ones immediately, the others when their request has ended, or when ctx ends. Later requests fail. It does
// not close the keeper.
func (a *API) Close(ctx context.Context) error { return a.pool.close(ctx) }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, limited := r.Context().Value(connKey{}).(*conn)
	if limited {
		if !c.begin() {
			panic(http.ErrAbortHandler) // the connection has been refused by now, with an answer
		}
		defer c.end()
	}
	p := &paced{ResponseWriter: w, control: http.NewResponseController(w), clock: a.o.Clock, stall: a.o.StallTimeout}
	if r.Body != nil && r.Body != http.NoBody {
		// This also bounds a body that no handler reads: the server reads it completely before the next request.
		_ = p.control.SetReadDeadline(a.o.Clock.Now().Add(a.o.BodyTimeout))
	}
	if r.URL.Path != "/livez" && !a.guard.admit(p, r) {
		return
	}
	a.mux.ServeHTTP(p, r)
}

// guarded requires the token, if there is one.
func (a *API) guarded(h http.HandlerFunc) http.HandlerFunc {
	if a.o.Token == "" {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(given))
		if !ok || subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 {
			a.guard.refused.WithLabelValues(refusedToken).Inc()
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "28000", "the bearer token is missing or wrong")
			return
		}
		h(w, r)
	}
}

// session returns a session of a database, which the caller must release. If another writer has taken the database while nobody asked, it
// is opened again first: idle sessions, which would fail, have ended by then. Errors: those of pool.acquire.
func (a *API) session(ctx context.Context, database string) (*session, error) {
	if _, err := a.o.Keeper.Engine(ctx); err != nil {
		return nil, &notOpen{err}
	}
	return a.pool.acquire(ctx, database)
}

// healthz opens the database and runs a statement.
func (a *API) healthz(w http.ResponseWriter, r *http.Request) {
	done, err := a.begin()
	if err != nil {
		a.fail(w, err)
		return
	}
	defer done()
	c, err := a.session(r.Context(), a.o.Database)
	if err == nil {
		_, err = c.Exec(r.Context(), "SELECT 1").ReadAll()
		a.pool.release(c, err == nil)
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	body := map[string]any{"status": "ready"}
	if a.o.Health != nil {
		maps.Copy(body, a.o.Health())
	}
	writeJSON(w, http.StatusOK, body)
}

// boot serves /metrics.json: how long the steps of the last cold start took.
func (a *API) boot(w http.ResponseWriter, _ *http.Request) {
	b := bootOf(a.o.Keeper.Stats())
	if a.o.Process != nil {
		for step, d := range a.o.Process() {
			b.BootMS[step] = milliseconds(d)
		}
	}
	writeJSON(w, http.StatusOK, b)
}
