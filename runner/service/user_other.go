//go:build !linux

package service

import (
	"os"
	"os/exec"
)

// OrdinaryUser makes a command run as a non-root user, as PostgreSQL and PgBouncer demand. Error: ErrRoot.
func OrdinaryUser(*exec.Cmd) error {
	if os.Geteuid() == 0 {
		return ErrRoot
	}
	return nil
}
