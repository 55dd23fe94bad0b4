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
//	400  the request cannot be read, or the statement is wrong; a text that cannot be kept as it is (a byte that is not UTF-8,
//	     half a surrogate pair, \u0000), with its place; COPY FROM STDIN and COPY TO STDOUT
//	401  the token is missing or wrong
//	403  the request comes from a web page of another origin
//	408  the body did not come in time
//	409  a constraint, or another transaction, is in the way (SQLSTATE classes 23 and 40)
//	413  the request is too large
//	415  the Content-Type is not application/json
//	421  the Host is none of this service's names
//	503  the database cannot be opened, or is busy, or there are too many requests or connections; Retry-After says when to come again. Another writer's lease reads
//	     "locked by writer X until T"
//	504  cancelled, or out of time (57014)
//	500  everything else; "outcome" tells
//
// What a browser sends for a web page of somebody else's is refused, with a token and without one: see guard.go.
//
// An answer of more than 1 MiB is sent as its rows come. If its statement fails after that, the status was 200 already: "error" and
// "outcome" stand in the place of the tag, and the connection is broken off, so that nobody takes what came for all of it.
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
	"fmt"
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
	// DefaultMaxRequests is more than Cloud Run gives an instance (its default is 80).
	DefaultMaxRequests   = 100
	DefaultMaxConns      = 512
	DefaultHeaderTimeout = 10 * time.Second
	DefaultBodyTimeout   = 30 * time.Second
	DefaultIdleTimeout   = 2 * time.Minute
	DefaultStallTimeout  = 10 * time.Second
)

// Options of New. Dial and Keeper are required.
type Options struct {
	// Dial opens a connection to the wire protocol's server.
	Dial func(ctx context.Context) (net.Conn, error)
	// Keeper has the database.
	Keeper *keeper.Keeper
	// Token, if not empty, is asked for as a bearer token at /sql and the metrics.
	Token string
	// User and Database of the requests' sessions; empty: postgres, which for pgwire.Server.Dial is the first superuser, also
	// when it has been renamed.
	User, Database string
	// Hosts are the names by which the service may be asked (Host), besides localhost and addresses of this machine's own.
	// AnyHost lets all names through: where somebody else sees to who may come.
	Hosts   []string
	AnyHost bool
	// MaxRequest bounds a request's body, in bytes.
	MaxRequest int64
	// MaxRequests bounds the statements, or batches, at a time; one more gets 503.
	MaxRequests int
	// MaxConns bounds the connections of a listener that Limit has made.
	MaxConns int
	// HeaderTimeout is how long a request's header may take, BodyTimeout its body, IdleTimeout how long a connection may do
	// nothing between requests, StallTimeout how long a client may read nothing while an answer waits for it.
	HeaderTimeout, BodyTimeout, IdleTimeout, StallTimeout time.Duration
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
	guard   *guard
	slots   chan struct{} // a token for each statement that runs
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
	c, err := newConnector(o)
	if err != nil {
		return nil, err
	}
	a := &API{
		o: o, mux: http.NewServeMux(), token: sha256.Sum256([]byte(o.Token)), connect: c, guard: newGuard(o),
		slots: make(chan struct{}, o.MaxRequests),
	}
	a.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "blobpglite_http_sql_seconds", Help: "time of requests to /sql, by status", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"status"})
	if err := errors.Join(o.Registry.Register(a.took), o.Registry.Register(a.guard.refused)); err != nil {
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

// bounds fills in what is not given, and refuses what makes no sense.
func (o *Options) bounds() error {
	for _, d := range []struct {
		value *time.Duration
		std   time.Duration
	}{
		{&o.HeaderTimeout, DefaultHeaderTimeout}, {&o.BodyTimeout, DefaultBodyTimeout}, {&o.IdleTimeout, DefaultIdleTimeout},
		{&o.StallTimeout, DefaultStallTimeout},
	} {
		if *d.value == 0 {
			*d.value = d.std
		}
		if *d.value < 0 {
			return fmt.Errorf("serve HTTP: a time limit of %v", *d.value)
		}
	}
	for _, d := range []struct {
		value *int
		std   int
	}{{&o.MaxRequests, DefaultMaxRequests}, {&o.MaxConns, DefaultMaxConns}} {
		if *d.value == 0 {
			*d.value = d.std
		}
		if *d.value < 0 {
			return fmt.Errorf("serve HTTP: a bound of %d", *d.value)
		}
	}
	if o.MaxRequest == 0 {
		o.MaxRequest = DefaultMaxRequest
	}
	if o.MaxRequest < 0 {
		return fmt.Errorf("serve HTTP: requests of %d bytes", o.MaxRequest)
	}
	return nil
}

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
