package pglite

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// refusal returns the error of a statement that a pin must refuse.
func refusal(t *testing.T, in *server, sql string) *pgconn.PgError {
	t.Helper()
	_, err := in.Query(t.Context(), sql)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		t.Fatalf("%s: %v, want PostgreSQL's refusal", sql, err)
	}
	return pg
}

// TestPinnedSettings: no way of changing a setting changes a pinned one, and each says why.
func TestPinnedSettings(t *testing.T) {
	in := start(t, ClusterOptions{})
	other := map[string]string{
		"archive_mode": "on", "dynamic_shared_memory_type": "sysv", "shared_memory_type": "sysv", "exit_on_error": "on", "fsync": "off", "io_method": "worker", "max_wal_senders": "3", "summarize_wal": "on",
		"wal_level": "minimal", "wal_recycle": "on", "wal_sync_method": "open_datasync",
	}
	rows(t, in, "CREATE ROLE app")
	for _, p := range Pins() {
		if p.start {
			continue
		}
		value, ok := other[p.Name]
		if !ok {
			t.Errorf("the test has no other value for %s", p.Name)
			continue
		}
		if err := CheckSettings(map[string]string{p.Name: value}); !errors.Is(err, ErrPinned) || !strings.Contains(err.Error(), p.Why) {
			t.Errorf("CheckSettings(%s=%s) = %v, want ErrPinned and why", p.Name, value, err)
		}
		if err := CheckSettings(map[string]string{p.Name: p.Values[0]}); err != nil {
			t.Errorf("CheckSettings(%s=%s) = %v, want nil", p.Name, p.Values[0], err)
		}
		before := rows(t, in, "SHOW "+p.Name)
		pg := refusal(t, in, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", p.Name, value))
		if !strings.Contains(pg.Detail, p.Why) {
			t.Errorf("ALTER SYSTEM SET %s: %v, detail %q, want why", p.Name, pg, pg.Detail)
		}
		context := rows(t, in, fmt.Sprintf("SELECT context FROM pg_settings WHERE name = '%s'", p.Name))
		for _, sql := range []string{
			"SET %s = '%s'", "SET LOCAL %s = '%s'", "BEGIN; SET LOCAL %s = '%s'; COMMIT", "SELECT set_config('%s', '%s', false)", "SELECT set_config('%s', '%s', true)",
			"ALTER ROLE postgres SET %s = '%s'", "ALTER ROLE app SET %s = '%s'", "ALTER DATABASE postgres SET %s = '%s'", "ALTER ROLE ALL SET %s = '%s'",
			"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET %s = '%s' AS 'SELECT 1'", "UPDATE pg_settings SET setting = '%[2]s' WHERE name = '%[1]s'",
		} {
			sql = fmt.Sprintf(sql, p.Name, value)
			pg := refusal(t, in, sql)
			if (context == "superuser" || context == "user") && !strings.Contains(pg.Detail, p.Why) {
				t.Errorf("%s: %v, detail %q, want why", sql, pg, pg.Detail)
			}
			rows(t, in, "ROLLBACK")
		}
		rows(t, in, "DISCARD ALL")
		rows(t, in, "RESET ALL; SELECT pg_reload_conf()")
		if after := rows(t, in, "SHOW "+p.Name); after != before {
			t.Errorf("%s is %s, was %s", p.Name, after, before)
		}
		if context == "superuser" || context == "user" {
			rows(t, in, fmt.Sprintf("SET %s = '%s'", p.Name, before)) // its current value is accepted
		}
	}
}

// TestPinnedBefore: settings in a database from a version that did not pin them yet change nothing, and do not prevent a start.
func TestPinnedBefore(t *testing.T) {
	in := start(t, ClusterOptions{})
	// The catalog row that ALTER ROLE and ALTER DATABASE leave.
	rows(t, in, "INSERT INTO pg_db_role_setting VALUES (0, 10, '{wal_recycle=on,exit_on_error=on}')")
	rows(t, in, "INSERT INTO pg_db_role_setting SELECT oid, 0, '{wal_recycle=on}' FROM pg_database WHERE datname = 'postgres'")
	data := in.Data().Clone()
	if err := data.WriteFile("/postgresql.auto.conf", []byte("wal_level = 'minimal'\nfsync = 'off'\nwal_recycle = 'on'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var lines []string
	again := start(t, ClusterOptions{Data: data})
	lines = strings.Split(again.log.String(), "\n")
	for name, want := range map[string]string{"wal_recycle": "off", "exit_on_error": "off", "wal_level": "replica", "fsync": "on"} {
		if got := rows(t, again, "SELECT pg_reload_conf(); RESET ALL; SHOW "+name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"wal_level=minimal", "fsync=off", "wal_recycle=on"} {
		if all := strings.Join(lines, "\n"); !strings.Contains(all, name) {
			t.Errorf("nothing is said of %s, which is ignored:\n%s", name, all)
		}
	}
}

// TestSettingsThatYield: the host's defaults apply until ALTER SYSTEM says otherwise; what the start is given takes precedence.
func TestSettingsThatYield(t *testing.T) {
	for name, c := range map[string]struct{ host, other, given string }{
		// More often than PostgreSQL's default, a minute, which is longer than many servers live.
		"autovacuum_naptime": {"5s", "2min", "3s"},
		"work_mem":           {"64MB", "7MB", "9MB"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, ClusterOptions{})
			want(t, s, "SHOW "+name, c.host)
			rows(t, s, "ALTER SYSTEM SET "+name+" = '"+c.other+"'")
			data := s.Data().Clone()
			s.Kill()
			again, log := startOn(t, data)
			want(t, again, "SHOW "+name, c.other)
			if strings.Contains(log.String(), "has no effect") {
				t.Error(log)
			}
			set := start(t, ClusterOptions{Settings: map[string]string{name: c.given}})
			want(t, set, "SHOW "+name, c.given)
		})
	}
}
