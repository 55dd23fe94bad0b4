package passing_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"blobpglite/faults/clockfault/passing"
)

const hour = time.Hour

// TestMain is also the process that is stopped: it waits an hour on its own clock, and reports by how much both readings have moved.
func TestMain(m *testing.M) {
	if os.Getenv(passing.Environment) == "" {
		os.Exit(m.Run())
	}
	clk, err := passing.FromEnvironment()
	if err != nil {
		panic(err)
	}
	timer, never := clk.NewTimer(hour), clk.NewTimer(100*hour)
	wall, mono := clk.Now(), clk.Monotonic()
	os.Stdout.WriteString("waits\n")
	<-timer.C()
	if !never.Stop() || never.Stop() {
		panic("a timer that runs can be stopped once")
	}
	os.Stdout.WriteString((clk.Monotonic() - mono).Round(time.Minute).String() + " " + clk.Now().Round(0).Sub(wall.Round(0)).Round(time.Minute).String() + "\n")
}

// TestProcessFindsTimePassed: both a process that is stopped during that time and one that is notified see their timers fire and both
// readings advance; a step of the wall clock changes that reading only.
func TestProcessFindsTimePassed(t *testing.T) {
	for _, c := range []struct {
		name         string
		stopped      bool
		step         time.Duration
		parts        int
		monotonicAnd string
	}{
		{"stopped", true, 0, 1, "1h1m0s 1h1m0s"},
		{"running", false, 0, 1, "1h1m0s 1h1m0s"},
		{"in parts, the wall clock put back", true, -30 * time.Minute, 4, "1h1m0s 31m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := passing.Create(filepath.Join(t.TempDir(), "time"))
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), f.Variable())
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			if line, err := lines.ReadString('\n'); line != "waits\n" {
				t.Fatal(line, err)
			}
			for range c.parts {
				if c.stopped {
					_ = cmd.Process.Signal(syscall.SIGSTOP)
				}
				f.Pass((hour + time.Minute) / time.Duration(c.parts))
				f.Step(c.step)
				_ = cmd.Process.Signal(syscall.SIGCONT)
			}
			line, err := lines.ReadString('\n')
			if strings.TrimSpace(line) != c.monotonicAnd {
				t.Errorf("it saw %q, not %q: %v", line, c.monotonicAnd, err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if f.Passed() != hour+time.Minute {
				t.Error(f.Passed())
			}
		})
	}
}

// TestOwnClock is the tester's own clock: right, whatever steps the others see.
func TestOwnClock(t *testing.T) {
	f, err := passing.Create(filepath.Join(t.TempDir(), "time"))
	if err != nil {
		t.Fatal(err)
	}
	f.Step(-hour)
	wall, fired := f.Clock().Now(), make(chan error, 1)
	go func() { fired <- f.Clock().Sleep(t.Context(), hour) }()
	for done := false; !done; {
		f.Pass(10 * time.Minute) // the sleep may begin after any of these
		select {
		case err := <-fired:
			if err != nil {
				t.Error(err)
			}
			done = true
		case <-time.After(time.Millisecond):
		}
	}
	if d := f.Clock().Now().Sub(wall); d < hour {
		t.Errorf("an hour was slept and %v have passed", d)
	}
	if _, err := passing.Open(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a clock of no file")
	}
}
