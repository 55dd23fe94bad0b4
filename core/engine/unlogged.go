package engine

import (
	"log/slog"
	"path"
	"strings"

	"blobpglite/core/memfs"
)

// unlogged warns in the log that rows of unlogged tables are not kept. PostgreSQL keeps them across a clean end. Here every opening
// recovers as after a crash, which makes it safe to begin at any layer, and recovery empties these tables, as their changes are in no log.
type unlogged struct {
	logger *slog.Logger
	warned bool // under the cluster's lock
}

// initFork is the suffix of the file from which recovery recreates an unlogged table, index or sequence.
const initFork = "_init"

// begin warns if a restored database has unlogged tables: they are empty now.
func (u *unlogged) begin(data *memfs.FS, logger *slog.Logger) {
	u.logger = logger
	n := 0
	for _, dir := range databases {
		_ = data.Walk(dir, func(name string, info memfs.Info) error {
			if info.IsRegular() && strings.HasSuffix(name, initFork) {
				n++
			}
			return nil
		})
	}
	if n > 0 {
		u.warned = true
		logger.Warn("unlogged tables are empty when a database is opened, even after a clean end; ALTER TABLE ... SET LOGGED keeps their rows from then on", "files", n)
	}
}

// created is the files' hook for new files.
func (u *unlogged) created(name string) {
	if u.warned || u.logger == nil || !inDatabase(name) || !strings.HasSuffix(path.Base(name), initFork) {
		return
	}
	u.warned = true
	u.logger.Warn("an unlogged table was created: its rows are lost when the database is closed or taken over, even after a clean end", "file", name)
}
