package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/keeper"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

func TestHealthAndMetrics(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	if status, _ := get(t, s, "/livez"); status != 200 {
		t.Error(status)
	}
	_, body := get(t, s, "/metrics.json")
	var boot bootTimes
	if err := json.Unmarshal([]byte(body), &boot); err != nil || boot.State != keeper.Asleep {
		t.Errorf("before the first request: %s, %v", body, err)
	}
	if status, body := get(t, s, "/healthz"); status != 200 {
		t.Error(status, body)
	}
	post(t, s, `{"sql":"CREATE TABLE t (a int)"}`)
	_, body = get(t, s, "/metrics.json")
	if err := json.Unmarshal([]byte(body), &boot); err != nil || boot.State != keeper.Open || boot.Epoch != 1 || !boot.Created {
		t.Errorf("%s, %v", body, err)
	}
	_, body = get(t, s, "/metrics")
	for _, line := range []string{"blobpglite_open 1", "blobpglite_leased 1", "blobpglite_epoch 1", "blobpglite_commits_total 1", `blobpglite_http_sql_seconds_count{status="200"} 1`,
		`blobpglite_processes{kind="client backend",state="resting"} 1`, `blobpglite_processes{kind="checkpointer",state="queued"} 0`,
		`blobpglite_http_sessions{state="idle"} 1`, `blobpglite_http_sessions{state="busy"} 0`, "blobpglite_http_sessions_opened_total 1",
		"blobpglite_restarts_total 0", fmt.Sprintf("blobpglite_code_checked %.0f", flag(rt.Checked() != nil)), "blobpglite_http_requests_waiting 0",
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no %q in the metrics", line)
		}
	}
	for _, counted := range []string{
		"processes_started_total", "process_start_seconds_total", "lock_switches_total", "answers_held_total", "answer_wait_seconds_total",
	} {
		if !strings.Contains(body, "\nblobpglite_"+counted+" ") || strings.Contains(body, "\nblobpglite_"+counted+" 0\n") {
			t.Errorf("%s is not counted", counted)
		}
	}
}

// TestMetricsOfPages: for a database that has a cache, and was woken, each metric is there, and counts.
func TestMetricsOfPages(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	open := func(ctx context.Context) (*engine.Engine, error) {
		return engine.Open(ctx, engine.Options{Runtime: rt, Store: st, Create: true, Cache: engine.LeastCache})
	}
	e, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Query(t.Context(), "CREATE TABLE t AS SELECT g, repeat('x', 700) FROM generate_series(1, 60000) g"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Compact(t.Context()), e.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	s := service(t, open)
	if status, body, _ := post(t, s, `{"sql":"SELECT count(*) FROM t"}`); status != 200 {
		t.Fatal(body)
	}
	_, body := get(t, s, "/metrics")
	got := map[string]float64{}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		short, ours := strings.CutPrefix(name, "blobpglite_")
		for _, kind := range []string{"cache_", "page_", "layer_", "wake_"} {
			if ours && strings.HasPrefix(short, kind) {
				if got[short], err = strconv.ParseFloat(value, 64); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for _, counts := range []string{
		`cache_bytes{state="budget"}`, `cache_bytes{state="resident"}`, `layer_bytes{state="live"}`, `layer_bytes{state="stored"}`, "wake_read_bytes",
		`page_frames_total{how="waited"}`, `page_frames_total{how="ahead"}`, `page_frames_total{how="ahead_used"}`, "page_waits_total", "page_wait_seconds_total",
		"page_requests_total", "page_read_bytes_total",
	} {
		if got[counts] <= 0 {
			t.Errorf("%s is %v", counts, got[counts])
		}
		delete(got, counts)
	}
	for _, there := range []string{
		`cache_bytes{state="unsettled"}`, `cache_bytes{state="away"}`, `cache_bytes{state="temporary"}`, `cache_bytes{state="temporary_disk"}`, "page_waiting", "page_errors_total",
		"cache_evicted_bytes_total",
	} {
		if _, ok := got[there]; !ok {
			t.Errorf("there is no %s", there)
		}
		delete(got, there)
	}
	if len(got) > 0 {
		t.Errorf("this test does not know %v", got)
	}
}

// TestMetricsOfTheWire are the metrics of its server.
func TestMetricsOfTheWire(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	k, err := keeper.New(keeper.Options{Open: onStore(mem.New(mem.Options{}))})
	if err != nil {
		t.Fatal(err)
	}
	if err := Gauges(registry, k, func() Wire {
		return Wire{Clients: map[string]int{"active": 2}, Refusals: map[string]int64{"clients": 3}, Cancels: 4, Vanished: 5}
	}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()] = fmt.Sprint(m.GetLabel(), m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
	}
	for name, want := range map[string]string{"clients": "active", "connections_refused_total": "clients", "cancels_total": "4", "vanished_total": "5", "open": "0"} {
		if !strings.Contains(got["blobpglite_"+name], want) {
			t.Errorf("%s: %q", name, got["blobpglite_"+name])
		}
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m, err := Meter(mem.New(mem.Options{}), registry, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(t.Context(), "wal/1", []byte("abc"), "id", store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(t.Context(), "wal/1", []byte("abc"), "other", store.IfAbsent()); !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := m.Get(t.Context(), "lease"); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	if o, err := m.GetRange(t.Context(), "wal/1", 1, 9); err != nil || string(o.Body) != "bc" {
		t.Fatal(o, err)
	}
	for range m.List(t.Context(), "wal/", "") {
	}
	if err := m.Delete(t.Context(), "wal/1"); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "blobpglite_store_operations_total" {
			continue
		}
		for _, metric := range f.Metric {
			key := ""
			for _, l := range metric.Label {
				key += l.GetValue() + " "
			}
			got[strings.TrimSpace(key)] = metric.GetCounter().GetValue()
		}
	}
	want := map[string]float64{"a wal ok": 2, "a wal conflict": 1, "b lease not found": 1, "b wal ok": 1, "delete wal ok": 1}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %v, want %v (all: %v)", k, got[k], v, got)
		}
	}
}
