//go:build unix && !linux

package pglite

import (
	"errors"
	"fmt"
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
