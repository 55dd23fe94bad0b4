package gcsfront

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestEmulatorLies(t *testing.T) {
	for _, l := range lies() {
		t.Run(l.name, func(t *testing.T) {
			w := wire{t, serveBare(t)}
			if l.faithful(w, w.put("key", "body")) {
				t.Errorf("mended: the emulator now does what the service does (%s), no longer: %s. Take the row out, and what the front does about it", l.real, l.bare)
			}
		})
	}
}

func TestFrontTellsTheTruth(t *testing.T) {
	for _, l := range lies() {
		t.Run(l.name, func(t *testing.T) {
			front, base := serveFront(t, Options{})
			w := wire{t, base}
			before := front.Counters().Refused
			faithful := l.faithful(w, w.put("key", "body"))
			switch {
			case !l.refused && !faithful:
				t.Errorf("the front does not do what the service does: %s", l.real)
			case l.refused && front.Counters().Refused == before:
				t.Errorf("the front did not refuse what it cannot do faithfully (the service: %s)", l.real)
			case l.refused:
				if body, ok := w.body("key"); !ok || body != "body" {
					t.Errorf("what was refused changed the object: %q, %v", body, ok)
				}
			}
		})
	}
}

// serveBare serves the emulator unchanged.
func serveBare(t *testing.T) string {
	emulator, err := newEmulator([]string{testBucket})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(emulator.HTTPHandler())
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return server.URL
}

func serveFront(t *testing.T, o Options) (*Front, string) {
	t.Helper()
	if o.Buckets == nil {
		o.Buckets = []string{testBucket}
	}
	front, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	base, stop, err := front.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return front, base
}

// The bare emulator is right about these, and the front relies on it.
func TestEmulatorHonoursConditionsOnUploads(t *testing.T) {
	for _, row := range truths() {
		w := wire{t, serveBare(t)}
		if !row.faithful(w, w.put("key", "body")) {
			t.Errorf("%s: not %s", row.name, row.real)
		}
	}
}

// TestFidelity: the same table, as an experiment reads it.
func TestFidelity(t *testing.T) {
	found, err := Fidelity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := len(lies()) + len(truths()); len(found) != want {
		t.Errorf("%d rows were tried, the table has %d", len(found), want)
	}
	refused := 0
	for _, f := range found {
		if s := f.Surprise(); s != "" {
			t.Errorf("%s: %s", f.Name, s)
		}
		if f.Refused {
			refused++
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	if _, err := (lie{faithful: func(w wire, _ int64) bool { w.t.Fatalf("broken"); return true }}).try(t.Context(), serveBare(t)); err == nil {
		t.Error("a try that broke off counts")
	}
}
