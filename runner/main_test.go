package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/runner/node"
	"blobpglite/runner/record"
)

func TestMain(m *testing.M) {
	if node.IsChild() {
		os.Exit(node.Child())
	}
	os.Exit(m.Run())
}

// command runs the runner in-process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestBadUsage(t *testing.T) {
	unknownField := file(t, "mine.yaml", "id: mine\nsurprise: 1\n")
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"nothing", nil, []string{"nothing to do", "-scenario", "-list"}},
		{"two things", []string{"-list", "-verbs"}, []string{"give only one of"}},
		{"unknown flag", []string{"-nonsense"}, []string{"nonsense"}},
		{"an argument", []string{"-list", "e2"}, []string{`"e2"`}},
		{"unknown scenario", []string{"-scenario", "e99"}, []string{"e99", "e2"}},
		{"missing file", []string{"-scenario", "./missing.yaml"}, []string{"missing.yaml"}},
		{"unknown field", []string{"-scenario", unknownField}, []string{"mine.yaml", "surprise", "2:1"}},
		{"undeclared parameter", []string{"-scenario", "e2", "-set", "sise=1MB"}, []string{"sise", "size", "rounds"}},
		{"malformed parameter", []string{"-scenario", "e2", "-set", "size=huge"}, []string{"huge"}},
		{"unknown profile", []string{"-scenario", "e2", "-profile", "quick"}, []string{"quick", "ci"}},
		{"unknown probe", []string{"-scenario", "e2", "-probe", "e2.9"}, []string{"e2.9", "e2.1"}},
		{"unknown store", []string{"-scenario", "e2", "-store", "s3"}, []string{"s3", "fake-gcs"}},
		{"bucket missing", []string{"-scenario", "e2", "-store", "gcs"}, []string{"-bucket", "gs://"}},
		{"bucket malformed", []string{"-scenario", "e2", "-bucket", "s3://x"}, []string{"s3://x", "gs://"}},
		{"unknown target", []string{"-scenario", "e4", "-target", "moon"}, []string{"moon", "cloudrun"}},
		{"a target for a list", []string{"-list", "-target", "cloudrun"}, []string{"-scenario"}},
		{"twin over local", []string{"-scenario", "e2", "-target", "twin"}, []string{"e2", "local", "cloudrun"}},
		{"cloudrun over local", cloudArgs("-scenario", "e2"), []string{"e2", "local", "twin"}},
		{"nothing for cloudrun", []string{"-scenario", "e4", "-target", "cloudrun"}, []string{"-project, -region, -image, -service, -account, -bucket"}},
		{"a setting missing", []string{"-scenario", "e4", "-target", "cloudrun", "-project", "p", "-region", "r", "-image", "i", "-service", "s", "-bucket", "gs://b/p"}, []string{"needs -account\n"}},
		{"settings without cloudrun", []string{"-scenario", "e4", "-project", "p", "-dry"}, []string{"-project, -dry", "cloudrun"}},
		{"cloudrun with an emulator", cloudArgs("-scenario", "e4", "-store", "fake-gcs"), []string{"-store gcs"}},
		{"bucket without gcs", []string{"-scenario", "e2", "-store", "mem", "-bucket", "gs://b/p"}, []string{"-store gcs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			results := filepath.Join(t.TempDir(), "results")
			code, _, stderr := command(t, append(c.args, "-results", results)...)
			if c.name == "an argument" { // nothing may follow it
				code, _, stderr = command(t, c.args...)
			}
			if code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			for _, s := range c.says {
				if !strings.Contains(stderr, s) {
					t.Errorf("the message lacks %q:\n%s", s, stderr)
				}
			}
			if _, err := os.Stat(results); !os.IsNotExist(err) {
				t.Error("something was written to the results")
			}
		})
	}
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestListings(t *testing.T) {
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"-list"}, []string{"e2 ", "e2.1", "sql.1"}},
		{[]string{"-verbs"}, []string{"roundtrip", "size", "peak_rss_bytes", "checksum"}},
		{[]string{"-check", "e2"}, []string{"e2.1", "size=100MB"}},
		{[]string{"-check", "e2", "-profile", "full"}, []string{"size=500MB"}},
	} {
		code, stdout, stderr := command(t, c.args...)
		if code != exitPass {
			t.Errorf("%v: exit code %d: %s", c.args, code, stderr)
		}
		for _, s := range c.says {
			if !strings.Contains(stdout, s) {
				t.Errorf("%v: the output lacks %q", c.args, s)
			}
		}
	}
}

// TestRunLeavesALine runs a small experiment in each local store and reads back what it recorded.
func TestRunLeavesALine(t *testing.T) {
	for _, store := range []string{"mem", "fake-gcs"} {
		t.Run(store, func(t *testing.T) {
			results := t.TempDir()
			code, stdout, stderr := command(t, "-scenario", "e2", "-profile", "ci", "-probe", "e2.3", "-set", "size=1MB",
				"-store", store, "-seed", "42", "-results", results)
			if code != exitPass {
				t.Fatalf("exit code %d\n%s\n%s", code, stdout, stderr)
			}
			log, err := record.ReadDir(results)
			if err != nil {
				t.Fatal(err)
			}
			if len(log.Records) != 1 {
				t.Fatalf("%d lines", len(log.Records))
			}
			r := log.Records[0]
			if r.Verdict != record.Pass || r.Seed != 42 || r.Env.Store != store || r.Ops.ClassA == 0 || len(r.Metrics) == 0 || len(r.Env.PGliteSHA256) != 64 {
				t.Errorf("the line: %+v", r)
			}
			if !strings.Contains(stdout, r.Replay) || !strings.Contains(r.Replay, "-seed 42") || !strings.Contains(r.Replay, "size=1MB") {
				t.Errorf("the replay command %q is not in the output or not complete", r.Replay)
			}
		})
	}
}

// TestFailureIsNoPass: an expectation that does not hold fails the run, and the line says so.
func TestFailureIsNoPass(t *testing.T) {
	doc := file(t, "strict.yaml", `
id: strict
title: t
question: q
kill: k
decides: d
store: mem
probes:
  - id: strict.1
    claim: a new database takes no time at all
    params: {rounds: 1}
    steps:
      - fresh: {rounds: $rounds}
    expect:
      - metrics.new_database_ms.max <= 0
`)
	results := t.TempDir()
	code, stdout, _ := command(t, "-scenario", doc, "-results", results)
	if code != exitFail || !strings.Contains(stdout, "fail") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	log, err := record.ReadDir(results)
	if err != nil || len(log.Records) != 1 || log.Records[0].Verdict != record.Fail {
		t.Errorf("recorded %+v, %v", log.Records, err)
	}
}

// TestInterrupt: a run that is interrupted ends, records no verdict for what was cut short, and fails.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	results := t.TempDir()
	if code := run(ctx, []string{"-scenario", "e2", "-profile", "ci", "-results", results}, &out, &errs); code != exitFail {
		t.Errorf("exit code %d", code)
	}
	log, err := record.ReadDir(results)
	if err != nil || len(log.Records) != 0 {
		t.Errorf("an interrupted run recorded %d lines, %v", len(log.Records), err)
	}
}
