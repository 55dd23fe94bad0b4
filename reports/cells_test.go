package main

import (
	"fmt"
	"html"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"blobpglite/runner/record"
)

// realLines returns the results of this repository.
func realLines(t *testing.T) selection {
	t.Helper()
	s, err := readRealLines()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readRealLines reads this repository's results once for all tests, which do not change them.
var readRealLines = sync.OnceValues(func() (selection, error) {
	log, err := record.ReadDir(filepath.Join("..", "results"))
	if err != nil {
		return selection{}, err
	}
	return selectLines(log), nil
})

// realPage returns the page of this repository's results, rendered once for all tests.
func realPage(t *testing.T) string {
	t.Helper()
	page, err := renderRealPage()
	if err != nil {
		t.Fatal(err)
	}
	return page
}

var renderRealPage = sync.OnceValues(func() (string, error) { return pageOf(filepath.Join("..", "results")) })

func TestCells(t *testing.T) {
	t.Parallel()
	type params = map[string]any
	for name, tt := range map[string]struct {
		probe string
		a, b  params
		same  bool
	}{
		"a number of the matrix":         {"e5.2", params{"clients": 3.0, "durability": "strict", "hours": 24.0}, params{"clients": 1.0, "durability": "strict", "hours": 24.0}, false},
		"a fraction":                     {"e1.4", params{"lose": 0.0, "on": "mem"}, params{"lose": 0.2, "on": "mem"}, false},
		"a bool":                         {"e5.6", params{"spread": true}, params{"spread": false}, false},
		"a fault point":                  {"e1.3", params{"at": "wal/before-put", "on": "run"}, params{"at": "manifest/before-cas", "on": "run"}, false},
		"a size":                         {"e2.1", params{"size": "1MB"}, params{"size": "10MB"}, false},
		"a condition that is no axis":    {"e5.1", params{"hours": 72.0, "latency_percent": 100.0}, params{"hours": 72.0, "latency_percent": 5.0}, false},
		"the default was not said yet":   {"e5.1", params{"hours": 72.0}, params{"hours": 72.0, "latency_percent": 100.0}, true},
		"nor did what was said change":   {"e5.1", params{"hours": 72.0}, params{"hours": 720.0, "latency_percent": 5.0}, false},
		"hours":                          {"e5.1", params{"hours": 4.0, "latency_percent": 5.0}, params{"hours": 720.0, "latency_percent": 5.0}, true},
		"rounds":                         {"e1.1", params{"on": "run", "rounds": 20.0}, params{"on": "run", "rounds": 100.0}, true},
		"seconds":                        {"clients.12", params{"clients": 64.0, "seconds": 20.0}, params{"clients": 64.0, "seconds": 30.0}, true},
		"a time as text":                 {"e2d.2", params{"poll": "1s", "length": "2m0s"}, params{"poll": "1s", "length": "1m0s"}, true},
		"what is only expected":          {"suite.1", params{"least": 205.0}, params{"least": 210.0}, true},
		"a folder":                       {"suite.1", params{"source": "../postgresql-18.6"}, params{"source": "/src/postgresql"}, true},
		"a folder, and none":             {"clients.7", params{"client": "psycopg", "source": ""}, params{"client": "psycopg", "source": "../postgresql-18.6"}, true},
		"a probe that is gone, text":     {"e0.99", params{"how": "a"}, params{"how": "b"}, false},
		"a probe that is gone, a number": {"e0.99", params{"p": 1.0}, params{"p": 2.0}, false},
		"a probe that is gone, rounds":   {"e0.99", params{"rounds": 1.0}, params{"rounds": 2.0}, true},
	} {
		a, b := cellKey(record.Record{Probe: tt.probe, Params: tt.a}), cellKey(record.Record{Probe: tt.probe, Params: tt.b})
		if (a == b) != tt.same {
			t.Errorf("%s: same is %v: %q and %q", name, a == b, a, b)
		}
	}
	here, there := record.Record{Probe: "e3.2"}, record.Record{Probe: "e3.2"}
	there.Env.Target = cloudRun
	if cellKey(here) == cellKey(there) {
		t.Error("Cloud Run and its emulator are one cell")
	}
}

// TestNewestOfACell: the newest line of the most thorough profile represents its cell, and no other.
func TestNewestOfACell(t *testing.T) {
	t.Parallel()
	line := func(run, profile string, minute int, params map[string]any) record.Record {
		return record.Record{
			Schema: 1, Run: run, Scenario: "e5", Probe: "e5.6", Profile: profile, Params: params, Verdict: record.Pass, Started: time.Date(2026, 11, 25, 10, minute, 0, 0, time.UTC),
			Checks: []record.Check{{Name: "bounded", Verdict: record.Pass}},
		}
	}
	s := selectLines(record.Log{Records: []record.Record{
		line("old", "full", 1, map[string]any{"spread": true, "databases": 10000.0}),
		line("new", "full", 2, map[string]any{"spread": true, "databases": 10000.0}),
		line("small", "ci", 3, map[string]any{"spread": true, "databases": 10000.0}),
		line("other", "ci", 4, map[string]any{"spread": false, "databases": 10000.0}),
	}})
	probes := probesOf(s)
	if len(probes) != 1 {
		t.Fatal(probes)
	}
	var runs []string
	for _, r := range probes[0].Lines {
		runs = append(runs, r.Run)
	}
	if slices.Sort(runs); !slices.Equal(runs, []string{"new", "other"}) {
		t.Errorf("shown are %v", runs)
	}
}

// TestNoCellIsHidden: on the page of this repository's results, every line that counts is shown, or a line of the same cell represents it: newer,
// or of a more thorough profile, and different only in how much was done, what was expected, or where something was stored.
func TestNoCellIsHidden(t *testing.T) {
	t.Parallel()
	s := realLines(t)
	page := realPage(t)
	var shown []record.Record
	for _, p := range probesOf(s) {
		shown = append(shown, p.Lines...)
		_, rest, ok := strings.Cut(page, fmt.Sprintf(`<details id="p-%s">`, p.ID))
		if !ok {
			t.Errorf("the page has no probe %s", p.ID)
		}
		section, _, _ := strings.Cut(rest, `<details id="p-`)
		for _, r := range p.Lines {
			if text := paramsText(r); !strings.Contains(section, "<h4>"+html.EscapeString(text)) {
				t.Errorf("the section of %s has no cell %s", p.ID, text)
			}
		}
	}
	// What may differ between a line and the one that represents it: repeated here, and not taken from the code.
	may := map[string]bool{
		"rounds": true, "seconds": true, "hours": true, "time": true, "length": true, "commits": true, "schedules": true, "tries": true, "setups": true, // how much
		"least":  true,                                 // what is expected
		"source": true, "clones": true, "record": true, // where it is
	}
	const branch = "e6.11" // whose memory is an expectation; elsewhere it is what an instance has
	all, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range s.history {
		may["memory"] = h.Probe == branch
		if !slices.ContainsFunc(shown, func(r record.Record) bool {
			return r.Probe == h.Probe && r.Env.Store == h.Env.Store && r.Env.Target == h.Env.Target &&
				(!r.Started.Before(h.Started) || profileRank(r.Profile) < profileRank(h.Profile)) && !differs(h, r, all[h.Probe].defaults, may)
		}) {
			t.Errorf("%s %s of %s is hidden", h.Probe, paramsText(h), h.Started)
		}
	}
}

// differs reports whether two lines differ in a param in which they must not.
func differs(a, b record.Record, defaults map[string]string, may map[string]bool) bool {
	for _, name := range slices.Concat(slices.Collect(maps.Keys(a.Params)), slices.Collect(maps.Keys(b.Params))) {
		value := func(r record.Record) string {
			if v, ok := r.Params[name]; ok {
				return fmt.Sprint(v)
			}
			return defaults[name]
		}
		if value(a) != value(b) && !may[name] {
			return true
		}
	}
	return false
}

func TestClaimOf(t *testing.T) {
	t.Parallel()
	check := func(names ...string) (list []record.Check) {
		for _, name := range names {
			list = append(list, record.Check{Name: name, Verdict: record.Pass})
		}
		return list
	}
	r := record.Record{
		Probe: "clients.3", Profile: "full", Claim: "the door itself costs little", Params: map[string]any{"calls": 5000.0},
		Checks: check("metrics.select1_us.p50 < 100"),
	}
	if got := claimOf(r); !strings.Contains(got, "5000 calls of SELECT 1") {
		t.Errorf("judged by what is expected today: %s", got)
	}
	r.Checks = check("metrics.select1_us.p50 < 200")
	if got := claimOf(r); got != r.Claim {
		t.Errorf("judged by something else: %s", got)
	}
	r.Probe = "e0.99"
	if got := claimOf(r); got != r.Claim {
		t.Errorf("a probe that is gone: %s", got)
	}
	r = record.Record{Probe: "e0.1", Profile: "full", Claim: "old", Params: map[string]any{"kind": "swap", "on": "mem", "rounds": 3.0}}
	if got := claimOf(r); got != r.Claim {
		t.Errorf("no check was made: %s", got)
	}
	r.Checks = check("conditions", "metrics.stored_count.max >= rounds", "metrics.refused_count.max >= 2 * rounds")
	if got := claimOf(r); !strings.HasPrefix(got, "a swap whose condition holds") {
		t.Errorf("a point of the matrix: %s", got)
	}
}

func TestParamLists(t *testing.T) {
	t.Parallel()
	lines := []record.Record{
		{Params: map[string]any{"clients": 3.0, "durability": "strict", "spread": true, "source": "../x", "record": ""}},
		{Params: map[string]any{"clients": 10.0, "durability": "interval", "spread": false, "at": "wal/before-put"}},
		{Params: map[string]any{"clients": 1.0, "durability": "strict", "spread": false}},
	}
	if got, want := paramLists(lines), "at=wal/before-put; clients=1, 3, 10; durability=strict, interval; spread=true, false"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
