package service

import (
	"os/exec"
	"syscall"

	"blobpglite/runner/node"
)

// OwnGroup makes a command run in a session of its own, without a terminal at which it could ask for a password. All its processes end with
// the command's context, and the system ends the command itself along with this process.
func OwnGroup(cmd *exec.Cmd) {
	node.DieWithParent(cmd)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
