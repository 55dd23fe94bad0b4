package registry

import (
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
