package main

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// TestServedAtOnce: several who look at the page at once each get it, as one who is alone does. Nothing else in this room runs at once; go test -race
// is for whoever changes that.
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
