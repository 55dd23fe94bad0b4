// Command ci runs every check of the repository, on a laptop as in the pipeline.
//
//	go run ./ci           # all of it
//	go run ./ci -short    # the inner loop: what has changed since the branch left main, and what imports that; nothing slow
//	go run ./ci -v        # also prints the name of each test
//	go run ./ci -nightly -bucket gs://name/prefix    # every scenario, in full; see nightly.go
//
// Each step prints live. A step runs even if an earlier one failed, unless it depends on
// that one. The tests come last, so that their final count is the last thing on
// the screen; the results of the other steps are printed right above them. The exit
// code is 0 only if every step passed. An interrupt ends the children too.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 all passed, 1 a step failed, 2 bad usage, 130
// interrupted.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("ci", flag.ContinueOnError)
	flags.SetOutput(stderr)
	short := flags.Bool("short", false, "leave out what takes minutes, and check only packages that have changed since the branch left main, and those that import them")
	verbose := flags.Bool("v", false, "print the name of every test")
	night := flags.Bool("nightly", false, "instead, run every scenario, append to results/, and render")
	var n nightly
	flags.StringVar(&n.bucket, "bucket", "", "for -nightly: gs://name/prefix; empty: the emulator")
	flags.StringVar(&n.profile, "profile", "full", "for -nightly: full, default or ci")
	flags.StringVar(&n.results, "results", "", "for -nightly: another folder for the results")
	flags.DurationVar(&n.limit, "limit", 0, "for -nightly: start no scenario after this much time; 0: no limit")
	flags.StringVar(&n.cloud.project, "project", "", "for -nightly, to also run e3 and e4 on Cloud Run: the project; needs -region, -image, -service, -account and -bucket")
	flags.StringVar(&n.cloud.region, "region", "", "with -project: the region")
	flags.StringVar(&n.cloud.image, "image", "", "with -project: the image of pgserve")
	flags.StringVar(&n.cloud.service, "service", "", "with -project: an unused name for the service")
	flags.StringVar(&n.cloud.account, "account", "", "with -project: the service's account; see go run ./runner -help")
	only := flags.String("scenarios", "", "for -nightly: only these scenarios, separated by commas")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "ci takes no arguments, only flags: %q\n", flags.Args())
		return 2
	}
	n.only = splitList(*only)
	if err := n.check(*night, *short); err != nil {
		fmt.Fprintln(stderr, "ci:", err)
		return 2
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "ci:", err)
		return 1
	}
	if n.results, err = absolute(n.results); err != nil {
		fmt.Fprintln(stderr, "ci:", err)
		return 1
	}
	temp, err := os.MkdirTemp("", "ci-")
	if err != nil {
		fmt.Fprintln(stderr, "ci:", err)
		return 1
	}
	defer os.RemoveAll(temp)
	if err := trimPaths(ctx); err != nil {
		fmt.Fprintln(stderr, "ci:", err)
		return 1
	}
	c := &checker{root: root, temp: temp, short: *short, verbose: *verbose, stdout: stdout, stderr: stderr}
	if c.cgo, err = withoutCgo(ctx, *short); err != nil {
		fmt.Fprintln(stderr, "ci:", err)
		return 1
	}
	if *short {
		if err := c.narrow(ctx); err != nil {
			fmt.Fprintln(stderr, "ci:", err)
			return 1
		}
	}
	if !*night {
		return c.runAll(ctx, steps())
	}
	all, err := n.steps(c)
	if err != nil {
		fmt.Fprintln(stderr, "ci:", err)
		return 2
	}
	return c.runAll(ctx, all)
}

// moduleRoot returns the folder of go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	gomod := strings.TrimSpace(string(out))
	if gomod == "" || gomod == os.DevNull {
		return "", errors.New("find the module: run this inside the repository")
	}
	return filepath.Dir(gomod), nil
}

// trimPaths makes the children compile without the names of folders, so that a clone or a worktree in another folder finds in the caches
// what this one has compiled and checked. The image's program is also compiled like this.
func trimPaths(ctx context.Context) error {
	const trim = "-trimpath"
	out, err := exec.CommandContext(ctx, "go", "env", "GOFLAGS").Output()
	if err != nil {
		return fmt.Errorf("look for GOFLAGS: %w", err)
	}
	flags := strings.TrimSpace(string(out))
	if slices.Contains(strings.Fields(flags), trim) {
		return nil
	}
	return os.Setenv("GOFLAGS", strings.TrimSpace(flags+" "+trim))
}

// withoutCgo reports whether this machine can compile with cgo, as the race detector needs, and has the children compile without it, as the image's
// program is compiled: otherwise everything that uses the network would be compiled twice. With -short, which builds no image, they compile as
// "go test" by hand does.
func withoutCgo(ctx context.Context, short bool) (can bool, err error) {
	out, err := exec.CommandContext(ctx, "go", "env", "CGO_ENABLED").Output()
	if err != nil {
		return false, fmt.Errorf("look for cgo: %w", err)
	}
	if !short {
		err = os.Setenv("CGO_ENABLED", "0")
	}
	return strings.TrimSpace(string(out)) == "1", err
}

// outcome is the result of a step. The zero value is a failure.
type outcome int

const (
	failed outcome = iota
	passed
	skipped
)

// result is one line of the summary.
type result struct {
	name    string
	outcome outcome
	note    string
	took    time.Duration
	cpu     time.Duration // of the commands that it ran, and of all children that these have waited for
}

// checker runs steps.
type checker struct {
	root, temp     string
	short, verbose bool
	cgo            bool     // a C compiler is here
	only           []string // packages that -short covers; empty: all
	stdout, stderr io.Writer
	results        []result
	cpu            *atomic.Int64 // of the running step, in nanoseconds; nil: not counted
	polite         bool          // of the running step
}

// runAll runs the steps in order, the last one after the summary of the others.
func (c *checker) runAll(ctx context.Context, all []step) int {
	var join []func()
	for i, s := range all {
		if i == len(all)-1 || ctx.Err() != nil {
			for _, end := range join {
				end()
			}
			join = nil
		}
		if ctx.Err() != nil {
			fmt.Fprintln(c.stderr, "ci: interrupted")
			return 130
		}
		if i == len(all)-1 {
			c.summary()
		}
		if s.beside {
			join = append(join, c.begin(ctx, s))
		} else {
			c.results = append(c.results, c.try(ctx, s))
		}
	}
	if ctx.Err() != nil {
		fmt.Fprintln(c.stderr, "ci: interrupted")
		return 130
	}
	if slices.ContainsFunc(c.results, func(r result) bool { return r.outcome == failed }) {
		return 1
	}
	return 0
}

// begin starts a step that runs concurrently with those after it. The returned function waits for its end, and then shows its whole output, so that
// lines do not mix.
func (c *checker) begin(ctx context.Context, s step) (end func()) {
	var out bytes.Buffer
	other := *c
	other.stdout, other.stderr = &out, &out
	var r result
	done := make(chan struct{})
	go func() {
		defer close(done)
		r = other.try(ctx, s)
	}()
	return func() {
		select {
		case <-done:
		default:
			fmt.Fprintf(c.stdout, "\n%s is still running; its output follows when it has ended\n", s.name)
			<-done
		}
		_, _ = out.WriteTo(c.stdout)
		c.results = append(c.results, r)
	}
}

// try runs one step.
func (c *checker) try(ctx context.Context, s step) result {
	r := result{name: s.name, outcome: skipped}
	switch needed := c.unmet(s); {
	case c.short && s.slow:
		r.note = "left out by -short"
	case needed != "":
		r.outcome, r.note = failed, "not run: "+needed+" failed"
	default:
		fmt.Fprintf(c.stdout, "\n=== %s\n", s.name)
		own, start := *c, time.Now()
		own.cpu, own.polite = new(atomic.Int64), s.polite
		err := s.run(ctx, &own)
		r.took, r.cpu = time.Since(start), time.Duration(own.cpu.Load())
		var skip skipError
		switch {
		case err == nil:
			r.outcome = passed
		case errors.As(err, &skip):
			r.note = string(skip)
		default:
			r.outcome, r.note = failed, err.Error()
			if !s.quiet {
				fmt.Fprintf(c.stdout, "%s: %v\n", s.name, err)
			}
		}
	}
	return r
}

// unmet returns the name of a needed step that did not pass; empty: there is none.
func (c *checker) unmet(s step) string {
	for _, r := range c.results {
		if r.outcome == failed && slices.Contains(s.needs, r.name) {
			return r.name
		}
	}
	return ""
}

// summary prints the results of the steps so far: the time that each took, and the processor time of its commands. Where the latter is less, it waited.
func (c *checker) summary() {
	fmt.Fprintf(c.stdout, "\n=== summary\n%-22s %7s %7s\n", "", "took", "cpu")
	for _, r := range c.results {
		word := [...]string{failed: "FAIL", passed: "ok", skipped: "skip"}[r.outcome]
		line := fmt.Sprintf("%-5s %-16s %6.1fs %6.1fs  %s", word, r.name, r.took.Seconds(), r.cpu.Seconds(), strings.ReplaceAll(r.note, "\n", " "))
		fmt.Fprintln(c.stdout, strings.TrimRight(line, " "))
	}
}

// count adds the processor time of an ended command to that of the step.
func (c *checker) count(cmd *exec.Cmd) {
	if c.cpu != nil && cmd.ProcessState != nil {
		c.cpu.Add(int64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()))
	}
}

// skipError means that a step could not be tried, and why; it is shown, and is
// not a failure.
type skipError string

func (e skipError) Error() string { return "skipped: " + string(e) }
