package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/clock"
	"blobpglite/core/keeper"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

func TestHealthAndMetrics(t *testing.T) {
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

// TestMetricsOfTheWire are what its server tells.
func TestMetricsOfTheWire(t *testing.T) {
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
