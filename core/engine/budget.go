package engine

import (
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
)

// Estimates of a restore before anything was measured: one request per record, 32 at a time at the 38 ms that Cloud Storage takes for a
// small one, the bytes through PostgreSQL's recovery, and the layer's own bytes.
const (
	replayRecord = 38 * time.Millisecond / replayParallel
	replayRate   = 40 << 20 // bytes a second
	restoreRate  = 512 << 20
	// replayParallel is how many records are read concurrently; minRecord is what one takes from a store on the same machine.
	replayParallel = 32
	minRecord      = 50 * time.Microsecond
	// minBudget keeps a small database from taking layers all the time.
	minBudget = 250 * time.Millisecond
)

// Without a given budget, a database under steady load must not spend its time on layers: after one that took a second, the next does not
// begin for layerPause seconds, unless the log has grown to mustCompact budgets. At mostGrown budgets commits wait.
const (
	layerPause  = 7
	mustCompact = 2
	mostGrown   = 4
	// A restore holds the log since the last layer in memory. These are shares of the cache: beyond wantedShare a layer is wanted, beyond
	// mustShare it is taken without a pause after the last one, and from mostShare on commits wait.
	wantedShare, mustShare, mostShare = 0.25, 0.5, 1
	// After a layer failed, the next one begins after firstRetry; the wait doubles each time, up to lastRetry.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 5 * time.Minute
)

// budget decides when a layer is due, and when commits wait for it, so that a restore, which replays the log since the last layer, takes no
// longer than promised. It predicts that from what its methods report. They are safe for concurrent use, except where they say otherwise.
type budget struct {
	budgetEnv
	records, bytes atomic.Int64 // of the log, since the last layer
	request        atomic.Int64 // what an append takes, in nanoseconds; 0: unknown
	layerTime      atomic.Int64 // what reading the layer takes, in nanoseconds; 0: unknown
	rate           float64      // bytes of a layer that a restore reads in a second; 0: restoreRate
	failures       atomic.Int64 // number of failed layers in a row
	retry          atomic.Int64 // monotonic time; no layer begins before it, because the last one failed
	pause          atomic.Int64 // monotonic time; no layer begins before it unless it is urgent
	eased          signal       // sent when there is less to replay
}

// budgetEnv is everything a budget knows of its engine, so that it can be tested without one.
type budgetEnv struct {
	clock   clock.Clock
	restore time.Duration // Options.RestoreBudget
	record  time.Duration // Options.RecordTime
	cache   int64         // Options.Cache
	crowded func() bool   // a layer is needed so that pages can leave memory; nil: never
}

// opened reports how long the restore took, and how many bytes it read, before anything is appended. PostgreSQL's start is left out: most
// of a long start is the replay, and the longer that took, the longer it would be allowed to take.
func (b *budget) opened(raw int64, restore time.Duration) {
	if raw > 0 && restore > 0 {
		b.rate = float64(raw) / restore.Seconds()
	}
	b.layerTime.Store(int64(restore))
}

// published reports how much a restore will read of the newest layer.
func (b *budget) published(raw int64) {
	rate := b.rate
	if rate == 0 {
		rate = restoreRate
	}
	b.layerTime.Store(int64(float64(raw) / rate * float64(time.Second)))
	b.eased.tell()
}

// appended reports a record in the log, and how long its append took. Only the goroutine that appends may call it.
func (b *budget) appended(bytes int64, took time.Duration) {
	const share = 8 // weight of the newest in the mean is 1/share
	old := time.Duration(b.request.Load())
	if old > 0 {
		took = old + (took-old)/share
	}
	b.request.Store(int64(max(took, 1)))
	b.records.Add(1)
	b.bytes.Add(bytes)
	if took < old {
		b.eased.tell()
	}
}

// covered reports how much of the log a new layer covers.
func (b *budget) covered(records, bytes int64) {
	b.records.Add(-records)
	b.bytes.Add(-bytes)
	b.eased.tell()
}

// tried reports whether a layer that was due was taken. After a failure the next one is put off, longer each time, because what a failed
// layer has uploaded stays in the bucket until one succeeds.
func (b *budget) tried(taken bool) {
	if taken {
		b.failures.Store(0)
		return
	}
	wait := min(firstRetry<<min(b.failures.Add(1)-1, 10), lastRetry)
	b.retry.Store(int64(b.clock.Monotonic() + wait))
}

// worked reports how long a layer took, successful or not: that sets the pause before the next one.
func (b *budget) worked(took time.Duration) {
	b.pause.Store(int64(b.clock.Monotonic() + layerPause*took))
}

// recordTime is how long reading a record takes: a store that appends faster than Cloud Storage is assumed to read faster, too.
func (b *budget) recordTime() time.Duration {
	if b.record > 0 {
		return b.record
	}
	if d := time.Duration(b.request.Load()); d > 0 {
		return min(max(d/replayParallel, minRecord), replayRecord)
	}
	return replayRecord
}

// replayTime predicts what replaying the log since the last layer adds to a restore.
func (b *budget) replayTime() time.Duration {
	return time.Duration(b.records.Load())*b.recordTime() + time.Duration(float64(b.bytes.Load())/replayRate*float64(time.Second))
}

// limit is how much replaying the log may add to a restore; negative: no limit.
func (b *budget) limit() time.Duration {
	if b.restore == 0 {
		return max(time.Duration(b.layerTime.Load()), minBudget)
	}
	return b.restore
}

// logShare is the size of the log since the last layer as a share of the cache; a restore holds all of that log in memory.
func (b *budget) logShare() float64 {
	if b.cache == 0 {
		return 0
	}
	return float64(b.bytes.Load()) / float64(b.cache)
}

// wanted says whether a layer is wanted. It is from half of the budget on, so that the other half lasts while the layer is being taken.
func (b *budget) wanted() bool {
	limit := b.limit()
	return limit >= 0 && (b.replayTime() >= limit/2 || b.logShare() >= wantedShare)
}

// due says whether a layer is wanted and may be begun now.
func (b *budget) due() bool {
	now := b.clock.Monotonic()
	if now < time.Duration(b.retry.Load()) {
		return false
	}
	if b.crowded != nil && b.crowded() {
		return true
	}
	if !b.wanted() {
		return false
	}
	rests := b.restore == 0 && b.replayTime() < mustCompact*b.limit() && b.logShare() < mustShare
	return !rests || now >= time.Duration(b.pause.Load())
}

// usedUp says whether commits must wait for the layer that is being taken.
func (b *budget) usedUp() bool {
	limit := b.limit()
	if b.restore == 0 {
		limit *= mostGrown
	}
	return limit >= 0 && (b.replayTime() >= limit || b.logShare() >= mostShare)
}
