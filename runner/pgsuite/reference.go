package pgsuite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
	server Server
	folder string
	cmd    *exec.Cmd
	log    chan string // the last lines of its log, when it has ended
}

// Conditions are what a server was given by its command line and its files, and the reference is to have too.
type Conditions struct {
	Settings  []string // lines of a configuration file
	SegmentMB int      // of the log
}

// ConditionsOf asks a server.
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
	initdb := exec.CommandContext(ctx, n.program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale-provider=libc", "--locale=C", "--lc-ctype=C.UTF-8", "--no-sync", "--no-instructions",
		fmt.Sprintf("--wal-segsize=%d", c.SegmentMB))
	if err := ordinaryUser(initdb); err != nil {
		return nil, err
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	own := []string{"autovacuum = off", "fsync = off", "listen_addresses = '127.0.0.1'", fmt.Sprintf("port = %d", port),
		"unix_socket_directories = ''", "log_min_messages = log", "lc_messages = 'C'"}
	conf := strings.Join(slices.Concat(c.Settings, own), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(data, "postgresql.auto.conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	r := &Reference{server: Server{Host: "127.0.0.1", Port: port, Database: "postgres"}, folder: folder, log: make(chan string, 1)}
	return r, r.start(ctx, n.program("postgres"), data)
}

// start runs the server until it says that it takes connections.
func (r *Reference) start(ctx context.Context, program, data string) error {
	r.cmd = exec.CommandContext(ctx, program, "-D", data)
	if err := ordinaryUser(r.cmd); err != nil {
		return err
	}
	log, err := r.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := r.cmd.Start(); err != nil {
		return err
	}
	ready := make(chan struct{})
	go func() { r.log <- follow(log, ready) }()
	select {
	case <-ready:
		return nil
	case last := <-r.log:
		return fmt.Errorf("it has ended: %w: %s", errors.Join(r.cmd.Wait(), ctx.Err()), last)
	}
}

// follow reads a server's log to its end, and says when it is ready.
func follow(log io.Reader, ready chan<- struct{}) string {
	const kept = 10
	var last []string
	open := false
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		last = append(last[max(0, len(last)-kept+1):], lines.Text())
		if !open && strings.Contains(lines.Text(), "ready to accept connections") {
			open = true
			close(ready)
		}
	}
	return strings.Join(last, "\n")
}

// Server is where it listens.
func (r *Reference) Server() Server { return r.server }

// Stop ends it and deletes its data.
func (r *Reference) Stop() error {
	_ = r.cmd.Process.Signal(syscall.SIGINT) // a fast shutdown
	<-r.log
	_ = r.cmd.Wait() // it was told to end
	return os.RemoveAll(r.folder)
}
