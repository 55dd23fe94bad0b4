package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// With -short, vet, staticcheck and the tests cover what has changed since the branch left main: the packages with changed files, and
// those that import one of them, in code or tests. Indirect importers are left to the whole run.

// everything is the go command's pattern for all packages.
const everything = "./..."

// importer is a package with its imports.
type importer struct {
	Dir, ImportPath                    string
	Imports, TestImports, XTestImports []string
}

// narrow sets the packages that -short covers.
func (c *checker) narrow(ctx context.Context) error {
	files, err := changedFiles(ctx, c.root)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-json=Dir,ImportPath,Imports,TestImports,XTestImports", everything)
	cmd.Dir = c.root
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the packages: %w", err)
	}
	var all []importer
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p importer
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("list the packages: %w", err)
		}
		if p.Dir, err = filepath.Rel(c.root, p.Dir); err != nil {
			return fmt.Errorf("list the packages: %w", err)
		}
		p.Dir = filepath.ToSlash(p.Dir)
		all = append(all, p)
	}
	c.only = affected(all, files)
	fmt.Fprintf(c.stdout, "changed: %d files; checking %s\n", len(files), strings.Join(c.packages(), " "))
	return nil
}

// packages returns the packages that vet, staticcheck and the tests cover.
func (c *checker) packages() []string {
	if len(c.only) == 0 {
		return []string{everything}
	}
	return c.only
}

// changedFiles returns the files that differ from the commit where the branch left main, committed or not, including new ones. On main itself,
// it returns those that are not committed.
func changedFiles(ctx context.Context, root string) ([]string, error) {
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w", args[0], err)
		}
		return string(out), nil
	}
	base := "HEAD"
	for _, name := range []string{"main", "origin/main"} {
		if at, err := git("merge-base", "HEAD", name); err == nil {
			base = strings.TrimSpace(at)
			break
		}
	}
	differ, err := git("diff", "--name-only", "-z", "--no-renames", base)
	if err != nil {
		return nil, err
	}
	fresh, err := git("ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(differ+fresh, func(r rune) bool { return r == 0 }), nil
}

// affected returns the packages that changed files belong to, and those that import one of them, as ./folder; nil: all packages.
func affected(all []importer, files []string) []string {
	byDir := map[string]importer{}
	for _, p := range all {
		byDir[p.Dir] = p
	}
	changed, found := map[string]bool{}, map[string]bool{}
	note := func(dir string) {
		if p, ok := byDir[dir]; ok {
			changed[p.ImportPath], found[dir] = true, true
		}
	}
	for _, f := range files {
		switch {
		case f == "go.mod" || f == "go.sum":
			return nil
		case f == "README.md": // its commands
			note("cloud/pgserve")
			continue
		case path.Ext(f) == ".md":
			continue
		}
		for dir := path.Dir(f); ; dir = path.Dir(dir) { // testdata and the like belong to the package above
			if _, ok := byDir[dir]; ok {
				note(dir)
				break
			}
			if dir == "." {
				break
			}
		}
	}
	for _, p := range all {
		if slices.ContainsFunc(slices.Concat(p.Imports, p.TestImports, p.XTestImports), func(path string) bool { return changed[path] }) {
			found[p.Dir] = true
		}
	}
	var names []string
	for dir := range found {
		if dir != "." {
			dir = "./" + dir
		}
		names = append(names, dir)
	}
	slices.Sort(names)
	return names
}
