package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

const twoProbes = `probes:
  - id: e9.1
    claim: a $size database at $$5
    params: {rounds: 4, pause: 1500ms, rate: 90/m, open: true, share: 0.25}
    matrix: {size: [1MB, 2MB], mode: [a, b]}
    steps:
      - hold: $pause
      - load: {rate: $rate, size: $size, dry: $open, share: $share, cases: [x, $mode], label: "$mode/$size for $pause"}
  - id: e9.2
    claim: it does
    params: {rounds: 2, size: 8KiB}
    nodes: {a: {role: writer}}
    steps:
      - roundtrip: {size: $size, rounds: $rounds}
      - stop: {node: a, at: wal/before-put, within: 30s}
    faults:
      - {seam: http, op: put, key: wal, phase: after, p: 0.02, do: lose}
    expect:
      - fired("lose after put wal") >= rounds
      - fired("stop wal/before-put") >= 0
profiles:
  ci:
    e9.2: {rounds: 1}
    rounds: 3
  full: {rounds: 9}
`

func parse(t *testing.T, lines string) *Scenario {
	t.Helper()
	s, err := Parse("e9.yaml", document(lines), testRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cellsOf(t *testing.T, s *Scenario, o Options) []Cell {
	t.Helper()
	plan, err := s.Plan(o)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Cells
}

// TestTarget: what runs on the Cloud Run emulator can run on Cloud Run instead, under another hash, and nothing else can be changed.
func TestTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ document, asked, plan string }{
		{"local", "", "local"}, {"twin", "", "twin"}, {"twin", "twin", "twin"}, {"twin", "cloudrun", "cloudrun"},
		{"local", "local", "local"}, {"local", "twin", ""}, {"local", "cloudrun", ""}, {"twin", "local", ""}, {"twin", "moon", ""},
	} {
		s := parse(t, "target: "+c.document+"\n"+twoProbes)
		p, err := s.Plan(Options{Target: c.asked})
		if (err == nil) != (c.plan != "") || err == nil && p.Target != c.plan || err != nil && !strings.Contains(err.Error(), "e9 runs on target "+c.document) {
			t.Errorf("%s asked for %s: %+v, %v", c.document, c.asked, p, err)
		}
	}
	cell := cellsOf(t, parse(t, twoProbes), Options{})[0]
	hashes := map[string]bool{}
	for _, target := range []string{TargetLocal, TargetEmulator, TargetCloudRun} {
		h, err := cell.Hash("gcs", target, "m")
		if err != nil {
			t.Fatal(err)
		}
		hashes[h] = true
	}
	if len(hashes) != 3 {
		t.Errorf("%d hashes of three targets", len(hashes))
	}
}

// summary is one line per cell.
func summary(cells []Cell) string {
	var lines []string
	for _, c := range cells {
		lines = append(lines, fmt.Sprintf("%s [%s] size=%v rounds=%d repeat=%d", c.Probe, c.Label, c.Params["size"], c.Rounds, c.Repeat))
	}
	return strings.Join(lines, "\n")
}

func TestPlan(t *testing.T) {
	t.Parallel()
	s := parse(t, twoProbes)
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"default", Options{}, `
e9.1 [size=1MB mode=a] size=1MB rounds=4 repeat=4
e9.1 [size=1MB mode=b] size=1MB rounds=4 repeat=4
e9.1 [size=2MB mode=a] size=2MB rounds=4 repeat=4
e9.1 [size=2MB mode=b] size=2MB rounds=4 repeat=4
e9.2 [] size=8KiB rounds=2 repeat=1`},
		{"what is said of one probe wins", Options{Profile: "ci", Set: []string{"mode=c"}}, `
e9.1 [size=1MB mode=c] size=1MB rounds=3 repeat=3
e9.1 [size=2MB mode=c] size=2MB rounds=3 repeat=3
e9.2 [] size=8KiB rounds=1 repeat=1`},
		{"set wins over the profile", Options{Profile: "full", Set: []string{"rounds=1", "size=3MB"}, Probes: []string{"e9.2"}}, `
e9.2 [] size=3MB rounds=1 repeat=1`},
		{"set an axis to several", Options{Set: []string{"mode=x,y,z"}, Probes: []string{"e9.1"}}, `
e9.1 [size=1MB mode=x] size=1MB rounds=4 repeat=4
e9.1 [size=1MB mode=y] size=1MB rounds=4 repeat=4
e9.1 [size=1MB mode=z] size=1MB rounds=4 repeat=4
e9.1 [size=2MB mode=x] size=2MB rounds=4 repeat=4
e9.1 [size=2MB mode=y] size=2MB rounds=4 repeat=4
e9.1 [size=2MB mode=z] size=2MB rounds=4 repeat=4`},
	} {
		if got := summary(cellsOf(t, s, tt.o)); got != strings.TrimSpace(tt.want) {
			t.Errorf("%s:\n%s\nwant:%s", tt.name, got, tt.want)
		}
	}
}

func TestFilledIn(t *testing.T) {
	t.Parallel()
	c := cellsOf(t, parse(t, twoProbes), Options{})[1]
	if c.Claim != "a 1MB database at $5" {
		t.Errorf("claim: %q", c.Claim)
	}
	if d := c.Steps[0].Args.Duration("for"); d != 1500*time.Millisecond {
		t.Errorf("hold for %v", d)
	}
	load := c.Steps[1].Args
	if load.Rate("rate") != 1.5 || load.Size("size") != 1e6 || !load.Bool("dry") || load.Float("share") != 0.25 {
		t.Errorf("load: %v", load)
	}
	if !slices.Equal(load.Strings("cases"), []string{"x", "b"}) || load.String("label") != "b/1MB for 1.5s" {
		t.Errorf("load: %v", load)
	}
	want := map[string]any{"rounds": int64(4), "pause": "1.5s", "rate": "1.5/s", "open": true, "share": 0.25, "size": "1MB", "mode": "b"}
	if got := c.Written(); !maps.Equal(got, want) {
		t.Errorf("written: %v", got)
	}
}

func TestSetRefuses(t *testing.T) {
	t.Parallel()
	s := parse(t, oneProbe+"    params: {lease_ttl: 10s, rounds: 2}\n    matrix: {size: [1MB]}\n    expect: [lease_ttl == 10000 or rounds > 0]\n")
	for set, want := range map[string]string{
		"lease_tll=5s":  `-set lease_tll=5s: -set sets what no probe declares: unknown param "lease_tll", did you mean "lease_ttl"?; known: lease_ttl, rounds, size`,
		"lease_ttl":     "must be name=value",
		"lease_ttl=":    "must be name=value",
		"rounds=many":   "rounds is many, must be a whole number",
		"lease_ttl=1,2": "a single value is wanted here",
		"lease_ttl=abc": "the expression cannot be compiled",
	} {
		_, err := s.Plan(Options{Set: []string{set}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("-set %s: got %v, want %q", set, err, want)
		}
	}
	for want, o := range map[string]Options{
		`unknown profile "CI"`:                      {Profile: "CI"},
		`unknown store "s3"`:                        {Store: "s3"},
		`unknown probe "e9.7", did you mean "e9.1"`: {Probes: []string{"e9.7"}},
	} {
		if _, err := s.Plan(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", o, err, want)
		}
	}
}

// The replay command must give the same cell, and no other.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := parse(t, twoProbes)
	plan, err := s.Plan(Options{Profile: "ci", Store: "mem", Set: []string{"pause=2s", "mode=it's,b"}})
	if err != nil {
		t.Fatal(err)
	}
	command := plan.Replay(plan.Cells[0], 7, "-bucket", "gs://name/prefix")
	want := `go run ./runner -scenario e9 -profile ci -probe e9.1 -store mem -set pause=2s -set size=1MB -set 'mode=it'"'"'s' -seed 7 -bucket gs://name/prefix`
	if command != want {
		t.Errorf("got  %s\nwant %s", command, want)
	}
	again := cellsOf(t, s, Options{Profile: "ci", Store: "mem", Probes: []string{"e9.1"}, Set: []string{"pause=2s", "size=1MB", "mode=it's"}})
	if len(again) != 1 || hash(t, again[0]) != hash(t, plan.Cells[0]) {
		t.Errorf("replayed %s", summary(again))
	}
}

func hash(t *testing.T, c Cell) string {
	t.Helper()
	h, err := c.Hash("mem", "local", "machine")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHash(t *testing.T) {
	t.Parallel()
	last := func(lines string) Cell {
		cells := cellsOf(t, parse(t, lines), Options{})
		return cells[len(cells)-1]
	}
	base := hash(t, last(twoProbes))
	for _, change := range []struct{ from, to string }{
		{"claim: it does", "claim: it surely does"},
		{">= rounds", ">= 2*rounds"},
		{"size: [1MB, 2MB]", "size: [7MB]"}, // of the other probe
		{"{rounds: 2, size: 8KiB}", "{size: 8KiB, rounds: 2}"},
		{"roundtrip: {size: $size, rounds: $rounds}", "roundtrip: {size: $size, rounds: $rounds, commit: snapshot}"}, // the default
	} {
		if hash(t, last(strings.Replace(twoProbes, change.from, change.to, 1))) != base {
			t.Errorf("%s -> %s starts a new series", change.from, change.to)
		}
	}
	for _, change := range []struct{ from, to string }{
		{"rounds: 2", "rounds: 3"},
		{"size: 8KiB", "size: 8KB"},
		{"within: 30s", "within: 31s"},
		{"p: 0.02", "p: 0.03"},
		{"{a: {role: writer}}", "{a: {role: writer, standby: true}}"},
	} {
		if hash(t, last(strings.Replace(twoProbes, change.from, change.to, 1))) == base {
			t.Errorf("%s -> %s keeps the series", change.from, change.to)
		}
	}
	c := last(twoProbes)
	for _, at := range [][3]string{{"gcs", "local", "machine"}, {"mem", "twin", "machine"}, {"mem", "local", "other"}} {
		if h, err := c.Hash(at[0], at[1], at[2]); err != nil || h == base {
			t.Errorf("%v has the hash of another place, %v", at, err)
		}
	}
}

// TestOnly: a probe is left out of the profiles that it does not name, unless it is requested by its id.
func TestOnly(t *testing.T) {
	t.Parallel()
	s := parse(t, strings.Replace(twoProbes, "claim: it does\n", "claim: it does\n    only: [default, full]\n", 1))
	probes := func(o Options) string {
		var ids []string
		for _, c := range cellsOf(t, s, o) {
			if !slices.Contains(ids, c.Probe) {
				ids = append(ids, c.Probe)
			}
		}
		return strings.Join(ids, " ")
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "e9.1 e9.2"}, {Options{Profile: "full"}, "e9.1 e9.2"}, {Options{Profile: "ci"}, "e9.1"},
		{Options{Profile: "ci", Probes: []string{"e9.2"}}, "e9.2"},
	} {
		if got := probes(c.o); got != c.want {
			t.Errorf("%+v: %s, want %s", c.o, got, c.want)
		}
	}
}
