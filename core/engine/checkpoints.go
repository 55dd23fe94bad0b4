package engine

import (
	"strings"

	"blobpglite/core/pglite"
)

// A segment of PostgreSQL's log is in memory until a checkpoint has made it superfluous. So checkpoints come often: they cost little
// here, for a page is written to memory, and full pages are not logged. maxWAL is max_wal_size, which tells PostgreSQL how long a
// checkpoint may take, in bytes of log; checkpointBytes is how much of it PostgreSQL would write before it asks for one itself.
const (
	maxWAL          = "16MB"
	checkpointBytes = 8 << 20
)

// logSize asks for checkpoints. It belongs to who has the cluster's lock.
type logSize struct{ asked int64 }

// wrote is told how much PostgreSQL has written to its log in all.
func (l *logSize) wrote(c *pglite.Cluster, total int64) {
	if c != nil && total-l.asked >= checkpointBytes {
		l.asked = total
		c.RequestCheckpoint()
	}
}

// countLog is a hook that counts what is written to PostgreSQL's log.
func (e *Engine) countLog(name string, _ int64, p []byte) {
	if strings.HasPrefix(name, walDir) {
		e.logSize.wrote(e.server.live.Load(), e.logBytes.Add(int64(len(p))))
	}
}
