package pgsuite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"blobpglite/runner/service"
)

// Reference is a running server of a native build, on a fresh data directory.
type Reference struct {
	server  Server
	program string
	folder  string
	at      *service.Child
}

// Conditions are settings of a server that the reference must share.
type Conditions struct {
	Settings  []string // lines of a configuration file
	SegmentMB int      // of the log; 0: PostgreSQL's own default
	// Password is the superuser's, with which all connections must then log in; empty: everybody is trusted.
	Password string
}

// ConditionsOf reads the conditions of a running server.
func ConditionsOf(ctx context.Context, at Server) (c Conditions, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the settings: %w", err)
		}
	}()
	conn, err := pgx.Connect(ctx, at.URL())
	if err != nil {
		return c, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const segment = "SELECT pg_size_bytes(current_setting('wal_segment_size')) / 1048576"
	if err := conn.QueryRow(ctx, segment).Scan(&c.SegmentMB); err != nil {
		return c, err
	}
	rows, err := conn.Query(ctx, `SELECT name || ' = ' || quote_literal(current_setting(name)) FROM pg_settings
		WHERE source IN ('command line', 'configuration file') AND setting IS DISTINCT FROM boot_val AND context <> 'internal'`)
	if err != nil {
		return c, err
	}
	c.Settings, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return c, err
}

// Start starts a reference under these conditions.
func (n *Native) Start(ctx context.Context, c Conditions) (_ *Reference, err error) {
	folder, err := os.MkdirTemp("", "blobpglite-reference-")
	if err != nil {
		return nil, fmt.Errorf("start a reference: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start a reference: %w", err), os.RemoveAll(folder))
		}
	}()
	port, err := service.FreePort()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(folder, "data")
	if err := n.initdb(ctx, folder, data, c); err != nil {
		return nil, err
	}
	own := []string{"fsync = off", "listen_addresses = '127.0.0.1'", fmt.Sprintf("port = %d", port),
		"unix_socket_directories = ''", "log_min_messages = log", "lc_messages = 'C'"}
	conf := strings.Join(slices.Concat([]string{"autovacuum = off"}, c.Settings, own), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(data, "postgresql.auto.conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	r := &Reference{server: Server{Host: "127.0.0.1", Port: port, Database: "postgres"}, program: n.Program("postgres"), folder: folder}
	return r, r.start(ctx)
}

// initdb creates a data directory.
func (n *Native) initdb(ctx context.Context, folder, data string, c Conditions) error {
	args := []string{"-D", data, "-U", "postgres", "-E", "UTF8", "--locale-provider=libc", "--locale=C", "--lc-ctype=C.UTF-8",
		"--no-sync", "--no-instructions"}
	if c.SegmentMB > 0 {
		args = append(args, fmt.Sprintf("--wal-segsize=%d", c.SegmentMB))
	}
	if c.Password == "" {
		args = append(args, "-A", "trust")
	} else {
		file := filepath.Join(folder, "password")
		if err := os.WriteFile(file, []byte(c.Password), 0o600); err != nil {
			return err
		}
		args = append(args, "-A", "scram-sha-256", "--pwfile="+file)
	}
	cmd := exec.CommandContext(ctx, n.Program("initdb"), args...)
	if err := ordinary(cmd); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// ordinary makes a command run as a non-root user.
func ordinary(cmd *exec.Cmd) error {
	if err := service.OrdinaryUser(cmd); err != nil {
		return fmt.Errorf("what PostgreSQL runs as is %w: %w", ErrMissing, err)
	}
	return nil
}

// start runs the server until it reports that it accepts connections.
func (r *Reference) start(ctx context.Context) (err error) {
	cmd := exec.CommandContext(ctx, r.program, "-D", filepath.Join(r.folder, "data"))
	if err := ordinary(cmd); err != nil {
		return err
	}
	r.at, err = service.Serve(ctx, cmd, "ready to accept connections")
	return err
}

// Server is where it listens.
func (r *Reference) Server() Server { return r.server }

// Crash kills all its processes, and starts it again on its data.
func (r *Reference) Crash(ctx context.Context) error {
	if err := r.at.Signal(syscall.SIGQUIT); err != nil {
		return fmt.Errorf("crash the reference: %w", err)
	}
	r.at.Wait()
	if err := r.start(ctx); err != nil {
		return fmt.Errorf("start the reference again: %w", err)
	}
	return nil
}

// Stop ends it and deletes its data.
func (r *Reference) Stop() error {
	_ = r.at.Signal(syscall.SIGINT) // a fast shutdown
	r.at.Wait()
	return os.RemoveAll(r.folder)
}
