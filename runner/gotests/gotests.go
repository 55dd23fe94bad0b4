package gotests

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"blobpglite/core/clock"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func goTestVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "gotest",
			Doc: "runs tests of this repository's packages, from its root, and counts the results; vacuous without the go tool, or with " +
				"race where the race detector has no C compiler",
			Args: []scenario.Arg{
				{Name: "packages", Kind: scenario.KindStrings, Required: true, Doc: "as in go test's arguments"},
				{Name: "race", Kind: scenario.KindBool, Doc: "with the race detector"},
				{Name: "short", Kind: scenario.KindBool, Doc: "with -short"},
				{Name: "count", Kind: scenario.KindInt, Default: "1", Doc: "how often each test runs"},
			},
			Metrics: bench.MetricDocs("packages_count", "packages that have tests", "tests_count", "tests run, including subtests", "failures_count", "failed tests, and packages "+
				"that failed as a whole",
				"skipped_count", "skipped tests", "tests_ms", "time of all tests, including the build", "package_ms", "time of the tests of a package"),
		},
		Run: goTests,
	}
}

func goTests(ctx context.Context, r *bench.Run, args scenario.Args) error {
	tool, err := exec.LookPath("go")
	if err != nil {
		r.Vacuous("the go tool is missing: %v", err)
		return nil
	}
	if wrong := missingForRace(ctx, tool, args.Bool("race")); wrong != "" {
		r.Vacuous("%s", wrong)
		return nil
	}
	root, err := exec.CommandContext(ctx, tool, "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(root))
	dir, isModule := strings.CutSuffix(mod, "go.mod")
	if !isModule {
		r.Vacuous("this does not run inside the repository: there is no go.mod here or in a parent folder")
		return nil
	}
	line := []string{"test", "-json", fmt.Sprintf("-count=%d", args.Int("count"))}
	if args.Bool("race") {
		line = append(line, "-race")
	}
	if args.Bool("short") {
		line = append(line, "-short")
	}
	packages := args.Strings("packages")
	c := &testCount{
		r: r, label: strings.TrimSpace(r.Cell.Probe + " " + r.Cell.Label), outputs: map[string][]string{}, total: countPackages(ctx, tool, dir, packages),
	}
	clk := clock.System()
	began := clk.Monotonic()
	err = c.run(ctx, tool, dir, append(line, packages...))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	c.record(clk.Monotonic() - began)
	return nil
}

// missingForRace says why the race detector cannot be used.
func missingForRace(ctx context.Context, tool string, race bool) string {
	if !race {
		return ""
	}
	out, err := exec.CommandContext(ctx, tool, "env", "CGO_ENABLED").Output()
	if err != nil || strings.TrimSpace(string(out)) != "1" {
		return "the race detector needs a C compiler, and none is installed"
	}
	return ""
}

// countPackages says how many packages there are; 0: not known.
func countPackages(ctx context.Context, tool, dir string, packages []string) int64 {
	cmd := exec.CommandContext(ctx, tool, append([]string{"list"}, packages...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return 0 // go test will report what is wrong
	}
	return int64(len(strings.Fields(string(out))))
}

// testEvent is a line of go test -json; see `go doc test2json`.
type testEvent struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// testCount counts events.
type testCount struct {
	r       *bench.Run
	label   string
	outputs map[string][]string // first and last lines, by package and test

	packages, tests, failed, skipped int64
	done, total                      int64 // packages
	first                            string
}

// keptLines is how much of a failing test's output goes into the verdict.
const keptLines = 12

// stopGrace is how long tests may take to end after an interrupt.
const stopGrace = 10 * time.Second

// run runs go test in a process group of its own, so that an interrupt also ends the tests' processes.
func (c *testCount) run(ctx context.Context, tool, dir string, args []string) error {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return signalGroup(cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = stopGrace
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	readErr := c.read(out)
	err = cmd.Wait()
	_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL) // those that ignored the interrupt although the parent went
	var exit *exec.ExitError
	switch {
	case readErr != nil:
		return readErr
	case errors.As(err, &exit) && c.failed == 0: // it failed without naming a test
		c.failed++
		c.first = fmt.Sprintf("go test: %v: %s", err, lastLines(stderr.String(), keptLines))
	case err != nil && exit == nil:
		return err
	}
	return nil
}

func signalGroup(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(-pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// read takes the events until the stream ends.
func (c *testCount) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e testEvent
			if json.Unmarshal(line, &e) == nil {
				c.take(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what go test says: %w", err)
		}
	}
}

func (c *testCount) take(e testEvent) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if e.Action == "build-output" {
			key = e.ImportPath + " "
		}
		if strings.HasPrefix(e.Output, "=== ") {
			return
		}
		kept := append(c.outputs[key], strings.TrimSpace(e.Output))
		if len(kept) > keptLines { // the beginning says what it is, the end how it went
			kept = slices.Delete(kept, keptLines/2, keptLines/2+1)
		}
		c.outputs[key] = kept
	case "pass", "skip", "fail":
		if e.Test == "" {
			c.packageEnded(e)
		} else {
			c.testEnded(e)
		}
	}
}

func (c *testCount) testEnded(e testEvent) {
	c.tests++
	switch e.Action {
	case "skip":
		c.skipped++
	case "fail":
		c.failed++
		if c.first == "" {
			c.first = fmt.Sprintf("%s %s: %s", e.Package, e.Test, strings.Join(c.outputs[e.Package+" "+e.Test], " | "))
		}
	}
	delete(c.outputs, e.Package+" "+e.Test)
}

func (c *testCount) packageEnded(e testEvent) {
	c.done++
	c.r.Progress(c.label+": packages tested", c.done, max(c.total, c.done))
	if e.Action != "skip" { // a package without tests
		c.packages++
		c.r.Metrics.Duration("package_ms", time.Duration(e.Elapsed*float64(time.Second)))
	}
	if e.Action == "fail" && (c.first == "" || e.FailedBuild != "") {
		c.failed++
		c.first = fmt.Sprintf("%s: %s", e.Package, strings.Join(append(c.outputs[e.Package+" "], c.outputs[e.FailedBuild+" "]...), " | "))
	}
}

// record records the counts.
func (c *testCount) record(took time.Duration) {
	m := c.r.Metrics
	m.Value("packages_count", float64(c.packages))
	m.Value("tests_count", float64(c.tests))
	m.Value("failures_count", float64(c.failed))
	m.Value("skipped_count", float64(c.skipped))
	m.Duration("tests_ms", took)
	if c.tests == 0 && c.failed == 0 {
		c.r.Vacuous("no test was run")
		return
	}
	c.r.Check(checkTests, c.first)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
