package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/store"
	"blobpglite/runner/check"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// MetricDocs makes documentation of metrics from pairs: a metric's name, and what it is.
func MetricDocs(pairs ...string) []scenario.MetricDoc {
	docs := make([]scenario.MetricDoc, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		docs = append(docs, scenario.MetricDoc{Name: pairs[i], Doc: pairs[i+1]})
	}
	return docs
}

// OpsOf converts a store's counts to those of a record.
func OpsOf(o store.Ops) record.Ops {
	return record.Ops{ClassA: o.ClassA, ClassB: o.ClassB, Delete: o.Delete, BytesUp: o.BytesUp, BytesDown: o.BytesDown}
}

// ObjectsOf reads the objects of a database, records and manifest with their bodies.
func ObjectsOf(ctx context.Context, st store.Store) ([]check.Object, error) {
	const atOnce = 16 // requests, as the bucket may be far away
	var list []check.Object
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return nil, fmt.Errorf("list the bucket: %w", err)
		}
		list = append(list, check.Object{Key: a.Key, Size: a.Size})
	}
	gone := make([]bool, len(list))
	getting, inner := errgroup.WithContext(ctx)
	getting.SetLimit(atOnce)
	for i, o := range list {
		if o.Key != "manifest" && !strings.HasPrefix(o.Key, "wal/") {
			continue
		}
		getting.Go(func() error {
			whole, err := st.Get(inner, o.Key)
			if errors.Is(err, store.ErrNotFound) {
				gone[i] = true // collected in the meantime
				return nil
			}
			list[i].Body = whole.Body
			return err
		})
	}
	if err := getting.Wait(); err != nil {
		return nil, err
	}
	kept := list[:0]
	for i, o := range list {
		if !gone[i] {
			kept = append(kept, o)
		}
	}
	return kept, nil
}
