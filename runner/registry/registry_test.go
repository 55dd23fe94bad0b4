package registry

import (
	"regexp"
	"strings"
	"testing"

	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
	"blobpglite/scenarios"
)

// TestBuiltInDocumentsFitTheRegistry loads every built-in document against the verbs that there are.
func TestBuiltInDocumentsFitTheRegistry(t *testing.T) {
	ids, err := scenarios.IDs()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		s, err := scenario.Load(id, Language())
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		for _, profile := range []string{"ci", "default", "full"} {
			if _, err := s.Plan(scenario.Options{Profile: profile}); err != nil {
				t.Errorf("%s, profile %s: %v", id, profile, err)
			}
		}
	}
}

func TestRegistryDescribesEverything(t *testing.T) {
	text := Language().Describe()
	for _, v := range Verbs() {
		if !strings.Contains(text, v.Name) || v.Doc == "" || v.Run == nil {
			t.Errorf("verb %q is not described or does nothing", v.Name)
		}
		for _, m := range v.Metrics {
			metrics := record.NewMetrics()
			metrics.Value(m.Name, 1)
			if _, err := metrics.List(); err != nil {
				t.Errorf("verb %q: %v", v.Name, err)
			}
		}
	}
}

// TestLeftOut: which cells of the documents of the Cloud Run emulator cannot be run on Cloud Run, each with its reason.
func TestLeftOut(t *testing.T) {
	out := map[string]string{}
	for _, id := range []string{"e3", "e4"} {
		s, err := scenario.Load(id, Language())
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Plan(scenario.Options{Profile: "ci", Target: scenario.TargetCloudRun})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Cells {
			if why := LeftOut(c); why != "" {
				out[c.Probe] = why
			}
		}
	}
	for probe, why := range map[string]string{
		"e3.6": "this machine", "e3.8": "SIGKILL", "e4.1c": "account", "e4.2b": "SIGKILL", "e4.4": "SIGSTOP", "e4.5": "slow",
	} {
		if !strings.Contains(out[probe], why) {
			t.Errorf("%s: %q, not because of %q", probe, out[probe], why)
		}
		delete(out, probe)
	}
	if len(out) > 0 {
		t.Errorf("left out as well: %v", out)
	}
	for _, v := range Verbs() {
		if emulated := strings.HasPrefix(v.Name, "twin") || strings.HasPrefix(v.Name, "soak"); emulated != (v.Cloud != nil) {
			t.Errorf("%s says nothing of Cloud Run, or has nothing to do with it", v.Name)
		}
	}
}

// leaning matches the beginning or end of a text that means nothing without its neighbor. Reports show metrics sorted by name, each alone.
var leaning = regexp.MustCompile(`^(likewise|ditto|also|and|or|of|each|that|those|these|this|it|its|which|in|with|without|here|there|by|to|from|at|on|while|until|then|for|behind|` +
	`before|after|afterwards|as|turn|tried|replayed|taken|run|made|shipped|uploaded|summed|answered|compared|all|everything|likely|what)\b|` +
	`\b(likewise|ditto|of (them|these|those|that)|the same( by|$)|the one over the other|the older one|the next one)\b|` +
	`^[a-z]+$|^[a-z]+, (in|of|by|each|at|while)\b`)

// TestMetricsReadAlone: each metric can be understood from its own text, and no two metrics of a verb have the same text.
func TestMetricsReadAlone(t *testing.T) {
	t.Parallel()
	for _, v := range Language().Verbs {
		seen := map[string]string{}
		for _, m := range v.Metrics {
			head, _, _ := strings.Cut(m.Doc, ": ") // followed by what a mutant does, or by the part that it is
			if at := leaning.FindString(head); at != "" {
				t.Errorf("%s: %s is %q, which leans on something else by %q", v.Name, m.Name, m.Doc, at)
			}
			if other := seen[m.Doc]; other != "" {
				t.Errorf("%s: %s and %s are both %q", v.Name, other, m.Name, m.Doc)
			}
			seen[m.Doc] = m.Name
		}
	}
}

func TestLeaning(t *testing.T) {
	t.Parallel()
	for text, leans := range map[string]bool{
		"likewise": true, "of them": true, "each": true, "tried": true, "that Cloud Run billed": true, "in each round": true, "acknowledged": true, "bytes stored, likewise": true,
		"the one over the other": true, "episodes, in each": true,
		"episodes that were run": false, "acknowledged writes": false, "allocations of memory": false, "processes, files and objects that were left when it had ended": false,
		"ready replicas": false, "vCPU seconds that Cloud Run billed": false,
	} {
		if got := leaning.MatchString(text); got != leans {
			t.Errorf("%q: %v", text, got)
		}
	}
}
