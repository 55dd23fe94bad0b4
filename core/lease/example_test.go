package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"blobpglite/core/lease"
	"blobpglite/core/store/mem"
)

func Example() {
	ctx, st := context.Background(), mem.New(mem.Options{})
	first, err := lease.Acquire(ctx, lease.Options{Store: st, Holder: "first", TTL: time.Minute}, 0)
	if err != nil {
		log.Fatal(err)
	}
	_, err = lease.Acquire(ctx, lease.Options{Store: st, Holder: "second"}, 0)
	var locked *lease.LockedError
	if errors.As(err, &locked) {
		fmt.Println("held by", locked.Holder)
	}
	if err := first.Ensure(ctx); err != nil { // at the start of each request; asks nobody while the lease is valid
		log.Fatal(err)
	}
	if err := first.Release(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = lease.Acquire(ctx, lease.Options{Store: st, Holder: "second"}, 0)
	fmt.Println(err)
	// Output:
	// held by first
	// <nil>
}
