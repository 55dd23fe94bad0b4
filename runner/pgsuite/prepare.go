package pgsuite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// Prepare puts the files that the tests read where psql and the server find them. The server writes its own with lo_export, because it may
// have a file system of its own.
func (s *Suite) Prepare(ctx context.Context, at Server) error {
	files, err := filepath.Glob(filepath.Join(s.native.tests(), "data", "*.data"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("prepare the suite: there is no data in %s", s.native.tests())
	}
	conn, err := pgx.Connect(ctx, at.URL())
	if err != nil {
		return fmt.Errorf("prepare the suite: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("prepare the suite: %w", err)
		}
		target := s.Prefix() + "-data-" + filepath.Base(file)
		if err := os.WriteFile(target, b, 0o600); err != nil {
			return fmt.Errorf("prepare the suite: %w", err)
		}
		if err := export(ctx, conn, b, target); err != nil {
			return fmt.Errorf("prepare the suite: have the server write %s: %w", target, err)
		}
	}
	return nil
}

// export has the server write a file.
func export(ctx context.Context, conn *pgx.Conn, body []byte, target string) error {
	var oid uint32
	if err := conn.QueryRow(ctx, "SELECT lo_from_bytea(0, $1)", body).Scan(&oid); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT lo_export($1, $2)", oid, target); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "SELECT lo_unlink($1)", oid)
	return err
}

// Clean deletes what the tests have left on this machine.
func (s *Suite) Clean() {
	files, _ := filepath.Glob(s.Prefix() + "-*") // the pattern is well formed
	for _, file := range files {
		_ = os.Remove(file) // the system's own clean-up takes care of the rest
	}
}

// Started is when a server was started, or started again because one of its processes had failed.
func Started(ctx context.Context, at Server) (began time.Time, err error) {
	conn, err := pgx.Connect(ctx, at.URL())
	if err == nil {
		defer conn.Close(context.WithoutCancel(ctx))
		err = conn.QueryRow(ctx, "SELECT pg_postmaster_start_time()").Scan(&began)
	}
	if err != nil {
		return began, fmt.Errorf("ask whether the server still runs: %w", err)
	}
	return began, nil
}
