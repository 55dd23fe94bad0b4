package soak

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/layers"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
	"blobpglite/runner/serverless"
)

// TestKeepFailure: a failed soak leaves what its clients were told, and a copy of every object, so that the fault can be examined again:
// the acknowledged hash chain is the one in the folder. Without a folder of results it leaves nothing.
func TestKeepFailure(t *testing.T) {
	results := t.TempDir()
	r := &bench.Run{
		Cell: scenario.Cell{Probe: "e5.1"}, Seed: 11, Store: &bench.Store{Kind: "mem", Memory: mem.New(mem.Options{}), Prefix: "test"}, Runtime: runtime,
		Metrics: record.NewMetrics(), Progress: func(string, int64, int64) {}, Results: results,
	}
	err := serverless.WithService(t.Context(), r, serverless.Options{Program: "none"}, func(service *serverless.Service) error {
		s := &soak{Service: service, chains: written(t, over(database(t)), 3)}
		st, done, err := s.Store(t.Context())
		if err != nil {
			return err
		}
		defer done()
		for _, key := range []string{"manifest", "wal/00000001", "page/1-1/000000"} {
			if _, err := st.Put(t.Context(), key, []byte("body of "+key), store.NewWriteID(), store.IfAbsent()); err != nil {
				return err
			}
		}
		if err := s.keepFailure(t.Context()); err != nil {
			return err
		}
		dir, rel := r.FailureFolder(11)
		if len(r.Artifacts) != 1 || r.Artifacts[0] != rel {
			t.Errorf("what the line names: %q", r.Artifacts)
		}
		for _, key := range []string{"manifest", "wal/00000001", "page/1-1/000000"} {
			if body, err := os.ReadFile(filepath.Join(dir, "bucket", key)); err != nil || string(body) != "body of "+key {
				t.Errorf("%s: %q, %v", key, body, err)
			}
		}
		var told map[int][]string
		text, err := os.ReadFile(filepath.Join(dir, "acknowledged.json"))
		if err == nil {
			err = json.Unmarshal(text, &told)
		}
		if err != nil || len(told) != 2 || strings.Join(told[1], " ") != strings.Join(s.chains[0].hashes, " ") || len(told[1]) != 3 {
			t.Errorf("what was acknowledged: %v, %v", told, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "instances.txt")); err != nil {
			t.Error(err)
		}
		r.Results = ""
		return s.keepFailure(t.Context())
	})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(results, "failures", "*")); err != nil || len(left) != 1 {
		t.Errorf("it left %q, %v", left, err)
	}
}

// TestASoakReplays: the command in its line reproduces that soak, with every number that defines it.
func TestASoakReplays(t *testing.T) {
	t.Parallel()
	language := bench.Verbs(append(Verbs(), layers.Verbs()...)).Language(append(Checks(), layers.Checks()...)...)
	doc, err := scenario.Load("e5", language)
	if err != nil {
		t.Fatal(err)
	}
	set := []string{"hours=5", "disturb=1", "fault_percent=3", "latency_percent=7"}
	plan, err := doc.Plan(scenario.Options{Probes: []string{"e5.1"}, Set: set})
	if err != nil {
		t.Fatal(err)
	}
	replay := plan.Replay(plan.Cells[0], 11)
	for _, s := range append(set, "-probe e5.1", "-seed 11") {
		if !strings.Contains(replay, s) {
			t.Errorf("%q lacks %s", replay, s)
		}
	}
	args := plan.Cells[0].Steps[0].Args
	if args.Int("hours") != 5 || args.Int("disturb") != 1 || args.Int("fault_percent") != 3 || args.Int("latency_percent") != 7 {
		t.Errorf("the step gets %v", args)
	}
}
