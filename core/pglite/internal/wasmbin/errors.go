package wasmbin

import (
	"errors"
	"fmt"
)

// ErrFormat is wrapped by every error about the bytes of a module. The file is damaged, or of a kind that this package
// does not handle: retrying with the same bytes is useless, get the file again.
var ErrFormat = errors.New("not a usable WebAssembly module")

// Error says where in a module something is wrong.
type Error struct {
	Section string // "header", "import", "code", "custom", ...
	Offset  int    // bytes from the start of the module
	Problem string // what is wrong there
}

// Error returns the section, the offset and the problem in one line.
func (e *Error) Error() string {
	return fmt.Sprintf("read WebAssembly module: %s section, byte %d: %s", e.Section, e.Offset, e.Problem)
}

// Unwrap makes every Error match [ErrFormat].
func (e *Error) Unwrap() error { return ErrFormat }
