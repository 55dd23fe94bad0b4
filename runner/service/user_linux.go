package service

import (
	"os"
	"os/exec"
	"syscall"
)

// OrdinaryUser makes a command run as a non-root user, as PostgreSQL and PgBouncer demand: if this process is root, in a user namespace, in
// which it still owns its files. The system ends the command along with this process.
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
