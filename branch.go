package blobpglite

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/engine"
	"blobpglite/core/store/location"
)

// Branch copies the database at the URL from to the empty place to, as an independent database, and returns the new database's id. The
// source may have a writer: Branch takes no lease and writes nothing there. Within one bucket the service copies the pages itself;
// otherwise they pass through this process, a few at a time. Errors: those of Open, ErrNoDatabase, ErrNotEmpty.
func Branch(ctx context.Context, from, to string) (id string, err error) {
	return Options{}.Branch(ctx, from, to)
}

// Branch is like the function Branch, with options. It uses At, for an earlier state (ErrBeyondRetention), Endpoint, Name and Clock.
func (o Options) Branch(ctx context.Context, from, to string) (id string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("branch %s to %s: %w", from, to, err)
		}
	}()
	if err := o.fill(); err != nil {
		return "", err
	}
	source, err := location.Parse(from)
	if err != nil {
		return "", err
	}
	target, err := location.Parse(to)
	if err != nil {
		return "", err
	}
	if source.Overlaps(target) {
		return "", fmt.Errorf("%w: the two prefixes contain one another: choose another prefix or folder", ErrNested)
	}
	in, err := o.place(ctx, from, false)
	if err != nil {
		return "", absent(err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	at := engine.Latest()
	if !o.At.IsZero() {
		at = engine.RecoveryTarget{Time: o.At}
	}
	out, err := o.place(ctx, to, true)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	made, err := engine.Branch(ctx, out, in, engine.BranchOptions{At: at, Writer: o.Name, Clock: o.Clock})
	return made.ID, err
}
