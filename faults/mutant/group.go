package mutant

import (
	"bytes"
	"os/exec"
	"syscall"
	"time"
)

// groupGrace is how long a child may keep the pipe open after the go command has ended.
const groupGrace = 10 * time.Second

// groupOutput runs the go command, and returns what it and its children printed. They form a process group of their own, of which nothing
// is left when it returns: a mutant's test may be one that cannot be stopped, and outlive a `go test` that has given up on it.
func groupOutput(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = groupGrace
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // usually there is none left
	}
	return out.Bytes(), err
}
