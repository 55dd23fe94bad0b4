package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/store/mem"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// fakeBucket is the embedded emulator's bucket.
const fakeBucket = "experiments"

// open makes what the plan runs against.
func (x *experiment) open(ctx context.Context, out io.Writer) (func() error, error) {
	if x.plan.Target == scenario.TargetCloudRun {
		return x.openCloud(ctx, out)
	}
	return x.openStore(ctx)
}

// openStore makes the store requested by the plan.
func (x *experiment) openStore(ctx context.Context) (func() error, error) {
	x.store = &bench.Store{Kind: x.plan.Store, Prefix: "run-" + strings.ToLower(x.id)}
	switch x.plan.Store {
	case "mem":
		counted := store.Count(mem.New(mem.Options{}))
		x.store.Memory = counted
		x.ops = func() record.Ops { return bench.OpsOf(counted.Ops()) }
		return func() error { return nil }, nil
	case "fake-gcs":
		front, err := gcsfront.New(gcsfront.Options{Buckets: []string{fakeBucket}, Seed: x.f.seed})
		if err != nil {
			return nil, err
		}
		endpoint, stop, err := front.Serve(ctx)
		if err != nil {
			return nil, err
		}
		x.store.Bucket, x.store.Endpoint = fakeBucket, endpoint
		x.ops = func() record.Ops { return bench.OpsOf(front.Counters().Ops) }
		return func() error { stop(); return nil }, nil
	case "gcs":
		return x.openBucket(ctx, "")
	default:
		return nil, usageError{fmt.Errorf("there is no store %q", x.plan.Store)}
	}
}

// openBucket checks a real bucket, or one of an emulator at an endpoint. At the end, what the run wrote is removed. The nodes talk to the
// bucket themselves, so their requests are not counted here.
func (x *experiment) openBucket(ctx context.Context, endpoint string) (func() error, error) {
	bucket, prefix, err := gcs.ParseURL(x.f.bucket)
	if err != nil {
		return nil, usageError{err}
	}
	if prefix != "" {
		x.store.Prefix = prefix + "/" + x.store.Prefix
	}
	st, err := gcs.Open(ctx, gcs.Options{Bucket: bucket, Prefix: x.store.Prefix, Endpoint: endpoint})
	if err != nil {
		return nil, err
	}
	if err := st.Probe(ctx); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	x.store.Bucket, x.store.Endpoint = bucket, endpoint
	x.ops = func() record.Ops { return record.Ops{} }
	return func() error { return errors.Join(empty(context.WithoutCancel(ctx), st), st.Close()) }, nil
}

// empty deletes everything in a store, and makes sure that nothing is left.
func empty(ctx context.Context, st store.Store) error {
	const atOnce = 16
	keys := func() (all []string, err error) {
		for a, err := range st.List(ctx, "", "") {
			if err != nil {
				return nil, err
			}
			all = append(all, a.Key)
		}
		return all, nil
	}
	all, err := keys()
	if err != nil {
		return err
	}
	deleting, inner := errgroup.WithContext(ctx)
	deleting.SetLimit(atOnce)
	for _, key := range all {
		deleting.Go(func() error { return st.Delete(inner, key) })
	}
	if err := deleting.Wait(); err != nil {
		return err
	}
	if all, err = keys(); err == nil && len(all) > 0 {
		err = fmt.Errorf("empty the prefix: %d objects have been created in the meantime, such as %s: delete them", len(all), all[0])
	}
	return err
}
