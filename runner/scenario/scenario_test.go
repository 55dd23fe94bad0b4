package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/scenarios"
)

const head = `id: e9
title: A title
question: Does it?
kill: it does not
decides: whether
`

// document puts lines below the five of prose; the first is line 6.
func document(lines string) []byte { return []byte(head + lines) }

const oneProbe = `probes:
  - id: e9.1
    claim: it does
    steps:
      - sync
`

// TestBuiltInDocuments loads the documents whose verbs the test's registry has; all of them are loaded with the real list in
// runner/registry.
func TestBuiltInDocuments(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"e2", "sql"} {
		s, err := Load(id, testRegistry())
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if s.ID != id {
			t.Errorf("the document %s has the id %s", id, s.ID)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(path, document(oneProbe), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Load(path, testRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != "e9" || s.Store != "fake-gcs" || s.Target != "local" || s.Clock != "real" || len(s.SHA256()) != 64 {
		t.Errorf("loaded %+v", s)
	}
	for name, want := range map[string]string{
		"e22":                  `unknown scenario "e22", did you mean "e2"?; known: `,
		"./no-such-thing.yaml": "read the scenario ./no-such-thing.yaml",
	} {
		if _, err := Load(name, testRegistry()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("load %s: %v, want %q", name, err, want)
		}
	}
}

// Each document has one fault; the message must name it, with its place.
func TestFaultsOfDocuments(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, lines, want string }{
		{"unknown field", "probs: []\n" + oneProbe, `e9.yaml:6:1: unknown field "probs"`},
		{"unknown field deep", oneProbe + "    cheks: [checksum]\n", `e9.yaml:11:5: unknown field "cheks"`},
		{"syntax", "probes: [\n", "e9.yaml:6:"},
		{"key twice", oneProbe + "title: again\n", `"title" already defined`},
		{"wrong shape", "probes: 5\n", "e9.yaml:6:9: "},
		{"no probes", "store: mem\n", "the document has no probes"},
		{"store", "store: s3\n" + oneProbe, `e9.yaml:6:8: unknown store "s3"; known: fake-gcs, gcs, mem`},
		{"target", "target: moon\n" + oneProbe, `e9.yaml:6:9: the target "moon" is not built into this runner`},
		{"clock", "clock: virtual\n" + oneProbe, `e9.yaml:6:8: the clock "virtual" is not built into this runner`},
		{"anchor", "store: &x mem\n" + oneProbe, "e9.yaml:6:8: anchors, aliases"},
		{"profile name", oneProbe + "profiles:\n  big: {}\n", `unknown profile "big"; known: ci, default, full`},
		{"profile param", oneProbe + "    params: {size: 1MB}\nprofiles:\n  ci: {sise: 5MB}\n", `e9.yaml:13:8: the profile ci sets what no probe declares: unknown param "sise", did you mean "size"?; known: size`},
		{"profile probe", oneProbe + "profiles:\n  ci:\n    e9.2: {size: 1MB}\n", `e9.yaml:13:5: unknown probe "e9.2", did you mean "e9.1"?`},
		{"probe id", strings.Replace(oneProbe, "e9.1", "e8.1", 1), `e9.yaml:7:9: the probe id "e8.1" must be "e9." and`},
		{"probe twice", oneProbe + strings.TrimPrefix(oneProbe, "probes:\n"), `the probe id "e9.1" is used twice`},
		{"no claim", strings.Replace(oneProbe, "it does", `""`, 1), "the probe e9.1 has no claim"},
		{"param name", oneProbe + "    params: {metrics: 1}\n", `"metrics" already has a meaning`},
		{"param form", oneProbe + "    params: {Size: 1MB}\n", `the param "Size" must be a lower-case word`},
		{"param list", oneProbe + "    params: {size: [1MB]}\n", "a list belongs under matrix"},
		{"param null", oneProbe + "    params: {size: }\n", "a value is missing"},
		{"axis scalar", oneProbe + "    matrix: {size: 1MB}\n", "an axis of the matrix is a list"},
		{"param and axis", oneProbe + "    params: {size: 1MB}\n    matrix: {size: [1MB]}\n", "both a param and an axis"},
		{"rounds", oneProbe + "    params: {rounds: 0}\n", "rounds is 0, must be a whole number from 1"},
		{"matrix size", oneProbe + "    matrix: {a: [" + strings.Repeat("1,", 40) + "1], b: [" + strings.Repeat("1,", 40) + "1]}\n", "more than 1000 cells"},
		{"only", oneProbe + "    only: [ci, nightly]\n", `unknown profile "nightly"`},
		{"verb", oneProbe + "      - snc\n", `e9.yaml:11:9: unknown verb "snc", did you mean "sync"?; known: await, `},
		{"two verbs", oneProbe + "      - {sync: , hold: 1s}\n", "this one has 2 keys"},
		{"verb without arguments", oneProbe + "      - sync: 1\n", "the verb sync takes no arguments"},
		{"missing argument", oneProbe + "      - hold\n", "the verb hold: the argument for is missing (how long)"},
		{"unknown argument", oneProbe + "      - load: {rat: 5/s}\n", `e9.yaml:11:16: the verb load: unknown argument "rat", did you mean "rate"?`},
		{"duration", oneProbe + "      - hold: 10\n", "e9.yaml:11:15: the verb hold: for: 10 is no duration: write a number and a unit"},
		{"size", oneProbe + "      - load: {size: 10}\n", "size: 10 is no size: write a number and a unit"},
		{"rate", oneProbe + "      - load: {rate: 10}\n", "rate: 10 is no rate"},
		{"bool", oneProbe + "      - load: {dry: yes please}\n", "dry: yes please is no bool: write true or false"},
		{"one of", oneProbe + "      - roundtrip: {size: 1MB, commit: snapshots}\n", `"snapshots" is none of snapshot, did you mean "snapshot"?`},
		{"mapping as argument", oneProbe + "      - hold: {for: {a: 1}}\n", "a mapping cannot be the value of an argument"},
		{"await", oneProbe + "      - await: {node: a}\n", "e9.yaml:11:9: an await must say how long it waits at most"},
		{"undeclared param", oneProbe + "      - hold: $paus\n    params: {pause: 1s}\n", `e9.yaml:11:15: unknown param "paus", did you mean "pause"?; known: pause`},
		{"undeclared in text", oneProbe + "      - load: {label: a-$x}\n", `unknown param "x": there is none`},
		{"literal rounds", oneProbe + "      - roundtrip: {size: 1MB, rounds: 3}\n", "write rounds: $rounds"},
		{"check", oneProbe + "    checks: [checksums]\n", `e9.yaml:11:14: unknown check "checksums", did you mean "checksum"?`},
		{"fault seam", oneProbe + "    faults: [{seam: disk, do: lose}]\n", `unknown fault seam "disk"; known: http`},
		{"fault key", oneProbe + "    faults: [{seam: http, do: lose, when: never}]\n", `the fault: unknown argument "when"`},
		{"fault p", oneProbe + "    faults: [{seam: http, do: lose, p: 1.5}]\n", "p is 1.5, must be above 0"},
		{"node", oneProbe + "    nodes: {a: {role: boss}}\n", `the node a: role: "boss" is none of writer, reader`},
		{"expression syntax", oneProbe + "    expect:\n      - rounds >\n", "e9.yaml:12:9: the probe e9.1: the expression cannot be compiled: "},
		{"expression name", oneProbe + "    expect:\n      - roundz > 1\n", "unknown name roundz"},
		{"expression type", oneProbe + "    expect: [1 + 1]\n", "expected bool, but got int"},
		{"expression stat", oneProbe + "    expect: [metrics.a.p55 < 1]\n", "has no field p55"},
		{"expression no text", oneProbe + "    expect: [true]\n", "an expectation is an expression"},
		{"expression metric", oneProbe + "      - roundtrip: {size: 1MB}\n    expect: [metrics.restor_ms.p50 < 1]\n", ""},
		{"expression rule", oneProbe + "    expect: ['fired(\"lose\") > 0']\n", `unknown fault rule "lose"`},
		{"expression check", oneProbe + "    checks: [checksum]\n    expect: ['checks.chksum == \"pass\"']\n", `unknown check "chksum", did you mean "checksum"?`},
		{"expression dynamic", oneProbe + "    expect: ['len(metrics) > 0']\n", "metrics and checks must be followed by a name"},
		{"number too large", oneProbe + "    params: {a: 99999999999999999999}\n", ""},
		{"not a number", oneProbe + "    params: {a: .nan}\n", "cannot be used in a scenario"},
		{"two documents", "probes: []\n---\na: 1\n", "holds 2 YAML documents, must hold one"},
		{"deep", oneProbe + "    params: {a: " + strings.Repeat("[", 20) + strings.Repeat("]", 20) + "}\n", "nested more than 16 deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("e9.yaml", document(tt.lines), testRegistry())
			if tt.want == "" { // a verb without a list of metrics, or YAML's own idea of a number
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var fault *Error
			if !errors.As(err, &fault) {
				t.Fatalf("got %v (%T), want an *Error with %q", err, err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestErrorShowsTheLinesAround(t *testing.T) {
	t.Parallel()
	_, err := Parse("e9.yaml", document("probs: []\n"+oneProbe), testRegistry())
	want := `e9.yaml:6:1: unknown field "probs"
   3 | question: Does it?
   4 | kill: it does not
   5 | decides: whether
>  6 | probs: []
       ^
   7 | probes:
   8 |   - id: e9.1
   9 |     claim: it does
  10 |     `
	if err == nil || strings.TrimSpace(err.Error()) != strings.TrimSpace(want) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestMetricsOfVerbsAreKnown(t *testing.T) {
	t.Parallel()
	lines := strings.Replace(oneProbe, "- sync", "- roundtrip: {size: 1MB}", 1) + "    expect: [metrics.restor_ms.p50 < 1]\n"
	_, err := Parse("e9.yaml", document(lines), testRegistry())
	want := `unknown metric "restor_ms", did you mean "restore_ms"?`
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func FuzzParse(f *testing.F) {
	ids, err := scenarios.IDs()
	if err != nil {
		f.Fatal(err)
	}
	for _, id := range ids {
		text, err := scenarios.Read(id)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add(document(oneProbe + "    params: {rounds: 2, pause: 1s}\n    matrix: {size: [1MB, 2MB]}\n    faults: [{seam: http, do: lose, p: 0.5}]\n    expect: ['fired(\"lose before\") >= rounds']\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("fuzz.yaml", text, testRegistry())
		if err != nil {
			var fault *Error
			if !errors.As(err, &fault) {
				t.Fatalf("the error of a document is a %T: %v", err, err)
			}
			return
		}
		plan, err := s.Plan(Options{})
		if err != nil {
			t.Fatalf("loaded, but does not plan: %v", err)
		}
		for _, c := range plan.Cells {
			if _, err := c.Hash("mem", "local", "machine"); err != nil {
				t.Fatal(err)
			}
			c.Judge(Facts{})
		}
	})
}
