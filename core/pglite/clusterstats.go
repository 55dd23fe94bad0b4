package pglite

import (
	"sync/atomic"
	"time"
)

// clusterCounts are the counters of ClusterStats.
type clusterCounts struct {
	spawns, spawnTime, yields, direct, handedOver, signals, checkpoints, fetches, fetchTime atomic.Int64
}

// ClusterStats counts what a cluster has done since it was started.
type ClusterStats struct {
	Processes   map[string]int // current processes, by kind
	Queued      map[string]int // of these, those waiting for the lock
	Running     string         // the kind of the one holding the lock; empty: none
	Spawned     int64          // processes started
	SpawnTime   time.Duration  // total time until they could run
	Switches    int64          // times the lock went from one process to another
	Yields      int64          // times a long-running process let others run
	Direct      int64          // times a process ran on its client's goroutine: see Conn.Run
	HandedOver  int64          // of Direct, times it continued without that goroutine
	Waits       int64          // times a process had to wait for the lock
	Waited      time.Duration  // total time of these waits
	Signals     int64
	Checkpoints int64         // requested ones
	Checked     bool          // the compiled code checks the bounds of each load and store: see Runtime.Checked
	Fetching    int           // processes waiting for bytes of files that are away
	Fetches     int64         // times one had to wait
	FetchTime   time.Duration // total time of these waits
}

// Stats returns the counts so far.
func (c *Cluster) Stats() ClusterStats {
	s := ClusterStats{
		Processes: map[string]int{}, Queued: map[string]int{}, Spawned: c.stats.spawns.Load(), SpawnTime: time.Duration(c.stats.spawnTime.Load()),
		Switches: c.lock.switches.Load(), Yields: c.stats.yields.Load(), Waits: c.lock.waits.Load(), Waited: time.Duration(c.lock.waited.Load()),
		Signals: c.stats.signals.Load(), Checkpoints: c.stats.checkpoints.Load(), Checked: !c.rt.unchecked(),
		Direct: c.stats.direct.Load(), HandedOver: c.stats.handedOver.Load(),
		Fetching: int(c.fetching.Load()), Fetches: c.stats.fetches.Load(), FetchTime: time.Duration(c.stats.fetchTime.Load()),
	}
	for _, p := range c.Processes() {
		s.Processes[p.kind]++
		if p.queued.Load() {
			s.Queued[p.kind]++
		}
	}
	if p := c.lock.current.Load(); p != nil {
		s.Running = p.kind
	}
	return s
}
