package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runSteps runs made-up steps and returns what was printed.
func runSteps(ctx context.Context, c *checker, all []step) (code int, out string) {
	var b bytes.Buffer
	c.stdout, c.stderr = &b, &b
	code = c.runAll(ctx, all)
	return code, b.String()
}

func TestRunAll(t *testing.T) {
	var order []string
	made := func(name string, err error, needs ...string) step {
		return step{name: name, needs: needs, run: func(context.Context, *checker) error {
			order = append(order, name)
			return err
		}}
	}
	slow := made("slow", nil)
	slow.slow = true
	all := []step{
		made("first", errors.New("no luck")), made("second", nil), made("third", nil, "first"), made("fourth", nil, "second"),
		made("fifth", skipError("no compiler here")), slow, made("sixth", nil, "slow"), made("last", nil),
	}
	code, out := runSteps(t.Context(), &checker{short: true}, all)
	if code != 1 {
		t.Errorf("exit %d, want 1 after a failure", code)
	}
	if got := strings.Join(order, " "); got != "first second fourth fifth sixth last" {
		t.Errorf("ran %s", got)
	}
	for _, want := range []string{"FAIL  first", "no luck", "ok    second", "not run: first failed", "skip  fifth", "no compiler here", "left out by -short"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if !strings.HasSuffix(out, "=== last\n") {
		t.Errorf("the last step does not come last:\n%s", out)
	}
	if code, out := runSteps(t.Context(), &checker{}, all[1:2]); code != 0 {
		t.Errorf("exit %d without a failure:\n%s", code, out)
	}
}

func TestLastStepIsTheTests(t *testing.T) {
	all := steps()
	if all[len(all)-1].name != "tests" {
		t.Errorf("the last step is %s: its closing count must be the last line", all[len(all)-1].name)
	}
	seen := map[string]bool{}
	for _, s := range all {
		for _, need := range s.needs {
			if !seen[need] {
				t.Errorf("%s needs %s, which does not end before it begins", s.name, need)
			}
		}
		seen[s.name] = !s.beside
	}
}

// TestBeside: a step that waits runs concurrently with those after it, prints in one piece after them and before the last, and fails like any.
func TestBeside(t *testing.T) {
	met, left := make(chan struct{}), make(chan struct{})
	wait := func(c <-chan struct{}) error {
		select {
		case <-c:
			return nil
		case <-time.After(time.Minute):
			return errors.New("they are not at work at once")
		}
	}
	long := step{name: "long", beside: true, run: func(_ context.Context, c *checker) error {
		fmt.Fprintln(c.stdout, "long begins")
		close(met)
		err := wait(left)
		fmt.Fprintln(c.stdout, "long ends")
		return errors.Join(err, errors.New("no luck"))
	}}
	ordinary := func(name string, run func() error) step {
		return step{name: name, run: func(_ context.Context, c *checker) error {
			fmt.Fprintln(c.stdout, name+" says this")
			return run()
		}}
	}
	code, out := runSteps(t.Context(), &checker{}, []step{
		ordinary("first", func() error { return nil }), long,
		ordinary("one", func() error { return wait(met) }),
		ordinary("two", func() error { close(left); return nil }),
		ordinary("last", func() error { return nil }),
	})
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	from := 0
	for _, want := range []string{
		"first says this", "one says this", "two says this", "=== long", "long begins\nlong ends\nlong: no luck", "=== summary",
		"ok    first", "ok    one", "ok    two", "FAIL  long", "=== last", "last says this",
	} {
		at := strings.Index(out[from:], want)
		if at < 0 {
			t.Fatalf("%q is missing, or not where it belongs, in\n%s", want, out)
		}
		from += at
	}
}

// TestShortLeavesOutWhatRunsBeside: -short neither runs a concurrent step nor waits for it.
func TestShortLeavesOutWhatRunsBeside(t *testing.T) {
	never := step{name: "long", beside: true, slow: true, run: func(context.Context, *checker) error { return errors.New("it has run") }}
	last := step{name: "last", run: func(context.Context, *checker) error { return nil }}
	if code, out := runSteps(t.Context(), &checker{short: true}, []step{never, last}); code != 0 || !strings.Contains(out, "skip  long") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// TestProcessorsTime: the processor time of a step's commands' children counts as the step's, and as no other's.
func TestProcessorsTime(t *testing.T) {
	c := &checker{root: "."}
	_, out := runSteps(t.Context(), c, []step{
		{name: "busy", run: command("sh", "-c", `sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; exit 0`)},
		{name: "idle", run: func(context.Context, *checker) error { return nil }},
		{name: "last", run: func(context.Context, *checker) error { return nil }},
	})
	if c.results[0].cpu < 5*time.Millisecond || c.results[1].cpu != 0 {
		t.Errorf("busy: %v, idle: %v\n%s", c.results[0].cpu, c.results[1].cpu, out)
	}
	if !regexp.MustCompile(`(?m)^ +took +cpu$`).MatchString(out) || !regexp.MustCompile(`(?m)^ok +idle +0\.0s +0\.0s$`).MatchString(out) {
		t.Errorf("not in the summary:\n%s", out)
	}
}

// TestTrimPaths: flags that were set stay, and no flag is set twice.
func TestTrimPaths(t *testing.T) {
	for _, tt := range [][2]string{{"-buildvcs=false", "-buildvcs=false -trimpath"}, {"-trimpath", "-trimpath"}} {
		t.Setenv("GOFLAGS", tt[0])
		if err := trimPaths(t.Context()); err != nil || os.Getenv("GOFLAGS") != tt[1] {
			t.Errorf("%q: %q, %v", tt[0], os.Getenv("GOFLAGS"), err)
		}
	}
}

// TestTestsWithoutTheLint: the lint's tests run as a step of their own, and no others are left out.
func TestTestsWithoutTheLint(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tested := func(only ...string) []string {
		var out bytes.Buffer
		c := &checker{root: root, only: only, stdout: &out, stderr: &out}
		packages, err := c.tested(t.Context())
		if err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		return packages
	}
	all, want := tested(), []string{}
	for _, p := range goList(t, everything) {
		if p.ImportPath != module+"/ci" {
			want = append(want, p.ImportPath)
		}
	}
	if !slices.Equal(all, want) || len(all) < 20 {
		t.Errorf("%q, want %q", all, want)
	}
	if some := tested("./ci", "./core/clock"); !slices.Equal(some, []string{module + "/core/clock"}) {
		t.Errorf("%q", some)
	}
	var out bytes.Buffer
	c := &checker{root: root, only: []string{lintPackage}, stdout: &out, stderr: &out}
	if err := tests(t.Context(), c); err != nil || !strings.Contains(out.String(), "no tests other than the lint") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestRacedTestsExist: go test does not report a name that no test has.
func TestRacedTestsExist(t *testing.T) {
	named := racedTests()
	for pkg, names := range notRaced() {
		if !slices.Contains(racePackages(), pkg) {
			t.Errorf("%s has tests that are not raced, and is none of the packages that are", pkg)
		}
		named[pkg] = names
	}
	for pkg, names := range named {
		files, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pkg, len(files), err)
		}
		var code []byte
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			code = append(code, b...)
		}
		for _, name := range names {
			if !bytes.Contains(code, []byte("func "+name+"(t *testing.T)")) {
				t.Errorf("%s has no test %s", pkg, name)
			}
		}
	}
}

// TestCrossBuild: code that does not compile on the other system is found anywhere, and code that does not link where it is linked.
func TestCrossBuild(t *testing.T) {
	root := t.TempDir()
	main := "package main\n\nfunc main() {}\n"
	files := map[string]string{
		"go.mod": "module m\n", "cloud/pgserve/main.go": main, "other/main.go": main, "lib/lib.go": "package lib\n",
		"runner/main.go": "package main\n\nfunc main() { call() }\n", "runner/call.s": "",
		"runner/call_linux.go": "package main\n\nfunc call() {}\n", "runner/call_darwin.go": "package main\n\nfunc call()\n",
	}
	try := func(goos string, others map[string]string) string {
		t.Helper()
		for _, some := range []map[string]string{files, others} {
			for name, text := range some {
				path := filepath.Join(root, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
		}
		var out bytes.Buffer
		c := &checker{root: root, temp: t.TempDir(), stdout: &out, stderr: &out}
		if err := crossBuild(goos, "arm64")(t.Context(), c); err != nil {
			return err.Error() + "\n" + out.String()
		}
		return ""
	}
	if fault := try("linux", nil); fault != "" {
		t.Errorf("all is well, and it finds %s", fault)
	}
	if fault := try("darwin", nil); !strings.Contains(fault, "go build") || !strings.Contains(fault, "main.call") {
		t.Errorf("what the runner cannot be linked with: %q", fault)
	}
	for _, name := range []string{"lib/lib_darwin.go", "other/main_darwin.go"} {
		text := "package " + map[bool]string{true: "lib", false: "main"}[strings.HasPrefix(name, "lib")] + "\n\nvar x int = \"\"\n"
		if fault := try("linux", map[string]string{name: text}); fault != "" {
			t.Errorf("%s is not linux's, and it finds %s", name, fault)
		}
		if fault := try("darwin", map[string]string{name: text}); !strings.Contains(fault, "go list") || !strings.Contains(fault, filepath.Base(name)) {
			t.Errorf("%s does not compile: %q", name, fault)
		}
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadUsage(t *testing.T) {
	for _, args := range [][]string{{"-what"}, {"all"}} {
		var b bytes.Buffer
		if code := run(t.Context(), args, &b, &b); code != 2 {
			t.Errorf("%v: exit %d: %s", args, code, b.String())
		}
	}
}

// An interrupt must reach the child's children, and no process may remain.
func TestInterruptEndsTheWholeGroup(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe") // which the grandchild keeps open as long as it lives
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log")) // a file, as in the real thing: no pipe to wait for
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int, 1)
	go func() {
		c := &checker{root: ".", stdout: log, stderr: log}
		done <- c.runAll(ctx, []step{
			{name: "endless", run: command("sh", "-c", `sh -c 'exec 3>"$0"; echo started >&3; exec sleep 600' "$0" & wait`, pipe)},
			{name: "never", run: command("true")},
		})
	}()
	held, err := os.Open(pipe) // waits for the grandchild
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := io.ReadFull(held, make([]byte, len("started\n"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	var code int
	select {
	case code = <-done:
	case <-time.After(2 * stopGrace):
		t.Fatal("the interrupt ended nothing")
	}
	out, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if code != 130 || !strings.Contains(string(out), "interrupted") || strings.Contains(string(out), "=== never") {
		t.Errorf("exit %d: %s", code, out)
	}
	if err := held.SetReadDeadline(time.Now().Add(stopGrace)); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the grandchild lives: %v", err)
	}
}

func TestFailureOfACommandIsNamed(t *testing.T) {
	_, out := runSteps(t.Context(), &checker{root: "."}, []step{{name: "bad", run: command("sh", "-c", "exit 3")}})
	if !strings.Contains(out, "bad: sh -c exit 3: exit status 3") {
		t.Errorf("got %s", out)
	}
	_, out = runSteps(t.Context(), &checker{root: "."}, []step{{name: "none", run: command("no-such-program")}})
	if !strings.Contains(out, "none: start no-such-program") {
		t.Errorf("got %s", out)
	}
}

// TestWithoutCgo: a whole run compiles without cgo and still knows whether the race detector can have it; -short changes nothing.
func TestWithoutCgo(t *testing.T) {
	for _, has := range []string{"0", "1"} {
		for _, short := range []bool{false, true} {
			t.Setenv("CGO_ENABLED", has)
			can, err := withoutCgo(t.Context(), short)
			want := "0"
			if short {
				want = has
			}
			if err != nil || can != (has == "1") || os.Getenv("CGO_ENABLED") != want {
				t.Errorf("CGO_ENABLED=%s, short %v: %v, %v, and CGO_ENABLED is %s", has, short, can, err, os.Getenv("CGO_ENABLED"))
			}
		}
	}
	var skip skipError
	if err := race(t.Context(), &checker{}); runtime.GOOS == "linux" && !errors.As(err, &skip) {
		t.Errorf("without cgo the race detector is not left out: %v", err)
	}
}
