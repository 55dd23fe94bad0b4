package service

import (
	"os"
	"os/exec"
	"syscall"
)

// OrdinaryUser has a command run as somebody who is not root, which PostgreSQL and PgBouncer demand: where we are root, in a
// user namespace, where files remain ours. The system ends it with this process.
func OrdinaryUser(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		const somebody = 1000
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: somebody, HostID: 0, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: somebody, HostID: 0, Size: 1}}
	}
	return nil
}
