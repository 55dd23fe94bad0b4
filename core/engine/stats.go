package engine

import (
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/pglite"
)

// Stats says what an engine's PostgreSQL is doing.
type Stats struct {
	Cluster  pglite.ClusterStats // of the current PostgreSQL, since its start
	Restarts int64               // restarts of PostgreSQL after a crash
	Answers  int64               // answers that waited, however briefly, until what they report was durable
	Waited   time.Duration       // sum of these waits
	Cache    CacheStats
	Layer    LayerStats
	// Use describes the newest layer that this engine has restored, or taken and published; zero: there was none.
	Use base.Use
	// WakeBytes is how many stored bytes of the layer were read until the first rows were there: by the opening, and by the statements of
	// the first two seconds, at most the first eight. It grows until then.
	WakeBytes int64
}

// LayerStats says what the newest layer that this engine took and published cost; zero: it took none. Only in mode log; in mode snapshot
// each commit is a layer, see CommitStats.
type LayerStats struct {
	Seq     uint64        // number of the layer's last record
	Clone   time.Duration // of the files: the only step that statements wait for
	Written base.Stats    // what was uploaded, and what the whole layer needs
}

// Stats returns what the engine's PostgreSQL is doing.
func (e *Engine) Stats() Stats {
	s := Stats{Restarts: e.server.restarts.Load(), Answers: e.answers.answers.Load(), Waited: time.Duration(e.answers.nanos.Load())}
	if c, err := e.server.running(); err == nil {
		s.Cluster = c.Stats()
	}
	if use := e.use.Load(); use != nil {
		s.Use = *use
	}
	s.WakeBytes = e.opened.apart
	if m, ok := e.commits.(*logMode); ok {
		s.Cache = m.cache.stats()
		s.WakeBytes += m.cache.firstBytes()
		if last := m.lastTaken.Load(); last != nil {
			s.Layer = *last
		}
	}
	if e.follower != nil {
		s.Cache = e.follower.cache.stats()
		s.WakeBytes += e.follower.cache.firstBytes()
	}
	return s
}

// holds records the newest layer.
func (e *Engine) holds(l *base.Layer) {
	use := l.Use()
	e.use.Store(&use)
}

// answerCounts counts the answers that had to be durable.
type answerCounts struct{ answers, nanos atomic.Int64 }

func (a *answerCounts) waited(d time.Duration) {
	a.answers.Add(1)
	a.nanos.Add(int64(d))
}
