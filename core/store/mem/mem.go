// Package mem is the reference implementation of store.Store: objects in a map.
//
//	st := mem.New(mem.Options{})
//	gen, err := st.Put(ctx, "manifest", body, store.NewWriteID(), store.IfAbsent())
//	o, err := st.Get(ctx, "manifest")
//
// It does what the contract says and nothing more: no latency, no faults, no rate limit. Bodies are copied on the way
// in and out, so neither side can change the other's. Generations are unique and rise across the whole store, also
// across deletes. It does not survive its process.
package mem

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// Options configures a Store. The zero value is useful.
type Options struct {
	Clock clock.Clock // stamps Attrs.Updated; nil: the system's
}

// Store is an object store in memory. Create it with New. It is safe for concurrent use, and implements
// store.RangeGetter too.
type Store struct {
	clock clock.Clock

	mu      sync.RWMutex
	objects map[string]object
	keys    []string // of objects, ascending
	last    store.Gen
}

type object struct {
	body    []byte // never changed once stored
	gen     store.Gen
	writeID string
	updated time.Time
}

var (
	_ store.Store       = (*Store)(nil)
	_ store.RangeGetter = (*Store)(nil)
	_ store.Copier      = (*Store)(nil)
)

// New returns an empty store.
func New(o Options) *Store {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	return &Store{clock: o.Clock, objects: make(map[string]object)}
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	o, err := s.lookup(ctx, key, store.CheckKey(key))
	if err != nil {
		return store.Object{}, err
	}
	return store.Object{Attrs: o.attrs(key), Body: slices.Clone(o.body)}, nil
}

// GetRange implements store.RangeGetter.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (store.Object, error) {
	o, err := s.lookup(ctx, key, store.CheckRange(key, offset, length))
	if err != nil {
		return store.Object{}, err
	}
	size := int64(len(o.body))
	start := min(offset, size)
	end := start + min(length, size-start)
	return store.Object{Attrs: o.attrs(key), Body: slices.Clone(o.body[start:end])}, nil
}

// lookup finds an object, unless the arguments were found invalid or ctx is done.
func (s *Store) lookup(ctx context.Context, key string, invalid error) (object, error) {
	if invalid != nil {
		return object{}, fail("get", key, invalid)
	}
	if err := ctx.Err(); err != nil {
		return object{}, fail("get", key, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, fail("get", key, store.ErrNotFound)
	}
	return o, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	if err := store.CheckPut(key, body, writeID, cond); err != nil {
		return 0, fail("put", key, err)
	}
	if err := ctx.Err(); err != nil {
		return 0, fail("put", key, err)
	}
	return s.put(key, append([]byte{}, body...), writeID, cond)
}

// put stores a body that is never changed.
func (s *Store) put(key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	current, exists := s.objects[key]
	if !cond.Holds(current.gen) {
		if exists && current.writeID == writeID {
			return current.gen, nil // a repetition of this very write
		}
		return 0, &store.OpError{Op: "put", Key: key, Gen: current.gen, Err: store.ErrConflict}
	}
	if !exists {
		i, _ := slices.BinarySearch(s.keys, key)
		s.keys = slices.Insert(s.keys, i, key)
	}
	s.last++
	s.objects[key] = object{body: body, gen: s.last, writeID: writeID, updated: s.clock.Now()}
	return s.last, nil
}

// CopyFrom implements store.Copier, from any store of this kind: the two share the bytes.
func (s *Store) CopyFrom(ctx context.Context, key string, from store.Store, source, writeID string) (store.Attrs, error) {
	if err := store.CheckPut(key, nil, writeID, store.IfAbsent()); err != nil {
		return store.Attrs{}, fail("copy", key, err)
	}
	from, source = store.Unviewed(from, source)
	other, ok := from.(*Store)
	if !ok {
		return store.Attrs{}, fail("copy", key, store.ErrElsewhere)
	}
	o, err := other.lookup(ctx, source, store.CheckKey(source))
	if err != nil {
		return store.Attrs{}, err
	}
	gen, err := s.put(key, o.body, writeID, store.IfAbsent())
	return store.Attrs{Key: key, Gen: gen, WriteID: writeID, Size: int64(len(o.body))}, err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return fail("delete", key, err)
	}
	if err := ctx.Err(); err != nil {
		return fail("delete", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[key]; !ok {
		return nil
	}
	delete(s.objects, key)
	i, _ := slices.BinarySearch(s.keys, key)
	s.keys = slices.Delete(s.keys, i, i+1)
	return nil
}

// List implements store.Store: each page is a consistent snapshot, as on a real store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return func(yield func(store.Attrs, error) bool) {
		if err := store.CheckList(prefix, after); err != nil {
			yield(store.Attrs{}, fail("list", prefix, err))
			return
		}
		for {
			if err := ctx.Err(); err != nil {
				yield(store.Attrs{}, fail("list", prefix, err))
				return
			}
			page := s.page(prefix, after)
			for _, a := range page {
				if !yield(a, nil) {
					return
				}
			}
			if len(page) < store.PageSize {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

// page returns up to store.PageSize objects.
func (s *Store) page(prefix, after string) []store.Attrs {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, found := slices.BinarySearch(s.keys, max(prefix, after))
	if found && after != "" && s.keys[i] == after {
		i++
	}
	var page []store.Attrs
	for ; i < len(s.keys) && len(page) < store.PageSize; i++ {
		key := s.keys[i]
		if len(key) < len(prefix) || key[:len(prefix)] != prefix {
			break
		}
		page = append(page, s.objects[key].attrs(key))
	}
	return page
}

func (o object) attrs(key string) store.Attrs {
	return store.Attrs{Key: key, Gen: o.gen, WriteID: o.writeID, Size: int64(len(o.body)), Updated: o.updated}
}

func fail(op, key string, err error) error { return &store.OpError{Op: op, Key: key, Err: err} }
