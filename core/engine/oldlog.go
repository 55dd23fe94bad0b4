package engine

import "blobpglite/core/memfs"

// keptLog is how much of PostgreSQL's log since its last checkpoint stays in the files.
const keptLog = 8 << 20

// oldLog gives up segments of PostgreSQL's log that a long transaction leaves behind. Single-user PostgreSQL makes no
// checkpoint within a statement and none of the host's within a transaction, so all of the log would stay in memory, as much
// again as the data. Nobody reads it there: records were made of it as it was written, and the next checkpoint unlinks it.
// Only a layer that is cut before that checkpoint would need it, for its recovery: there is none (forgot). Prepared transactions
// are read from the log when they end: where there may be some, everything stays. It belongs to the owner of the instance.
type oldLog struct {
	files    *memfs.FS
	keep     bool     // everything
	segments []string // written since the last checkpoint, oldest first
	bytes    int64    // in them
	forgot   bool     // some were given up
}

// wrote hears of each write to a segment.
func (o *oldLog) wrote(path string) {
	if n := len(o.segments); o.keep || n > 0 && o.segments[n-1] == path {
		return
	}
	info, err := o.files.Stat(path)
	if err != nil {
		return
	}
	o.segments, o.bytes = append(o.segments, path), o.bytes+info.Size
	const least = 2 // PostgreSQL may still write to the one before
	for o.bytes > keptLog && len(o.segments) > least {
		size := info.Size // all have one size
		if err := o.files.Forget(o.segments[0]); err == nil {
			o.forgot = true
		}
		o.segments, o.bytes = o.segments[1:], o.bytes-size
	}
}

// checkpoint is told when PostgreSQL has made one outside of transactions: its recovery begins behind all of them.
func (o *oldLog) checkpoint() {
	o.segments, o.bytes, o.forgot = nil, 0, false
}
