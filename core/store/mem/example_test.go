package mem_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// The two conditions on which everything else is built.
func Example() {
	ctx, st := context.Background(), mem.New(mem.Options{})
	gen, err := st.Put(ctx, "manifest", []byte("one"), store.NewWriteID(), store.IfAbsent())
	if err != nil {
		log.Fatal(err)
	}
	_, err = st.Put(ctx, "manifest", []byte("other"), store.NewWriteID(), store.IfAbsent())
	fmt.Println("created twice:", !errors.Is(err, store.ErrConflict))
	if _, err := st.Put(ctx, "manifest", []byte("two"), store.NewWriteID(), store.IfGen(gen)); err != nil {
		log.Fatal(err)
	}
	_, err = st.Put(ctx, "manifest", []byte("three"), store.NewWriteID(), store.IfGen(gen))
	fmt.Println("swapped twice:", !errors.Is(err, store.ErrConflict))
	o, err := st.Get(ctx, "manifest")
	fmt.Println(string(o.Body), err)
	// Output:
	// created twice: false
	// swapped twice: false
	// two <nil>
}
