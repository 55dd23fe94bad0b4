package mutant

import (
	"bytes"
	"os/exec"
	"syscall"
	"time"
)

// groupGrace is how long a child may keep the pipe open when the go command has ended.
const groupGrace = 10 * time.Second

// groupOutput runs the go command, and returns what it and its children printed. They are a process group of their own, of which nothing
// is left when it returns: the test of a mutant may be one that cannot be stopped, and outlive a `go test` that has given it up.
func groupOutput(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = groupGrace
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // most often there is nobody
	}
	return out.Bytes(), err
}
