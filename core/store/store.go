// Package store is the contract of an object store: four verbs, bytes in, bytes out, and two conditions on which
// everything else is built: create if absent, and compare and swap.
//
//	gen, err := st.Put(ctx, "wal/00000000000000000007", record, store.NewWriteID(), store.IfAbsent())
//	switch {
//	case err == nil:                          // stored, by us
//	case errors.Is(err, store.ErrConflict):   // another writer's object is there: look at it
//	case errors.Is(err, store.ErrUnknown):    // stored or not, still unknown: resolve, never guess
//	}
//
// A store is strongly consistent: every later Get and List sees what a Put or Delete acknowledged. A generation
// identifies one version of one key; generations of a key rise and are never reused, not even after a delete.
//
// Bodies are byte slices, not readers: a reader that fails halfway can make a client publish a truncated object.
//
// Survives: a lost reply (the write id stored with the object tells whose it is), a repeated request, many writers of
// one key. Does not survive: a store that ignores preconditions. Implementations that talk to a real service can
// check theirs (see gcs.Store.Probe).
//
// Implementations: store/mem, the reference, store/gcs, and store/file, a local folder. All pass store/storetest.
// store/location opens one by its URL.
package store

import (
	"context"
	"iter"
	"time"
)

// Gen is the generation of an object: it identifies one version of one key, and rises with each write. Zero means
// that the object does not exist.
type Gen int64

// Attrs describes one stored version of an object.
type Attrs struct {
	Key     string
	Gen     Gen
	WriteID string    // the ID given to the Put that made this version; empty if none was
	Size    int64     // bytes of the whole body
	Updated time.Time // when it was written, by the store's clock; some stores round it to seconds
}

// Object is one stored version: attributes and body. The body belongs to the caller.
type Object struct {
	Attrs
	Body []byte
}

// Store is an object store. Implementations are safe for concurrent use; every error they return is an *OpError that
// wraps one of this package's sentinels or the context's error.
type Store interface {
	// Get returns the newest version of the object, or ErrNotFound.
	Get(ctx context.Context, key string) (Object, error)

	// Put stores body under key if cond holds, and returns the new generation. The body is neither kept nor changed,
	// and must not be changed before Put returns.
	//
	// writeID is the caller's ID of this logical write (see NewWriteID), stored with the object. It is required
	// unless cond is Always. A conditional Put has three outcomes:
	//   - nil: this write is stored. Also when the object was found to carry writeID: repeating a Put that
	//     was already applied succeeds and changes nothing.
	//   - ErrConflict: the object was seen to be another writer's (or, for IfGen, absent), against cond.
	//   - ErrUnknown: neither was seen. The write may have been applied, or may still be. ErrThrottled, ErrDenied
	//     and ErrInvalid mean that it was not.
	//
	// A body above MaxBodyBytes is refused with ErrInvalid.
	Put(ctx context.Context, key string, body []byte, writeID string, cond Cond) (Gen, error)

	// Delete removes the object. It is not an error if the object is already absent.
	Delete(ctx context.Context, key string) error

	// List yields the objects whose keys start with prefix and, if after is not empty, come strictly after it, in
	// ascending order of keys (bytes). Prefix and after need not be whole keys. Objects written or deleted during the
	// listing may or may not be seen. An error ends the sequence. Attrs.WriteID is set.
	List(ctx context.Context, prefix, after string) iter.Seq2[Attrs, error]
}

// RangeGetter is a Store that reads pieces of objects. Find it by type assertion.
type RangeGetter interface {
	// GetRange returns length bytes from offset on, fewer if the object ends before that; Attrs.Size is that of the
	// whole object. An offset at or beyond the end gives an empty body. A negative offset or a length that is not
	// positive is ErrInvalid.
	GetRange(ctx context.Context, key string, offset, length int64) (Object, error)
}

// Bounds that every implementation enforces.
const (
	// MaxKeyBytes bounds a key, in bytes of UTF-8. Source: cloud.google.com/storage/docs/objects#naming.
	MaxKeyBytes = 1024
	// MaxWriteIDBytes bounds a write id.
	MaxWriteIDBytes = 128
	// MaxBodyBytes bounds a body, up and down: a whole object is held in memory. Layers and records are cut into
	// parts far below it.
	MaxBodyBytes = 256 << 20
	// PageSize is the largest number of objects that one request of a List returns.
	// Source: cloud.google.com/storage/docs/json_api/v1/objects/list (maxResults).
	PageSize = 1000
)

type condKind uint8

const (
	condNone condKind = iota // the zero value: refused
	condAlways
	condIfAbsent
	condIfGen
)

// Cond is the precondition of a Put. Make one with Always, IfAbsent or IfGen; the zero value is refused.
type Cond struct {
	kind condKind
	gen  Gen
}

// Always is no condition: the last writer wins. It is for objects where losing a version does no harm.
func Always() Cond { return Cond{kind: condAlways} }

// IfAbsent holds if no object has the key: of concurrent tries, exactly one succeeds.
func IfAbsent() Cond { return Cond{kind: condIfAbsent} }

// IfGen holds if the object's generation is g. A g that is not positive is refused: a generation left unset by
// mistake must not mean "absent", which is IfAbsent.
func IfGen(g Gen) Cond { return Cond{kind: condIfGen, gen: g} }

// Precondition returns the generation that the object must have (0: it must be absent), and whether there is a
// condition at all.
func (c Cond) Precondition() (g Gen, conditional bool) {
	return c.gen, c.kind == condIfAbsent || c.kind == condIfGen
}

// Holds reports whether c allows a write over an object of generation current (0: absent).
func (c Cond) Holds(current Gen) bool {
	switch c.kind {
	case condAlways:
		return true
	case condIfAbsent:
		return current == 0
	case condIfGen:
		return c.gen > 0 && current == c.gen
	default:
		return false
	}
}
