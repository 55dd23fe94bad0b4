//go:build !linux

package service

import (
	"os"
	"os/exec"
)

// OrdinaryUser has a command run as somebody who is not root, which PostgreSQL and PgBouncer demand.
func OrdinaryUser(*exec.Cmd) error {
	if os.Geteuid() == 0 {
		return ErrRoot
	}
	return nil
}
