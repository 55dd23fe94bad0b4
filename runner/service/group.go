package service

import (
	"os/exec"
	"syscall"

	"blobpglite/runner/node"
)

// OwnGroup has a command run in a session of its own, without a terminal that it could ask for a password; all processes of
// it end with the command's context. The system ends the command itself with this process.
func OwnGroup(cmd *exec.Cmd) {
	node.DieWithParent(cmd)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
