package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"blobpglite/runner/record"
)

// failing is a document in which the first probe's second cell fails, because more is asked of its bucket, and so does the second probe,
// with objects.
const failing = `
id: failing
title: t
question: q
kill: k
decides: d
probes:
  - id: failing.1
    claim: $databases databases are asked for nothing
    params: {spread: true}
    matrix: {databases: [1, 200]}
    steps:
      - fleet: {databases: $databases, spread: $spread}
    expect:
      - metrics.reads_per_s.max <= 100
  - id: failing.2
    claim: a store answers before it is asked
    steps:
      - locked: {}
      - latency: {size: 1KB, samples: 2}
    expect:
      - metrics.put_ms.max < 0
`

// TestAFailureLeavesWhatReplaysIt: a failing cell leaves a folder, whichever its verb; a passing one leaves none. The folder's command runs
// that cell again, with the same outcome. The line of the results names no folder.
func TestAFailureLeavesWhatReplaysIt(t *testing.T) {
	doc, results := file(t, "failing.yaml", failing), t.TempDir()
	code, stdout, stderr := command(t, "-scenario", doc, "-probe", "failing.1", "-seed", "9", "-results", results)
	if code != exitFail {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	folder := filepath.Join(results, "failures", "failing.1-databases=200-9")
	if left, err := filepath.Glob(filepath.Join(results, "failures", "*")); err != nil || len(left) != 1 || left[0] != folder {
		t.Fatalf("there is %q, %v, want %s alone", left, err, folder)
	}
	if !strings.Contains(stdout, "kept: "+folder) {
		t.Errorf("the output does not name the folder:\n%s", stdout)
	}
	for name, says := range map[string][]string{
		"wrong.txt":   {"fail: 200 databases are asked for nothing", "fail: metrics.reads_per_s.max <= 100: reads_per_s.max = "},
		"record.json": {`"seed": 9`, `"databases": 200`, `"claim": "200 databases are asked for nothing"`},
		"log.txt":     {"failing.1: databases"},
		"replay.txt":  {"-seed 9", "-probe failing.1", "databases=200", "# commit "},
	} {
		text := read(t, folder, name)
		for _, s := range says {
			if !strings.Contains(text, s) {
				t.Errorf("%s lacks %q:\n%s", name, s, text)
			}
		}
	}
	again := t.TempDir()
	replay, _, _ := strings.Cut(read(t, folder, "replay.txt"), "\n")
	args, ok := strings.CutPrefix(replay, "go run ./runner ")
	if !ok || strings.ContainsAny(replay, `'"`) {
		t.Fatalf("the command is %q", replay)
	}
	if code, stdout, _ := command(t, append(strings.Fields(args), "-results", again)...); code != exitFail {
		t.Errorf("the command does not fail again: exit code %d\n%s", code, stdout)
	}
	first, second := only(t, results, 1), only(t, again, 0)
	if fmt.Sprint(first.Checks) != fmt.Sprint(second.Checks) || first.Cell != second.Cell {
		t.Errorf("again it is %v of cell %s, not %v of %s", second.Checks, second.Cell, first.Checks, first.Cell)
	}
	if len(first.Artifacts) != 0 || strings.Contains(fmt.Sprint(first.Notes), results) {
		t.Errorf("the line names a folder of this machine: %v, %v", first.Artifacts, first.Notes)
	}
}

// TestAFailureListsTheBucket: the contents of the cells' store are in the folder, for any kind of store.
func TestAFailureListsTheBucket(t *testing.T) {
	doc := file(t, "failing.yaml", failing)
	for _, kind := range []string{"mem", "fake-gcs"} {
		results := t.TempDir()
		if code, stdout, stderr := command(t, "-scenario", doc, "-probe", "failing.2", "-store", kind, "-results", results); code != exitFail {
			t.Fatalf("%s: exit code %d\n%s%s", kind, code, stdout, stderr)
		}
		_, err := os.Stat(filepath.Join(results, "failures", "failing.2-1", "bucket.txt"))
		// On an emulator a place is emptied when its step ends: it is listed there if a check has failed by then, and an expectation is not
		// a check.
		if kept := err == nil; kept != (kind == "mem") {
			t.Errorf("%s: a listing: %v", kind, kept)
		}
		if kind == "mem" {
			if text := read(t, results, "failures", "failing.2-1", "bucket.txt"); text == "" || !strings.Contains(text, "  run-") {
				t.Errorf("%s: the listing: %s", kind, text)
			}
		}
	}
}

// TestStepsAreKept: each step once, including those of several goroutines, and of very many the last ones.
func TestStepsAreKept(t *testing.T) {
	t.Parallel()
	shown := 0
	s := &steps{began: time.Now(), show: func(string, int64, int64) { shown++ }}
	s.step("one", 0, 0)
	s.step("two", 1, 9)
	s.step("two", 2, 9)
	if text := s.text(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "two, 1 of 9") || shown != 3 {
		t.Errorf("%d shown, kept:\n%s", shown, text)
	}
	var g sync.WaitGroup
	for n := range mostSteps {
		g.Go(func() { s.step(fmt.Sprint("step ", n), 0, 0) })
	}
	g.Wait()
	if text := s.text(); strings.Count(text, "\n") != mostSteps+1 || !strings.HasPrefix(text, "2 earlier steps are left out\n") {
		t.Errorf("%d lines are kept", strings.Count(text, "\n"))
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// only is a line of the results.
func only(t *testing.T, results string, i int) record.Record {
	t.Helper()
	log, err := record.ReadDir(results)
	if err != nil || len(log.Records) <= i {
		t.Fatalf("%d lines, %v", len(log.Records), err)
	}
	return log.Records[i]
}
