package bench

import (
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/faults/model"
	"blobpglite/faults/storefault"
)

// ModeledStore is a bucket in memory with the service's modeled latency and limits: latency by size, one write per second and name. It
// does not model the network.
type ModeledStore struct {
	*storefault.Store
	Counted *store.Counted // counts what reached the bucket
}

// NewModeledStore makes an empty one. seed is for its latencies.
func NewModeledStore(seed uint64) (*ModeledStore, error) {
	counted := store.Count(mem.New(mem.Options{}))
	st, err := storefault.New(counted, storefault.Options{Seed: seed, Latency: model.DefaultLatency(), Rate: model.DefaultRate()})
	if err != nil {
		return nil, err
	}
	return &ModeledStore{Store: st, Counted: counted}, nil
}

// Slowed puts the model in front of an existing store.
func Slowed(st store.Store, seed uint64) (*storefault.Store, error) {
	return storefault.New(st, storefault.Options{Seed: seed, Latency: model.DefaultLatency(), Rate: model.DefaultRate()})
}
