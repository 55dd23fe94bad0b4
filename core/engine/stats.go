package engine

import (
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/pglite"
)

// Stats says what an engine's PostgreSQL is doing.
type Stats struct {
	Cluster  pglite.ClusterStats // of the current PostgreSQL: it counts from its start
	Restarts int64               // of PostgreSQL after a crash
	Answers  int64               // that waited, however briefly, until what they tell of was durable
	Waited   time.Duration       // sum of these waits
	Cache    CacheStats
	Layer    LayerStats
}

// LayerStats says what the newest layer that this engine has taken and published cost; zero: it has taken none. In mode log only: in mode
// snapshot each commit is a layer, see CommitStats.
type LayerStats struct {
	Seq     uint64        // of the last record that it holds
	Clone   time.Duration // of the files: only for this do statements wait
	Written base.Stats    // what was uploaded, and what the whole layer needs
}

// Stats returns what the engine's PostgreSQL is doing.
func (e *Engine) Stats() Stats {
	s := Stats{Restarts: e.server.restarts.Load(), Answers: e.answers.answers.Load(), Waited: time.Duration(e.answers.nanos.Load())}
	if c, err := e.server.running(); err == nil {
		s.Cluster = c.Stats()
	}
	if e.follower != nil {
		s.Cache = e.follower.cache.stats()
	}
	if m, ok := e.commits.(*logMode); ok {
		s.Cache = m.cache.stats()
		if last := m.lastTaken.Load(); last != nil {
			s.Layer = *last
		}
	}
	return s
}

// answerCounts count the answers that had to be durable.
type answerCounts struct{ answers, nanos atomic.Int64 }

func (a *answerCounts) waited(d time.Duration) {
	a.answers.Add(1)
	a.nanos.Add(int64(d))
}
