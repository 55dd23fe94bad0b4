package takeover

import (
	"context"

	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/wal"
)

// reading is a manifest, and the records after its newest layer.
type reading struct {
	m       manifest.Seen
	records []wal.Record
	tail    wal.Position
	err     error
}

// readBesideLease starts the first reading while the lease is being acquired. stop cancels it, and waits until it has ended.
//
// It is the same reading as the one after the lease: the manifest, then the records. The same second reading of the manifest, after the
// fence, checks it. A record that the predecessor appends in between has the name that the fence tries.
func (op *opening) readBesideLease(ctx context.Context) (stop func()) {
	if op.o.Parallel == 1 && op.o.OnManifest == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	out, done := make(chan reading, 1), make(chan struct{})
	op.beside = out
	read := func() {
		defer close(done)
		var r reading
		if r.m, r.err = op.manifest(ctx); r.err == nil {
			if op.o.OnManifest != nil {
				op.o.OnManifest(r.m.Manifest)
			}
			r.records, r.tail, r.err = op.records(ctx, r.m.Manifest, 0)
		}
		out <- r
	}
	if op.o.Parallel == 1 { // one request at a time: read before the lease, as early as possible
		read()
	} else {
		go read()
	}
	return func() { cancel(); <-done }
}

// firstReading returns the reading before the fence: the one made while the lease was acquired, unless the lease had to be waited for or
// that reading failed.
func (op *opening) firstReading(ctx context.Context) (manifest.Seen, wal.Position, error) {
	if op.beside != nil && !op.waited {
		r := <-op.beside
		op.beside = nil
		if r.err == nil && op.o.Check != nil {
			r.err = op.o.Check(r.m.Manifest)
		}
		if r.err == nil {
			op.out.Records = r.records
			return r.m, r.tail, op.o.Hook.Fire(ctx, point.RestoreAfterManifest)
		}
	}
	op.beside = nil
	m, err := op.load(ctx)
	if err != nil {
		return m, wal.Position{}, err
	}
	if err := op.o.Hook.Fire(ctx, point.RestoreAfterManifest); err != nil {
		return m, wal.Position{}, err
	}
	tail, err := op.read(ctx, m.Manifest, 0)
	return m, tail, err
}
