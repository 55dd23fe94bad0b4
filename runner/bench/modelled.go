package bench

import (
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/faults/model"
	"blobpglite/faults/storefault"
)

// ModelledStore is a bucket in memory that takes as long, and refuses as often, as the service is modelled to: latency
// by size, one write a second for each name. What it cannot show is the real network.
type ModelledStore struct {
	*storefault.Store
	Counted *store.Counted // what reached the bucket
}

func NewModelledStore(seed uint64) (*ModelledStore, error) {
	counted := store.Count(mem.New(mem.Options{}))
	st, err := storefault.New(counted, storefault.Options{Seed: seed, Latency: model.DefaultLatency(), Rate: model.DefaultRate()})
	if err != nil {
		return nil, err
	}
	return &ModelledStore{Store: st, Counted: counted}, nil
}

// Slowed puts the model in front of a store that is already there.
func Slowed(st store.Store, seed uint64) (*storefault.Store, error) {
	return storefault.New(st, storefault.Options{Seed: seed, Latency: model.DefaultLatency(), Rate: model.DefaultRate()})
}
