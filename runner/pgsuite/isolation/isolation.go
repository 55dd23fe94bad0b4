package isolation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Database is where the tests run, as PostgreSQL's own runner calls it.
const Database = "isolation_regression"

// Suite is PostgreSQL's isolation tests, in its source.
type Suite struct {
	folder string
	Names  []string // in the order of the schedule
}

// Open finds the suite in PostgreSQL's source.
func Open(source string) (*Suite, error) {
	s := &Suite{folder: filepath.Join(source, "src", "test", "isolation")}
	schedule, err := os.ReadFile(filepath.Join(s.folder, "isolation_schedule"))
	if err != nil {
		return nil, fmt.Errorf("find PostgreSQL's isolation tests: %w", err)
	}
	for line := range strings.Lines(string(schedule)) {
		if names, ok := strings.CutPrefix(line, "test:"); ok {
			s.Names = append(s.Names, strings.Fields(names)...)
		}
	}
	if len(s.Names) == 0 {
		return nil, fmt.Errorf("find PostgreSQL's isolation tests: the schedule in %s names none", s.folder)
	}
	return s, nil
}

// Prepare makes the tests' database, anew, on a server whose database postgres conn leads to.
func Prepare(ctx context.Context, conn string) error {
	c, err := pgconn.Connect(ctx, conn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, sql := range []string{
		"DROP DATABASE IF EXISTS " + Database, "CREATE DATABASE " + Database + " TEMPLATE template0",
		"ALTER DATABASE " + Database + " SET bytea_output TO 'hex'", "ALTER DATABASE " + Database + " SET timezone_abbreviations TO 'Default'",
	} {
		if _, err := c.Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("prepare the isolation tests: %s: %w", sql, err)
		}
	}
	return nil
}

// settings are those that PostgreSQL's runner gives the tester.
const settings = "datestyle=Postgres,MDY&timezone=America/Los_Angeles&intervalstyle=postgres_verbose"

// Outcome is what became of a test.
type Outcome struct {
	Name  string
	Wrong string // what differs first from what PostgreSQL expects, or why there is nothing to compare; empty: nothing
}

// Test runs one of the suite's tests on a server, host:port.
func (s *Suite) Test(ctx context.Context, server, name string, o Options) (Outcome, error) {
	text, err := os.ReadFile(filepath.Join(s.folder, "specs", name+".spec"))
	if err != nil {
		return Outcome{}, err
	}
	spec, err := Parse(string(text))
	if err != nil {
		return Outcome{}, fmt.Errorf("%s: %w", name, err)
	}
	o.Name = name
	o.Conn = "postgres://postgres@" + server + "/" + Database + "?sslmode=disable&" + settings
	got, err := Run(ctx, spec, o)
	if err != nil {
		if ctx.Err() != nil {
			return Outcome{}, ctx.Err()
		}
		return Outcome{Name: name, Wrong: err.Error()}, nil
	}
	wrong, err := s.compare(name, got)
	return Outcome{Name: name, Wrong: wrong}, err
}

// compare holds an output against what PostgreSQL expects, in one way or another.
func (s *Suite) compare(name, got string) (string, error) {
	first := ""
	for _, suffix := range []string{"", "_1", "_2", "_3"} {
		want, err := os.ReadFile(filepath.Join(s.folder, "expected", name+suffix+".out"))
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return "", err
		case bytes.Equal(want, []byte(got)):
			return "", nil
		case first == "":
			first = differs(string(want), got)
		}
	}
	if first == "" {
		return "", fmt.Errorf("PostgreSQL's source has no expected output of %s", name)
	}
	return first, nil
}

// differs is the first line in which two outputs differ.
func differs(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		switch {
		case i >= len(g):
			return fmt.Sprintf("line %d: the end instead of %q", i+1, w[i])
		case i >= len(w):
			return fmt.Sprintf("line %d: %q behind the end", i+1, g[i])
		case w[i] != g[i]:
			return fmt.Sprintf("line %d: %q instead of %q", i+1, g[i], w[i])
		}
	}
	return "nothing"
}
