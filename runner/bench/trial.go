package bench

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"blobpglite/runner/record"
)

// Trial returns a separate run for one episode.
func (r *Run) Trial(metrics *record.Metrics) *Run {
	return &Run{
		Cell: r.Cell, Seed: r.Seed, Store: r.Store, Runtime: r.Runtime, Progress: func(string, int64, int64) {}, Metrics: metrics, Results: r.Results,
		Verbs: r.Verbs,
	}
}

// Absorb adds the results of a trial to the run.
func (r *Run) Absorb(t *Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Rounds += t.Rounds
	r.begin()
	if len(r.failed) == 0 && t.bucket != nil {
		r.bucket = t.bucket
	}
	for name, n := range t.held {
		r.held[name] += n
	}
	for name, wrong := range t.failed {
		if r.failed[name] == "" {
			r.failed[name] = wrong
		}
	}
	for _, f := range t.Faults {
		i := slices.IndexFunc(r.Faults, func(o record.Fault) bool { return o.Rule == f.Rule })
		if i < 0 {
			r.Faults = append(r.Faults, f)
		} else {
			r.Faults[i].Fired += f.Fired
		}
	}
	r.Ops = r.Ops.Add(t.Ops)
}

// Failures returns what was wrong, in words.
func (r *Run) Failures() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(r.failed)) {
		lines = append(lines, name+": "+r.failed[name])
	}
	return lines
}

// KeepIn is where pictures of a failure go; empty: each to a file of its own.
func (r *Run) KeepIn(folder string) { r.kept = folder }

// Leave records a file or folder that the run leaves, relative to Results, and a note about what to do with it.
func (r *Run) Leave(rel, note string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Artifacts = append(r.Artifacts, rel)
	r.Notes = append(r.Notes, note)
}

// Failed says whether a check has failed.
func (r *Run) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failed) > 0
}

// FailureOf returns what a check has found wrong; empty: it has held, or was not tried.
func (r *Run) FailureOf(check string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[check]
}

// Picture is where a failed search for an order is drawn.
func (r *Run) Picture() string {
	switch {
	case r.Results == "":
		return ""
	case r.kept != "":
		return filepath.Join(r.kept, "order.html")
	}
	return fmt.Sprintf("%s/failures/%s-%d.html", r.Results, r.Cell.Probe, r.Seed)
}

// FirstFailure returns the first failed check, in the order of names, and what was wrong.
func (r *Run) FirstFailure() (check, wrong string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.failed)) {
		return name, r.failed[name]
	}
	return "", ""
}

// TimesHeld is how often a check has held.
func (r *Run) TimesHeld(check string) int { return r.held[check] }
