package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/keeper"
	"blobpglite/core/manifest"
	"blobpglite/core/pglite"
	"blobpglite/core/replica"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// answer is the HTTP listener's answer to a statement, and the position that comes with it.
func (c *child) answer(t *testing.T, position, sql string) (status int, at, body string) {
	t.Helper()
	text, err := json.Marshal(map[string]string{"sql": sql})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.http+"/sql", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if position != "" {
		r.Header.Set("X-Blobpglite-Position", position)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, a.Header.Get("X-Blobpglite-Position"), string(b)
}

// TestReplica: a service that follows another one, over its listeners: it reads the other's writes by their positions, refuses writes,
// reports its position, is notified of commits, and becomes the writer.
func TestReplica(t *testing.T) {
	t.Parallel()
	bucket := emulator(t)
	early := start(t, append([]string{"-replica"}, bucket...)...)
	if status, _, body := early.answer(t, "", "SELECT 1"); status != http.StatusServiceUnavailable || !strings.Contains(body, "3D000") {
		t.Errorf("there is nothing to follow: %d %s", status, body)
	}
	reader := start(t, append([]string{"-replica", "-poll", "10m", "-wait-limit", "5s"}, bucket...)...)
	writer := start(t, append([]string{"-announce", "http://" + reader.http}, bucket...)...)
	writer.query(t, "CREATE TABLE t (i int)")
	for i := range 3 {
		_, at, _ := writer.answer(t, "", "INSERT INTO t VALUES (7)")
		status, seen, body := reader.answer(t, at, "SELECT count(*)::int AS n FROM t")
		if want := string(rune('1' + i)); status != http.StatusOK || !strings.Contains(body, "[["+want+"]]") {
			t.Errorf("behind %s: %d %s", at, status, body)
		}
		if status, _, body := early.answer(t, seen, "SELECT 1"); status != http.StatusOK {
			t.Errorf("another replica: %d %s", status, body)
		}
	}
	if status, _, body := reader.answer(t, "F/0", "SELECT 1"); status != http.StatusServiceUnavailable || !strings.Contains(body, "55000") {
		t.Errorf("a position that does not come: %d %s", status, body)
	}
	if status, _, body := reader.answer(t, "x", "SELECT 1"); status != http.StatusBadRequest {
		t.Errorf("no position: %d %s", status, body)
	}
	if status, _, body := reader.answer(t, "", "INSERT INTO t VALUES (1)"); status != http.StatusBadRequest || !strings.Contains(body, "25006") {
		t.Errorf("a write: %d %s", status, body)
	}
	conn := reader.connect(t)
	_, err := conn.Exec(t.Context(), "CREATE TABLE u (i int)")
	if pg := (*pgconn.PgError)(nil); !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("a write: %v", err)
	}
	if ok, text := reader.ready(t); !ok || !strings.Contains(text, `"behind_ms"`) || !strings.Contains(text, `"position"`) {
		t.Errorf("healthz: %v %s", ok, text)
	}
	writer.query(t, "INSERT INTO t VALUES (7)") // it is announced: the next poll is in ten minutes, so nothing else brings it
	announced := time.Now().Add(20 * time.Second)
	for reader.query(t, "SELECT count(*)::text FROM t") != "4" {
		if time.Now().After(announced) {
			t.Fatal("what was announced is not seen")
		}
	}
	for address, want := range map[string]string{"http://" + writer.http: "it is not a replica", writer.http: "not an HTTP address"} {
		if text := admin(t, 1, "promote", address); !strings.Contains(text, want) {
			t.Errorf("promote %s: %s", address, text)
		}
	}
	writer.kill()
	if text := admin(t, 0, "promote", "http://"+reader.http); !strings.Contains(text, "is now the writer, epoch 2") {
		t.Errorf("promote: %s", text)
	}
	reader.query(t, "INSERT INTO t VALUES (7)")
	if got := reader.query(t, "SELECT count(*)::text FROM t"); got != "5" {
		t.Error(got)
	}
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a session of the replica's goes on")
	}
	_, at, _ := reader.answer(t, "", "SELECT 1")
	if status, _, body := early.answer(t, at, "SELECT count(*)::int AS n FROM t"); status != http.StatusOK || !strings.Contains(body, "[[5]]") {
		t.Errorf("the other replica: %d %s", status, body)
	}
}

// held is a store whose first request for the manifest blocks until it is released.
type held struct {
	store.Store
	once        sync.Once
	asked, goOn chan struct{}
}

func (h *held) Get(ctx context.Context, key string) (store.Object, error) {
	if key == manifest.Key {
		h.once.Do(func() {
			close(h.asked)
			<-h.goOn
		})
	}
	return h.Store.Get(ctx, key)
}

// promotable is a database with a table, not open anywhere, and a function that opens it for writing.
func promotable(t *testing.T) (rt *pglite.Runtime, st store.Store, write func(context.Context) (*engine.Engine, error)) {
	t.Helper()
	rt, err := pglite.NewRuntime(t.Context(), pglite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	st = mem.New(mem.Options{})
	write = func(ctx context.Context) (*engine.Engine, error) {
		return engine.Open(ctx, engine.Options{Runtime: rt, Store: st, Create: true})
	}
	first, err := write(t.Context())
	if err == nil {
		_, err = first.Query(t.Context(), "CREATE TABLE t (i int)")
	}
	if err == nil {
		err = first.Close(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return rt, st, write
}

// TestPromotionDuringAnOpening: a replica that is told to become the writer during its opening does so, and does not remain a replica that
// is called the writer.
func TestPromotionDuringAnOpening(t *testing.T) {
	t.Parallel()
	rt, st, write := promotable(t)
	slow := &held{Store: st, asked: make(chan struct{}), goOn: make(chan struct{})}
	s := following(t, engine.Options{Runtime: rt, Store: store.ReadOnly(slow)}, write)
	opened, answered := make(chan error, 1), make(chan *httptest.ResponseRecorder, 1)
	go func() {
		_, err := s.keeper.Engine(context.Background())
		opened <- err
	}()
	<-slow.asked
	go func() {
		rec := httptest.NewRecorder()
		s.promoteMe(rec, httptest.NewRequest(http.MethodPost, "/promote", nil))
		answered <- rec
	}()
	for !s.promoted.Load() {
		runtime.Gosched()
	}
	close(slow.goOn)
	if rec := <-answered; rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"epoch":2`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
	if _, err := s.keeper.Current().Query(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
		t.Errorf("what was promoted does not write: %v", err)
	}
	if st := s.replica.Status(); st.Open {
		t.Error("a replica goes on beside the writer")
	}
}

// following is a service that follows, without listeners.
func following(t *testing.T, o engine.Options, write func(context.Context) (*engine.Engine, error)) *service {
	t.Helper()
	s := &service{c: &config{log: slog.New(slog.DiscardHandler)}, clock: clock.System(), life: t.Context(), write: write}
	var err error
	if s.replica, err = replica.New(replica.Options{Engine: o}); err != nil {
		t.Fatal(err)
	}
	if s.keeper, err = keeper.New(keeper.Options{Open: s.open}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.keeper.Close(context.Background()), s.replica.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestFailedPromotion: while a promotion waits for the last writer's lease, or for the bucket, the replica serves, and if it fails nothing
// has changed. A successful one takes the replica's place.
func TestFailedPromotion(t *testing.T) {
	t.Parallel()
	rt, st, write := promotable(t)
	var s *service
	var reader *engine.Engine
	locked := errors.New("locked by another one")
	fails := true
	s = following(t, engine.Options{Runtime: rt, Store: store.ReadOnly(st)}, func(ctx context.Context) (*engine.Engine, error) {
		if _, err := reader.Query(ctx, "SELECT * FROM t"); err != nil {
			t.Errorf("meanwhile: %v", err)
		}
		if e, err := s.keeper.Engine(ctx); e != reader || err != nil {
			t.Errorf("who comes meanwhile gets %v", err)
		}
		if fails {
			return nil, locked
		}
		return write(ctx)
	})
	var err error
	if reader, err = s.keeper.Engine(t.Context()); err != nil {
		t.Fatal(err)
	}
	promote := func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		s.promoteMe(rec, httptest.NewRequest(http.MethodPost, "/promote", nil))
		return rec
	}
	if rec := promote(); rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), locked.Error()) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if _, err := reader.Query(t.Context(), "SELECT * FROM t"); err != nil || s.following() == nil || s.keeper.Current() != reader {
		t.Errorf("behind a promotion that failed: %v", err)
	}
	fails = false
	if rec := promote(); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"epoch":2`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if err := reader.Err(); !errors.Is(err, engine.ErrMoved) {
		t.Errorf("the replica goes on beside the writer: %v", err)
	}
	if _, err := s.keeper.Current().Query(t.Context(), "INSERT INTO t VALUES (1)"); err != nil || s.following() != nil {
		t.Errorf("what was promoted does not write: %v", err)
	}
	if rec := promote(); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"epoch":2`) {
		t.Errorf("once more: %d %s", rec.Code, rec.Body)
	}
}

// TestPromotionAsTheServiceEnds: an engine that a promotion has opened for a keeper that is closed by then is closed too: its lease is
// free.
func TestPromotionAsTheServiceEnds(t *testing.T) {
	t.Parallel()
	rt, err := pglite.NewRuntime(t.Context(), pglite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	st := mem.New(mem.Options{})
	var s *service
	s = following(t, engine.Options{Runtime: rt, Store: store.ReadOnly(st)}, func(ctx context.Context) (*engine.Engine, error) {
		if err := s.keeper.Close(ctx); err != nil {
			t.Error(err)
		}
		return engine.Open(ctx, engine.Options{Runtime: rt, Store: st, Create: true})
	})
	rec := httptest.NewRecorder()
	s.promoteMe(rec, httptest.NewRequest(http.MethodPost, "/promote", nil))
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "closed") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	next, err := engine.Open(t.Context(), engine.Options{Runtime: rt, Store: st})
	if err != nil {
		t.Fatalf("the lease is not free: %v", err)
	}
	next.Abandon()
}
