#!/usr/bin/env bash
# Go's testing: what a parallel test's Cleanup functions refer to stays in memory after they have run, until the last parallel test has ended.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOTOOLCHAIN=go1.26.8
cat >go.mod <<'EOT'
module finding

go 1.26.0
EOT
cat >keeps_test.go <<'EOT'
package finding

import (
	"fmt"
	"runtime"
	"testing"
	"weak"
)

var (
	large weak.Pointer[[1 << 20]byte]
	ended = make(chan struct{})
)

// TestWithCleanup has a megabyte that only its cleanup refers to.
func TestWithCleanup(t *testing.T) {
	t.Parallel()
	block := new([1 << 20]byte)
	large = weak.Make(block)
	t.Cleanup(func() { close(ended) }) // runs last
	t.Cleanup(func() { block[0]++ })
}

// TestLooks looks whether the megabyte is still there when that test's last cleanup has run.
func TestLooks(t *testing.T) {
	t.Parallel()
	<-ended
	for range 100 { // long after that test's goroutine has ended
		runtime.GC()
	}
	fmt.Printf("seen:     the block is in memory after its test: %v\n", large.Value() != nil)
}
EOT
echo "version:  $(go env GOVERSION)"
echo "expected: false: the cleanup has run, and nothing else refers to the block"
go test -parallel 2 -v . >out.log 2>&1 || { cat out.log; exit 2; }
grep '^seen:' out.log
grep -q '^seen:.*true$' out.log || { echo "CHANGED: the block was collected"; exit 1; }
echo "as stated: parallel tests that each clean up a database hold all of them at the end; a cleanup that drops its own reference does not"
