// Package layout says where the functions, variables and structures of PostgreSQL are in one build of pglite.wasm, whose
// names its makers stripped. A host that serves as PostgreSQL's postmaster and kernel needs some of them.
//
//	l, err := layout.For(set.SHA256())
//	exit := l.Functions["proc_exit"]   // its index
//	pid := l.Addresses["MyProcPid"]    // where the variable is in memory
//
// The tables are found by a program: [Find] uses a binary's exports, the strings that its functions refer to, and the
// shapes of its code (rules.go says how, for each). For a new PGlite:
//
//	go run ./core/pglite/internal/layout/find pglite.wasm >core/pglite/internal/layout/pglite0517.go
//
// and one more entry in layouts. If a rule no longer fits, the error names it; the command's -function and -text show
// what the code looks like now. A host checks itself against its table when it starts: [Layout.CheckProgram] and
// [Layout.CheckMemory].
//
// All names are PostgreSQL's own, or the C library's for what belongs to it. Numbers are those of the binary as
// published, before any change: function indexes count the imported functions first.
package layout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnknown is wrapped when nothing is known about a binary. Use the binary that the message names.
var ErrUnknown = errors.New("the layout of this pglite.wasm is unknown")

// Layout says where things are in one build of pglite.wasm.
type Layout struct {
	SHA256   string // of pglite.wasm, in hex
	PGlite   string // the version of the npm package, such as "0.5.16"
	Postgres string // the version of PostgreSQL, such as "18.6"

	Functions map[string]uint32 // indexes of functions
	Addresses map[string]uint32 // of variables, in memory
	Slots     map[string]uint32 // of functions, in the table of indirect calls
	Sizes     map[string]uint32 // of structures, in bytes
	Offsets   map[string]uint32 // of a structure's fields, in bytes: "PGPROC.procLatch"
}

// For returns the layout of the pglite.wasm with the given SHA-256, in hex. Errors match [ErrUnknown].
func For(sha256 string) (*Layout, error) {
	var known []string
	for _, l := range layouts() {
		if strings.EqualFold(l.SHA256, sha256) {
			return &l, nil
		}
		known = append(known, l.PGlite)
	}
	slices.Sort(known)
	return nil, fmt.Errorf("look up the layout of the pglite.wasm with SHA-256 %q: %w; known are those of PGlite %s: use one of them",
		sha256, ErrUnknown, strings.Join(known, ", "))
}

func layouts() []Layout { return []Layout{pglite0516(), pglite0517()} }
