package main

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// TestServedAtOnce: several concurrent readers each get the page, like a single one. Nothing else in this room runs concurrently; go test -race
// is for those who change that.
func TestServedAtOnce(t *testing.T) {
	root := newRoot(t)
	fill(t, root)
	pages := pageHandler(root)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	alone := get("/")
	if alone.Code != http.StatusOK || alone.Body.Len() < 1000 {
		t.Fatalf("alone: %d, %d bytes", alone.Code, alone.Body.Len())
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for path, code := range map[string]int{"/": http.StatusOK, "/" + soakFile: http.StatusNotFound, "/pictures/none.svg": http.StatusNotFound} {
				if w := get(path); w.Code != code || path == "/" && w.Body.String() != alone.Body.String() {
					t.Errorf("%s beside others: %d, %d bytes, and %d alone", path, w.Code, w.Body.Len(), alone.Body.Len())
				}
			}
		})
	}
	all.Wait()
}
