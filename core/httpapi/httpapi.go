// Package httpapi is the door for programs that speak HTTP: SQL in JSON, rows in JSON.
//
//	POST /sql            {"sql": "SELECT $1::int + 1 AS n", "params": [41]}
//	                     → 200 {"columns":[{"name":"n","type":"int4"}],"rows":[[42]],"tag":"SELECT 1"}
//	POST /sql            {"batch": [{"sql": ...}, ...]}        all or nothing → 200 {"results":[...]}
//	POST /sql            Accept: application/x-ndjson          a line with the columns, a line a row, a line with the tag
//	GET /healthz         200 when statements can run: wakes the database
//	GET /livez           200 as long as the process answers
//	GET /metrics         Prometheus
//	GET /metrics.json    how the last wake went, step by step; steps go on side by side, so they add up to more than the whole
//
// Errors are JSON: {"error":{"sqlstate":"23505","message":"...","detail":"..."},"outcome":"failed"}. The outcome is
// "failed" where nothing was committed, and "unknown" where nobody knows (SQLSTATE 08007): read before trying again.
//
//	400  the request cannot be read, or the statement is wrong
//	401  the token is missing or wrong
//	409  a constraint, or another transaction, is in the way (SQLSTATE classes 23 and 40)
//	413  the request is too large
//	503  the database cannot be opened, or is busy; Retry-After says when to come again. Another writer's lease reads
//	     "locked by writer X until T"
//	504  cancelled, or out of time (57014)
//	500  everything else; "outcome" tells
//
// Values: null, booleans, int2 to int8, float4 and float8 (NaN and infinities as text), json and jsonb are JSON of the same
// kind; everything else is PostgreSQL's text. Parameters are JSON: numbers, booleans and texts become PostgreSQL's text,
// arrays and objects become json.
//
// A request is a client of the wire protocol's server (core/pgwire), so it shares the session as any other, and nothing it
// sets stays.
package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"blobpglite/core/clock"
	"blobpglite/core/keeper"
)

// Defaults of Options.
const (
	DefaultMaxRequest = 16 << 20
	DefaultRetryAfter = 2 * time.Second
)

// Options of New. Dial and Keeper are required.
type Options struct {
	// Dial opens a connection to the wire protocol's server.
	Dial func(ctx context.Context) (net.Conn, error)
	// Keeper has the database.
	Keeper *keeper.Keeper
	// Token, if not empty, is asked for as a bearer token at /sql and the metrics.
	Token string
	// User and Database of the requests' sessions; empty: postgres.
	User, Database string
	// MaxRequest bounds a request's body, in bytes.
	MaxRequest int64
	// Process tells of the process's own start, for /metrics.json: steps and how long after its start they were done, or how
	// long they took. Nil: nothing.
	Process func() map[string]time.Duration
	// Registry has the metrics; nil: one of its own.
	Registry *prometheus.Registry
	Clock    clock.Clock  // nil: the system's
	Logger   *slog.Logger // nil: dropped
}

// API serves HTTP. Create it with New.
type API struct {
	o       Options
	mux     *http.ServeMux
	token   [sha256.Size]byte
	connect connector
	took    *prometheus.HistogramVec
}

// New makes the service.
func New(o Options) (*API, error) {
	if o.Dial == nil || o.Keeper == nil {
		return nil, errors.New("serve HTTP: a server to dial and a keeper are needed")
	}
	if o.User == "" {
		o.User = "postgres"
	}
	if o.Database == "" {
		o.Database = "postgres"
	}
	if o.MaxRequest == 0 {
		o.MaxRequest = DefaultMaxRequest
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
	c, err := newConnector(o)
	if err != nil {
		return nil, err
	}
	a := &API{o: o, mux: http.NewServeMux(), token: sha256.Sum256([]byte(o.Token)), connect: c}
	a.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "blobpglite_http_sql_seconds", Help: "time of requests to /sql, by status", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"status"})
	if err := o.Registry.Register(a.took); err != nil {
		return nil, err
	}
	a.mux.HandleFunc("POST /sql", a.guarded(a.sql))
	a.mux.HandleFunc("GET /healthz", a.healthz)
	a.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	a.mux.Handle("GET /metrics", a.guarded(promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{}).ServeHTTP))
	a.mux.HandleFunc("GET /metrics.json", a.guarded(a.boot))
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// guarded asks for the token.
func (a *API) guarded(h http.HandlerFunc) http.HandlerFunc {
	if a.o.Token == "" {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(given))
		if !ok || subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "28000", "the bearer token is missing or wrong")
			return
		}
		h(w, r)
	}
}

// healthz opens the database and runs a statement.
func (a *API) healthz(w http.ResponseWriter, r *http.Request) {
	c, err := a.connect.open(r.Context())
	if err == nil {
		_, err = c.Exec(r.Context(), "SELECT 1").ReadAll()
		_ = c.Close(r.Context())
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// boot tells how the last wake went.
func (a *API) boot(w http.ResponseWriter, _ *http.Request) {
	b := bootOf(a.o.Keeper.Stats())
	if a.o.Process != nil {
		for step, d := range a.o.Process() {
			b.BootMS[step] = milliseconds(d)
		}
	}
	writeJSON(w, http.StatusOK, b)
}
