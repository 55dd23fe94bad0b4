package httpapi

import (
	"embed"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/keeper"
)

// The page at / is for people: what the database is doing, a box for SQL, its tables. It holds nothing secret, so it needs no token
// (guard.go). It requests what it shows itself, with the token that the user has typed in, which it keeps in memory only. Its policy lets
// it load its own two files and call its own origin, and nothing else; no other page may frame it.

//go:embed web
var web embed.FS

// policy is the page's Content-Security-Policy: only its own scripts and styles, no other origin, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageFile serves one of the page's files.
func pageFile(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body, err := web.ReadFile("web/" + name)
		if err != nil {
			writeError(w, http.StatusNotFound, "58P01", "there is no such page")
			return
		}
		h := w.Header()
		h.Set("Content-Type", kind+"; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		_, _ = w.Write(body) // an error means that the client has gone
	}
}

// pages registers the files of the page.
func (a *API) pages() {
	a.mux.HandleFunc("GET /{$}", pageFile("page.html", "text/html"))
	a.mux.HandleFunc("GET /page.js", pageFile("page.js", "text/javascript"))
	a.mux.HandleFunc("GET /page.css", pageFile("page.css", "text/css"))
	a.mux.HandleFunc("GET /status.json", a.guarded(a.status))
}

// Prices of 1,000 requests, in US dollars: Standard storage in one region.
// Source: cloud.google.com/storage/pricing, read November 2026; cloud/README.md.
const (
	classAPrice = 0.005
	classBPrice = 0.0004
)

// statusReport is /status.json. Requesting it opens nothing. Times are in milliseconds; counts are since the process began.
type statusReport struct {
	State           keeper.State `json:"state"`
	Reason          string       `json:"reason,omitempty"`
	Leased          bool         `json:"leased"`
	Epoch           uint64       `json:"epoch"`
	Created         bool         `json:"created"`
	OpenedMS        float64      `json:"opened_ms"`
	BackupBytes     int64        `json:"backup_bytes"` // stored bytes of the restored base backup
	ReplayedRecords int          `json:"replayed_records"`

	Commits      int64   `json:"commits"`
	Records      int64   `json:"records"`
	WALBytes     int64   `json:"wal_bytes"`
	AnswersHeld  int64   `json:"answers_held"`
	AnswerWaitMS float64 `json:"answer_wait_ms"`
	ReplicaLagMS float64 `json:"replica_lag_ms"` // -1: not a replica

	CacheBudget   int64 `json:"cache_budget_bytes"` // 0: everything is in memory
	CacheResident int64 `json:"cache_resident_bytes"`
	CacheAway     int64 `json:"cache_away_bytes"`

	ClassA      int64   `json:"class_a"` // writes and lists
	ClassB      int64   `json:"class_b"` // reads
	BytesUp     int64   `json:"bytes_up"`
	BytesDown   int64   `json:"bytes_down"`
	RequestsUSD float64 `json:"requests_usd"`
}

// status reports what the database is doing.
func (a *API) status(w http.ResponseWriter, _ *http.Request) {
	s := a.o.Keeper.Stats()
	cache := s.Engine.Cache
	r := statusReport{
		State: s.State, Reason: s.Reason, Leased: s.Leased, Epoch: s.Boot.Epoch, Created: s.Boot.Created, OpenedMS: milliseconds(s.BootWall),
		BackupBytes: s.Boot.Stored, ReplayedRecords: s.Boot.Records,
		Commits: s.Commits.Commits, Records: s.Commits.Records, WALBytes: s.Commits.Bytes,
		AnswersHeld: s.Engine.Answers, AnswerWaitMS: float64(s.Engine.Waited) / float64(time.Millisecond), ReplicaLagMS: -1,
		CacheBudget: cache.Budget, CacheResident: cache.Resident, CacheAway: cache.Away,
	}
	if err := r.count(a.o.Registry); err != nil {
		a.o.Logger.Warn("some of the figures on the page could not be read", "error", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, r)
}

// count sums the counters of the metered store and of a replica.
func (r *statusReport) count(from prometheus.Gatherer) error {
	families, err := from.Gather()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := ""
			for _, l := range m.GetLabel() {
				if n := l.GetName(); n == "class" || n == "direction" {
					label = l.GetValue()
				}
			}
			switch n := int64(m.GetCounter().GetValue()); f.GetName() + " " + label {
			case "blobpglite_store_operations_total a":
				r.ClassA += n
			case "blobpglite_store_operations_total b":
				r.ClassB += n
			case "blobpglite_store_bytes_total up":
				r.BytesUp += n
			case "blobpglite_store_bytes_total down":
				r.BytesDown += n
			case "blobpglite_replica_behind_seconds ":
				r.ReplicaLagMS = 1000 * m.GetGauge().GetValue()
			}
		}
	}
	r.RequestsUSD = (float64(r.ClassA)*classAPrice + float64(r.ClassB)*classBPrice) / 1000
	return err
}
