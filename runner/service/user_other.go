//go:build !linux

package service

import (
	"os"
	"os/exec"
)

// OrdinaryUser makes a command run as a user who is not root, as PostgreSQL and PgBouncer demand. Error: ErrRoot.
func OrdinaryUser(*exec.Cmd) error {
	if os.Geteuid() == 0 {
		return ErrRoot
	}
	return nil
}
