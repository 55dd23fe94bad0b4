package clients

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver of database/sql

	"blobpglite/core/clock"
)

// goClient is what a trial needs from a client in Go.
type goClient struct {
	exec  func(ctx context.Context, sql string, args ...any) error
	query func(ctx context.Context, sql string, args ...any) ([]string, error) // the first column, as text
	// increment adds one in a transaction that reads and then writes.
	increment func(ctx context.Context) error
}

func tryPGX(ctx context.Context, e *Env) (Outcome, error) {
	config, err := pgxpool.ParseConfig(e.URL)
	if err != nil {
		return Outcome{}, err
	}
	config.MaxConns = 10
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return Outcome{}, err
	}
	defer pool.Close()
	c := goClient{
		exec: func(ctx context.Context, sql string, args ...any) error {
			_, err := pool.Exec(ctx, sql, args...)
			return err
		},
		query: func(ctx context.Context, sql string, args ...any) ([]string, error) {
			rows, err := pool.Query(ctx, sql, args...)
			if err != nil {
				return nil, err
			}
			return pgx.CollectRows(rows, func(r pgx.CollectableRow) (s string, err error) { err = r.Scan(&s); return s, err })
		},
		increment: func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				var n int
				if err := tx.QueryRow(ctx, "SELECT n FROM counter FOR UPDATE").Scan(&n); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "UPDATE counter SET n = $1", n+1)
				return err
			})
		},
	}
	return e.tryGo(ctx, c)
}

func tryDatabaseSQL(ctx context.Context, e *Env) (Outcome, error) {
	db, err := sql.Open("pgx", e.URL)
	if err != nil {
		return Outcome{}, err
	}
	defer db.Close()
	db.SetMaxOpenConns(10)
	c := goClient{
		exec: func(ctx context.Context, text string, args ...any) error {
			_, err := db.ExecContext(ctx, text, args...)
			return err
		},
		query: func(ctx context.Context, text string, args ...any) ([]string, error) {
			rows, err := db.QueryContext(ctx, text, args...)
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			var all []string
			for rows.Next() {
				var s string
				if err := rows.Scan(&s); err != nil {
					return nil, err
				}
				all = append(all, s)
			}
			return all, rows.Err()
		},
		increment: func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			var n int
			err = tx.QueryRowContext(ctx, "SELECT n FROM counter FOR UPDATE").Scan(&n)
			if err == nil {
				_, err = tx.ExecContext(ctx, "UPDATE counter SET n = $1", n+1)
			}
			if err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		},
	}
	return e.tryGo(ctx, c)
}

// tryGo is the trial.
func (e *Env) tryGo(ctx context.Context, c goClient) (Outcome, error) {
	for _, text := range []string{
		"CREATE TABLE g (id int PRIMARY KEY, v text)", "INSERT INTO g VALUES (1, 'one')", "CREATE TABLE counter (n int)",
		"INSERT INTO counter VALUES (0)", "CREATE TABLE acked (id int PRIMARY KEY)",
	} {
		if err := c.exec(ctx, text); err != nil {
			return Outcome{}, fmt.Errorf("%s: %w", text, err)
		}
	}
	if v, err := c.query(ctx, "SELECT v FROM g WHERE id = $1", 1); err != nil || len(v) != 1 || v[0] != "one" {
		return Outcome{}, errors.Join(fmt.Errorf("a row: %q", v), err)
	}
	for text, code := range map[string]string{"INSERT INTO g VALUES (1, 'again')": "23505", "SELEC": "42601"} {
		err := c.exec(ctx, text)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != code {
			return Outcome{}, errors.Join(fmt.Errorf("%s: want SQLSTATE %s", text, code), err)
		}
	}
	const workers, rounds = 10, 10
	errs := make(chan error, workers)
	for range workers {
		go func() {
			var err error
			for range rounds {
				if err == nil {
					err = c.increment(ctx)
				}
			}
			errs <- err
		}()
	}
	var all error
	for range workers {
		all = errors.Join(all, <-errs)
	}
	if all != nil {
		return Outcome{}, all
	}
	if n, err := c.query(ctx, "SELECT n::text FROM counter"); err != nil || len(n) != 1 || n[0] != strconv.Itoa(workers*rounds) {
		return Outcome{}, errors.Join(fmt.Errorf("increments: %q of %d", n, workers*rounds), err)
	}
	return e.killInserting(ctx, c)
}

// killInserting kills the server while workers insert, and looks afterwards.
func (e *Env) killInserting(ctx context.Context, c goClient) (Outcome, error) {
	const workers, enough = 10, 50
	var mu sync.Mutex
	var acked []int
	next := 0
	reached := make(chan struct{})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				mu.Lock()
				id := next
				next++
				mu.Unlock()
				if c.exec(ctx, "INSERT INTO acked VALUES ($1)", id) != nil {
					return
				}
				mu.Lock()
				acked = append(acked, id)
				if len(acked) == enough {
					close(reached)
				}
				mu.Unlock()
			}
		})
	}
	stopped := make(chan struct{})
	go func() { wg.Wait(); close(stopped) }()
	select {
	case <-reached:
	case <-stopped:
		return Outcome{}, errors.New("the inserts failed before the server was killed")
	}
	if err := e.Crash(ctx); err != nil {
		return Outcome{}, err
	}
	<-stopped
	clk := clock.System()
	const tries, pause = 100, 100 * time.Millisecond
	for try := 0; ; try++ {
		found, err := c.query(ctx, "SELECT id::text FROM acked")
		if err == nil {
			return compareAcked(acked, found, next)
		}
		if try == tries {
			return Outcome{}, fmt.Errorf("after the restart: %s", strings.TrimSpace(err.Error()))
		}
		if err := clk.Sleep(ctx, pause); err != nil {
			return Outcome{}, err
		}
	}
}
