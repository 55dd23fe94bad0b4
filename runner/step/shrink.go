package step

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"blobpglite/runner/history"
	"blobpglite/runner/record"
)

// shrinkTries is how often a smaller episode is run before it counts as one that does not fail: processes do not do the
// same twice.
const shrinkTries = 3

// shrunk looks for a smaller episode that fails too: first half of the actions is left out, then a quarter, and so on
// down to one. found: the smallest one failed when it was run again.
func (r *Run) shrunk(ctx context.Context, seed uint64, list []action, limit time.Duration) (small []action, found *episode) {
	end := time.Now().Add(limit)
	small = list
	fails := func(candidate []action) bool {
		for range shrinkTries {
			if time.Now().After(end) || ctx.Err() != nil {
				return false
			}
			t := r.trial(record.NewMetrics())
			t.Results = "" // no pictures of what is only tried
			e, err := t.runEpisode(ctx, seed, candidate)
			if err == nil && len(t.failed) > 0 {
				if found != nil {
					found.c.end()
				}
				e.r = t
				found = e
				return true
			}
			if e != nil {
				e.c.end()
			}
		}
		return false
	}
	for size := len(small) / 2; size >= 1; {
		cut := false
		for at := 0; at < len(small); {
			candidate := slices.Delete(slices.Clone(small), at, min(at+size, len(small)))
			if slices.ContainsFunc(candidate, func(a action) bool { return a.do == "open" }) && fails(candidate) {
				small, cut = candidate, true
				r.Progress(fmt.Sprintf("%s: a failing episode, made smaller: %d actions", r.Cell.Probe, len(small)), 0, 0)
			} else {
				at += size
			}
		}
		if !cut || size > len(small) {
			size /= 2
		}
		if time.Now().After(end) {
			break
		}
	}
	return small, found
}

// folder is where a failure of this run goes.
func (r *Run) folder(seed uint64) (dir, rel string) {
	rel = filepath.Join("failures", fmt.Sprintf("%s-%d", r.Cell.Probe, seed))
	return filepath.Join(r.Results, rel), rel
}

// keep writes what an episode leaves that failed, or that is asked to: what was wrong, the scenario, the history, the bucket's listing, the
// timeline.
func (r *Run) keep(ctx context.Context, e *episode, t *Run, list []action) error {
	dir, rel := r.folder(e.seed)
	if err := e.write(ctx, dir, "", t, list); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Artifacts = append(r.Artifacts, rel)
	r.Notes = append(r.Notes, fmt.Sprintf("%s holds the episode; again: go run ./runner -scenario %s", rel, filepath.Join(dir, "scenario.yaml")))
	return nil
}

// keepSmall adds the smaller episode.
func (r *Run) keepSmall(ctx context.Context, e *episode, small []action, found *episode) error {
	if found == nil {
		r.Notes = append(r.Notes, "no smaller episode failed again")
		return nil
	}
	defer found.c.end()
	dir, _ := r.folder(e.seed)
	r.Notes = append(r.Notes, fmt.Sprintf("made smaller to %d actions: go run ./runner -scenario %s", len(small), filepath.Join(dir, "small-scenario.yaml")))
	return found.write(ctx, dir, "small-", found.r, small)
}

// write makes the files of one episode, their names with a prefix.
func (e *episode) write(ctx context.Context, dir, prefix string, t *Run, list []action) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep a failure: %w", err)
	}
	objects, err := e.c.objects(ctx)
	if err != nil {
		return err
	}
	var listing strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&listing, "%12d  %s\n", o.Size, o.Key)
	}
	var lines strings.Builder
	ops := e.c.h.Ops(0)
	if err := history.Save(&lines, ops); err != nil {
		return err
	}
	state, err := json.MarshalIndent(e.c.state, "", "\t")
	if err != nil {
		return fmt.Errorf("keep a failure: %w", err)
	}
	e.c.mu.Lock()
	marks := slices.Clone(e.c.marks)
	e.c.mu.Unlock()
	for name, text := range map[string]string{
		"scenario.yaml": episodeDocument(e.seed, list, t.sortedFailures(), t.Cell.Checks),
		"wrong.txt":     strings.Join(t.sortedFailures(), "\n") + "\n",
		"history.jsonl": lines.String(), "bucket.txt": listing.String(), "state.json": string(state) + "\n",
		"timeline.svg": timeline(marks, ops),
	} {
		if err := os.WriteFile(filepath.Join(dir, prefix+name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("keep a failure: %w", err)
		}
	}
	return nil
}

// replayTries is how often a replay runs its episode, until it fails.
const replayTries = 10

// episodeDocument is a scenario that replays an episode.
func episodeDocument(seed uint64, list []action, wrong, checks []string) string {
	var b strings.Builder
	b.WriteString("id: replay\ntitle: A failing episode\nquestion: Does it fail again?\nkill: it fails\ndecides: what is wrong\n")
	for _, w := range wrong {
		fmt.Fprintf(&b, "# %s\n", strings.ReplaceAll(w, "\n", " "))
	}
	fmt.Fprintf(&b, "probes:\n  - id: replay.1\n    claim: this episode holds\n    params: {tries: %d}\n    steps:\n      - episode:\n          seed: %d\n          tries: $tries\n          actions:\n", replayTries, seed)
	for _, line := range linesOf(list) {
		fmt.Fprintf(&b, "            - %s\n", line)
	}
	fmt.Fprintf(&b, "    checks: [%s]\n", strings.Join(checks, ", "))
	return b.String()
}
