// Package pgsuite runs PostgreSQL's own regression suite against a server of ours and against PostgreSQL itself, built from the same
// source, and compares psql's output.
//
//	native, err := pgsuite.Build(ctx, source, cache, progress)     // configure, make, once per source
//	suite, err := native.Open(folder)                              // the files in the order of parallel_schedule
//	ref, err := native.Start(ctx, settings)                        // the reference server
//	want, err := suite.Run(ctx, ref.Server(), outputs, o, each)    // what psql printed, one file per test
//	got, err := suite.Run(ctx, ours, outputs2, o, each)
//
// Both run under the same conditions: a new database, one file after the other or as many of a group concurrently, the same settings, the
// same psql, the files that the tests read at the same paths. PostgreSQL's recorded outputs are not used: they were made with a library of
// C functions, other settings and other databases. Nothing of the source is kept in this repository.
//
// Its isolation tests need no C functions: package isolation runs them, and their output is compared with the recorded one in PostgreSQL's
// source.
//
//	specs, version, err := pgsuite.OpenSpecs(source)
//	at, err := specs.Prepare(ctx, server)                          // their database, as pg_regress makes it
//	got, err := specs.Run(ctx, at, outputs, limit, each)
//	differences, err := specs.Compare(outputs, got)
//
// It needs the source, a C compiler, make, bison, flex, perl, and the headers of ICU, libxml2 and zlib on the machine; ErrMissing says what
// is missing. PostgreSQL refuses to run as root: then the reference runs in a user namespace, which only Linux has.
package pgsuite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/runner/service"
)

// ErrMissing: something required is not on this machine; the error says what.
var ErrMissing = errors.New("not installed")

// Server is where psql connects to, as the superuser postgres.
type Server struct {
	Host     string
	Port     int
	Database string
}

// URL is the server's URL, for other clients.
func (s Server) URL() string {
	return fmt.Sprintf("postgres://postgres@%s:%d/%s?sslmode=disable", s.Host, s.Port, s.Database)
}

// Suite is the regression suite of a source.
type Suite struct {
	native *Native
	folder string     // for what psql and the servers read and write
	Groups [][]string // tests that may run concurrently
}

// Open reads the list of tests, in their order.
func (n *Native) Open(folder string) (*Suite, error) {
	b, err := os.ReadFile(filepath.Join(n.tests(), "parallel_schedule"))
	if err != nil {
		return nil, fmt.Errorf("read the schedule: %w", err)
	}
	s := &Suite{native: n, folder: folder, Groups: schedule(string(b))}
	if len(s.Groups) == 0 {
		return nil, fmt.Errorf("%s names no tests", n.tests())
	}
	return s, nil
}

// schedule is the groups of tests that a schedule of pg_regress names.
func schedule(text string) [][]string {
	var groups [][]string
	for line := range strings.Lines(text) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "test:"); ok {
			groups = append(groups, strings.Fields(group))
		}
	}
	return groups
}

// Outcome is the result of one test.
type Outcome struct {
	Name  string
	Took  time.Duration
	Wrong string // why it did not finish; empty: it did, whatever it printed
}

// paths redirects what the tests read and write to one folder: a server in WebAssembly has /tmp, and nothing below it.
func paths(sql string) string {
	var out strings.Builder
	for line := range strings.Lines(sql) {
		if strings.HasPrefix(line, `\set `) && (strings.Contains(line, ":abs_srcdir '/") || strings.Contains(line, ":abs_builddir '/")) {
			line = strings.Replace(line, "'/data/", "'-data-", 1)
			line = strings.Replace(line, "'/results/", "'-results-", 1)
		}
		out.WriteString(line)
	}
	return out.String()
}

// RunOptions of Run.
type RunOptions struct {
	Limit  time.Duration // of one test
	AtOnce int           // how many tests of a group; 0: one
}

// Run runs every test against a server with a new database, and writes psql's output to <outputs>/<name>.out. each is called before every
// test (done is false) and after it, never concurrently.
func (s *Suite) Run(ctx context.Context, at Server, outputs string, o RunOptions, each func(o Outcome, done bool)) ([]Outcome, error) {
	if err := os.MkdirAll(outputs, 0o755); err != nil {
		return nil, fmt.Errorf("run the suite: %w", err)
	}
	var all []Outcome
	var telling sync.Mutex
	for _, names := range s.Groups {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(max(o.AtOnce, 1))
		outcomes := make([]Outcome, len(names))
		for i, name := range names {
			group.Go(func() (err error) {
				tell := func(done bool) {
					telling.Lock()
					defer telling.Unlock()
					each(outcomes[i], done)
				}
				outcomes[i].Name = name
				tell(false)
				if outcomes[i], err = s.one(ctx, at, name, filepath.Join(outputs, name+".out"), o.Limit); err != nil {
					return fmt.Errorf("test %s: %w", name, err)
				}
				tell(true)
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return all, err
		}
		all = append(all, outcomes...)
	}
	return all, nil
}

func (s *Suite) one(ctx context.Context, at Server, name, output string, limit time.Duration) (Outcome, error) {
	o := Outcome{Name: name}
	sql, err := os.ReadFile(filepath.Join(s.native.tests(), "sql", name+".sql"))
	if err != nil {
		return o, err
	}
	var printed bytes.Buffer
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(bounded, s.native.Program("psql"), "-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on")
	service.OwnGroup(cmd)
	cmd.Env, cmd.Dir = s.environment(at), s.folder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(paths(string(sql))), &printed, &printed
	clk := clock.System()
	began := clk.Monotonic()
	err = cmd.Run()
	o.Took = clk.Monotonic() - began
	switch {
	case ctx.Err() != nil:
		return o, ctx.Err()
	case bounded.Err() != nil:
		o.Wrong = fmt.Sprintf("psql was still at it after %s", limit)
	case err != nil:
		o.Wrong = fmt.Sprintf("psql: %v: %s", err, lastLine(printed.String()))
	}
	return o, os.WriteFile(output, printed.Bytes(), 0o600)
}

// environment is what pg_regress gives psql, without this machine's own settings.
func (s *Suite) environment(at Server) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.folder, "PGHOST=" + at.Host, fmt.Sprintf("PGPORT=%d", at.Port),
		"PGUSER=postgres", "PGDATABASE=" + at.Database, "PGSSLMODE=disable", "PGTZ=America/Los_Angeles", "PGDATESTYLE=Postgres, MDY",
		"PGOPTIONS=-c intervalstyle=postgres_verbose", "PG_ABS_SRCDIR=" + s.Prefix(), "PG_ABS_BUILDDIR=" + s.Prefix(),
		"PG_LIBDIR=" + s.Prefix() + "-lib", "PG_DLSUFFIX=.so",
	}
}

// Prefix begins the names of all files that the tests read and write.
func (s *Suite) Prefix() string {
	return filepath.Join(s.folder, fmt.Sprintf("blobpglite-regress-%d", os.Getpid()))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
