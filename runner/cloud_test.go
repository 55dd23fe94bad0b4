package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// cloudArgs are the runner's for Cloud Run, rehearsed.
func cloudArgs(more ...string) []string {
	return append([]string{
		"-target", "cloudrun", "-dry", "-project", "p", "-region", "r", "-image", "i", "-service", "svc", "-account", "a@p.iam.gserviceaccount.com", "-bucket", "gs://buck/x",
	}, more...)
}

const rehearsedHead = `
id: rehearsed
title: t
question: q
kill: k
decides: d
target: twin
probes:
`

// rehearsedDocument has every verb that can be done on Cloud Run, in the smallest numbers, and some that cannot.
const rehearsedDocument = rehearsedHead + `
  - id: rehearsed.1
    claim: c
    params: {rounds: 1}
    steps: [twinboot: {of: restore, size: 1MB, rounds: $rounds}]
    checks: [durability]
    expect: [metrics.first_row_ms.n == 1]
  - id: rehearsed.2
    claim: c
    params: {rounds: 1}
    steps: [twinsleep: {rounds: $rounds}]
    checks: [durability]
    expect: [metrics.leave_ms.n == 1, metrics.cold_ms.max < 0]
  - id: rehearsed.3
    claim: c
    params: {rounds: 1}
    steps: [twinfrozen: {cpu: always, rounds: $rounds, lease_ttl: 600ms}]
    checks: [durability]
    expect: [metrics.idle_requests_count.max == 0]
  - id: rehearsed.4
    claim: c
    params: {rounds: 1}
    steps: [twinrival: {how: idle, rounds: $rounds, lease_ttl: 1500ms}]
    checks: [durability, refused, locked, dense-log, write-once]
    expect: [metrics.refused_count.min == 1]
  - id: rehearsed.5
    claim: c
    params: {rounds: 1}
    steps: [twinflush: {rounds: $rounds, rows: 3}]
    checks: [durability, dense-log, write-once]
    expect: [metrics.early_count.max == 0, metrics.records_count.min >= 1]
  - id: rehearsed.6
    claim: c
    params: {rounds: 1}
    steps: [twinswitch: {shape: waits, rounds: $rounds, clients: 2}]
    checks: [durability, refused, dense-log, write-once]
    expect: [metrics.other_count.max == 0, metrics.epochs_count.max >= 2]
  - id: rehearsed.7
    claim: c
    params: {rounds: 1}
    steps: [twinrival: {how: busy, rounds: $rounds}]
    checks: [durability]
  - id: rehearsed.8
    claim: c
    steps: [latency: {size: 1KiB, samples: 1}]
    checks: [durability]
`

// commands are the command lines in an output, shortened: without the parts that are always the same (see package cloudrun's tests), and
// without those that differ from run to run.
func commands(out string) []string {
	runID, at := regexp.MustCompile(`run-[0-9a-z]{26}`), regexp.MustCompile(`.*revision_name="svc-(r\d+)".*`)
	same := strings.NewReplacer(
		" --project=p --region=r --quiet", "", " --image=i --service-account=a@p.iam.gserviceaccount.com", "",
		" --min=0 --max=1 --max-instances=1 --concurrency=80 --cpu=1", "", " --timeout=300", "",
		" --cpu-boost --execution-environment=gen2 --allow-unauthenticated", "", "PGSERVE_TOKEN=(token)", "TOKEN", "PGSERVE_", "", "gs://buck/x/run", "gs:", "'", "",
	)
	var all []string
	for line := range strings.Lines(out) {
		if line, ok := strings.CutPrefix(strings.TrimSpace(line), "+ gcloud "); ok {
			line = runID.ReplaceAllString(line, "run")
			all = append(all, at.ReplaceAllString(same.Replace(line), "logs of $1"))
		}
	}
	return all
}

// deployed and asleep are the commands for a service that begins with a revision, and for one that is put to sleep.
func deployed(name, throttling, env string) []string {
	return append([]string{
		"run deploy svc --revision-suffix=" + name + " --memory=4096Mi " + throttling + " --set-env-vars=^;^" + env, "run services describe svc --format=json",
	}, asleep(name)...)
}

func asleep(name string) []string {
	return []string{"run services update svc --scaling=0", "logs of " + name, "run services update svc --scaling=auto"}
}

func joined(parts ...[]string) string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return strings.Join(all, "\n")
}

// TestRehearsal goes through every verb as it would be on Cloud Run.
func TestRehearsal(t *testing.T) {
	results := filepath.Join(t.TempDir(), "results")
	code, stdout, stderr := command(t, cloudArgs("-scenario", file(t, "rehearsed.yaml", rehearsedDocument), "-results", results)...)
	if code != exitPass {
		t.Fatalf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
	const on, off = "--no-cpu-throttling", "--cpu-throttling"
	again := func(r revision) string {
		return "run deploy svc --revision-suffix=" + r.name + " --memory=4096Mi " + off + " --set-env-vars=^;^" + r.env
	}
	rival := "BUCKET=gs:/db-6;TOKEN;ACQUIRE_TIMEOUT=1ms;LEASE_TTL=1.5s;RESTORE_BUDGET=-1ns"
	flush := "BUCKET=gs:/db-8;TOKEN;DURABILITY=sleep;IDLE_FLUSH=1h;RESTORE_BUDGET=-1ns"
	change := "BUCKET=gs:/db-10;TOKEN;ACQUIRE_TIMEOUT=40s;RESTORE_BUDGET=-1ns"
	want := joined(
		[]string{"run services list --filter=metadata.name=svc --format=json"},
		// A database is loaded, then booted from.
		deployed("r1", on, "BUCKET=gs:/db-1;TOKEN"), asleep("r1"),
		[]string{again(revision{"r2", "BUCKET=gs:/db-1;TOKEN"})}, asleep("r2"), asleep("r2"),
		// The sleep: loaded, asleep in between, and at the end.
		deployed("r3", on, "BUCKET=gs:/db-2;TOKEN"), asleep("r3"),
		[]string{again(revision{"r4", "BUCKET=gs:/db-2;TOKEN"})}, asleep("r4"), asleep("r4"), asleep("r4"),
		// Frozen, with CPU.
		deployed("r5", on, "BUCKET=gs:/db-4;TOKEN;LEASE_TTL=600ms"), asleep("r5"),
		// The rival has an address of its own, and the traffic stays.
		deployed("r6", off, rival), []string{again(revision{"r7", rival}) + " --no-traffic --tag=canary", "run services describe svc --format=json",
			"run services update-traffic svc --remove-tags=canary"}, asleep("r6"),
		// The flush: two more revisions. The traffic must be told to follow again.
		[]string{again(revision{"r8", flush}), "run services update-traffic svc --to-latest", "run services describe svc --format=json"}, asleep("r8"),
		[]string{again(revision{"r9", flush}), "logs of r8", again(revision{"r10", flush}), "logs of r9"}, asleep("r10"),
		// The switch.
		deployed("r11", off, change), []string{again(revision{"r12", change}), "logs of r11"}, asleep("r12"),
		[]string{"run services delete svc"},
	)
	if got := strings.Join(commands(stdout), "\n"); got != want {
		t.Errorf("said\n%s\nwant\n%s", got, want)
	}
	for _, says := range []string{
		"A rehearsal", "not judged in a rehearsal: metrics.cold_ms.max < 0", "left out: twinrival: nobody can stop an instance", "left out: latency runs on this machine",
		"Cleaned up: there is no service svc, and nothing below gs://buck/x/run-",
	} {
		if !strings.Contains(stdout, says) {
			t.Errorf("the output lacks %q", says)
		}
	}
	if pass, left := strings.Count(stdout, " pass "), strings.Count(stdout, " left out "); pass != 6 || left != 2 {
		t.Errorf("%d passed, %d were left out:\n%s", pass, left, stdout)
	}
	if _, err := os.Stat(results); !os.IsNotExist(err) {
		t.Error("a rehearsal was recorded")
	}
}

// revision is one that is deployed again.
type revision struct{ name, env string }

// TestRehearsalCleansUp: the service and what it wrote are gone even when a verb fails.
func TestRehearsalCleansUp(t *testing.T) {
	doc := file(t, "rehearsed.yaml", rehearsedHead+`
  - id: rehearsed.1
    claim: c
    steps: [twintier: {size: 1MB, tiers: [few]}]
    checks: [durability]
`)
	code, stdout, stderr := command(t, cloudArgs("-scenario", doc, "-results", t.TempDir())...)
	if code != exitFail || !strings.Contains(stdout, "broken") || !strings.Contains(stdout, `tier "few"`) {
		t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
	cleanedUp(t, stdout)
}

// TestRehearsalOfTheSoak: an hour of its traffic, on Cloud Run, in some seconds: with revisions that are replaced while clients write.
func TestRehearsalOfTheSoak(t *testing.T) {
	doc := file(t, "rehearsed.yaml", rehearsedHead+`
  - id: rehearsed.1
    claim: c
    params: {hours: 1}
    steps: [soak: {hours: $hours, disturb: 2, hurry: 600}]
    checks: [durability, second-reader, dump-restore, verified, checksum, collected, dense-log, write-once]
    expect:
      - metrics.switch_count.max + metrics.told_count.max > 0
      - metrics.acknowledged_count.max > 0
      - metrics.read_back_count.n > 0
      - metrics.leaked_count.max == 0
`)
	code, stdout, stderr := command(t, cloudArgs("-scenario", doc, "-seed", "1", "-results", t.TempDir())...)
	if code != exitPass || strings.Contains(stdout, "not judged in a rehearsal") {
		t.Fatalf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
	if !strings.Contains(stdout, "on Cloud Run: revisions replaced and instances told to go") {
		t.Errorf("it does not say what was done to it:\n%s", stdout)
	}
	if n := strings.Count(strings.Join(commands(stdout), "\n"), "run deploy svc"); n < 2 {
		t.Errorf("%d revisions were deployed:\n%s", n, stdout)
	}
	cleanedUp(t, stdout)
}

func cleanedUp(t *testing.T, stdout string) {
	t.Helper()
	all := commands(stdout)
	if len(all) == 0 || all[len(all)-1] != "run services delete svc" || !strings.Contains(stdout, "Cleaned up: there is no service svc, and nothing below gs://buck/x/run-") {
		t.Errorf("it was not cleaned up:\n%s", stdout)
	}
}

// stopper is an output that stops the run when something is said.
type stopper struct {
	mu   sync.Mutex
	text bytes.Buffer
	at   string
	stop func()
}

func (s *stopper) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(string(b), s.at) {
		s.stop()
	}
	return s.text.Write(b)
}

// TestRehearsalInterrupted: the same when it is interrupted, here while instances are being ended.
func TestRehearsalInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &stopper{at: "gcloud logging read", stop: cancel}
	var errs bytes.Buffer
	doc := file(t, "rehearsed.yaml", rehearsedDocument)
	if code := run(ctx, cloudArgs("-scenario", doc, "-probe", "rehearsed.2", "-results", t.TempDir()), out, &errs); code != exitFail {
		t.Errorf("exit code %d\n%s", code, errs.String())
	}
	cleanedUp(t, out.text.String())
}

// TestNothingForTheCloud: a selection with nothing to run makes no requests, and is not a pass.
func TestNothingForTheCloud(t *testing.T) {
	doc := file(t, "rehearsed.yaml", rehearsedDocument)
	code, stdout, stderr := command(t, cloudArgs("-scenario", doc, "-probe", "rehearsed.7", "-probe", "rehearsed.8", "-results", t.TempDir())...)
	if code != exitFail || len(commands(stdout)) > 0 || strings.Count(stdout, " left out ") != 2 {
		t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
}
