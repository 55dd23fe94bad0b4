package clients

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"blobpglite/runner/service"
)

// suiteTrials are drivers' own tests. The packages lack them: they come from a clone of the source, and run against the package.
func suiteTrials() []Trial {
	return []Trial{
		{Name: "node_postgres_suite", Doc: "node-postgres' own integration tests, file by file", Suite: true, TLS: true, run: tryNodePostgresSuite},
		{Name: "postgres_js_suite", Doc: "postgres.js' own tests; a failed one does not stop the others", Suite: true, TLS: true, run: tryPostgresJSSuite},
	}
}

// clone returns a folder of a clone of a client's source.
func (e *Env) clone(repository, folder string) (string, error) {
	if e.Clones == "" {
		return "", fmt.Errorf("a clone of %s, whose package lacks its tests, is %w: name the folder it is in by -set clones=FOLDER", repository, ErrMissing)
	}
	path := filepath.Join(e.Clones, repository, folder)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("a clone of %s is %w: %w", repository, ErrMissing, err)
	}
	return path, nil
}

// workplace is a folder with a package as npm has it, and its tests.
func (e *Env) workplace(ctx context.Context, pack, tests, as string, packages ...string) (string, error) {
	folder, err := e.npm(ctx, packages...)
	if err != nil {
		return "", err
	}
	modules, target := filepath.Join(folder, "node_modules"), filepath.Join(e.Folder, "suite", pack)
	if err := os.CopyFS(target, os.DirFS(filepath.Join(modules, pack))); err != nil {
		return "", err
	}
	if err := os.CopyFS(filepath.Join(target, as), os.DirFS(tests)); err != nil {
		return "", err
	}
	return target, os.Symlink(modules, filepath.Join(e.Folder, "suite", "node_modules"))
}

// environment tells a libpq-like client where the server is.
func (e *Env) environment(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") })
	path := os.Getenv("PATH")
	if e.Programs != "" {
		path = e.Programs + string(os.PathListSeparator) + path
	}
	own := []string{"PATH=" + path, "PGHOST=127.0.0.1", fmt.Sprintf("PGPORT=%d", e.Port), "PGUSER=postgres", "PGDATABASE=postgres", "PGSSLMODE=disable"}
	if e.Password != "" {
		own = append(own, "PGPASSWORD="+e.Password)
	}
	return slices.Concat(env, own, more)
}

func tryNodePostgresSuite(ctx context.Context, e *Env) (Outcome, error) {
	tests, err := e.clone("node-postgres", "packages/pg/test")
	if err != nil {
		return Outcome{}, err
	}
	place, err := e.workplace(ctx, "pg", tests, "test", npmPG, "async@2.6.4", "bluebird@3.7.2", "co@4.6.0", "pg-copy-streams@0.3.0")
	if err != nil {
		return Outcome{}, err
	}
	var files []string
	err = filepath.WalkDir(filepath.Join(place, "test", "integration"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, "-tests.js") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		return Outcome{}, errors.Join(fmt.Errorf("node-postgres' tests: %d files", len(files)), err)
	}
	slices.Sort(files)
	got := Outcome{Failed: map[string]string{}}
	for i, file := range files {
		name, _ := filepath.Rel(filepath.Join(place, "test"), file)
		e.Progress("node-postgres: "+name, int64(i), int64(len(files)))
		if wrong := e.testFile(ctx, place, file); wrong != "" {
			got.Failed[name] = wrong
		} else {
			got.Passed = append(got.Passed, name)
		}
		if ctx.Err() != nil {
			return got, ctx.Err()
		}
	}
	return got, nil
}

// testFile runs one file of tests, and returns what went wrong.
func (e *Env) testFile(ctx context.Context, place, file string) string {
	const limit = time.Minute
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(bounded, "node", file)
	service.OwnGroup(cmd)
	cmd.Dir, cmd.Env = place, e.environment()
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return ""
	case bounded.Err() != nil:
		return fmt.Sprintf("not ended after %s: %s", limit, tail(string(out)))
	}
	return fmt.Sprintf("%v: %s", err, tail(string(out)))
}

func tryPostgresJSSuite(ctx context.Context, e *Env) (Outcome, error) {
	tests, err := e.clone("postgres", "tests")
	if err != nil {
		return Outcome{}, err
	}
	for _, tool := range []string{"psql", "createdb"} {
		if err := missing(tool, "Debian: postgresql-client"); err != nil {
			return Outcome{}, err
		}
	}
	place, err := e.workplace(ctx, "postgres", tests, "tests", "postgres@3.4.9")
	if err != nil {
		return Outcome{}, err
	}
	// Its runner ends at the first test that fails, and its preparations change the server's settings.
	for _, name := range []string{"test.js", "bootstrap.js"} {
		b, err := programs.ReadFile("programs/postgres_js/" + name)
		if err != nil {
			return Outcome{}, err
		}
		if err := os.WriteFile(filepath.Join(place, "tests", name), b, 0o600); err != nil {
			return Outcome{}, err
		}
	}
	cmd := exec.CommandContext(ctx, "node", filepath.Join("tests", "index.js"))
	cmd.Dir, cmd.Env = place, e.environment()
	return e.converse(ctx, cmd)
}
