package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/runner/bench"
	"blobpglite/runner/record"
)

// A run that finds a fault leaves a folder below the results, whichever verb found it:
//
//	replay.txt    the command that repeats exactly this cell, and the commit it was run at
//	wrong.txt     each check that did not hold, and what it said
//	record.json   the line of the results: claim, parameters, seed, faults, metrics, notes
//	log.txt       the steps as they were shown, each with the time since the cell began
//	bucket.txt    the objects that were there at the end, if the run had a bucket
//
// Verbs that know more add to it: chaos the episode as a document, the soak what each client was told and the objects themselves.

// keepFailure writes the folder of a failed cell and returns its name, as shown to people; empty: there is nothing to keep.
func (x *experiment) keepFailure(ctx context.Context, run *bench.Run, rec record.Record, log *steps) (string, error) {
	if rec.Verdict.Holds() || x.f.cloud.dry || run.Results == "" {
		return "", nil
	}
	dir, _ := run.FailureFolder(x.f.seed)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("keep a failure: %w", err)
	}
	line, err := json.MarshalIndent(rec, "", "\t")
	if err != nil {
		return "", fmt.Errorf("keep a failure: %w", err)
	}
	commit := "commit " + rec.Commit
	if rec.Dirty {
		commit += ", and changes: " + x.source.Why
	}
	files := map[string]string{
		"replay.txt": rec.Replay + "\n# " + commit + "\n", "wrong.txt": wrongOf(rec), "record.json": string(line) + "\n", "log.txt": log.text(),
	}
	if held := x.held(context.WithoutCancel(ctx), run); held != "" {
		files["bucket.txt"] = held
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("keep a failure: %w", err)
		}
	}
	return dir, nil
}

// wrongOf says what did not hold, one check per line.
func wrongOf(rec record.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", rec.Verdict, rec.Claim)
	for _, c := range rec.Checks {
		if c.Verdict != record.Pass {
			fmt.Fprintf(&b, "%s: %s: %s\n", c.Verdict, c.Name, c.Detail)
		}
	}
	return b.String()
}

// held lists what the run's buckets held at the end. A failed listing does not prevent keeping the rest.
func (x *experiment) held(ctx context.Context, run *bench.Run) string {
	lines, err := run.LeftInBucket()
	if st, done, openErr := x.ownPrefix(ctx); openErr != nil {
		err = errors.Join(err, openErr)
	} else if st != nil {
		defer done()
		for a, listErr := range st.List(ctx, "", "") {
			if listErr != nil {
				err = errors.Join(err, listErr)
				break
			}
			lines = append(lines, fmt.Sprintf("%12d  %s/%s", a.Size, x.store.Prefix, a.Key))
		}
	}
	if err != nil {
		lines = append(lines, "not all objects could be listed: "+err.Error())
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// ownPrefix opens what all cells of the command share; nil: there is no such store.
func (x *experiment) ownPrefix(ctx context.Context) (store.Store, func(), error) {
	switch {
	case x.store == nil:
		return nil, nil, nil
	case x.store.Memory != nil:
		return store.Prefixed(x.store.Memory, x.store.Prefix), func() {}, nil
	}
	st, err := gcs.Open(ctx, gcs.Options{Bucket: x.store.Bucket, Prefix: x.store.Prefix, Endpoint: x.store.Endpoint})
	if err != nil {
		return nil, nil, err
	}
	return st, func() { _ = st.Close() }, nil
}

// steps is the progress that a cell has shown.
type steps struct {
	began time.Time
	show  func(step string, done, total int64)

	mu    sync.Mutex
	lines []string
	last  string
	left  int // lines that were dropped
}

// mostSteps is how many lines of a log are kept: the last ones say what went wrong.
const mostSteps = 2000

// step shows a step, and records it if it differs from the last one.
func (s *steps) step(step string, done, total int64) {
	s.show(step, done, total)
	s.mu.Lock()
	defer s.mu.Unlock()
	if step == s.last {
		return
	}
	s.last = step
	if len(s.lines) == mostSteps {
		s.lines, s.left = s.lines[1:], s.left+1
	}
	line := fmt.Sprintf("%9.1fs  %s", time.Since(s.began).Seconds(), step)
	if total > 0 {
		line += fmt.Sprintf(", %d of %d", done, total)
	}
	s.lines = append(s.lines, line)
}

func (s *steps) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := strings.Join(s.lines, "\n") + "\n"
	if s.left > 0 {
		text = fmt.Sprintf("%d earlier steps are left out\n", s.left) + text
	}
	return text
}
