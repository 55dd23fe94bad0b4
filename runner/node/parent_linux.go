package node

import (
	"os/exec"
	"syscall"
)

// DieWithParent has the system kill the child when the runner dies, even while the child is stopped and cannot see that its input has
// ended. (What counts is the end of the thread that started it; Go ends threads only together with goroutines that are locked to them.)
func DieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
