package pages

import (
	"context"
	"fmt"
	"os"

	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
)

// built is pgserve as built from here, with an emulated bucket for it.
type built struct {
	folder  string // of the run; gone at its end
	program string
	front   *gcsfront.Front
	base    string // of the bucket's API
}

// withPgserve calls f with pgserve and a bucket that behaves as the options say.
func withPgserve(ctx context.Context, r *bench.Run, o gcsfront.Options, f func(built) error) (err error) {
	var b built
	if b.folder, err = os.MkdirTemp("", "blobpglite-pages-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(b.folder)
	o.Seed = r.Seed
	if b.front, err = gcsfront.New(o); err != nil {
		return err
	}
	base, stop, err := b.front.Serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	b.base = base
	r.On(b.front)
	r.Progress("building pgserve", 0, 0)
	if b.program, err = r.Store.Program(ctx, b.folder, r.Runtime.CacheDir()); err != nil {
		return err
	}
	return f(b)
}
