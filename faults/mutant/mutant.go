// Package mutant holds deliberately broken variants of the protocol's code, each with the invariant it breaks. A check that catches none of
// them proves nothing.
//
//	root, err := mutant.Root(".")                       // the checkout
//	overlay, err := m.Overlay(root, dir)                // dir: where to write the broken file
//	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./runner/explore/explorer")
//
// A mutant replaces one snippet of one source file at build time: nothing of it is wired into the code. A snippet that does not occur
// exactly once is an error, so that a change of the code is noticed.
package mutant

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrStale: the code has changed, so that the mutant's snippet no longer occurs, or occurs twice. Adapt the mutant.
var ErrStale = errors.New("the snippet does not occur exactly once")

// Mutant is one broken variant.
type Mutant struct {
	Name string
	// Invariant is the one it breaks; the check that catches it may belong to another one, which breaks earlier.
	Invariant string
	File      string // in the checkout, slashes
	Old, New  string // the snippet and its replacement
	Doc       string // what is broken
	Plan      string // what has to catch it: a plan of the explorer, a probe, or packages or flags of go test
}

// Root is the checkout that a folder belongs to: the nearest folder with a go.mod, from dir upwards. Error: os.ErrNotExist.
func Root(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("find the checkout: no go.mod here or above: run it from the repository: %w", os.ErrNotExist)
		}
		dir = up
	}
}

// Overlay writes the broken file into dir, and next to it the file for `go build -overlay`, whose path it returns. Errors: ErrStale, the
// file system's.
func (m Mutant) Overlay(root, dir string) (string, error) {
	source := filepath.Join(root, filepath.FromSlash(m.File))
	text, err := os.ReadFile(source)
	if err != nil {
		return "", fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	if n := strings.Count(string(text), m.Old); n != 1 {
		return "", fmt.Errorf("mutant %s: %s: %w, but %d times", m.Name, m.File, ErrStale, n)
	}
	broken := filepath.Join(dir, m.Name+".go")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(text), m.Old, m.New, 1)), 0o600); err != nil {
		return "", fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: broken}})
	if err != nil {
		return "", fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	name := filepath.Join(dir, m.Name+".json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		return "", fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	return name, nil
}

// Named returns the mutants with these names, in the order of the table; without names: all. An unknown name is an error.
func Named(names ...string) ([]Mutant, error) {
	all := Mutants()
	if len(names) == 0 {
		return all, nil
	}
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	var out []Mutant
	for _, m := range all {
		if wanted[m.Name] {
			out = append(out, m)
			delete(wanted, m.Name)
		}
	}
	for n := range wanted {
		return nil, fmt.Errorf("there is no mutant %q", n)
	}
	return out, nil
}
