//go:build !linux

package pgsuite

import (
	"fmt"
	"os"
	"os/exec"
)

// ordinaryUser has a command run as somebody who is not root, which PostgreSQL demands.
func ordinaryUser(*exec.Cmd) error {
	if os.Geteuid() == 0 {
		return fmt.Errorf("a user who is not root, as PostgreSQL demands, is %w", ErrMissing)
	}
	return nil
}
