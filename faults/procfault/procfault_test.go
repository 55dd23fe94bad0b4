package procfault

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const childVariable = "PROCFAULT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func start(t *testing.T) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestSignalsArrive(t *testing.T) {
	var children Children
	cmd := start(t)
	pid := cmd.Process.Pid
	children.Add(cmd.Process)
	do := func(a Action) {
		t.Helper()
		if err := children.Do(pid, a); err != nil {
			t.Fatal(err)
		}
	}
	var status syscall.WaitStatus
	do(Stop)
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("not stopped: %v, %v", status, err)
	}
	do(Continue)
	do(Kill)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v", err)
	}
	if err := children.Do(pid, Continue); !errors.Is(err, ErrNotOurs) {
		t.Errorf("a process that has ended: %v", err)
	}
	children.Remove(pid)
	if err := children.Do(pid, Kill); !errors.Is(err, ErrNotOurs) {
		t.Errorf("a process that was removed: %v", err)
	}
	if children.Fired(Stop) != 1 || children.Fired(Terminate) != 0 {
		t.Errorf("counted %d stops, %d terminations", children.Fired(Stop), children.Fired(Terminate))
	}
}

func TestTerminate(t *testing.T) {
	var children Children
	cmd := start(t)
	children.Add(cmd.Process)
	if err := children.Do(cmd.Process.Pid, Terminate); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v", err)
	}
}

// TestOthersAreOutOfReach: not even this process's own parent.
func TestOthersAreOutOfReach(t *testing.T) {
	var children Children
	for _, pid := range []int{os.Getppid(), os.Getpid(), 1, 0, -1} {
		if err := children.Do(pid, Continue); !errors.Is(err, ErrNotOurs) {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if err := children.Do(1, "tickle"); err == nil || errors.Is(err, ErrNotOurs) {
		t.Errorf("an unknown action: %v", err)
	}
}
