package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// step is one check.
type step struct {
	name string
	// needs holds the steps without which this one means nothing.
	needs []string
	// slow: -short leaves it out.
	slow bool
	// quiet: it reports by itself what failed.
	quiet bool
	// beside: it runs concurrently with those after it, up to the last, because it mostly waits.
	beside bool
	// polite: it only computes, and yields the processors to the others.
	polite bool
	run    func(context.Context, *checker) error
}

// steps returns all checks. What measures comes first, alone; then what waits, concurrently with what only computes. The tests are last.
func steps() []step {
	return []step{
		{name: "gofmt", run: gofmt},
		{name: "tidy", run: command("go", "mod", "tidy", "-diff")},
		{name: "shellcheck", run: shellcheck},
		{name: "set-up", run: setUp},
		{name: "smoke", needs: []string{"set-up"}, slow: true, run: smoke},
		{name: "faults", needs: []string{"set-up"}, slow: true, beside: true, run: faults},
		{name: "vet", polite: true, run: commandOn("go", "vet")},
		{name: "staticcheck", polite: true, run: staticcheck},
		// Never from the test cache, which does not notice that the output of git and go list has changed.
		{name: "lint", polite: true, run: command("go", "test", "-vet=off", "-count=1", lintPackage)},
		{name: "rendered", polite: true, run: func(ctx context.Context, c *checker) error { return c.rendered(ctx, c.root) }},
		{name: "linux/arm64", slow: true, polite: true, run: crossBuild("linux", "arm64")},
		{name: "darwin/arm64", slow: true, polite: true, run: crossBuild("darwin", "arm64")},
		{name: "image", slow: true, polite: true, run: image},
		{name: "race", needs: []string{"set-up"}, slow: true, run: race},
		{name: "tests", needs: []string{"set-up"}, quiet: true, run: tests},
	}
}

// lintPackage is this package, whose tests are the lint.
const lintPackage = "./ci"

// racePackages returns the packages whose tests run with the race detector: those that run goroutines, or that several goroutines use. Those that
// run PostgreSQL would take most of an hour with it: see racedTests.
func racePackages() []string {
	return []string{
		"./core/base", "./core/clock", "./core/gc", "./core/lease", "./core/manifest", "./core/takeover", "./core/wal", "./core/memfs", "./core/store", "./core/store/file", "./core/store/gcs", "./core/store/mem",
		"./faults/clockfault/...", "./faults/gcsfront", "./faults/model", "./faults/mutant", "./faults/pointfault", "./faults/procfault", "./faults/storefault", "./runner/history", "./runner/pgsuite/isolation", "./runner/record", "./runner/workload",
	}
}

// notRaced returns tests of racePackages that would take most of the step's time, and in which almost nothing runs concurrently: one model, layer
// or request after the other. They run without the detector, like all tests.
func notRaced() map[string][]string {
	return map[string][]string{
		"./core/base": {
			"TestCleaning", "TestSharedLayers", "TestForget", "TestSmallSegments", "TestLayerOfWhatChanged", // one layer after the other; TestRoundTrip and the like run with the detector
			"TestDamageIsFound", "TestEachBitOfTheBody", // one small read after the other; TestStoreFaults and TestContextStopsBoth fail concurrently
			"TestRestoreFitsInMemory", // TestRoundTrip at another size, to measure its memory
		},
		"./core/memfs": {
			"TestAwayModel", "TestClonesDivergeAsTwoTrees", "TestBehavesAsTheOperatingSystem", "TestAwayBehavesAsTheOperatingSystem", "TestTemporaryModel",
		},
		"./core/takeover":   {"TestEachBitOfTheManifest"},
		"./core/gc":         {"TestLivenessIsWhatRecordsSay", "TestNoPartGoesFromADamagedLog"},
		"./core/store/gcs":  {"TestConformance", "TestRefusalsThatStay", "TestReadsSurvive", "TestOneRefusalIsSurvived"},
		"./faults/gcsfront": {"TestFidelity", "TestEmulatorLies", "TestFrontTellsTheTruth", "TestPatchCannotUndoASwap"},
		"./faults/mutant":   {"TestEveryMutantIsCaught", "TestSoakTable", "TestFileMutantsAreCaught"},
	}
}

// racedTests returns the tests, of packages that run PostgreSQL, that run with the race detector: those of what several goroutines share. reports is not
// included: it would compile all rooms of the runner for one handler, which shares only a sync.OnceValues.
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

// commandOn runs a command on the covered packages.
func commandOn(name string, args ...string) func(context.Context, *checker) error {
	return func(ctx context.Context, c *checker) error {
		return c.exec(ctx, nil, name, slices.Concat(args, c.packages())...)
	}
}

// staticcheck also analyzes what we import, unless that is in its cache. Garbage collection would be a fifth of its time, so it may use half a GB instead.
func staticcheck(ctx context.Context, c *checker) error {
	return c.exec(ctx, []string{"GOGC=400"}, "go", slices.Concat([]string{"tool", "staticcheck"}, c.packages())...)
}

// setUp builds the runner, which later steps also use, and has it make PostgreSQL's files.
func setUp(ctx context.Context, c *checker) error {
	if err := c.exec(ctx, nil, "go", "build", "-ldflags=-s -w", "-o", c.runner(), "./runner"); err != nil {
		return err
	}
	return c.exec(ctx, nil, c.runner(), "-setup")
}

// runner is the program that setUp builds.
func (c *checker) runner() string { return filepath.Join(c.temp, "runner") }

func gofmt(ctx context.Context, c *checker) error {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find gofmt: %w", err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(strings.TrimSpace(string(goroot)), "bin", "gofmt"), "-l", ".")
	cmd.Dir = c.root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, c.stderr
	err = cmd.Run()
	c.count(cmd)
	if err != nil {
		return fmt.Errorf("run gofmt: %w", err)
	}
	if out.Len() > 0 {
		return fmt.Errorf("not formatted: %s", strings.Join(strings.Fields(out.String()), ", "))
	}
	return nil
}

// crossBuild compiles everything for another system, and links what is used there: the server, and the runner, which links all rooms. The programs are
// discarded, so they are neither optimized nor made debuggable, which takes a fifth of the time; errors of types, calls or the linker are still found.
func crossBuild(goos, goarch string) func(context.Context, *checker) error {
	return func(ctx context.Context, c *checker) error {
		env := []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"}
		const plain = "-gcflags=all=-N -l -dwarf=false"
		if err := c.exec(ctx, env, "go", "list", plain, "-export", "-f", "{{with .Error}}{{.}}{{end}}", everything); err != nil {
			return err
		}
		to := filepath.Join(c.temp, goos+"-"+goarch)
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		return c.exec(ctx, env, "go", "build", plain, "-ldflags=-s -w", "-o", to, "./cloud/pgserve", "./runner")
	}
}

// smoke runs the main scenario at its smallest, with the results kept out of the
// repository.
func smoke(ctx context.Context, c *checker) error {
	return c.experiment(ctx, "e2")
}

// faults runs the experiments whose child processes are killed and stopped, at their smallest: four to six minutes
// on an otherwise idle machine. The runner ends its children, however it ends.
func faults(ctx context.Context, c *checker) error {
	var failed error
	for _, id := range []string{"e2b", "e1z", "e4b", "chaos", "edges", "suite"} {
		failed = errors.Join(failed, c.experiment(ctx, id))
	}
	for _, probe := range []string{
		"e6.4", "e6.5", "e6.9", // the others need an older commit, or measure something
		"e2d.1", "e2d.5", "e2d.6", // likewise
		"e5.1", "e5.3", "e5.4", // the bill measures, and the mutants take minutes
	} {
		id, _, _ := strings.Cut(probe, ".")
		failed = errors.Join(failed, c.experiment(ctx, id, "-probe", probe))
	}
	return failed
}

// experiment runs a scenario, or a probe of it, at its smallest, with the results kept out of the repository.
func (c *checker) experiment(ctx context.Context, id string, args ...string) error {
	return c.exec(ctx, nil, c.runner(), append([]string{"-scenario", id, "-profile", "ci", "-results", filepath.Join(c.temp, "results")}, args...)...)
}

// race needs a C compiler, except on macOS.
func race(ctx context.Context, c *checker) error {
	env := []string{"CGO_ENABLED=1"}
	if !c.cgo {
		if runtime.GOOS != "darwin" {
			return skipError("the race detector needs a C compiler, and none is installed")
		}
		env = nil
	}
	skipped := notRaced()
	whole := slices.DeleteFunc(racePackages(), func(pkg string) bool { return skipped[pkg] != nil })
	failed := c.exec(ctx, env, "go", append([]string{"test", "-vet=off", "-race"}, whole...)...)
	for _, pkg := range slices.Sorted(maps.Keys(skipped)) {
		failed = errors.Join(failed, c.exec(ctx, env, "go", "test", "-vet=off", "-race", "-skip", namesOf(skipped[pkg]), pkg))
	}
	// One go test per package, because each has tests of its own; they load both processors by themselves.
	raced := racedTests()
	for _, pkg := range slices.Sorted(maps.Keys(raced)) {
		failed = errors.Join(failed, c.exec(ctx, env, "go", "test", "-vet=off", "-race", "-run", namesOf(raced[pkg]), pkg))
	}
	return failed
}

// namesOf returns go test's expression for these tests.
func namesOf(tests []string) string { return "^(" + strings.Join(tests, "|") + ")$" }

// tests runs all tests except the lint's, which have run. Vet has checked them in its step, more thoroughly than go test does.
func tests(ctx context.Context, c *checker) error {
	packages, err := c.tested(ctx)
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		fmt.Fprintln(c.stdout, "the changes affect no tests other than the lint's")
		return nil
	}
	format := "pkgname"
	if c.verbose {
		format = "testname"
	}
	args := []string{"tool", "gotestsum", "--format", format, "--", "-vet=off"}
	if c.short {
		args = append(args, "-short")
	}
	return c.exec(ctx, nil, "go", append(args, packages...)...)
}

// tested returns the covered packages, without the lint.
func (c *checker) tested(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, c.packages()...)...)
	cmd.Dir, cmd.Stderr = c.root, c.stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages: %w", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(pkg string) bool { return path.Base(pkg) == path.Base(lintPackage) }), nil
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
	err := c.runGroup(ctx, cmd)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s %s: %s", name, strings.Join(args[:min(len(args), 2)], " "), exit)
	}
	return err
}
