package engine

import (
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/pglite"
)

// Stats says what an engine's PostgreSQL is doing.
type Stats struct {
	Cluster  pglite.ClusterStats // of the PostgreSQL that runs now: it counts from its start
	Restarts int64               // of PostgreSQL after a crash
	Answers  int64               // that waited until what they tell of was durable, if only for a moment
	Waited   time.Duration       // how long, in all
	Cache    CacheStats
	Layer    base.Stats // of the last layer that this engine has taken, in mode log
}

// Stats says what the engine's PostgreSQL is doing.
func (e *Engine) Stats() Stats {
	s := Stats{Restarts: e.server.restarts.Load(), Answers: e.answers.answers.Load(), Waited: time.Duration(e.answers.nanos.Load())}
	if c, err := e.server.now(); err == nil {
		s.Cluster = c.Stats()
	}
	if m, ok := e.commits.(*logMode); ok {
		s.Cache = m.cache.stats()
		if l := m.lastTaken.Load(); l != nil {
			s.Layer = *l
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
