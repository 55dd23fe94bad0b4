package soak

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// grounds are the folders that a service may write to besides its bucket, and what was in them before it ran.
type grounds struct {
	own    []string // nothing else writes there: whatever is new is the service's
	shared []string // others do: of what is new, only files with a name that this program gives
	before map[string]bool
}

// madeByUs are parts of the names that this program gives to what it writes besides the bucket and does not mean to keep: in the cache a
// compilation is written under a name that ends in .tmp, and renamed when complete.
var madeByUs = []string{"blobpglite-", ".tmp"}

// survey records what is there now.
func survey(own, shared []string) (*grounds, error) {
	g := &grounds{own: own, shared: shared, before: map[string]bool{}}
	files, err := g.files()
	for _, f := range files {
		g.before[f] = true
	}
	return g, err
}

// left returns the files that have appeared since, and are still there.
func (g *grounds) left() (left []string, err error) {
	files, err := g.files()
	for _, f := range files {
		if !g.before[f] {
			left = append(left, f)
		}
	}
	return left, err
}

// files lists what is in the folders, at any depth.
func (g *grounds) files() (all []string, err error) {
	look := func(folder string, ours func(name string) bool) error {
		return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // no such folder on this system, or it has been removed
				return nil
			case err != nil:
				return fmt.Errorf("look for what was left: %w", err)
			case path != folder && ours(d.Name()):
				all = append(all, path)
			}
			return nil
		})
	}
	for _, folder := range g.own {
		err = errors.Join(err, look(folder, func(string) bool { return true }))
	}
	for _, folder := range g.shared {
		err = errors.Join(err, look(folder, func(name string) bool {
			return slices.ContainsFunc(madeByUs, func(part string) bool { return strings.Contains(name, part) })
		}))
	}
	return all, err
}

// leavings are the things that are still there when a service has ended, and should not be.
type leavings struct {
	instances int // that the emulator still has
	processes []string
	files     []string
	objects   []string // that nothing in the bucket leads to
}

func (l leavings) count() int { return l.instances + len(l.processes) + len(l.files) + len(l.objects) }

// wrong says what was left; empty: nothing.
func (l leavings) wrong() string {
	if l.count() == 0 {
		return ""
	}
	var parts []string
	if l.instances > 0 {
		parts = append(parts, fmt.Sprintf("%d instances", l.instances))
	}
	for _, of := range []struct {
		what  string
		names []string
	}{{"processes", l.processes}, {"files", l.files}, {"objects", l.objects}} {
		if n := len(of.names); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s, %s first", n, of.what, filepath.Base(of.names[0])))
		}
	}
	return "the service has ended, and has left " + strings.Join(parts, "; ")
}
