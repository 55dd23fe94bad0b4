package clients

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"blobpglite/core/clock"
	"blobpglite/runner/service"
)

// postgresMajor is the server's version; an older pg_dump refuses it.
const postgresMajor = 18

// toolTrials are PostgreSQL's own programs, and programs that people put in front of a server.
func toolTrials() []Trial {
	const bench = "20 clients in 4 threads on a database of scale 1: no error, and the sums are right"
	return []Trial{
		{Name: "pgbench_simple", Doc: bench, run: pgbenchBy("simple")},
		{Name: "pgbench_extended", Doc: bench, run: pgbenchBy("extended")},
		{Name: "pgbench_prepared", Doc: bench, run: pgbenchBy("prepared")},
		{Name: "pg_dump_jobs", Doc: "pg_dump -j3 next to a writer, then pg_restore -j3: one consistent state, the same as was dumped", run: tryDump},
		{Name: "libpq_3_2", Doc: "libpq 18 insisting on protocol 3.2: queries, and a cancel with a long key", run: tryProtocol32},
		{Name: "pgbouncer_transaction", Doc: "PgBouncer in transaction mode: pgbench, 20 clients on 5 connections", run: tryBouncer("transaction")},
		{Name: "pgbouncer_session", Doc: "PgBouncer in session mode: nothing of a client reaches the next one", run: tryBouncer("session")},
	}
}

var versionOf = regexp.MustCompile(`(\d+)(?:\.\d+)* *(?:\(|$)`)

// tool is one of PostgreSQL's programs, of a version at least; 0: any.
func (e *Env) tool(ctx context.Context, name, from string, least int) (string, error) {
	path := name
	if e.Programs != "" {
		path = filepath.Join(e.Programs, name)
	}
	if err := missing(path, from); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	m := versionOf.FindSubmatch([]byte(strings.TrimSpace(string(out))))
	if m == nil {
		return "", fmt.Errorf("%s tells no version: %s", name, out)
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < least {
		return "", fmt.Errorf("%s %d is %w, only %s: give PostgreSQL's source by -set source=FOLDER", name, least, ErrMissing, strings.TrimSpace(string(out)))
	}
	return path, nil
}

// command is a program that finds the server by its environment.
func (e *Env) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	service.OwnGroup(cmd)
	cmd.Env = e.environment()
	return cmd
}

// do runs a program to its end; any exit code other than 0 is an error, with the program's output.
func (e *Env) do(ctx context.Context, path string, args ...string) (string, error) {
	out, err := e.command(ctx, path, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, tail(string(out)))
	}
	return string(out), nil
}

var failedLine = regexp.MustCompile(`(?m)^number of failed transactions: ([0-9]+)`)

// pgbenchBy is pgbench with one of its ways to send statements.
func pgbenchBy(mode string) func(context.Context, *Env) (Outcome, error) {
	return func(ctx context.Context, e *Env) (Outcome, error) {
		path, err := e.tool(ctx, "pgbench", "Debian: postgresql-contrib", 0)
		if err != nil {
			return Outcome{}, err
		}
		if _, err := e.do(ctx, path, "-i", "-q", "-s", "1"); err != nil {
			return Outcome{}, err
		}
		return Outcome{}, e.bench(ctx, path, e.Port, mode)
	}
}

// bench runs pgbench's TPC-B at a port, and looks whether the sums are right.
func (e *Env) bench(ctx context.Context, path string, port int, mode string) error {
	const clients, each = 20, 50
	e.Progress("pgbench -M "+mode, 0, 0)
	out, err := e.do(ctx, path, "-n", "-M", mode, "-c", strconv.Itoa(clients), "-j", "4", "-t", strconv.Itoa(each), "-p", strconv.Itoa(port))
	if err != nil {
		return err
	}
	m := failedLine.FindStringSubmatch(out)
	if m == nil || m[1] != "0" || strings.Contains(out, "ERROR") || strings.Contains(out, "aborted") {
		return fmt.Errorf("pgbench -M %s: %s", mode, tail(out))
	}
	return e.one(ctx, `SELECT (SELECT count(*) FROM pgbench_history) || ' ' ||
		(s = (SELECT sum(abalance) FROM pgbench_accounts) AND s = (SELECT sum(tbalance) FROM pgbench_tellers) AND s = (SELECT sum(bbalance) FROM pgbench_branches))
		FROM (SELECT sum(delta) AS s FROM pgbench_history) h`, fmt.Sprintf("%d true", clients*each))
}

// tryProtocol32 insists on the newest protocol, whose keys for cancelling are longer.
func tryProtocol32(ctx context.Context, e *Env) (Outcome, error) {
	path, err := e.tool(ctx, "psql", "Debian: postgresql-client", postgresMajor)
	if err != nil {
		return Outcome{}, err
	}
	for _, c := range []struct{ versions, want string }{
		{"min_protocol_version=3.2 max_protocol_version=3.2", "3.2"},
		{"max_protocol_version=latest", "3.2"},
		{"max_protocol_version=3.0", "3.0"},
	} {
		url := e.URL + "&" + strings.ReplaceAll(c.versions, " ", "&")
		out, err := e.do(ctx, path, "-X", "-d", url, "-c", "SELECT 'answer ' || 42", "-c", `\conninfo`)
		if err != nil {
			return Outcome{}, err
		}
		if !strings.Contains(out, "answer 42") || !regexp.MustCompile(`Protocol Version *\| *`+regexp.QuoteMeta(c.want)).MatchString(out) {
			return Outcome{}, fmt.Errorf("with %s: %s", c.versions, tail(out))
		}
		if err := e.canceled(ctx, path, url); err != nil {
			return Outcome{}, fmt.Errorf("with %s: %w", c.versions, err)
		}
	}
	return Outcome{}, nil
}

// canceled has psql cancel a statement that runs, as Ctrl-C does.
func (e *Env) canceled(ctx context.Context, psql, url string) error {
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	const long = "SELECT pg_sleep(300)"
	cmd := e.command(bounded, psql, "-X", "-d", url, "-c", long)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	runs := e.until(bounded, fmt.Sprintf("SELECT count(*)::text FROM pg_stat_activity WHERE query = '%s' AND state = 'active'", long), "1")
	if runs == nil {
		runs = cmd.Process.Signal(syscall.SIGINT)
	}
	if runs != nil {
		_ = cmd.Cancel()
	}
	err := cmd.Wait()
	if !strings.Contains(said.String(), "canceling statement due to user request") {
		return fmt.Errorf("a statement that was canceled: %w, %v: %s", err, runs, tail(said.String()))
	}
	return nil
}

// until waits until a query has this answer.
func (e *Env) until(ctx context.Context, sql, want string) error {
	clk := clock.System()
	for {
		err := e.one(ctx, sql, want)
		if err == nil {
			return nil
		}
		if clk.Sleep(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("waited in vain: %w", err)
		}
	}
}
