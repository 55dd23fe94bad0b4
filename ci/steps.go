package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// step is one check.
type step struct {
	name string
	// needs are the steps without which this one means nothing.
	needs []string
	// slow steps are left out by -short.
	slow bool
	// quiet steps report by themselves what failed.
	quiet bool
	// beside are steps that run one after another while this one does, for it waits much.
	beside []step
	run    func(context.Context, *checker) error
}

// steps returns all checks. The tests are last.
func steps() []step {
	return []step{
		{name: "gofmt", run: gofmt},
		{name: "vet", run: commandOn("go", "vet")},
		{name: "staticcheck", run: commandOn("go", "tool", "staticcheck")},
		{name: "tidy", run: command("go", "mod", "tidy", "-diff")},
		// Never from the test cache, which does not notice changes of the output of git and go list.
		{name: "lint", run: command("go", "test", "-count=1", "./ci")},
		{name: "rendered", run: func(ctx context.Context, c *checker) error { return c.rendered(ctx, c.root) }},
		{name: "shellcheck", run: shellcheck},
		{name: "linux/arm64", slow: true, run: crossBuild("linux", "arm64")},
		{name: "darwin/arm64", slow: true, run: crossBuild("darwin", "arm64")},
		{name: "set-up", run: command("go", "run", "./runner", "-setup")},
		{name: "smoke", needs: []string{"set-up"}, slow: true, run: smoke},
		{name: "faults", needs: []string{"set-up"}, slow: true, run: faults, beside: []step{
			{name: "image", slow: true, run: image},
			{name: "race", needs: []string{"set-up"}, slow: true, run: race},
		}},
		{name: "tests", needs: []string{"set-up"}, quiet: true, run: tests},
	}
}

// racePackages returns the packages whose tests run with the race detector; those that
// run PostgreSQL would take most of an hour with it.
func racePackages() []string {
	return []string{
		"./core/base", "./core/clock", "./core/gc", "./core/lease", "./core/manifest", "./core/takeover", "./core/wal", "./core/memfs", "./core/point", "./core/store", "./core/store/file", "./core/store/gcs", "./core/store/location", "./core/store/mem",
		"./faults/clockfault/...", "./faults/gcsfront", "./faults/model", "./faults/mutant", "./faults/pointfault", "./faults/procfault", "./faults/storefault", "./reports", "./runner/check", "./runner/history", "./runner/interleave", "./runner/pgsuite/isolation", "./runner/record", "./runner/scenario", "./runner/workload",
	}
}

// notRaced are tests of racePackages that would take most of the step's time, and in which next to nothing runs at once: a model, a layer
// or a request after the other. They run without the detector like all tests.
func notRaced() map[string][]string {
	return map[string][]string{
		"./core/base": {"TestCleaning", "TestSharedLayers", "TestForget", "TestSmallSegments"},
		"./core/memfs": {
			"TestAwayModel", "TestClonesDivergeAsTwoTrees", "TestBehavesAsTheOperatingSystem", "TestAwayBehavesAsTheOperatingSystem", "TestTemporaryModel",
		},
		"./core/gc":         {"TestLivenessIsWhatRecordsSay", "TestNoPartGoesFromADamagedLog"},
		"./core/store/gcs":  {"TestConformance", "TestRefusalsThatStay", "TestReadsSurvive", "TestOneRefusalIsSurvived"},
		"./faults/gcsfront": {"TestFidelity", "TestEmulatorLies", "TestFrontTellsTheTruth", "TestPatchCannotUndoASwap"},
		"./reports":         {"TestAxe", "TestBrowser"},
		"./faults/mutant":   {"TestEveryMutantIsCaught", "TestSoakTable", "TestFileMutantsAreCaught"},
	}
}

// racedTests returns, for packages that run PostgreSQL, the tests that run with the race detector: those of what several goroutines share. They
// take about 20 seconds on an otherwise idle machine.
func racedTests() map[string][]string {
	return map[string][]string{
		"./core/pgwire": {
			"TestManyConnections", "TestNoticesReachTheirClient", "TestSlowReader", "TestVanished", "TestSessionsAreApart", "TestListenAcrossClients",
			"TestCancelHitsItsClient", "TestSilentConnectionsKeepNobodyOut", "TestSilentPasswordsKeepNobodyOut", "TestShutdown", "TestComeAndGo",
		},
		"./core/pglite": {"TestManyRunDirectlyAtOnce", "TestWokenWhileItRunsDirectly", "TestWakeBesideAHandOver", "TestPosition", "TestHandedOverIsHeard", "TestEndsWhileItRunsDirectly", "TestHoldIsReplaced"},
		"./core/engine": {
			"TestAsk", "TestGroupCommit", "TestCompactionAndCollection", "TestBudgetIsKept", "TestHalt", "TestRelaxedDurability",
			"TestStrictReadsBesideCommits", "TestFinalLayerInsteadOfOneOnItsWay", "TestLargeTransactionsAreShippedInParts",
		},
		"./core/keeper": {"TestOneOpening", "TestOpenedAgain", "TestAFailureIsTriedAgain", "TestCloseEndsAnOpening"},
		"./core/httpapi": {
			"TestSQL", "TestLines", "TestHealthAndMetrics", "TestUnknownOutcome", "TestLargeAnswers", "TestSessionsAreBounded", "TestSessionsEnd",
			"TestPoolCloses", "TestRequestsRunSideBySide", "TestClientGoesAway",
		},
	}
}

// command is a step that is one command, run in the root of the repository.
func command(name string, args ...string) func(context.Context, *checker) error {
	return func(ctx context.Context, c *checker) error {
		return c.exec(ctx, nil, name, args...)
	}
}

// commandOn runs a command on the packages that are looked at.
func commandOn(name string, args ...string) func(context.Context, *checker) error {
	return func(ctx context.Context, c *checker) error {
		return c.exec(ctx, nil, name, slices.Concat(args, c.packages())...)
	}
}

func gofmt(ctx context.Context, c *checker) error {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find gofmt: %w", err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(strings.TrimSpace(string(goroot)), "bin", "gofmt"), "-l", ".")
	cmd.Dir = c.root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, c.stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run gofmt: %w", err)
	}
	if out.Len() > 0 {
		return fmt.Errorf("not formatted: %s", strings.Join(strings.Fields(out.String()), ", "))
	}
	return nil
}

func crossBuild(goos, goarch string) func(context.Context, *checker) error {
	return func(ctx context.Context, c *checker) error {
		return c.exec(ctx, []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"}, "go", "build", "./...")
	}
}

// smoke runs the main scenario at its smallest, with the results kept out of the
// repository.
func smoke(ctx context.Context, c *checker) error {
	return c.exec(ctx, nil, "go", "run", "./runner", "-scenario", "e2", "-profile", "ci", "-results", filepath.Join(c.temp, "results"))
}

// faults runs the experiments with child processes that are killed and stopped, at their smallest: four to six minutes
// on an otherwise idle machine. The runner ends its children, however it ends.
func faults(ctx context.Context, c *checker) error {
	runner := filepath.Join(c.temp, "fault-runner")
	if err := c.exec(ctx, nil, "go", "build", "-o", runner, "./runner"); err != nil {
		return err
	}
	var failed error
	for _, id := range []string{"e2b", "e1z", "e4b", "chaos", "edges", "suite"} {
		failed = errors.Join(failed, c.exec(ctx, nil, runner, "-scenario", id, "-profile", "ci", "-results", filepath.Join(c.temp, "results")))
	}
	for _, probe := range []string{"e6.4", "e6.5", "e6.9"} { // the others need an older commit, or measure
		failed = errors.Join(failed, c.exec(ctx, nil, runner, "-scenario", "e6", "-probe", probe, "-profile", "ci", "-results", filepath.Join(c.temp, "results")))
	}
	for _, probe := range []string{"e2d.1", "e2d.5", "e2d.6"} { // likewise
		failed = errors.Join(failed, c.exec(ctx, nil, runner, "-scenario", "e2d", "-probe", probe, "-profile", "ci", "-results", filepath.Join(c.temp, "results")))
	}
	for _, probe := range []string{"e5.1", "e5.3", "e5.4"} { // the bill measures, and the mutants take minutes
		failed = errors.Join(failed, c.exec(ctx, nil, runner, "-scenario", "e5", "-probe", probe, "-profile", "ci", "-results", filepath.Join(c.temp, "results")))
	}
	return failed
}

// race needs a C compiler, except on macOS.
func race(ctx context.Context, c *checker) error {
	if runtime.GOOS != "darwin" {
		out, err := exec.CommandContext(ctx, "go", "env", "CGO_ENABLED").Output()
		if err != nil {
			return fmt.Errorf("look for cgo: %w", err)
		}
		if strings.TrimSpace(string(out)) != "1" {
			return skipError("the race detector needs a C compiler, and there is none")
		}
	}
	skipped := notRaced()
	whole := slices.DeleteFunc(racePackages(), func(pkg string) bool { return skipped[pkg] != nil })
	failed := c.exec(ctx, nil, "go", append([]string{"test", "-race"}, whole...)...)
	for _, pkg := range slices.Sorted(maps.Keys(skipped)) {
		failed = errors.Join(failed, c.exec(ctx, nil, "go", "test", "-race", "-skip", namesOf(skipped[pkg]), pkg))
	}
	// One go test a package, for each has tests of its own; they load both processors by themselves.
	raced := racedTests()
	for _, pkg := range slices.Sorted(maps.Keys(raced)) {
		failed = errors.Join(failed, c.exec(ctx, nil, "go", "test", "-race", "-run", namesOf(raced[pkg]), pkg))
	}
	return failed
}

// namesOf is the expression of these tests for go test.
func namesOf(tests []string) string { return "^(" + strings.Join(tests, "|") + ")$" }

func tests(ctx context.Context, c *checker) error {
	format := "pkgname"
	if c.verbose {
		format = "testname"
	}
	args := []string{"tool", "gotestsum", "--format", format, "--"}
	if c.short {
		args = append(args, "-short")
	}
	return c.exec(ctx, nil, "go", append(args, c.packages()...)...)
}

// exec runs a command in its own process group with its output shown live. When ctx
// ends, the whole group is told to stop, and killed if it does not.
func (c *checker) exec(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.root, c.stdout, c.stderr
	cmd.Env = append(os.Environ(), env...)
	if c.verbose {
		fmt.Fprintf(c.stdout, "$ %s\n", strings.Join(append(env, cmd.Args...), " "))
	}
	err := runGroup(ctx, cmd)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s %s: %s", name, strings.Join(args[:min(len(args), 2)], " "), exit)
	}
	return err
}
