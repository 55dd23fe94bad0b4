package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"blobpglite/core/engine"
	"blobpglite/core/keeper"
	"blobpglite/core/lease"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

var rt *pglite.Runtime

func TestMain(m *testing.M) {
	var err error
	if rt, err = pglite.NewRuntime(context.Background(), pglite.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := rt.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
}

// service is the whole stack over a store.
func service(t *testing.T, open func(context.Context) (*engine.Engine, error), change ...func(*Options)) *httptest.Server {
	t.Helper()
	k, err := keeper.New(keeper.Options{Open: open})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	o := Options{Keeper: k, Registry: registry}
	for _, c := range change {
		c(&o)
	}
	api, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := Gauges(registry, k, nil); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(api)
	t.Cleanup(func() {
		s.Close()
		if err := api.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := k.Close(context.Background()); err != nil {
			t.Log("close:", err)
		}
	})
	return s
}

// onStore opens databases in a store.
func onStore(st store.Store) func(context.Context) (*engine.Engine, error) {
	return func(ctx context.Context) (*engine.Engine, error) {
		return engine.Open(ctx, engine.Options{Runtime: rt, Store: st, Create: true, CommitDeadline: time.Millisecond})
	}
}

func post(t *testing.T, s *httptest.Server, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	r := send(t.Context(), s, "/sql", body, headers...)
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.status, r.body, r.header
}

// reply is the answer to a request.
type reply struct {
	status int
	body   string
	header http.Header
	err    error
}

// send sends a request.
func send(ctx context.Context, s *httptest.Server, path, body string, headers ...string) reply {
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL+path, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, strings.TrimSpace(string(b)), answer.Header, err}
}

func TestSQL(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	for _, c := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"ddl", `{"sql":"CREATE TABLE t (a int PRIMARY KEY, b text)"}`, 200, `{"columns":[],"rows":[],"tag":"CREATE TABLE"}`},
		{"insert", `{"sql":"INSERT INTO t VALUES ($1,$2),(2,NULL)","params":[1,"one"]}`, 200, `{"columns":[],"rows":[],"tag":"INSERT 0 2"}`},
		{
			"select", `{"sql":"SELECT a, b, a > 1 AS big, a / 4.0::float8 AS f, '{\"x\": [1]}'::jsonb AS j, a::numeric AS n FROM t ORDER BY a"}`, 200,
			`{"columns":[{"name":"a","type":"int4"},{"name":"b","type":"text"},{"name":"big","type":"bool"},{"name":"f","type":"float8"},{"name":"j","type":"jsonb"},{"name":"n","type":"numeric"}],` +
				`"rows":[[1,"one",false,0.25,{"x":[1]},"1"],[2,null,true,0.5,{"x":[1]},"2"]],"tag":"SELECT 2"}`,
		},
		{"not a number", `{"sql":"SELECT 'NaN'::float8 AS f"}`, 200, `{"columns":[{"name":"f","type":"float8"}],"rows":[["NaN"]],"tag":"SELECT 1"}`},
		{"json parameter", `{"sql":"SELECT ($1::jsonb)->'a' AS v, $2::bool AS b","params":[{"a":7},true]}`, 200, `{"columns":[{"name":"v","type":"jsonb"},{"name":"b","type":"bool"}],"rows":[[7,true]],"tag":"SELECT 1"}`},
		{"wrong", `{"sql":"SELEC 1"}`, 400, `{"error":{"sqlstate":"42601","message":"syntax error at or near \"SELEC\"","position":1},"outcome":"failed"}`},
		{"constraint", `{"sql":"INSERT INTO t VALUES (1)"}`, 409, `{"error":{"sqlstate":"23505","message":"duplicate key value violates unique constraint \"t_pkey\"","detail":"Key (a)=(1) already exists."},"outcome":"failed"}`},
		{"batch", `{"batch":[{"sql":"INSERT INTO t VALUES (3)"},{"sql":"SELECT count(*) AS n FROM t"}]}`, 200, `{"results":[{"columns":[],"rows":[],"tag":"INSERT 0 1"},{"columns":[{"name":"n","type":"int8"}],"rows":[[3]],"tag":"SELECT 1"}]}`},
		{"atomic", `{"batch":[{"sql":"INSERT INTO t VALUES (4)"},{"sql":"INSERT INTO t VALUES (1)"}]}`, 409, ``},
		{"ends itself", `{"batch":[{"sql":"INSERT INTO t VALUES (5)"},{"sql":"ROLLBACK"}]}`, 400, ``},
		{"ends itself out of sight", `{"batch":[{"sql":"INSERT INTO t VALUES (5)"},{"sql":"/* */ ROLLBACK"}]}`, 400, ``},
		{"after it", `{"sql":"SELECT count(*) AS n FROM t"}`, 200, `{"columns":[{"name":"n","type":"int8"}],"rows":[[3]],"tag":"SELECT 1"}`},
		{"a setting", `{"sql":"SET work_mem = '1MB'"}`, 200, ``},
		{"does not stay", `{"sql":"SHOW work_mem"}`, 200, `{"columns":[{"name":"work_mem","type":"text"}],"rows":[["64MB"]],"tag":"SHOW"}`},
		{"no JSON", `SELECT 1`, 400, ``},
		{"unknown field", `{"sql":"SELECT 1","parameters":[]}`, 400, ``},
		{"nothing", `{}`, 400, ``},
		{"both", `{"sql":"SELECT 1","batch":[]}`, 400, ``},
		{"two", `{"sql":"SELECT 1"} {"sql":"SELECT 1"}`, 400, ``},
		{"empty in a batch", `{"batch":[{"sql":""}]}`, 400, ``},
	} {
		status, body, _ := post(t, s, c.body)
		if status != c.status || c.want != "" && body != c.want {
			t.Errorf("%s: %d %s\nwant %d %s", c.name, status, body, c.status, c.want)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	status, body, h := post(t, s, `{"sql":"SELECT g FROM generate_series(1,3) g"}`, "Accept", "application/x-ndjson")
	want := "{\"columns\":[{\"name\":\"g\",\"type\":\"int4\"}]}\n[1]\n[2]\n[3]\n{\"tag\":\"SELECT 3\"}"
	if status != 200 || body != want || h.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d %s", status, body)
	}
	_, body, _ = post(t, s, `{"sql":"SELECT 10 / (3 - g) FROM generate_series(1,3) g"}`, "Accept", "application/x-ndjson")
	if !strings.Contains(body, `"22012"`) {
		t.Errorf("an error in the middle: %s", body)
	}
}

func TestTokenAndSize(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.Token, o.MaxRequest = "secret", 100 })
	if status, _, _ := post(t, s, `{"sql":"SELECT 1"}`); status != 401 {
		t.Error(status)
	}
	if status, _, _ := post(t, s, `{"sql":"SELECT 1"}`, "Authorization", "Bearer wrong"); status != 401 {
		t.Error(status)
	}
	if status, _, _ := post(t, s, `{"sql":"SELECT 1"}`, "Authorization", "Bearer secret"); status != 200 {
		t.Error(status)
	}
	if status, _, _ := post(t, s, `{"sql":"SELECT '`+strings.Repeat("x", 100)+`'"}`, "Authorization", "Bearer secret"); status != 413 {
		t.Error(status)
	}
}

func get(t *testing.T, s *httptest.Server, path string) (int, string) {
	t.Helper()
	answer, err := s.Client().Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// TestLocked: while another writer holds the lease, the answer says who, and until when.
func TestLocked(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	rival, err := lease.Acquire(t.Context(), lease.Options{Store: st, Holder: "rival", TTL: time.Hour}, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := service(t, onStore(st))
	status, body, h := post(t, s, `{"sql":"SELECT 1"}`)
	if status != 503 || h.Get("Retry-After") == "" || !strings.Contains(body, "locked by rival until ") {
		t.Errorf("%d %s %v", status, body, h)
	}
	if err := rival.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := post(t, s, `{"sql":"SELECT 1"}`); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// TestTakenOverAtRest: another writer had the database while nobody asked. The first request afterwards does not fail for that, although
// there is an idle session of the engine that was taken over.
func TestTakenOverAtRest(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	o := engine.Options{Runtime: rt, Store: st, Create: true, LeaseTTL: 50 * time.Millisecond, AcquireTimeout: 10 * time.Second}
	s := service(t, func(ctx context.Context) (*engine.Engine, error) { return engine.Open(ctx, o) }, func(o *Options) { o.IdleSession = time.Hour })
	post(t, s, `{"sql":"CREATE TABLE t (a int)"}`)
	rival, err := engine.Open(t.Context(), o) // waits until the lease has expired
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rival.Query(t.Context(), "INSERT INTO t VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	if err := rival.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := post(t, s, `{"sql":"SELECT a FROM t"}`); status != 200 || !strings.Contains(body, "[[7]]") {
		t.Errorf("%d %s", status, body)
	}
}

// failing lets records fail.
type failing struct {
	store.Store
	broken *bool
}

func (f failing) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if *f.broken && strings.HasPrefix(key, "wal/") {
		return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
	}
	return f.Store.Put(ctx, key, body, id, cond)
}

// TestUnknownOutcome: an unknown outcome is distinguishable, and the database is opened again afterwards.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	broken := false
	st := failing{mem.New(mem.Options{}), &broken}
	s := service(t, onStore(st))
	post(t, s, `{"sql":"CREATE TABLE t (a int)"}`)
	broken = true
	status, body, _ := post(t, s, `{"sql":"INSERT INTO t VALUES (1)"}`)
	if status != 500 || !strings.Contains(body, `"outcome":"unknown"`) || !strings.Contains(body, "08007") {
		t.Errorf("%d %s", status, body)
	}
	broken = false
	if status, body, _ := post(t, s, `{"sql":"SELECT count(*) FROM t"}`); status != 200 && status != 503 {
		t.Errorf("%d %s", status, body)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"sql":"SELECT 1","params":[1,"a",null]}`)
	f.Add(`{"batch":[{"sql":"SELECT 1"}]}`)
	a := &API{o: Options{MaxRequest: 1 << 16}, guard: newGuard(Options{})}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest("POST", "/sql", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		statements, _, err := a.decode(httptest.NewRecorder(), r)
		if (err == nil) != (len(statements) > 0) {
			t.Fatalf("%d statements, %v", len(statements), err)
		}
		for _, s := range statements {
			if _, err := parameters(s.Params); err != nil {
				var mine *badRequest
				if !errors.As(err, &mine) {
					t.Fatal(err)
				}
			}
		}
	})
}
