package serverless

import (
	"maps"
	"strings"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/wal"
	"blobpglite/runner/bench"
	"blobpglite/runner/check"
	"blobpglite/runner/scenario"
)

// TestLeftOutIsNotRun: a left-out verb that is requested refuses, with the reason.
func TestLeftOutIsNotRun(t *testing.T) {
	r := &bench.Run{Cell: scenario.Cell{Repeat: 1, Steps: []scenario.PlannedStep{{Verb: "twinidle"}}}, Cloud: &bench.Cloud{}, Verbs: Verbs()}
	if err := r.Do(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be run on Cloud Run: twinidle: ") {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"-lease-ttl", "2s", "-restore-budget", "-1ns"})
	if !maps.Equal(got, map[string]string{"PGSERVE_LEASE_TTL": "2s", "PGSERVE_RESTORE_BUDGET": "-1ns"}) {
		t.Error(got)
	}
}

func TestSumOf(t *testing.T) {
	const text = "# TYPE a_total counter\na_total{class=\"a\"} 2\na_total{class=\"b\"} 3\n# TYPE b_total counter\nb_total 7\n"
	if n, err := sumOf(strings.NewReader(text), "a_total"); n != 5 || err != nil {
		t.Error(n, err)
	}
	for _, bad := range []string{"a_total{", "# TYPE b_total counter\nb_total 7\n"} {
		if n, err := sumOf(strings.NewReader(bad), "a_total"); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
}

// TestChangesBetweenListings: what two listings show about a name that was written twice, or deleted.
func TestChangesBetweenListings(t *testing.T) {
	at := func(gen store.Gen, writeID string) store.Attrs { return store.Attrs{Gen: gen, WriteID: writeID} }
	for _, c := range []struct {
		name   string
		states []map[string]store.Attrs
		wrong  string
	}{
		{"it grows", []map[string]store.Attrs{{"wal/1": at(1, "a")}, {"wal/1": at(1, "a"), "wal/2": at(2, "b")}}, ""},
		{"a record is collected", []map[string]store.Attrs{{"wal/1": at(1, "a")}, {"wal/2": at(2, "b")}}, ""},
		{"a fence comes too late", []map[string]store.Attrs{{"wal/1": at(1, "a")}, {"wal/1": at(3, wal.FenceID+"b")}}, ""},
		{"written twice", []map[string]store.Attrs{{"wal/1": at(1, "a")}, {"wal/1": at(2, "b")}}, "written twice"},
		{"a fence is deleted", []map[string]store.Attrs{{"wal/1": at(1, wal.FenceID+"a")}, {}}, "it is a fence"},
		{"a fence is replaced", []map[string]store.Attrs{{"wal/1": at(1, wal.FenceID+"a")}, {"wal/1": at(2, wal.FenceID+"b")}}, "it is a fence"},
	} {
		var all []check.Change
		before := map[string]store.Attrs{}
		for _, s := range c.states {
			all = append(all, changesBetween(before, s)...)
			before = s
		}
		res := check.WriteOnce(all)
		if res.Looked == 0 && res.Wrong == "" || (res.Wrong == "") != (c.wrong == "") || !strings.Contains(res.Wrong, c.wrong) {
			t.Errorf("%s: %+v, want %q", c.name, res, c.wrong)
		}
	}
}
