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
		return fmt.Errorf("-temp-dir: %w; create the folder, on a disk", err)
	case !info.IsDir():
		return fmt.Errorf("-temp-dir %s is not a folder", c.tempDir)
	}
	return nil
}

// warnTemporary warns if the -temp-dir is in memory, where it saves none.
func (c *config) warnTemporary() {
	if c.tempDir != "" && inMemory(c.tempDir) {
		c.log.Warn("-temp-dir is on a file system in memory, so temporary files take as much memory as without the flag: name a folder on a disk", "folder", c.tempDir)
	}
}
