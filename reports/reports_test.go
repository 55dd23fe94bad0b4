package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"blobpglite/runner/record"
)

var update = flag.Bool("update", false, "write testdata anew")

const (
	statusFrame = "# Status\n\nbefore\n\n<!-- begin:today -->\n<!-- end:today -->\n<!-- begin:questions -->\n<!-- end:questions -->\n<!-- begin:failed -->\n<!-- end:failed -->\n<!-- begin:scoreboard -->\n<!-- end:scoreboard -->\n\n<!-- begin:decisions -->\nold\n<!-- end:decisions -->\n" +
		"<!-- begin:mutants -->\n<!-- end:mutants -->\n<!-- begin:track-record -->\n<!-- end:track-record -->\n\nafter\n"
	cloudFrame       = "# Cloud\n<!-- begin:peers -->\n<!-- end:peers -->\n"
	readmeFrame      = "# Readme\n<!-- begin:numbers -->\n<!-- end:numbers -->\n<!-- begin:sizes -->\n<!-- end:sizes -->\n<!-- begin:evidence -->\n<!-- end:evidence -->\n"
	performanceFrame = "# Performance\n<!-- begin:performance-e2 -->\n<!-- end:performance-e2 -->\n<!-- begin:performance-log -->\n<!-- end:performance-log -->\n<!-- begin:performance-size -->\n<!-- end:performance-size -->\n<!-- begin:performance-wake -->\n<!-- end:performance-wake -->\n<!-- begin:performance-clients -->\n<!-- end:performance-clients -->\n<!-- begin:performance-sql -->\n<!-- end:performance-sql -->\n"
)

// newRoot makes a folder with both documents.
func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "results"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "cloud"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"cloud/README.md": cloudFrame, "STATUS.md": statusFrame, "README.md": readmeFrame, "results/PERFORMANCE.md": performanceFrame} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// sampler makes lines with plausible numbers that never change.
type sampler struct {
	t    *testing.T
	root string
	rng  *rand.Rand
	at   time.Time
}

func newSampler(t *testing.T, root string) *sampler {
	return &sampler{t: t, root: root, rng: rand.New(rand.NewPCG(1, 2)), at: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)}
}

// line appends a passing record, modified by edit. A metric's value is its median;
// the other values differ from it by up to a tenth.
func (s *sampler) line(scenario, probe, cell string, params map[string]any, medians map[string]float64, edit func(*record.Record)) {
	s.t.Helper()
	s.at = s.at.Add(time.Minute)
	m := record.NewMetrics()
	for _, name := range slices.Sorted(maps.Keys(medians)) {
		for range 9 {
			m.Value(name, medians[name]*(0.9+0.2*s.rng.Float64()))
		}
	}
	metrics, err := m.List()
	if err != nil {
		s.t.Fatal(err)
	}
	r := record.Record{
		Schema: record.Schema, Run: "01RUN" + s.at.Format("1504"), Scenario: scenario, Probe: probe, Claim: "what " + probe + " claims", Verdict: record.Pass,
		Profile: "default", Cell: cell, Seed: 7, Rounds: 9, Replay: "go run ./runner -scenario " + scenario + " -seed 7",
		Commit: strings.Repeat("c0ffee", 7)[:40], ScenarioSHA256: strings.Repeat("0", 64), Params: params,
		Env:     record.Env{Machine: "linux/amd64 Sample CPU", CPUs: 2, Region: "local", Go: "go1.26", Wazero: "v1.12.0", Store: "fake-gcs", Target: "local"},
		Checks:  []record.Check{{Name: "checksum", Verdict: record.Pass, Detail: "all <rows> & digests"}},
		Metrics: metrics, Started: s.at, WallMS: 1000,
	}
	if edit != nil {
		edit(&r)
	}
	if err := record.Append(filepath.Join(s.root, "results"), r); err != nil {
		s.t.Fatal(err)
	}
}

func roundTrip(megabytes, commitMS float64) map[string]float64 {
	return map[string]float64{
		"database_bytes": megabytes * 1e6, "compressed_bytes": megabytes * 3e5, "clone_us": 80, "compress_ms": commitMS * 0.6,
		"upload_ms": commitMS * 0.3, "manifest_cas_ms": 3, "commit_ms": commitMS, "restore_ms": commitMS * 0.8, "restore_download_ms": commitMS * 0.3,
		"restore_decompress_ms": commitMS * 0.2, "runtime_ms": 300, "restore_start_ms": 60, "first_row_ms": commitMS*0.8 + 62, "peak_rss_bytes": megabytes*1.2e6 + 15e7,
	}
}

// fill appends a small history: three sizes, an older line of one of them, a dirty
// line, a retracted one, another machine, and a comparison with Node.
func fill(t *testing.T, root string) {
	t.Helper()
	s := newSampler(t, root)
	size := func(text string) map[string]any { return map[string]any{"size": text, "rounds": 9} }
	s.line("e2", "e2.1", "cell10", size("10MB"), roundTrip(10, 180), func(r *record.Record) { r.Commit = strings.Repeat("0ld", 14)[:40] })
	s.line("e2", "e2.1", "cell100", size("100MB"), roundTrip(100, 1900), nil)
	s.line("e2", "e2.1", "cell10", size("10MB"), roundTrip(10, 150), nil)
	s.line("e2", "e2.1", "cell1", size("1MB"), roundTrip(1, 40), func(r *record.Record) {
		r.Verdict = record.Fail
		r.Checks = append(r.Checks, record.Check{Name: "metrics.a_ms.p50 <= 1", Verdict: record.Fail, Detail: "a_ms.p50 = 2 | 3"})
	})
	s.line("e2", "e2.1", "cell10", size("10MB"), roundTrip(10, 1), func(r *record.Record) { r.Dirty = true })
	s.line("e2", "e2.1", "cell10", size("10MB"), roundTrip(10, 2), func(r *record.Record) { r.Run = "01WRONG" })
	s.line("e2", "e2.3", "cellx", map[string]any{"size": "10MB"}, map[string]float64{"clone_us": 95}, func(r *record.Record) {
		r.Faults = []record.Fault{{Rule: "lose", Fired: 3}, {Rule: "kill", Fired: 4}}
	})
	s.line("e2", "e2.4", "cellf", map[string]any{"rounds": 20}, map[string]float64{"new_database_ms": 9, "open_ms": 110}, nil)
	ratios := map[string]float64{}
	for i, c := range sqlCases() {
		ratios[c.name+"_wazero_us"], ratios[c.name+"_node_us"] = 90*float64(i*i*i+1), 100*float64(i*i*i+1)
		ratios[c.name+"_ratio"] = 0.8 + float64(i)/20
	}
	s.line("sql", "sql.1", "cells", map[string]any{"rows": 1000000, "rounds": 9}, ratios, nil)
	others := map[string]float64{}
	for i, c := range sqlCases() {
		others[c.name+"_cpu_us"], others[c.name+"_native_cpu_us"], others[c.name+"_cpu_ratio"] = 150*float64(i+1), 100*float64(i+1), 1.5
	}
	s.line("sql", "sql.2", "cells", map[string]any{"rows": 1000000, "rounds": 5}, others, nil)
	for _, probe := range []string{"sql.4", "sql.5"} {
		both := map[string]float64{"scan_ratio": 1.01}
		for _, c := range sqlComparisons() {
			if c.probe == probe {
				both["scan"+c.metrics[0]], both["scan"+c.metrics[1]] = 101, 100
			}
		}
		s.line("sql", probe, "cells", map[string]any{"rows": 1000000, "repeat": 5}, both, nil)
	}
	take := record.Retraction{Schema: record.Schema, Retract: "01WRONG", Reason: "the clock was wrong", At: s.at}
	if err := record.Retract(filepath.Join(root, "results"), "e2", take); err != nil {
		t.Fatal(err)
	}
}

// TestTargetsStayApart: results from the Cloud Run emulator and from Cloud Run are in separate tables, and decide separately.
func TestTargetsStayApart(t *testing.T) {
	root := newRoot(t)
	s := newSampler(t, root)
	on := func(target string) func(*record.Record) {
		return func(r *record.Record) { r.Env.Target, r.Commit = target, strings.Repeat(target[:1]+"0", 20) }
	}
	boot := map[string]any{"size": "10MB"}
	s.line("e3", "e3.3", "a", boot, map[string]float64{"first_row_ms": 400}, on("twin"))
	s.line("e3", "e3.3", "b", boot, map[string]float64{"first_row_ms": 2400}, on("cloudrun"))
	s.line("e4", "e4.1", "c", nil, map[string]float64{"next_commit_ms": 70}, on("twin"))
	s.line("e4", "e4.1b", "d", nil, map[string]float64{"takeover_ms": 600}, on("twin"))
	s.line("e4", "e4.1", "e", nil, map[string]float64{"next_commit_ms": 130}, on("cloudrun"))
	log, err := record.ReadDir(filepath.Join(root, "results"))
	if err != nil {
		t.Fatal(err)
	}
	if text := performanceWake(selectLines(log)); strings.Count(text, "| what |") != 2 || strings.Count(text, "target Cloud Run emulator") != 1 || strings.Count(text, "target cloudrun") != 1 {
		t.Error(text)
	}
	if _, evidence := livenessDecision(selectLines(log)); strings.Contains(evidence, "c0c0") || !strings.Contains(evidence, "t0t0") {
		t.Errorf("with half of what Cloud Run has to show: %s", evidence)
	}
	s.line("e4", "e4.1b", "f", nil, map[string]float64{"takeover_ms": 900}, on("cloudrun"))
	if log, err = record.ReadDir(filepath.Join(root, "results")); err != nil {
		t.Fatal(err)
	}
	if _, evidence := livenessDecision(selectLines(log)); !strings.HasPrefix(evidence, "on Cloud Run, ") || strings.Contains(evidence, "t0t0") {
		t.Errorf("with all of it: %s", evidence)
	}
}

func render(t *testing.T, root string, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	code = run(append([]string{"-root", root}, args...), &b, &b)
	return code, b.String()
}

func TestGolden(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, string){"empty": func(*testing.T, string) {}, "sample": fill} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			prepare(t, root)
			if code, out := render(t, root); code != 0 {
				t.Fatalf("exit %d: %s", code, out)
			}
			for _, file := range []string{"STATUS.md", "README.md", "results/PERFORMANCE.md", "results/index.html"} {
				got, err := os.ReadFile(filepath.Join(root, file))
				if err != nil {
					t.Fatal(err)
				}
				golden := filepath.Join("testdata", name+"-"+filepath.Base(file))
				if *update {
					if err := os.WriteFile(golden, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s differs (run with -update and look at the change):\n%s", golden, diffSummary(string(want), string(got)))
				}
			}
			if code, out := render(t, root, "-check"); code != 0 {
				t.Errorf("stale right after rendering: %s", out)
			}
		})
	}
}

// The page must work as a file, on a machine without a network.
func TestPageNeedsNothingFromElsewhere(t *testing.T) {
	root := newRoot(t)
	fill(t, root)
	if code, out := render(t, root); code != 0 {
		t.Fatal(out)
	}
	page, err := os.ReadFile(filepath.Join(root, "results", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`(?i)https?:|src="[^p]|<script [^>]|@import|<link`).FindString(string(page)); found != "" {
		t.Errorf("the page has %q", found)
	}
	for _, want := range []string{"<strong>e2.1</strong>", "all &lt;rows&gt; &amp; digests"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestCheckFindsStaleFiles(t *testing.T) {
	root := newRoot(t)
	fill(t, root)
	code, out := render(t, root, "-check")
	if code != 1 || !strings.Contains(out, "STATUS.md is stale:") || !strings.Contains(out, "+ | e2.1 |") || !strings.Contains(out, "- old") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if text, err := os.ReadFile(filepath.Join(root, "STATUS.md")); err != nil || string(text) != statusFrame {
		t.Errorf("-check wrote: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		file, text, want string
		code             int
		args             []string
	}{
		"marker gone":   {"STATUS.md", strings.Replace(statusFrame, "begin:decisions", "begun:decisions", 1), "the markers <!-- begin:decisions -->", 1, nil},
		"end gone":      {"STATUS.md", strings.Replace(statusFrame, "<!-- end:decisions -->", "", 1), "has no <!-- end:decisions -->", 1, nil},
		"marker twice":  {"README.md", readmeFrame + readmeFrame, "unknown or there twice", 1, nil},
		"marker alone":  {"README.md", readmeFrame + "<!-- begin:x", "a begin marker has no end", 1, nil},
		"broken result": {"results/e2.jsonl", "{\n", "e2.jsonl:1: not a JSON object of ours", 1, nil},
		"bad flag":      {"README.md", readmeFrame, "flag provided but not defined", 2, []string{"-chek"}},
		"argument":      {"README.md", readmeFrame, "takes no arguments", 2, []string{"check"}},
	} {
		root := newRoot(t)
		path := filepath.Join(root, tt.file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if code, out := render(t, root, tt.args...); code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %d: %s, want %d and %q", name, code, out, tt.code, tt.want)
		}
	}
}

// The threshold is a bound if every size, or none, is over the limit.
func TestThreshold(t *testing.T) {
	for _, tt := range []struct {
		commits []float64 // at 1, 10 and 100 MB
		want    string
	}{
		{[]float64{40, 150, 700}, "Above 100 MB, the largest size measured"},
		{[]float64{1500, 2000, 9000}, "Below 1 MB, the smallest size measured"},
		{[]float64{40, 600, 1400}, "From about 55 MB on (interpolated between 10 MB and 100 MB)"},
	} {
		var s selection
		for i, text := range []string{"1MB", "10MB", "100MB"} {
			r := record.Record{Probe: "e2.1", Profile: "full", Verdict: record.Pass, Params: map[string]any{"size": text}}
			bytes := sizeParam(r)
			r.Metrics = []record.Metric{{Name: "database_bytes", N: 1, P50: bytes}, {Name: "commit_ms", N: 1, P50: tt.commits[i]}}
			s.current = append(s.current, r)
		}
		if got, _ := snapshotThreshold(s); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v: %s, want %s", tt.commits, got, tt.want)
		}
	}
}

func TestQuantity(t *testing.T) {
	for _, tt := range []struct {
		v          float64
		unit, want string
	}{
		{0, "ms", "0 µs"}, {0.25, "ms", "250 µs"}, {1.5, "ms", "1.5 ms"}, {999.4, "ms", "999 ms"}, {999.6, "ms", "1 s"}, {61234, "ms", "61.2 s"},
		{80, "us", "80 µs"}, {1234, "us", "1.23 ms"}, {2e6, "us", "2 s"}, {123456789, "bytes", "123 MB"}, {1e13, "bytes", "10000 GB"}, {12, "bytes", "12 B"},
		{0.8, "ratio", "0.80"}, {20, "per_s", "20/s"}, {7, "count", "7"},
	} {
		if got := quantity(tt.v, tt.unit); got != tt.want {
			t.Errorf("%v %s is %q, want %q", tt.v, tt.unit, got, tt.want)
		}
	}
}

func TestUpperBound(t *testing.T) {
	for _, tt := range []struct {
		rounds  int
		verdict record.Verdict
		want    string
	}{{100, record.Pass, "3/100 = 3 %"}, {3, record.Pass, "-"}, {100, record.Fail, "-"}, {100, record.Vacuous, "-"}} {
		if got := upperBound(record.Record{Rounds: tt.rounds, Verdict: tt.verdict}); got != tt.want {
			t.Errorf("%d rounds, %v: %s, want %s", tt.rounds, tt.verdict, got, tt.want)
		}
	}
}

func TestTableEscapes(t *testing.T) {
	if got, want := table([]string{"a"}, [][]string{{"x|y\nz"}}), "| a |\n| --- |\n| x\\|y z |\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := fmt.Sprint(violations(record.Record{Checks: []record.Check{{}, {Verdict: record.Fail}}})); got != "1" {
		t.Errorf("%s violations, want 1: a broken check is none", got)
	}
}

// A track record that names a deleted test reproduces nothing.
func TestTrackRecordNamesRealTests(t *testing.T) {
	for _, b := range bugs() {
		if b.where == "" || b.by == "" || strings.ContainsAny(b.by[:1], ",-") {
			t.Errorf("nobody found, or nowhere: %s", b.what)
		}
		if b.test == "" && b.probe == "" {
			t.Errorf("nothing reproduces: %s", b.what)
		}
		if b.test != "" && !mentioned(t, filepath.Join("..", filepath.FromSlash(b.folder), "*_test.go"), "func "+b.test+"(") {
			t.Errorf("%s has no test %s, of: %s", b.folder, b.test, b.what)
		}
		if b.probe != "" && !mentioned(t, filepath.Join("..", "scenarios", "*.yaml"), "id: "+b.probe+"\n") {
			t.Errorf("no scenario has the probe %s, of: %s", b.probe, b.what)
		}
	}
}

// mentioned reports whether a file that matches the pattern contains the text.
func mentioned(t *testing.T, pattern, text string) bool {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		content, err := os.ReadFile(name)
		return err == nil && strings.Contains(string(content), text)
	})
}

// TestRenamedScenario: the history of a scenario continues under its new name.
func TestRenamedScenario(t *testing.T) {
	log := record.Log{Records: []record.Record{
		{Schema: 1, Run: "01", Scenario: "doors", Probe: "doors.3", Verdict: record.Fail, Profile: "default", Metrics: []record.Metric{{Name: "open_ms"}, {Name: "doors_ms"}}},
		{Schema: 1, Run: "02", Scenario: "clients", Probe: "clients.3", Verdict: record.Pass, Profile: "default"},
	}}
	s := selectLines(log)
	if len(s.current) != 1 || s.current[0].Run != "02" || len(s.history) != 2 || s.history[0].Probe != "clients.3" {
		t.Errorf("current %v, history %v", s.current, s.history)
	}
	if m := s.history[0].Metrics; len(m) != 2 || m[0].Name != "open_ms" || m[1].Name != "listening_ms" || log.Records[0].Metrics[1].Name != "doors_ms" {
		t.Errorf("metrics %v of %v", m, log.Records[0].Metrics)
	}
}
