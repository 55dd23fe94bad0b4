package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runSteps runs made-up steps and gives what was printed.
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
		for _, one := range append([]step{s}, s.beside...) {
			for _, need := range one.needs {
				if !seen[need] {
					t.Errorf("%s needs %s, which does not come before it", one.name, need)
				}
			}
		}
		for _, one := range append([]step{s}, s.beside...) {
			seen[one.name] = true
		}
	}
}

// TestBeside: steps beside another run while it does, print in one piece behind it, and fail like all.
func TestBeside(t *testing.T) {
	met := make(chan struct{})
	a := step{name: "long", run: func(_ context.Context, c *checker) error {
		fmt.Fprintln(c.stdout, "long begins")
		<-met
		fmt.Fprintln(c.stdout, "long ends")
		return nil
	}}
	a.beside = []step{
		{name: "one", run: func(_ context.Context, c *checker) error {
			fmt.Fprintln(c.stdout, "one says this")
			close(met)
			return nil
		}},
		{name: "two", needs: []string{"one"}, run: func(context.Context, *checker) error { return errors.New("no luck") }},
		{name: "three", needs: []string{"two"}, run: func(context.Context, *checker) error { return nil }},
	}
	code, out := runSteps(t.Context(), &checker{}, []step{{name: "first", run: func(context.Context, *checker) error { return nil }}, a, {name: "last", run: func(context.Context, *checker) error { return nil }}})
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	from := 0
	for _, want := range []string{
		"=== long", "long begins", "long ends", "=== one", "one says this", "=== two", "two: no luck",
		"ok    first", "ok    long", "ok    one", "FAIL  two", "FAIL  three", "not run: two failed", "=== last",
	} {
		at := strings.Index(out[from:], want)
		if at < 0 {
			t.Fatalf("%q is missing, or not where it belongs, in\n%s", want, out)
		}
		from += at
	}
}

// TestRacedTestsExist: go test says nothing of a name that no test has.
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

func TestBadUsage(t *testing.T) {
	for _, args := range [][]string{{"-what"}, {"all"}} {
		var b bytes.Buffer
		if code := run(t.Context(), args, &b, &b); code != 2 {
			t.Errorf("%v: exit %d: %s", args, code, b.String())
		}
	}
}

// An interrupt must reach the children of the child, and nothing may be left.
func TestInterruptEndsTheWholeGroup(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe") // which the grandchild holds open as long as it lives
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
