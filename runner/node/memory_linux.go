package node

import (
	"bytes"
	"fmt"
	"os"
)

// peakMemory is the largest resident set that this process has had, in bytes. (The figure of getrusage is of no use: it starts from the
// memory of the process that started this one.)
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read the peak memory: %w", err)
	}
	for line := range bytes.Lines(status) {
		var kb int64
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("read the peak memory: the system does not tell VmHWM")
}
