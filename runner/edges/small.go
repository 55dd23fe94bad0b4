package edges

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"blobpglite/runner/service"
)

func smallCases() []Case {
	return []Case{
		{"tablespace", "CREATE TABLESPACE is refused with the reason, or tables in one are kept", tablespace},
		{"renamed-superuser", "when the role postgres is renamed others can still log in, and the host's own work continues", renamedSuperuser},
		{"stale-socket", "a socket file that a killed server left behind does not keep the next one from starting", staleSocket},
		{"bad-flags", "meaningless flag values are refused, by name", badFlags},
		{"restore-over", "restore-to does not overwrite a file", restoreOver},
		{"replication-slot", "a replication slot is refused, or kept over a crash", replicationSlot},
	}
}

func tablespace(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	_ = execOn(ctx, c, "SET allow_in_place_tablespaces = on")
	_ = c.Close(ctx)
	for _, q := range []string{"CREATE TABLESPACE there LOCATION '/tmp'", "CREATE TABLESPACE there LOCATION '/pglite/data/there'"} {
		err = s.exec(ctx, q)
		if err == nil {
			break
		}
		t.expect(sqlState(err) != "", "%s: %v", q, err)
	}
	if err != nil {
		return nil // refused
	}
	err = s.exec(ctx, "CREATE TABLE kept (id int) TABLESPACE there", "INSERT INTO kept SELECT generate_series(1, 100)")
	t.expect(err == nil, "CREATE TABLESPACE works, but a table in it does not: %v", err)
	if err != nil {
		return nil
	}
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	t.rows("in a tablespace", 100, s.count(ctx, "kept"))
	return nil
}

func renamedSuperuser(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-restore-budget", "20ms")
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE ROLE app LOGIN", "CREATE ROLE boss SUPERUSER LOGIN", "CREATE TABLE kept (id int, t text)", "GRANT ALL ON kept TO app"); err != nil {
		return err
	}
	if err := s.execAs(ctx, "boss", "ALTER ROLE postgres RENAME TO owner"); err != nil {
		t.expect(sqlState(err) != "", "renaming the role postgres: %v", err) // refused is an answer
	}
	acked := 0
	for _, user := range []string{"app", "boss"} {
		err := s.execAs(ctx, user, bulk("kept", 2000), "SELECT 1")
		t.expect(err == nil, "%s after the role postgres was renamed: %v", user, err)
		if err == nil {
			acked += 2000
		}
	}
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	for _, user := range []string{"app", "boss"} {
		err := s.execAs(ctx, user, "SELECT 1")
		t.expect(err == nil, "%s after a crash: %v", user, err)
	}
	c, err := s.connect(ctx, "boss")
	if err != nil {
		t.rows("after the role was renamed", acked, 0)
		return nil
	}
	defer c.Close(ctx)
	n := 0
	err = c.QueryRow(ctx, "SELECT count(*) FROM kept").Scan(&n)
	t.expect(err == nil, "count: %v", err)
	t.rows("after the role was renamed", acked, n)
	got, err := s.sql(ctx, "SELECT 1")
	t.expect(err == nil && got.status == 200, "HTTP after the role postgres was renamed: %d %.200s, %v", got.status, got.body, err)
	return nil
}

func staleSocket(ctx context.Context, t *Trial) error {
	folder, err := os.MkdirTemp("", "edge")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, ".s.PGSQL.5432")
	s, err := t.start(ctx, t.fresh(), "-socket", socket)
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept AS SELECT 1"); err != nil {
		return err
	}
	s.Kill()
	next, err := s.again(ctx)
	t.expect(err == nil, "after SIGKILL, with the socket's file still there: %v", err)
	if err == nil {
		t.rows("after a stale socket", 1, next.count(ctx, "kept"))
		// A socket that a process serves is left alone.
		rival, err := t.start(ctx, t.fresh(), "-socket", socket)
		t.expect(err != nil, "a second server took a running server's socket")
		if err == nil {
			rival.Kill()
		}
	}
	file := filepath.Join(folder, "precious")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		return err
	}
	if other, err := t.start(ctx, t.fresh(), "-socket", file); err == nil {
		other.Kill()
	}
	body, err := os.ReadFile(file)
	t.expect(err == nil && string(body) == "mine", "a file that is not a socket was removed: %v", err)
	return nil
}

func badFlags(ctx context.Context, t *Trial) error {
	for _, flags := range [][]string{
		{"-lease-ttl", "-1s"}, {"-memory-limit", "-1"}, {"-retain", "-1h"}, {"-acquire-timeout", "-1s"}, {"-disk-limit", "-5"},
		{"-max-clients", "-1"}, {"-grace", "-1s"}, {"-flush-interval", "-1s"}, {"-turn-timeout", "-1s"}, {"-lease-ttl", "0s"},
	} {
		port, err := service.FreePort()
		if err != nil {
			return err
		}
		args := append([]string{"-store", "mem", "-http", "", "-listen", "127.0.0.1:" + fmt.Sprint(port)}, flags...)
		one, cancel := context.WithTimeout(ctx, 4*time.Second)
		out, code := t.command(one, args...)
		cancel()
		t.expect(code == 2 && strings.Contains(out, strings.TrimPrefix(flags[0], "-")), "%s %s: code %d, %s", flags[0], flags[1], code, tail(out))
	}
	return nil
}

func replicationSlot(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "SELECT pg_create_physical_replication_slot('mine', true)"); err != nil {
		t.expect(sqlState(err) != "", "the refusal of a replication slot: %v", err)
		return nil
	}
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	n, err := s.number(ctx, "SELECT count(*) FROM pg_replication_slots")
	t.expect(err == nil && n == 1, "a replication slot was accepted, and after a crash there are %d: %v", n, err)
	return nil
}
