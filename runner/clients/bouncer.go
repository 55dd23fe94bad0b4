package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"blobpglite/runner/service"
)

// tryBouncer puts PgBouncer in front of the server.
func tryBouncer(mode string) func(context.Context, *Env) (Outcome, error) {
	return func(ctx context.Context, e *Env) (Outcome, error) {
		bench, err := e.tool(ctx, "pgbench", "Debian: postgresql-contrib", 0)
		if err != nil {
			return Outcome{}, err
		}
		port, stop, err := e.bouncer(ctx, mode)
		if err != nil {
			return Outcome{}, err
		}
		defer stop()
		if _, err := e.do(ctx, bench, "-i", "-q", "-s", "1", "-p", fmt.Sprint(port)); err != nil {
			return Outcome{}, err
		}
		if mode == "transaction" {
			return Outcome{}, errors.Join(e.bench(ctx, bench, port, "simple"), e.settingsOfTransactions(ctx, port))
		}
		return Outcome{}, errors.Join(e.bench(ctx, bench, port, "prepared"), e.cleanSessions(ctx, port))
	}
}

// bouncer starts PgBouncer. Debian has it in /usr/sbin, which is not on everybody's PATH.
func (e *Env) bouncer(ctx context.Context, mode string) (port int, stop func(), err error) {
	path := "pgbouncer"
	if missing(path, "") != nil {
		path = "/usr/sbin/pgbouncer"
	}
	if err := missing(path, "Debian: pgbouncer"); err != nil {
		return 0, nil, err
	}
	if port, err = service.FreePort(); err != nil {
		return 0, nil, err
	}
	users, conf := filepath.Join(e.Folder, "users.txt"), filepath.Join(e.Folder, "pgbouncer.ini")
	size := map[string]int{"transaction": 5, "session": 20}[mode]
	text := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
single = host=127.0.0.1 port=%d dbname=postgres pool_size=1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = %s
default_pool_size = %d
max_client_conn = 100
`, e.Port, e.Port, port, users, mode, size)
	if err := errors.Join(os.WriteFile(users, []byte("\"postgres\" \"\"\n"), 0o600), os.WriteFile(conf, []byte(text), 0o600)); err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, path, conf)
	if err := service.OrdinaryUser(cmd); err != nil {
		cancel()
		return 0, nil, fmt.Errorf("what PgBouncer runs as is %w: %w", ErrMissing, err)
	}
	child, err := service.Serve(ctx, cmd, "process up")
	if err != nil {
		cancel()
		return 0, nil, fmt.Errorf("start PgBouncer: %w", err)
	}
	return port, func() { cancel(); child.Wait() }, nil
}

// through connects through PgBouncer, without prepared statements, which belong to a server connection.
func through(ctx context.Context, port int, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", port, database))
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, config)
}

// settingsOfTransactions has two clients share one server connection, a transaction each in turn.
func (e *Env) settingsOfTransactions(ctx context.Context, port int) error {
	var conns []*pgx.Conn
	for range 2 {
		conn, err := through(ctx, port, "single")
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		conns = append(conns, conn)
	}
	for i := range 20 {
		err := pgx.BeginFunc(ctx, conns[i%2], func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL app.tenant = 'tenant %d'", i)); err != nil {
				return err
			}
			var tenant string
			if err := tx.QueryRow(ctx, "SELECT current_setting('app.tenant')").Scan(&tenant); err != nil {
				return err
			}
			if want := fmt.Sprintf("tenant %d", i); tenant != want {
				return fmt.Errorf("a tenant %q, want %q", tenant, want)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("a transaction through PgBouncer: %w", err)
		}
		var left string
		if err := conns[(i+1)%2].QueryRow(ctx, "SELECT coalesce(current_setting('app.tenant', true), '')").Scan(&left); err != nil || left != "" {
			return errors.Join(fmt.Errorf("the next transaction has the tenant %q", left), err)
		}
	}
	return nil
}

// cleanSessions has clients use one server connection, one after the other; PgBouncer cleans it with DISCARD ALL between them.
func (e *Env) cleanSessions(ctx context.Context, port int) error {
	for i := range 5 {
		conn, err := through(ctx, port, "single")
		if err != nil {
			return err
		}
		err = func() error {
			defer conn.Close(context.WithoutCancel(ctx))
			var state string
			if err := conn.QueryRow(ctx, `SELECT concat_ws(' ', current_setting('lock_timeout'), (SELECT count(*) FROM pg_prepared_statements),
				(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), to_regclass('pg_temp.mine'), array_length(ARRAY(SELECT pg_listening_channels()), 1))`).Scan(&state); err != nil {
				return err
			}
			if want := "0 0 0"; state != want {
				return fmt.Errorf("client %d finds %q, want %q", i, state, want)
			}
			_, err := conn.Exec(ctx, `SET lock_timeout = '1min'; PREPARE p AS SELECT 1; CREATE TEMP TABLE mine (i int); LISTEN here; SELECT pg_advisory_lock(1)`)
			return err
		}()
		if err != nil {
			return fmt.Errorf("a session through PgBouncer: %w", err)
		}
	}
	return nil
}
