// Package point names the fault points: the places in the protocol where dying, or stalling, means something.
//
//	type Options struct{ Hook point.Hook } // nil in production
//	if err := o.Hook.Fire(ctx, point.ManifestBeforeCAS); err != nil {
//		return err
//	}
//
// The code under test fires a point and returns the hook's error as if the step itself had failed. What happens at
// the point (kill the process, pause it, fail, count) belongs to whoever supplies the hook.
package point

import "context"

// Point names one place in the protocol, as `<step>/<moment>`.
type Point string

const (
	// BaseBeforePart fires before each part of a layer is uploaded. Durable: the parts before it. Death here
	// leaves parts that no index names: garbage, nothing more.
	BaseBeforePart Point = "base/before-part"
	// BaseAfterPart fires after each part of a layer is stored. Death here leaves garbage, as above.
	BaseAfterPart Point = "base/after-part"
	// BaseAfterLastPart fires when every part of a layer is stored and its index is not. Death here leaves a
	// layer that cannot be read and that nobody names.
	BaseAfterLastPart Point = "base/after-last-part"
	// BaseAfterIndex fires when a layer is complete and readable, but no manifest names it. Death here leaves
	// a whole layer as garbage; the database is what it was.
	BaseAfterIndex Point = "base/after-index"
	// ManifestBeforeCAS fires before each attempt to swap the manifest. Durable: whatever the new manifest
	// names. Death here leaves the old manifest in force.
	ManifestBeforeCAS Point = "manifest/before-cas"
	// ManifestAfterCAS fires when the new manifest is in force. Death here must lose nothing: the next
	// opening starts from it.
	ManifestAfterCAS Point = "manifest/after-cas"
	// CommitBeforeAck fires when a commit is durable and the client has not been told. Death here leaves the
	// commit in place; the client must treat it as unknown.
	CommitBeforeAck Point = "commit/before-ack"
	// RestoreAfterManifest fires when an opening has read the manifest and nothing else. Death here changes
	// nothing.
	RestoreAfterManifest Point = "restore/after-manifest"
	// RestoreAfterBase fires when an opening has read the layers and Postgres has not started. Death here
	// changes nothing.
	RestoreAfterBase Point = "restore/after-base"
)

// All returns every point, in the order in which the protocol passes them.
func All() []Point {
	return []Point{
		RestoreAfterManifest, RestoreAfterBase,
		BaseBeforePart, BaseAfterPart, BaseAfterLastPart, BaseAfterIndex,
		ManifestBeforeCAS, ManifestAfterCAS, CommitBeforeAck,
	}
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
