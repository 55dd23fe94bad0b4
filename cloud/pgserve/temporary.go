package main

import (
	"fmt"
	"os"
)

// temporary rejects a -temp-dir that is not a folder, before anything is opened.
func (c *config) temporary() error {
	if c.tempDir == "" {
		return nil
	}
	info, err := os.Stat(c.tempDir)
	switch {
	case err != nil:
		return fmt.Errorf("-temp-dir: %w; make the folder, on a disk", err)
	case !info.IsDir():
		return fmt.Errorf("-temp-dir %s is not a folder", c.tempDir)
	}
	return nil
}

// warnTemporary warns if the -temp-dir is in memory, where it saves none.
func (c *config) warnTemporary() {
	if c.tempDir != "" && inMemory(c.tempDir) {
		c.log.Warn("-temp-dir is a file system in memory: what queries sort takes as much of it as without the flag; name a folder of a disk", "folder", c.tempDir)
	}
}
