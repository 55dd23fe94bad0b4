package edges

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"blobpglite/runner/record"
)

// The emulator keeps a worker of its own for its metrics.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

func trial(t *testing.T) *Trial {
	t.Helper()
	x, err := New(t.Context(), Options{Seed: 1, Metrics: record.NewMetrics(), Progress: func(string, int64, int64) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return x
}

// TestGateRefuses: a rule affects the requests that match it, as often as it says, and nothing else; a refused request was not carried out,
// unless the rule says so.
func TestGateRefuses(t *testing.T) {
	x := trial(t)
	rule := &refusal{op: "put", class: "/wal/", status: 409, reason: "conflict", times: 1}
	x.gate.add(rule)
	if err := x.write("db/wal/1", []byte("a")); err == nil || !strings.Contains(err.Error(), "409") || !strings.Contains(err.Error(), `"conflict"`) {
		t.Errorf("refused once: %v", err)
	}
	if _, err := x.object("db/wal/1"); err == nil {
		t.Error("a refused write was carried out")
	}
	for _, name := range []string{"db/wal/1", "db/lease"} {
		if err := x.write(name, []byte("b")); err != nil {
			t.Error(err)
		}
	}
	if n := x.gate.fired(rule); n != 1 {
		t.Errorf("it struck %d times", n)
	}
	lost := &refusal{op: "put", status: 503, reason: "backendError", after: true}
	x.gate.refuse(lost)
	if err := x.write("db/wal/2", []byte("c")); err == nil {
		t.Error("the answer was not replaced")
	}
	x.gate.drop(lost)
	if body, err := x.object("db/wal/2"); err != nil || string(body) != "c" {
		t.Errorf("what was carried out: %q, %v", body, err)
	}
}

// TestCopyAll: a copy has all objects, and none has metadata.
func TestCopyAll(t *testing.T) {
	x := trial(t)
	for _, name := range []string{"from/a", "from/deep/b", "fromage/c"} {
		if err := x.write(name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.copyAll("from", "to"); err != nil {
		t.Fatal(err)
	}
	names, err := x.objects("to/")
	if err != nil || strings.Join(names, " ") != "to/a to/deep/b" {
		t.Errorf("copied %v, %v", names, err)
	}
}

func TestKindOf(t *testing.T) {
	for _, c := range []struct{ method, url, op, name string }{
		{"POST", "/upload/storage/v1/b/x/o?uploadType=media&name=db%2Fwal%2F1", "put", "db/wal/1"},
		{"GET", "/storage/v1/b/x/o/db%2Fmanifest?alt=media", "get", "db/manifest"},
		{"GET", "/storage/v1/b/x/o/db%2Fmanifest", "stat", "db/manifest"},
		{"GET", "/storage/v1/b/x/o?prefix=db%2F", "list", "db/"},
		{"DELETE", "/storage/v1/b/x/o/db%2Fa", "delete", "db/a"},
		{"GET", "/storage/v1/b/x", "other", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if op, name := kindOf(r); op != c.op || name != c.name {
			t.Errorf("%s %s: %s of %q", c.method, c.url, op, name)
		}
	}
}

func TestNamed(t *testing.T) {
	for _, c := range []struct {
		text, name string
		want       bool
	}{
		{`invalid value for parameter "port": "x"`, "port", true}, {"max_connections is too large", "connections", false},
		{"autovacuum_max_workers, max_workers", "max_workers", true}, {"superuser_reserved_connections", "reserved_connections", false},
		{"Bonjour is not supported by this build", "bonjour", true}, {"nothing", "work_mem", false}, {"work_mem", "work_mem", true},
	} {
		if got := named(c.text, c.name); got != c.want {
			t.Errorf("%q in %q: %v", c.name, c.text, got)
		}
	}
}

// TestValues: the values that a sweep tries differ from the current one, and are within the setting's range.
func TestValues(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, g := range []setting{
		{name: "a", kind: "bool", now: "on"}, {name: "b", kind: "enum", now: "x", enums: "x,y"}, {name: "c", kind: "integer", now: "4", least: "1", greatest: "7"},
		{name: "d", kind: "real", now: "0", least: "0", greatest: "1"}, {name: "e", kind: "string", now: ""}, {name: "f", kind: "integer", now: "-1", least: "-1", greatest: "2147483647"},
	} {
		if v := g.changed(); v == g.now {
			t.Errorf("%s: %q is in force already", g.name, v)
		}
		for _, which := range []string{"least", "greatest", "odd"} {
			v := g.extreme(which, random)
			if (g.kind == "integer" || g.kind == "real") && (number(v) < number(g.least) || number(v) > number(g.greatest)) {
				t.Errorf("%s: the %s value %q is not allowed", g.name, which, v)
			}
			if g.kind == "bool" && v != "on" && v != "off" {
				t.Errorf("%s: the %s value is %q", g.name, which, v)
			}
		}
	}
}

// TestNamesAreUnique: a case that does not exist is an error, and every name is listed once.
func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.Name] || c.Doc == "" || c.run == nil {
			t.Errorf("case %q: twice, or without what it does", c.Name)
		}
		seen[c.Name] = true
	}
	if err := Run(t.Context(), trial(t), "no such case"); err == nil {
		t.Error("a case that does not exist was run")
	}
}
