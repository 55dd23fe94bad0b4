package storetest

import (
	"context"
	"sync"

	"blobpglite/core/store"
)

// Forgetful returns a view of a store that applies the first try of every write but loses its reply, and that loses
// the write id of every object: a writer must recognize its object by the bytes.
func Forgetful(below store.Store) store.Store {
	return &forgetful{Store: below, tried: map[write]bool{}}
}

type forgetful struct {
	store.Store
	mu    sync.Mutex
	tried map[write]bool
}

type write struct{ key, id string }

// Put implements store.Store.
func (f *forgetful) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	gen, err := f.Store.Put(ctx, key, body, store.NewWriteID(), cond)
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := (write{key, id}); err == nil && !f.tried[w] {
		f.tried[w] = true
		return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
	}
	return gen, err
}
