//go:build !unix

package assets

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// tryLock refuses: without a lock that ends with its process, a running maker could not be told from a crashed one. A
// cache filled elsewhere can still be used.
func tryLock(*os.File) (held bool, err error) {
	return false, fmt.Errorf("lock a file on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
