package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"blobpglite/runner/bench"
	"blobpglite/runner/history"
	"blobpglite/runner/record"
)

// shrinkTries is how often a smaller episode is run before it counts as one that does not fail: processes do not behave the same way twice.
const shrinkTries = 3

// shrunk looks for a smaller episode that also fails: first it leaves out half of the actions, then a quarter, and so on down to one.
// found: the smallest one failed when it was run again.
func shrunk(ctx context.Context, r *bench.Run, seed uint64, list []action, limit time.Duration) (small []action, found *episode) {
	end := time.Now().Add(limit)
	small = list
	fails := func(candidate []action) bool {
		for range shrinkTries {
			if time.Now().After(end) || ctx.Err() != nil {
				return false
			}
			t := r.Trial(record.NewMetrics())
			t.Results = "" // no pictures of what is only a try
			e, err := runEpisode(ctx, t, seed, candidate)
			if err == nil && t.Failed() {
				if found != nil {
					found.c.End()
				}
				e.r = t
				found = e
				return true
			}
			if e != nil {
				e.c.End()
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
				r.Progress(fmt.Sprintf("%s: shrinking a failing episode: %d actions", r.Cell.Probe, len(small)), 0, 0)
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

// keep writes what an episode leaves that failed, or was told to: what was wrong, the scenario, the history, the bucket's listing, the
// timeline.
func keep(ctx context.Context, r *bench.Run, e *episode, t *bench.Run, list []action) error {
	dir, rel := r.FailureFolder(e.seed)
	if err := e.write(ctx, dir, "", t, list); err != nil {
		return err
	}
	r.Leave(rel, fmt.Sprintf("%s holds the episode; again: go run ./runner -scenario %s", rel, filepath.Join(dir, "scenario.yaml")))
	return nil
}

// keepSmall adds the smaller episode.
func keepSmall(ctx context.Context, r *bench.Run, e *episode, small []action, found *episode) error {
	if found == nil {
		r.Notes = append(r.Notes, "no smaller episode failed again")
		return nil
	}
	defer found.c.End()
	dir, _ := r.FailureFolder(e.seed)
	r.Notes = append(r.Notes, fmt.Sprintf("shrunk to %d actions: go run ./runner -scenario %s", len(small), filepath.Join(dir, "small-scenario.yaml")))
	return found.write(ctx, dir, "small-", found.r, small)
}

// write makes the files of one episode, with a prefix to their names.
func (e *episode) write(ctx context.Context, dir, prefix string, t *bench.Run, list []action) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep a failure: %w", err)
	}
	objects, err := e.c.Objects(ctx)
	if err != nil {
		return err
	}
	var listing strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&listing, "%12d  %s\n", o.Size, o.Key)
	}
	var lines strings.Builder
	ops := e.c.History.Ops(0)
	if err := history.Save(&lines, ops); err != nil {
		return err
	}
	state, err := json.MarshalIndent(e.c.State, "", "\t")
	if err != nil {
		return fmt.Errorf("keep a failure: %w", err)
	}
	for name, text := range map[string]string{
		"scenario.yaml": episodeDocument(e.seed, list, t.Failures(), t.Cell.Checks),
		"wrong.txt":     strings.Join(t.Failures(), "\n") + "\n",
		"history.jsonl": lines.String(), "bucket.txt": listing.String(), "state.json": string(state) + "\n",
		"timeline.svg": e.c.Picture(),
	} {
		if err := os.WriteFile(filepath.Join(dir, prefix+name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("keep a failure: %w", err)
		}
	}
	return nil
}

// replayTries is how often a replay runs its episode until it fails.
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
