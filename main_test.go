package blobpglite

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

var shared *Runtime

func TestMain(m *testing.M) {
	var err error
	if shared, err = NewRuntime(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// A memory file without any snapshot left to restore from is closed by a finalizer, which takes its time.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("runtime.runFinalizers"),
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"), // of the storage client
		goleak.Cleanup(func(code int) {
			if err := shared.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
			os.Exit(code)
		}))
}
