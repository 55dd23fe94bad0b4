package pglite

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
)

const asksAll = "local all all scram-sha-256\nhost all all all scram-sha-256\n"

// TestRules: the host's rules apply until pg_hba.conf is changed, then the file's; a broken one lets in no client that was not let in
// before, and never with less authentication.
func TestRules(t *testing.T) {
	c := startCluster(t, ClusterOptions{Rules: asksAll})
	host := start(t, ClusterOptions{Data: c.Data().Clone()}) // the file is the template's
	if hba, err := host.Data().ReadFile("/" + hbaName); err != nil || !isInitial(hba) {
		t.Fatalf("initdb writes other rules: %q, %v", hba, err)
	}
	super := &server{Cluster: c, log: &lockedLog{}}
	super.connect(t, "postgres", ConnectOptions{Trusted: true})
	want(t, super, "ALTER ROLE postgres PASSWORD 'right'; CREATE ROLE bob LOGIN", "")
	login := func(user, password string) string {
		cfg := config(t, c, user, "postgres")
		cfg.Password = password
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			return sqlstate(err)
		}
		_ = conn.Close(context.Background())
		return ""
	}
	expect := func(when, user, password, code string) {
		t.Helper()
		if got := login(user, password); got != code {
			t.Errorf("%s, %s with password %q: %q, want %q", when, user, password, got, code)
		}
	}
	expect("at first", "postgres", "right", "")
	expect("at first", "postgres", "wrong", "28P01")
	expect("at first", "bob", "", "28P01")
	write := func(lines string) {
		rows(t, super, "COPY (VALUES "+lines+") TO '/pglite/data/pg_hba.conf'")
	}
	write("('nonsense')")
	expect("with a broken file", "postgres", "wrong", "28P01")
	expect("with a broken file", "postgres", "right", "")
	write("('host all bob 127.0.0.1/32 trust'), ('host all all all reject')")
	expect("with rules of their own", "bob", "", "")
	expect("with rules of their own", "postgres", "right", "28000")
	write("('# as initdb made it'), ('local all all trust'), ('host all all 127.0.0.1/32 trust'), ('host all all ::1/128 trust')," +
		"('local replication all trust'), ('host replication all 127.0.0.1/32 trust'), ('host  replication  all  ::1/128  trust')")
	expect("as it was", "postgres", "wrong", "28P01")
	want(t, super, "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL", "0")
}

// TestReservedPlaces: reserved connections are for superusers only.
func TestReservedPlaces(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	super := &server{Cluster: c, log: &lockedLog{}}
	super.connect(t, "postgres", ConnectOptions{Reserved: true})
	want(t, super, "CREATE ROLE bob LOGIN", "")
	for user, code := range map[string]string{"bob": "53300", "postgres": ""} {
		cfg := config(t, c, user, "postgres")
		cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := c.Connect(ctx, ConnectOptions{Reserved: true})
			return &netConn{Conn: conn}, err
		}
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err == nil {
			_ = conn.Close(context.Background())
		}
		if got := sqlstate(err); err != nil && got != code || err == nil && code != "" {
			t.Errorf("%s: %v", user, err)
		}
	}
}
