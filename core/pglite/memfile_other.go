//go:build unix && !linux

package pglite

import (
	"errors"
	"fmt"
	"math"
	"os"
)

// memoryFile is a file without a name in the folder of temporary files: Linux has such files in memory.
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

// nextData is the next range of a file from off on that is no hole: all of it.
func nextData(_ int, off int64) (from, to int64, ok bool) { return off, math.MaxInt64, true }
