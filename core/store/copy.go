package store

import (
	"context"
	"errors"
)

// ErrElsewhere: a Copier cannot copy from there without the bytes passing through its caller. Nothing was sent: get, and put (Copy does).
var ErrElsewhere = errors.New("the source is not in the same service")

// Copier is a Store that copies objects within its service, so that their bytes do not pass through the caller. Find it by type assertion,
// or use Copy.
type Copier interface {
	// CopyFrom stores what from has under source, as it is then, under key, if nothing has that key, and returns its attributes. The ends
	// are those of a Put of IfAbsent, by writeID, which the copy gets; ErrNotFound: there is nothing under source; ErrElsewhere.
	CopyFrom(ctx context.Context, key string, from Store, source, writeID string) (Attrs, error)
}

// Viewed is a Store that is a view of another one.
type Viewed interface {
	// View gives the store that is viewed, and what a key of the view is there.
	View(key string) (Store, string)
}

// Unviewed follows views to the store behind them, and what a key is there.
func Unviewed(s Store, key string) (Store, string) {
	for {
		v, ok := s.(Viewed)
		if !ok {
			return s, key
		}
		s, key = v.View(key)
	}
}

// Copy copies an object to where nothing has the key, within the service if to is a Copier that reaches from, else by a Get and a Put. It returns
// the copy's attributes as far as they are known: Key, Gen, WriteID and Size. Ends as those of Copier.CopyFrom.
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

// elsewhere is the end of a copy that a store cannot make by itself.
func elsewhere(key string) error { return &OpError{Op: "copy", Key: key, Err: ErrElsewhere} }
