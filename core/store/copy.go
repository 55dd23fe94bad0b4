package store

import (
	"context"
	"errors"
)

// ErrElsewhere: the source is of another kind or in another bucket, so the service cannot copy it itself. Nothing was
// sent. Get and put the object instead, as Copy does.
var ErrElsewhere = errors.New("the source is in a different service")

// Copier is a Store that copies objects within its service, so that their bytes do not pass through the caller. Find
// it by type assertion, or use Copy.
type Copier interface {
	// CopyFrom copies the current version of source in from to key, if there is no object at key, and returns the
	// copy's attributes. Its outcomes are those of a Put with IfAbsent and writeID, which is stored with the copy; or
	// ErrNotFound if there is no source, or ErrElsewhere.
	CopyFrom(ctx context.Context, key string, from Store, source, writeID string) (Attrs, error)
}

// Viewed is a Store that is a view of another one.
type Viewed interface {
	// View returns the store below, and the name in it of a key of the view.
	View(key string) (Store, string)
}

// Unviewed follows views down to a store that is not a view, and returns it with the key's name there.
func Unviewed(s Store, key string) (Store, string) {
	for {
		v, ok := s.(Viewed)
		if !ok {
			return s, key
		}
		s, key = v.View(key)
	}
}

// Copy copies an object to a key that must be absent: within the service if to is a Copier and can reach from,
// otherwise by a Get and a Put. It returns the copy's attributes, with at least Key, Gen, WriteID and Size set. Its
// outcomes are those of Copier.CopyFrom, except ErrElsewhere.
func Copy(ctx context.Context, to Store, key string, from Store, source, writeID string) (Attrs, error) {
	if c, ok := to.(Copier); ok {
		a, err := c.CopyFrom(ctx, key, from, source, writeID)
		if !errors.Is(err, ErrElsewhere) {
			return a, err
		}
	}
	o, err := from.Get(ctx, source)
	if err != nil {
		return Attrs{}, err
	}
	gen, err := to.Put(ctx, key, o.Body, writeID, IfAbsent())
	return Attrs{Key: key, Gen: gen, WriteID: writeID, Size: o.Size}, err
}

// elsewhere is the error for a copy that a store cannot make itself.
func elsewhere(key string) error { return &OpError{Op: "copy", Key: key, Err: ErrElsewhere} }
