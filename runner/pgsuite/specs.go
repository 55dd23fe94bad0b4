package pgsuite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
	"blobpglite/runner/pgsuite/isolation"
)

// Specs are isolation tests: specifications, and the expected output of each.
type Specs struct {
	files   fs.FS // specs/<name>.spec, expected/<name>.out, and <name>_1.out to <name>_9.out for alternatives
	Names   []string
	MaxWait time.Duration // of a step; 0: like isolationtester
}

// specsDatabase is named in specifications.
const specsDatabase = "isolation_regression"

// OpenSpecs reads the isolation tests of PostgreSQL's source, in the order of its schedule, and its version.
func OpenSpecs(source string) (*Specs, string, error) {
	version, _, err := versionOf(source)
	if err != nil {
		return nil, "", err
	}
	s := &Specs{files: os.DirFS(filepath.Join(source, "src", "test", "isolation"))}
	text, err := fs.ReadFile(s.files, "isolation_schedule")
	if err != nil {
		return nil, "", fmt.Errorf("read the schedule: %w", err)
	}
	if s.Names = slices.Concat(schedule(string(text))...); len(s.Names) == 0 {
		return nil, "", fmt.Errorf("%s has no isolation tests", source)
	}
	return s, version, nil
}

// OwnSpecs reads this project's own isolation tests.
func OwnSpecs() (*Specs, error) {
	s := &Specs{files: isolation.Own()}
	files, err := fs.Glob(s.files, "specs/*.spec")
	if err != nil || len(files) == 0 {
		return nil, errors.Join(errors.New("there are no isolation tests of our own"), err)
	}
	for _, file := range files {
		s.Names = append(s.Names, path.Base(file[:len(file)-len(path.Ext(file))]))
	}
	slices.Sort(s.Names)
	return s, nil
}

// Prepare creates the database of the tests, as pg_regress does, and returns where it is.
func (s *Specs) Prepare(ctx context.Context, at Server) (_ Server, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("prepare the isolation tests: %w", err)
		}
	}()
	conn, err := pgx.Connect(ctx, at.URL())
	if err != nil {
		return at, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	at.Database = specsDatabase
	statements := []string{"DROP DATABASE IF EXISTS " + specsDatabase, "CREATE DATABASE " + specsDatabase + " TEMPLATE template0"}
	for _, set := range []string{
		"lc_messages = 'C'", "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "bytea_output = 'hex'", "timezone_abbreviations = 'Default'",
	} {
		statements = append(statements, "ALTER DATABASE "+specsDatabase+" SET "+set)
	}
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return at, fmt.Errorf("%s: %w", sql, err)
		}
	}
	return at, nil
}

// Run runs every test against a server, and writes its output to <outputs>/<name>.out. each is called before and after every test.
func (s *Specs) Run(ctx context.Context, at Server, outputs string, limit time.Duration, each func(o Outcome, done bool)) ([]Outcome, error) {
	if err := os.MkdirAll(outputs, 0o755); err != nil {
		return nil, fmt.Errorf("run the isolation tests: %w", err)
	}
	var all []Outcome
	for _, name := range s.Names {
		each(Outcome{Name: name}, false)
		o, err := s.one(ctx, at, name, filepath.Join(outputs, name+".out"), limit)
		if err != nil {
			return all, fmt.Errorf("isolation test %s: %w", name, err)
		}
		each(o, true)
		all = append(all, o)
	}
	return all, nil
}

func (s *Specs) one(ctx context.Context, at Server, name, output string, limit time.Duration) (Outcome, error) {
	o := Outcome{Name: name}
	text, err := fs.ReadFile(s.files, "specs/"+name+".spec")
	if err != nil {
		return o, err
	}
	spec, err := isolation.Parse(string(text))
	if err != nil {
		return o, err
	}
	config, err := pgconn.ParseConfig(at.URL())
	if err != nil {
		return o, err
	}
	// What pg_regress makes libpq request; some specifications look for the application's name.
	config.RuntimeParams = map[string]string{
		"application_name": "isolation/" + name, "timezone": "America/Los_Angeles", "datestyle": "Postgres, MDY",
		"options": "-c intervalstyle=postgres_verbose",
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	clk := clock.System()
	began := clk.Monotonic()
	var printed bytes.Buffer
	err = spec.Run(bounded, isolation.Options{Config: config, Clock: clk, MaxWait: s.MaxWait}, &printed)
	o.Took = clk.Monotonic() - began
	switch {
	case ctx.Err() != nil:
		return o, ctx.Err()
	case bounded.Err() != nil:
		o.Wrong = fmt.Sprintf("it was still at it after %s: %s", limit, lastLine(printed.String()))
	case errors.Is(err, isolation.ErrEnded):
		o.Wrong = lastLine(printed.String())
	case err != nil:
		return o, err
	}
	return o, os.WriteFile(output, printed.Bytes(), 0o600)
}

// Compare compares the output with the expected one, and writes a unified diff next to each that differs.
func (s *Specs) Compare(outputs string, outcomes []Outcome) ([]Difference, error) {
	var all []Difference
	for _, o := range outcomes {
		got, err := os.ReadFile(filepath.Join(outputs, o.Name+".out"))
		if err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		d, diff, err := s.nearest(o, got)
		if err != nil {
			return nil, err
		}
		if d.Lines == 0 && o.Wrong == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(outputs, o.Name+".diff"), []byte(diff), 0o600); err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		all = append(all, d)
	}
	return all, nil
}

// nearest is the difference from whatever is expected and differs least.
func (s *Specs) nearest(o Outcome, got []byte) (best Difference, diff string, err error) {
	names := []string{o.Name}
	for i := range 10 {
		names = append(names, fmt.Sprintf("%s_%d", o.Name, i))
	}
	for i, name := range names {
		want, err := fs.ReadFile(s.files, "expected/"+name+".out")
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return best, "", fmt.Errorf("compare: %w", err)
		}
		d, text, err := difference(o, want, got)
		if err != nil {
			return best, "", err
		}
		if i == 0 || d.Lines < best.Lines {
			best, diff = d, text
		}
	}
	return best, diff, nil
}
