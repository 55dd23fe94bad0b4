package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func sample(run string) Record {
	return Record{
		Schema: Schema, Run: run, Scenario: "e9", Probe: "e9.1", Claim: "it does", Verdict: Pass, Profile: "ci",
		Cell: "0123456789abcdef", Seed: 1<<64 - 1, Rounds: 3, Replay: "go run ./runner -scenario e9",
		Commit: strings.Repeat("a", 40), ScenarioSHA256: strings.Repeat("b", 64),
		Params:  map[string]any{"size": "10MB", "rounds": 3.0, "open": true},
		Env:     Env{Machine: "linux/amd64 Test", CPUs: 2, Region: "local", Go: "go1.26", Store: "mem", Target: "local"},
		Checks:  []Check{{Name: "checksum", Verdict: Pass, Detail: "3 rows"}},
		Faults:  []Fault{{Rule: "lose put", Fired: 4}},
		Points:  map[string]int64{"commit/before-ack": 3},
		Ops:     Ops{ClassA: 10, ClassB: 20},
		Metrics: []Metric{},
		Started: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), WallMS: 1234,
		Artifacts: []string{}, Notes: []string{},
	}
}

func TestAppendAndRead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "results")
	want := []Record{sample("01A"), sample("01B")}
	for _, r := range want {
		if err := Append(dir, r); err != nil {
			t.Fatal(err)
		}
	}
	log, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(log.Records, want) {
		t.Errorf("read  %+v\nwrote %+v", log.Records, want)
	}
	if log, err := ReadDir(filepath.Join(dir, "none")); err != nil || len(log.Records) != 0 {
		t.Errorf("a missing directory gives %v, %v", log, err)
	}
	if _, err := ReadFile(filepath.Join(dir, "none.jsonl")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}

func TestAppendFromManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				if err := Append(dir, sample(NewRun(time.Now()))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	log, err := ReadDir(dir)
	if err != nil || len(log.Records) != 160 {
		t.Errorf("read %d records, %v", len(log.Records), err)
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Record){
		"schema is 0":            func(r *Record) { r.Schema = 0 },
		"run has no id":          func(r *Record) { r.Run = "" },
		"not named":              func(r *Record) { r.Probe = "" },
		"cell is empty":          func(r *Record) { r.Cell = "" },
		"started is not set":     func(r *Record) { r.Started = time.Time{} },
		"cannot name a file":     func(r *Record) { r.Scenario = "../e9" },
		"verdict: 9 is none":     func(r *Record) { r.Verdict = 9 },
		"unsupported type: func": func(r *Record) { r.Params["f"] = func() {} },
	} {
		dir := t.TempDir()
		r := sample("01A")
		spoil(&r)
		if err := Append(dir, r); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: left %v behind", name, left)
		}
	}
}

func TestRetraction(t *testing.T) {
	dir := t.TempDir()
	early, late := sample("01A"), sample("01A")
	late.Probe, late.Started = "e9.2", late.Started.Add(time.Second)
	other := sample("01B")
	other.Started = other.Started.Add(-time.Hour)
	for _, r := range []Record{early, late, other} {
		if err := Append(dir, r); err != nil {
			t.Fatal(err)
		}
	}
	live := func() string {
		log, err := ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range log.Live() {
			names = append(names, r.Run+"/"+r.Probe)
		}
		return strings.Join(names, " ")
	}
	if got := live(); got != "01B/e9.1 01A/e9.1 01A/e9.2" {
		t.Errorf("live: %s", got)
	}
	take := Retraction{Schema: Schema, Retract: "01A", Probe: "e9.2", Reason: "the disk was full", At: time.Now().UTC()}
	if err := Retract(dir, "e9", take); err != nil {
		t.Fatal(err)
	}
	if got := live(); got != "01B/e9.1 01A/e9.1" {
		t.Errorf("after a probe is taken back: %s", got)
	}
	take.Probe = ""
	if err := Retract(dir, "e9", take); err != nil {
		t.Fatal(err)
	}
	if got := live(); got != "01B/e9.1" {
		t.Errorf("after the run is taken back: %s", got)
	}
	take.Reason = ""
	if err := Retract(dir, "e9", take); err == nil {
		t.Error("a retraction without a reason was taken")
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Append(dir, sample("01A")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "e9.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	for _, tt := range []struct{ name, text, want string }{
		{"cut off", good + good[:100], "e9.jsonl:2: the line is cut off"},
		{"cut off but whole JSON", good + strings.TrimSpace(good), "e9.jsonl:2: the line is cut off"},
		{"unknown field", good + strings.Replace(good, `"run"`, `"ran":1,"run"`, 1), `e9.jsonl:2: not a record: json: unknown field "ran"`},
		{"unknown verdict", strings.Replace(good, `"pass"`, `"passed"`, 1), `e9.jsonl:1: not a record: read verdict: "passed" is none of`},
		{"newer", strings.Replace(good, `"schema":1`, `"schema":2`, 1), "e9.jsonl:1: schema 2: written by a newer version"},
		{"older than any", strings.Replace(good, `"schema":1`, `"schema":0`, 1), "schema is 0"},
		{"not JSON", "\n\nhello\n", "e9.jsonl:3: not a JSON object of ours"},
		{"two values", strings.TrimSpace(good) + "{}\n", "e9.jsonl:1: not a JSON object of ours"},
		{"bad retraction", `{"schema":1,"retract":"01A","at":"2026-11-25T10:00:00Z"}` + "\n", "not a retraction: retract gives no reason"},
		{"long", strings.Repeat("x", MaxLineBytes+1) + "\n", "e9.jsonl:1: the line has more than"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := ReadDir(dir)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if tt.name == "newer" && !errors.Is(err, ErrNewerSchema) {
			t.Errorf("a newer line gives %v", err)
		}
	}
}

// A line that a dying process left unfinished must not swallow the next one.
func TestAppendAfterTornLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "e9.jsonl")
	if err := os.WriteFile(path, []byte(`{"schema":1,"run":`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Append(dir, sample("01A")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, second, _ := strings.Cut(string(text), "\n")
	log, err := read("e9.jsonl", strings.NewReader(second))
	if err != nil || len(log.Records) != 1 {
		t.Errorf("the line after the torn one reads as %v, %v", log, err)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	var zero Verdict
	if zero != Broken || zero.String() != "broken" {
		t.Errorf("the zero verdict is %v", zero)
	}
	order := []Verdict{Recorded, Pass, Vacuous, Timeout, Fail, Broken}
	for i, a := range order {
		for j, b := range order {
			if got := a.Worse(b); got != order[max(i, j)] {
				t.Errorf("%v.Worse(%v) = %v", a, b, got)
			}
		}
		text, err := a.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Verdict
		if err := back.UnmarshalText(text); err != nil || back != a {
			t.Errorf("%v comes back as %v, %v", a, back, err)
		}
	}
}

func TestNewRunSortsByTime(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_790_000_000_000)
	a, b := NewRun(at), NewRun(at.Add(time.Millisecond))
	if len(a) != 26 || a >= b || a == NewRun(at) {
		t.Errorf("runs %s, %s", a, b)
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	ops := Ops{ClassA: 1000, ClassB: 1000, Delete: 1000, BytesUp: 1 << 40}
	if got := ops.CostUSD(); got < 0.0053999 || got > 0.0054001 {
		t.Errorf("cost is $%v, want $0.0054", got)
	}
	if got := ops.Add(ops); got != (Ops{ClassA: 2000, ClassB: 2000, Delete: 2000, BytesUp: 2 << 40}) {
		t.Errorf("sum is %+v", got)
	}
}

// TestConcluded: a run whose only expectation is how often it measured is recorded, and is not a pass.
func TestConcluded(t *testing.T) {
	t.Parallel()
	const counts, limit = "metrics.get_ms.n == samples and metrics.put_ms.n == samples", "metrics.get_ms.p50 <= 30 and metrics.get_ms.n == samples"
	for _, c := range []struct {
		verdict Verdict
		checks  []string
		want    Verdict
	}{
		{Pass, []string{counts}, Recorded},
		{Pass, []string{counts, "metrics.get_ms.n >= 1"}, Recorded},
		{Pass, []string{counts, limit}, Pass},
		{Pass, []string{counts, "durability"}, Pass},
		{Pass, []string{`metrics.get_ms.n == fired("kill")`}, Pass},
		{Pass, []string{`metrics.get_ms.n == samples or checks.bank == "pass"`}, Pass},
		{Pass, nil, Pass},
		{Fail, []string{counts}, Fail},
		{Broken, []string{counts}, Broken},
	} {
		var checks []Check
		for _, name := range c.checks {
			checks = append(checks, Check{Name: name, Verdict: c.verdict})
		}
		if got := Concluded(c.verdict, checks); got != c.want || got.Holds() != (c.verdict == Pass) {
			t.Errorf("%v of %q: %v, want %v", c.verdict, c.checks, got, c.want)
		}
	}
}
