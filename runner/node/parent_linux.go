package node

import (
	"os/exec"
	"syscall"
)

// DieWithParent has the system kill the child when the runner dies, also while the child is stopped and cannot see that
// its input has ended. (It is the thread that started it whose end counts; Go ends threads only with goroutines that are
// locked to them.)
func DieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
