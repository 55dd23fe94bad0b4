package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"blobpglite/runner/axe"
)

// TestAxe checks the page of this repository's results with axe-core: on a narrow screen and a wide one, in both color schemes, folded
// and unfolded. It must find nothing serious.
func TestAxe(t *testing.T) {
	program := chromium(t)
	a, err := axe.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pages := pageHandler("..")
	folded := axe.State{Name: "folded", Script: "() => {}"}
	unfolded := axe.State{Name: "unfolded", Script: "w => { w.document.querySelectorAll('details').forEach(d => d.open = true) }"}
	for _, c := range []struct {
		name, scheme string
		view         axe.View
	}{
		{"narrow, light", "1", axe.View{Path: "/", Width: 360, States: []axe.State{folded, unfolded}}},
		{"narrow, dark", "0", axe.View{Path: "/", Width: 360, States: []axe.State{folded}}},
		{"wide, dark", "0", axe.View{Path: "/", Width: 1280, States: []axe.State{folded}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !a.Serve(w, r, c.view) {
					pages.ServeHTTP(w, r)
				}
			}))
			defer s.Close()
			defer browse(t, program, s.URL+"/axe", c.scheme)()
			findings, ok := within(t, a.Found)
			if !ok {
				t.Fatal("the browser is not through with the page")
			}
			for _, f := range findings {
				if f.Serious() {
					t.Error(f)
				} else {
					t.Log(f)
				}
			}
		})
	}
}
