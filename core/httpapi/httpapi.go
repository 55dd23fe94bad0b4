// Package httpapi is the listener for programs that speak HTTP: SQL in JSON, rows in JSON.
//
//	POST /sql            {"sql": "SELECT $1::int + 1 AS n", "params": [41]}
//	                     → 200 {"columns":[{"name":"n","type":"int4"}],"rows":[[42]],"tag":"SELECT 1"}
//	POST /sql            {"batch": [{"sql": ...}, ...]}        all or nothing → 200 {"results":[...]}
//	POST /sql            Accept: application/x-ndjson          a line with the columns, a line a row, a line with the tag
//	POST /sql            X-Blobpglite-Position: 0/1A2B3C       first waits until this service has come as far; see position.go
//	POST /sql?database=NAME                                    in another database than the usual one
//	GET /healthz         200 when statements can run: opens the database
//	GET /livez           200 as long as the process answers
//	GET /metrics         Prometheus
//	GET /                a page for people: what goes on, a box for SQL, tables; see page.go
//	GET /status.json     what goes on, and what the requests have cost so far; opens nothing
//	GET /metrics.json    how the last cold start went, step by step; steps go on side by side, so they add up to more than the whole
//
// Errors are JSON: {"error":{"sqlstate":"23505","message":"...","detail":"..."},"outcome":"failed"}. The outcome is
// "failed" where nothing was committed, and "unknown" where nobody knows (SQLSTATE 08007): read before trying again.
//
//	400  the request cannot be read, or the statement is wrong; a text that cannot be kept as it is (a byte that is not UTF-8,
//	     half a surrogate pair, \u0000), with its place; COPY FROM STDIN and COPY TO STDOUT
//	401  the token is missing or wrong
//	403  the request comes from a web page of another origin
//	404  there is no such database
//	408  the body did not come in time
//	409  a constraint, or another transaction, is in the way (SQLSTATE classes 23 and 40)
//	413  the request is too large
//	415  the Content-Type is not application/json
//	421  the Host is none of this service's names
//	503  the database cannot be opened, or is busy, or there are too many requests, sessions or connections; Retry-After says when to
//	     come again. Another writer's lease reads "locked by writer X until T"
//	504  cancelled, or out of time (57014)
//	500  everything else; "outcome" tells
//
// What a browser sends for a web page of somebody else's is refused, with a token and without one: see guard.go.
//
// An answer of more than 1 MiB is sent as its rows come. If its statement fails after that, the status was 200 already: "error" and
// "outcome" stand in the place of the tag, and the connection is broken off, so that nobody takes what came for all of it.
//
// Metrics (blobpglite_...) besides those of the keeper, the store and the listeners, PostgreSQL's since its last start:
//
//	processes{kind,state}            running (one at a time), queued for the one lock, or resting
//	processes_started_total, process_start_seconds_total
//	lock_switches_total, lock_yields_total, lock_waits_total, lock_wait_seconds_total
//	answers_held_total, answer_wait_seconds_total    answers that waited until what they tell of was durable
//	restarts_total                   of PostgreSQL after a crash
//	cache_bytes{state}, cache_evicted_bytes_total    of the database's files: budget, resident, unsettled, away
//	page_frames_total{how}, page_requests_total, page_read_bytes_total, page_errors_total    of pages that are fetched when they are read
//	http_sessions{state}, http_sessions_opened_total, http_requests_waiting
//
// Values: null, booleans, int2 to int8, float4 and float8 (NaN and infinities as text), json and jsonb are JSON of the same
// kind; everything else is PostgreSQL's text. Parameters are JSON: numbers, booleans and texts become PostgreSQL's text,
// arrays and objects become json.
//
// Each request has a session of its own, a process of PostgreSQL, as long as it runs: requests run side by side, and one waits for
// another only where PostgreSQL makes it wait. Sessions are kept for the next request (pool.go) and cleaned before the answer ends:
// DISCARD ALL, so no setting, temporary table, prepared statement, advisory lock, LISTEN, sequence's currval, role or open transaction
// is there for the next one. What PostgreSQL itself cannot make undone in a session: a setting of one's own (SET app.tenant) reads
// as an empty text afterwards, not as NULL, and libraries stay loaded. What ALTER ROLE and ALTER DATABASE set is for new sessions;
// none is older than a minute. A request whose client goes away is cancelled, and its session ended.
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

// API serves HTTP. Create it with New.
type API struct {
	o     Options
	mux   *http.ServeMux
	token [sha256.Size]byte
	pool  *pool
	took  *prometheus.HistogramVec
	guard *guard
	slots chan struct{} // a token for each statement that runs
}

// New makes the service.
func New(o Options) (*API, error) {
	if o.Keeper == nil {
		return nil, errors.New("serve HTTP: a keeper is needed")
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
		Name: "blobpglite_http_sql_seconds", Help: "time of requests to /sql, by status", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
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

// Close ends the sessions: those that are idle at once, those at work when their request has ended, or when ctx does.
func (a *API) Close(ctx context.Context) error { return a.pool.close(ctx) }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, limited := r.Context().Value(connKey{}).(*conn)
	if limited {
		if !c.begin() {
			panic(http.ErrAbortHandler) // it has been told that it was refused
		}
		defer c.end()
	}
	p := &paced{ResponseWriter: w, control: http.NewResponseController(w), clock: a.o.Clock, stall: a.o.StallTimeout}
	if r.Body != nil && r.Body != http.NoBody {
		// Also of a body that nobody reads: the server reads it to the end before the next request.
		_ = p.control.SetReadDeadline(a.o.Clock.Now().Add(a.o.BodyTimeout))
	}
	if r.URL.Path != "/livez" && !a.guard.admit(p, r) {
		return
	}
	a.mux.ServeHTTP(p, r)
}

// guarded asks for the token.
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

// healthz opens the database and runs a statement.
func (a *API) healthz(w http.ResponseWriter, r *http.Request) {
	done, err := a.begin()
	if err != nil {
		a.fail(w, err)
		return
	}
	defer done()
	c, err := a.pool.acquire(r.Context(), a.o.Database)
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

// boot tells how the last cold start went.
func (a *API) boot(w http.ResponseWriter, _ *http.Request) {
	b := bootOf(a.o.Keeper.Stats())
	if a.o.Process != nil {
		for step, d := range a.o.Process() {
			b.BootMS[step] = milliseconds(d)
		}
	}
	writeJSON(w, http.StatusOK, b)
}
