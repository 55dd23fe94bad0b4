//go:build !unix || solaris || aix

package file

import "errors"

// Lock is unsupported: Open refuses.
func (f osFile) Lock(bool) (bool, error) { return false, errors.ErrUnsupported }
