package step

import (
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/faults/model"
	"blobpglite/faults/storefault"
)

// modelledStore is a bucket in memory that takes as long, and refuses as often, as the service is modelled to: latency
// by size, one write a second for each name. What it cannot show is the real network.
type modelledStore struct {
	*storefault.Store
	counted *store.Counted // what reached the bucket
}

func newModelledStore(seed uint64) (*modelledStore, error) {
	counted := store.Count(mem.New(mem.Options{}))
	st, err := storefault.New(counted, storefault.Options{Seed: seed, Latency: model.DefaultLatency(), Rate: model.DefaultRate()})
	if err != nil {
		return nil, err
	}
	return &modelledStore{Store: st, counted: counted}, nil
}

// slowed puts the model in front of a store that is already there.
func slowed(st store.Store, seed uint64) (*storefault.Store, error) {
	return storefault.New(st, storefault.Options{Seed: seed, Latency: model.DefaultLatency(), Rate: model.DefaultRate()})
}
