//go:build unix && !linux

package pglite

import (
	"errors"
	"fmt"
	"math"
	"os"
)

// memoryFile creates an unnamed file in the folder of temporary files: only Linux has such files in memory.
func memoryFile(what string) (*os.File, error) {
	file, err := os.CreateTemp("", "blobpglite-")
	if err == nil {
		err = os.Remove(file.Name())
	}
	if err != nil {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		return nil, fmt.Errorf("create a temporary file for %s: %w", what, err)
	}
	return file, nil
}

// nextData returns the next range of a file at or after off that is not a hole: here, all of it.
func nextData(_ int, off int64) (from, to int64, ok bool) { return off, math.MaxInt64, true }

// punch would free the memory of a piece of a file; this one is on a disk.
func punch(*os.File, int64, int64) error { return nil }
