package platform

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the system kill the process when the platform's process dies, even while it is frozen.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
