package engine

import (
	"log/slog"
	"path"
	"strings"

	"blobpglite/core/memfs"
)

// unlogged tells people in the log that rows of unlogged tables are not kept. PostgreSQL keeps them across a clean end; here every
// opening recovers as after a crash, clean end or not, since that is what makes it safe to begin at any layer, and recovery
// empties them: their changes are in no log.
type unlogged struct {
	logger *slog.Logger
	warned bool // under the cluster's lock
}

// initFork ends the name of a file that each unlogged table, index and sequence has: what recovery makes it again from.
const initFork = "_init"

// begin tells it of a database that has unlogged tables: they are empty now.
func (u *unlogged) begin(data *memfs.FS, logger *slog.Logger) {
	u.logger = logger
	n := 0
	_ = data.Walk("/base", func(name string, info memfs.Info) error {
		if info.IsRegular() && strings.HasSuffix(name, initFork) {
			n++
		}
		return nil
	})
	if n > 0 {
		u.warned = true
		logger.Warn("unlogged tables are empty after an opening, also behind a clean end; ALTER TABLE ... SET LOGGED keeps what is in them from then on", "files", n)
	}
}

// created is the hook of the files.
func (u *unlogged) created(name string) {
	if u.warned || u.logger == nil || !strings.HasPrefix(name, "/base/") || !strings.HasSuffix(path.Base(name), initFork) {
		return
	}
	u.warned = true
	u.logger.Warn("an unlogged table was made: its rows are not kept when the database is closed or taken over, not even behind a clean end", "file", name)
}
