//go:build !(linux && amd64)

package lean

import "errors"

var errPlatform = errors.New("only Linux on amd64 has code without bounds checks")

// Available returns why code is compiled with bounds checks; nil: marked code is compiled without.
func Available() error { return errPlatform }

// Compile runs f.
func Compile(f func() error) error { return f() }
