package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"blobpglite/scenarios"
)

func TestNightlyArguments(t *testing.T) {
	n := nightly{bucket: "gs://b/night/", profile: "full"}
	if got := strings.Join(n.args("e0"), " "); got != "-scenario e0 -profile full -store gcs -bucket gs://b/night/e0" {
		t.Error(got)
	}
	if got := strings.Join(n.args("e5"), " "); got != "-scenario e5 -profile full" {
		t.Error(got)
	}
	n = nightly{profile: "ci", results: "/r"}
	if got := strings.Join(n.args("e1"), " "); got != "-scenario e1 -profile ci -results /r" {
		t.Error(got)
	}
}

func TestNightlyOnCloudRun(t *testing.T) {
	n := nightly{bucket: "gs://b/night/", profile: "full", results: "/r", cloud: cloud{"p", "r", "i", "s", "a"}}
	want := "-scenario e4 -profile ci -target cloudrun -project p -region r -image i -service s -account a -bucket gs://b/night/e4-cloudrun -results /r"
	if got := strings.Join(n.cloudArgs("e4"), " "); got != want {
		t.Error(got)
	}
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	steps, err := n.steps(&checker{root: root, temp: t.TempDir(), stdout: &out, stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	there := 0
	for _, s := range steps {
		if strings.HasSuffix(s.name, " on Cloud Run") {
			there++
		}
	}
	if there != len(onCloudRun()) {
		t.Errorf("%d scenarios run on Cloud Run", there)
	}
}

func TestNightlySteps(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &checker{root: root, temp: t.TempDir(), stdout: &out, stderr: &out}
	steps, err := nightly{profile: "ci"}.steps(c)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range steps {
		names = append(names, s.name)
	}
	text := strings.Join(names, " ")
	if !strings.HasPrefix(text, "build ") || !strings.HasSuffix(text, " render") || !strings.Contains(text, " e2 ") {
		t.Error(text)
	}
	if _, err := (nightly{profile: "ci", only: []string{"e99"}}).steps(c); err == nil || !strings.Contains(err.Error(), "e99") {
		t.Error(err)
	}
	if _, err := (nightly{profile: "ci", bucket: "b"}).steps(c); err == nil || !strings.Contains(err.Error(), "gs://") {
		t.Error(err)
	}
}

// TestNightlyOrder: what has not run for the longest time goes first, after what has never run; after the limit nothing starts.
func TestNightlyOrder(t *testing.T) {
	dir := t.TempDir()
	for id, lines := range map[string]string{
		"b": `{"started":"2026-11-29T10:00:00Z"}` + "\n", "c": `{"started":"2026-11-28T10:00:00.5Z"}` + "\n" + `{"started":"2026-11-27T10:00:00Z"}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, id+".jsonl"), []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ids := []string{"b", "c", "d"}
	nightly{results: dir}.order(&checker{}, ids)
	if got := strings.Join(ids, " "); got != "d c b" {
		t.Error(got)
	}
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &checker{root: root, temp: t.TempDir(), stdout: &out, stderr: &out}
	steps, err := nightly{profile: "ci", limit: 1, only: []string{"e0"}}.steps(c)
	if err != nil {
		t.Fatal(err)
	}
	var skip skipError
	if err := steps[1].run(t.Context(), c); steps[1].name != "e0" || !errors.As(err, &skip) {
		t.Errorf("%s: %v", steps[1].name, err)
	}
}

// TestNightlyFailures: the night prints the folders of its own failures, git leaves them out of what is proposed, and the workflow uploads them.
func TestNightlyFailures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	began := time.Now()
	for name, at := range map[string]time.Time{"e1.1-1": began.Add(time.Minute), "e2.1-1": began.Add(-time.Hour)} {
		replay := filepath.Join(dir, "failures", name, "replay.txt")
		if err := errors.Join(os.MkdirAll(filepath.Dir(replay), 0o700), os.WriteFile(replay, nil, 0o600), os.Chtimes(replay, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	nightly{results: dir}.tellFailures(&checker{stdout: &out}, began)
	if text := out.String(); !strings.Contains(text, filepath.Join("failures", "e1.1-1")) || strings.Contains(text, "e2.1-1") {
		t.Error(text)
	}
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "git", "-C", root, "check-ignore", "results/failures/e1.1-1/replay.txt").CombinedOutput(); err != nil {
		t.Errorf("git does not ignore them: %v %s", err, out)
	}
	workflow, err := os.ReadFile(filepath.Join(root, ".github", "workflows", "nightly.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?s)if: always\(\)\s+uses: actions/upload-artifact@v\d+\s+with:\s+name: failures-\$\{\{ matrix.part \}\}\s+path: results/failures`).Match(workflow) {
		t.Error("the nightly workflow does not upload results/failures")
	}
}

func TestNightlyUsage(t *testing.T) {
	for _, args := range []string{"-bucket gs://a/b", "-nightly -short", "-nightly -profile huge", "-limit 1h", "-nightly -limit -1h", "-results x", "-project p", "-nightly -bucket gs://a/b -project p", "-nightly -project p -region r -image i -service s -account a"} {
		var out bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &out); code != 2 {
			t.Errorf("%s: exit %d: %s", args, code, out.String())
		}
	}
}

// TestNightlyWorkflow: each scenario is in exactly one part of the workflow.
func TestNightlyWorkflow(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, ".github", "workflows", "nightly.yml"))
	if err != nil {
		t.Fatal(err)
	}
	type step struct {
		Run string
		Env map[string]string
	}
	var workflow struct {
		Jobs map[string]struct {
			Strategy struct {
				Matrix struct {
					Include []struct{ Part, Scenarios string }
				}
			}
			Steps []step
		}
	}
	if err := yaml.Unmarshal(text, &workflow); err != nil {
		t.Fatal(err)
	}
	job := workflow.Jobs["run"]
	if !slices.ContainsFunc(job.Steps, func(s step) bool {
		return strings.Contains(s.Run, `-nightly -limit 290m -scenarios "$SCENARIOS"`) && s.Env["SCENARIOS"] == "${{ matrix.scenarios }}"
	}) {
		t.Error("no step runs the part's scenarios")
	}
	var parts, listed []string
	for _, part := range job.Strategy.Matrix.Include {
		parts, listed = append(parts, part.Part), append(listed, splitList(part.Scenarios)...)
	}
	if slices.Sort(parts); len(parts) < 2 || len(slices.Compact(parts)) < len(job.Strategy.Matrix.Include) {
		t.Errorf("parts %q: archives of one name would be each other's", parts)
	}
	all, err := scenarios.IDs()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(listed)
	slices.Sort(all)
	if !slices.Equal(listed, all) {
		t.Errorf("the parts of .github/workflows/nightly.yml have\n%q, and there are\n%q", listed, all)
	}
}

// TestResultsOfParts: what several checkouts have measured is combined in one, without what each has rendered.
func TestResultsOfParts(t *testing.T) {
	script, err := filepath.Abs(filepath.Join("..", "cloud", "propose-results.sh"))
	if err != nil {
		t.Fatal(err)
	}
	in := func(dir, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v: %s", name, args, err, out)
		}
	}
	write := func(dir string, files map[string]string) {
		t.Helper()
		for name, text := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var archives []string
	folders := map[string]map[string]string{
		"a": {"results/e0.jsonl": "0\nnew\n", "results/index.html": "a", "STATUS.md": "a"}, "b": {"results/e1.jsonl": "new\n", "results/e1/x.json": "{}", "results/PERFORMANCE.md": "b"}, "all": nil, "none": {},
	}
	for name, measured := range folders {
		folders[name] = map[string]string{"dir": t.TempDir()}
		dir := folders[name]["dir"]
		in(dir, "git", "init", "-q")
		write(dir, map[string]string{"results/e0.jsonl": "0\n", "results/index.html": "0", "results/PERFORMANCE.md": "0", "STATUS.md": "0"})
		in(dir, "git", "add", ".")
		in(dir, "git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "a")
		if measured != nil {
			write(dir, measured)
			archives = append(archives, filepath.Join(t.TempDir(), name+".tgz"))
			in(dir, script, "pack", archives[len(archives)-1])
		}
	}
	all := folders["all"]["dir"]
	in(all, script, append([]string{"unpack"}, archives...)...)
	for name, want := range map[string]string{"results/e0.jsonl": "0\nnew\n", "results/e1.jsonl": "new\n", "results/e1/x.json": "{}", "results/index.html": "0", "results/PERFORMANCE.md": "0", "STATUS.md": "0"} {
		if got, err := os.ReadFile(filepath.Join(all, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}
