//go:build !linux

package node

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// peakMemory is the largest resident set that this process has had, in bytes, the unit of Darwin's getrusage.
func peakMemory() (int64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read the peak memory: %w", err)
	}
	return int64(u.Maxrss), nil
}
