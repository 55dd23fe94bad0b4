package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
	"blobpglite/core/pglite"
)

// client is a client with a process of its own.
func client(t *testing.T, e *Engine) *pgconn.PgConn {
	t.Helper()
	c, err := dial(t.Context(), e, "postgres", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, func() { _ = c.Conn().Close() })
	return c
}

func dial(ctx context.Context, e *Engine, user, database string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("postgres://%s@127.0.0.1:5432/%s?sslmode=disable", user, database))
	if err != nil {
		return nil, err
	}
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.Dial(ctx, pglite.ConnectOptions{Remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}})
	}
	return pgconn.ConnectConfig(ctx, cfg)
}

// try runs SQL and returns the last result's rows: columns joined by |, rows by spaces.
func try(ctx context.Context, c *pgconn.PgConn, sql string) (string, error) {
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	var rows []string
	for _, row := range results[len(results)-1].Rows {
		var cells []string
		for _, v := range row {
			cells = append(cells, string(v))
		}
		rows = append(rows, strings.Join(cells, "|"))
	}
	return strings.Join(rows, " "), nil
}

// do is try that must not fail.
func do(t *testing.T, c *pgconn.PgConn, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := try(ctx, c, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// later runs SQL in another goroutine; the returned channel gets its result.
func later(t *testing.T, c *pgconn.PgConn, sql string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := try(context.WithoutCancel(t.Context()), c, sql)
		done <- err
	}()
	return done
}

// sqlstate is the code of an error of PostgreSQL's.
func sqlstate(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return fmt.Sprint(err)
}

// becomes repeats the query until the answer is as wanted.
func becomes(t *testing.T, e *Engine, sql, want string) {
	t.Helper()
	const most = 60_000
	got := ""
	for range most {
		if got = must(t, e, sql); got == want {
			return
		}
		if err := clock.System().Sleep(t.Context(), 5*time.Millisecond); err != nil { // gives PostgreSQL time
			t.Fatal(err)
		}
	}
	t.Errorf("%s: %q after %d tries, want %q", sql, got, most, want)
}
