//go:build !unix

package assets

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// tryLock refuses: without a lock that ends with its process, two makers could
// not be told from one that crashed. A cache filled elsewhere can still be used.
func tryLock(*os.File) (held bool, err error) {
	return false, fmt.Errorf("lock a file on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
