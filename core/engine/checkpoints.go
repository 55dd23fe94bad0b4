package engine

import (
	"strings"

	"blobpglite/core/pglite"
)

// A segment of PostgreSQL's log stays in memory until a checkpoint makes it superfluous. So checkpoints are frequent. They cost little
// here, because pages are written to memory, and full pages are not logged. maxWAL is max_wal_size, in bytes of log, from which PostgreSQL
// derives how long a checkpoint may take; after checkpointBytes of log PostgreSQL would request one itself.
const (
	maxWAL          = "16MB"
	checkpointBytes = 8 << 20
)

// logSize requests checkpoints. The cluster's lock guards it.
type logSize struct{ asked int64 }

// wrote reports how many bytes PostgreSQL has written to its log in total.
func (l *logSize) wrote(c *pglite.Cluster, total int64) {
	if c != nil && total-l.asked >= checkpointBytes {
		l.asked = total
		c.RequestCheckpoint()
	}
}

// countLog is a hook that counts writes to PostgreSQL's log.
func (e *Engine) countLog(name string, _ int64, p []byte) {
	if strings.HasPrefix(name, walDir) {
		e.logSize.wrote(e.server.live.Load(), e.logBytes.Add(int64(len(p))))
	}
}
