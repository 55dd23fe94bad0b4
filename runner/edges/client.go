package edges

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/runner/node"
)

// statementLimit is how long a client of a case waits for one answer; after that, something hangs.
const statementLimit = time.Minute

// connect opens a client's connection under the name of a role. The limits named are lifted from its first moment on.
func (s *server) connect(ctx context.Context, user string, unlimited ...string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(strings.Replace(s.URL(), "postgres@", user+"@", 1))
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.ConnectTimeout = statementLimit
	for _, limit := range unlimited {
		config.RuntimeParams[limit] = "0"
	}
	return pgx.ConnectConfig(ctx, config)
}

// exec runs statements one after the other over a connection of its own, as the superuser.
func (s *server) exec(ctx context.Context, sql ...string) error {
	return s.execAs(ctx, "postgres", sql...)
}

func (s *server) execAs(ctx context.Context, user string, sql ...string) error {
	c, err := s.connect(ctx, user)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	return execOn(ctx, c, sql...)
}

func execOn(ctx context.Context, c *pgx.Conn, sql ...string) error {
	for _, q := range sql {
		one, cancel := context.WithTimeout(ctx, statementLimit)
		_, err := c.Exec(one, q)
		cancel()
		if err != nil {
			return fmt.Errorf("%.80s: %w", q, err)
		}
	}
	return nil
}

// number returns the single integer that a statement returns.
func (s *server) number(ctx context.Context, sql string) (int, error) {
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return 0, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	one, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	var n int
	if err := c.QueryRow(one, sql).Scan(&n); err != nil {
		return 0, fmt.Errorf("%.80s: %w", sql, err)
	}
	return n, nil
}

// text returns the single column that a statement returns, its rows joined.
func (s *server) text(ctx context.Context, sql ...string) (string, error) {
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return "", err
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := execOn(ctx, c, sql[:len(sql)-1]...); err != nil {
		return "", err
	}
	one, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	results, err := c.PgConn().Exec(one, sql[len(sql)-1]).ReadAll()
	if err != nil {
		return "", fmt.Errorf("%.80s: %w", sql[len(sql)-1], err)
	}
	var lines []string
	for _, r := range results {
		for _, row := range r.Rows {
			lines = append(lines, string(row[0]))
		}
	}
	return strings.Join(lines, "\n"), nil
}

// count is how many rows a table has; -1 and a message if it cannot be read.
func (s *server) count(ctx context.Context, table string) int {
	n, err := s.number(ctx, "SELECT count(*) FROM "+table)
	if err != nil {
		s.t.expect(false, "count %s: %v", table, err)
		return 0
	}
	return n
}

// sqlState is the code of an error sent by a server; empty: it is not one.
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// reply is an answer of the HTTP service.
type reply struct {
	status int
	body   string
	header http.Header
}

// post sends a body to the HTTP service. Headers are name, value; Host is the request's.
func (s *server) post(ctx context.Context, path, body string, headers ...string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.HTTP()+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	return send(r)
}

func send(r *http.Request) (reply, error) {
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	return reply{got.StatusCode, strings.TrimSpace(string(text)), got.Header}, err
}

// sql sends one statement as documented.
func (s *server) sql(ctx context.Context, sql string, params ...any) (reply, error) {
	body, err := json.Marshal(map[string]any{"sql": sql, "params": params})
	if err != nil {
		return reply{}, err
	}
	return s.post(ctx, "/sql", string(body), "Content-Type", "application/json")
}

// raw is a connection that speaks the protocol by hand, past its start.
type raw struct {
	net.Conn
	front *pgproto3.Frontend
}

func (s *server) raw(ctx context.Context) (*raw, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
	if err != nil {
		return nil, err
	}
	r := &raw{c, pgproto3.NewFrontend(c, c)}
	r.front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": "postgres"}})
	if err := r.front.Flush(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if _, err := r.until(statementLimit, "Z"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return r, nil
}

// kind is the letter of a message from the server.
func kind(m pgproto3.BackendMessage) string {
	switch m.(type) {
	case *pgproto3.ReadyForQuery:
		return "Z"
	case *pgproto3.ErrorResponse:
		return "E"
	case *pgproto3.ParseComplete:
		return "1"
	case *pgproto3.BindComplete:
		return "2"
	case *pgproto3.CloseComplete:
		return "3"
	case *pgproto3.RowDescription:
		return "T"
	case *pgproto3.DataRow:
		return "D"
	case *pgproto3.CommandComplete:
		return "C"
	}
	return "."
}

// until reads messages until the last kinds seen are last, and returns all kinds; an ErrorResponse also ends it.
func (r *raw) until(limit time.Duration, last string) (seen string, err error) {
	if err := r.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	for !strings.HasSuffix(seen, last) {
		m, err := r.front.Receive()
		if err != nil {
			return seen, fmt.Errorf("after %q, waiting for %q: %w", seen, last, err)
		}
		if e, failed := m.(*pgproto3.ErrorResponse); failed {
			return seen + "E", fmt.Errorf("after %q: %s: %s", seen, e.Code, e.Message)
		}
		seen += kind(m)
	}
	return seen, nil
}

// runProgram runs a program to its end, with a limit, and returns its output and its exit code.
func runProgram(ctx context.Context, program string, args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "PGSERVE_") || strings.HasPrefix(e, "PORT=") })
	node.DieWithParent(cmd)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out.String(), exit.ExitCode()
	case err != nil:
		return out.String() + err.Error(), -1
	}
	return out.String(), 0
}

// peak is the largest resident memory that a process has had, in bytes.
func peak(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("the memory of a process is not told (%w): %w", err, errSkip)
	}
	for line := range bytes.Lines(status) {
		var kb int64
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("the memory of a process is not told: %w", errSkip)
}
