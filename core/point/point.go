// Package point names the fault points: the places in the protocol where dying, or stalling, means something.
//
//	type Options struct{ Hook point.Hook } // nil in production
//	if err := o.Hook.Fire(ctx, point.ManifestBeforeCAS); err != nil {
//		return err
//	}
//
// The code under test fires a point and returns the hook's error as if the step itself had failed. The hook decides what
// happens at the point (kill the process, pause it, fail, count).
package point

import "context"

// Point names one place in the protocol, as `<step>/<moment>`.
type Point string

const (
	// BaseBeforeSegment fires before each new page segment of a layer is uploaded. Durable: the earlier ones. Death here
	// leaves segments that no index names: only garbage.
	BaseBeforeSegment Point = "base/before-segment"
	// BaseAfterSegment fires after each new segment of a layer is stored. Death here leaves garbage, as above.
	BaseAfterSegment Point = "base/after-segment"
	// BaseAfterLastSegment fires when every segment of a layer is stored and its index is not. Death here leaves a layer
	// that cannot be read and that nothing names.
	BaseAfterLastSegment Point = "base/after-last-segment"
	// BaseAfterIndex fires when a layer is complete and readable, but no manifest names it. Death here leaves a complete
	// layer as garbage; the database is unchanged.
	BaseAfterIndex Point = "base/after-index"
	// ManifestBeforeCAS fires before each attempt to swap the manifest. Durable: whatever the new manifest names. Death
	// here leaves the old manifest in force.
	ManifestBeforeCAS Point = "manifest/before-cas"
	// ManifestAfterCAS fires when the new manifest is in force. Death here must lose nothing: the next
	// opening starts from it.
	ManifestAfterCAS Point = "manifest/after-cas"
	// CommitBeforeAck fires when a commit is durable and the client has not been told. Death here leaves the commit in
	// place; the client must treat it as unknown.
	CommitBeforeAck Point = "commit/before-ack"
	// RestoreAfterManifest fires when an opening has read the manifest and nothing else. Death here changes
	// nothing.
	RestoreAfterManifest Point = "restore/after-manifest"
	// RestoreAfterBase fires when an opening has read the layers and Postgres has not started. Death here
	// changes nothing.
	RestoreAfterBase Point = "restore/after-base"

	// LeaseBeforeAcquire fires before an attempt to take the lease. Death here changes nothing.
	LeaseBeforeAcquire Point = "lease/before-acquire"
	// LeaseAfterAcquire fires when the lease is held and nothing is fenced yet. Death here makes the next opener
	// wait until the lease has run out; the predecessor, if it lives, still commits.
	LeaseAfterAcquire Point = "lease/after-acquire"
	// LeaseBeforeRenew fires before the lease is renewed. Death here changes nothing.
	LeaseBeforeRenew Point = "lease/before-renew"
	// LeaseBeforeRelease fires before the lease is released: at an orderly end everything is durable, but an engine or an
	// opening that failed releases it too. Death here makes the next opener wait until the lease has run out.
	LeaseBeforeRelease Point = "lease/before-release"
	// FenceBeforePut fires before an opener writes its fence. Death here changes nothing.
	FenceBeforePut Point = "fence/before-put"
	// FenceAfterPut fires when the fence is in the log: the predecessor can no longer commit. Death here leaves the
	// database to the next opener.
	FenceAfterPut Point = "fence/after-put"
	// WalBeforePart fires before each part of a large record is uploaded. Death here leaves parts that nothing names.
	WalBeforePart Point = "wal/before-part"
	// WalAfterPart fires when a part is stored. Death here leaves parts that nothing names.
	WalAfterPart Point = "wal/after-part"
	// WalBeforePut fires before a record is created. Death here loses what was not acknowledged.
	WalBeforePut Point = "wal/before-put"
	// WalAfterPut fires when a record is in the log and no client has been told. Death here leaves the commit in place;
	// its clients must treat it as unknown.
	WalAfterPut Point = "wal/after-put"
	// ProcessBeforeFork fires when PostgreSQL's main has reached the point at which processes are forked from it. Death
	// here changes nothing.
	ProcessBeforeFork Point = "process/before-fork"
	// ProcessBeforeStart fires when a process of PostgreSQL begins to run. Death here, of the host or of the process, is a crash.
	ProcessBeforeStart Point = "process/before-start"
	// ProcessAfterExit fires when a process of PostgreSQL has ended and its slot is not free yet. Death here is a crash.
	ProcessAfterExit Point = "process/after-exit"
	// ProcessBeforeSignal fires before a process of PostgreSQL signals another. Death here is a crash.
	ProcessBeforeSignal Point = "process/before-signal"
	// ProcessBeforeRestart fires when a process of PostgreSQL has failed, all have ended, and none has been restarted
	// yet. Death here is the host's: the next opening restores what the bucket has.
	ProcessBeforeRestart Point = "process/before-restart"
	// CacheBeforeEvict fires before pages are evicted because too much is in memory. Death here changes nothing.
	CacheBeforeEvict Point = "cache/before-evict"
	// CacheAfterEvict fires when some were evicted. Durable: each of them, in a published layer. Death here loses
	// nothing: the next opening reads them from there, or replays the log over them.
	CacheAfterEvict Point = "cache/after-evict"
	// CacheBeforeSettle fires when the manifest names a new layer, and the files in memory still refer to the previous
	// one. Death here, or a failure, leaves both layers: what the files need is not collected.
	CacheBeforeSettle Point = "cache/before-settle"
	// CacheAfterSettle fires when the files refer to the new layer, so that what only earlier layers have may be collected. Death here
	// leaves that to the next collection.
	CacheAfterSettle Point = "cache/after-settle"
	// GCBeforeCollect fires before a collection reads the manifest. Death here changes nothing.
	GCBeforeCollect Point = "gc/before-collect"
	// GCBeforeDelete fires before each deletion. Death here leaves the rest to the next collection.
	GCBeforeDelete Point = "gc/before-delete"
	// GCAfterDelete fires after each deletion. Death here leaves the rest to the next collection.
	GCAfterDelete Point = "gc/after-delete"
)

// All returns every point, in the order in which the protocol passes them.
func All() []Point {
	return []Point{
		LeaseBeforeAcquire, LeaseAfterAcquire, RestoreAfterManifest, FenceBeforePut, FenceAfterPut, RestoreAfterBase,
		ProcessBeforeFork, ProcessBeforeStart, ProcessBeforeSignal, ProcessAfterExit, ProcessBeforeRestart,
		LeaseBeforeRenew, WalBeforePart, WalAfterPart, WalBeforePut, WalAfterPut, CommitBeforeAck,
		BaseBeforeSegment, BaseAfterSegment, BaseAfterLastSegment, BaseAfterIndex, ManifestBeforeCAS, ManifestAfterCAS,
		CacheBeforeSettle, CacheAfterSettle, CacheBeforeEvict, CacheAfterEvict,
		GCBeforeCollect, GCBeforeDelete, GCAfterDelete, LeaseBeforeRelease,
	}
}

// OfCache returns the points that only a writer with a bounded cache (engine.Options.Cache) passes.
func OfCache() []Point {
	return []Point{CacheBeforeSettle, CacheAfterSettle, CacheBeforeEvict, CacheAfterEvict}
}

// Hook is called at each point that is passed, from the goroutine that passes it; it must be safe for concurrent use.
// An error makes the step fail with it. The nil Hook does nothing.
type Hook func(ctx context.Context, p Point) error

// Fire calls the hook; on a nil Hook it does nothing and returns nil.
func (h Hook) Fire(ctx context.Context, p Point) error {
	if h == nil {
		return nil
	}
	return h(ctx, p)
}
