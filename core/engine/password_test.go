package engine

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
)

// TestPassword: it is required, set only when the database is new, and each role has its own.
func TestPassword(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	login := func(e *Engine, user, password string, sql ...string) string {
		t.Helper()
		cfg, err := pgconn.ParseConfig("host=127.0.0.1 dbname=postgres sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		cfg.User, cfg.Password = user, password
		cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return e.Dial(ctx, pglite.ConnectOptions{Remote: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 40000}})
		}
		c, err := pgconn.ConnectConfig(t.Context(), cfg)
		if err != nil {
			return sqlstate(err)
		}
		for _, q := range sql {
			do(t, c, q)
		}
		_ = c.Close(t.Context())
		return ""
	}
	super := "postgres"
	for life, password := range []string{"first word", "first word", "zwei Wörter $1:x", `quo'te"d\`} {
		e := open(t, st, settings("autovacuum", "off"), func(o *Options) { o.Mode, o.Password = ModeLog, password }) // so that nothing else writes
		if got := login(e, super, password); got != "" {
			t.Errorf("life %d: the password is refused: %s", life, got)
		}
		if got := login(e, super, "another"); got != "28P01" {
			t.Errorf("life %d: another password: %q", life, got)
		}
		switch life {
		case 0:
			must(t, e, `CREATE ROLE bob LOGIN PASSWORD 'his own'; CREATE ROLE chief LOGIN SUPERUSER PASSWORD 'x'; ALTER ROLE postgres PASSWORD 'first word'`)
		case 1:
			if stats := e.LogStats(); stats.Records != 0 {
				t.Errorf("a cold start with the same password has written %d records", stats.Records)
			}
			login(e, "chief", "x", `ALTER ROLE postgres RENAME TO "bo""ss"`)
			super = `bo"ss`
		}
		if got := login(e, "bob", "his own"); got != "" {
			t.Errorf("life %d: bob's password is refused: %s", life, got)
		}
		if got := login(e, "bob", password); got != "28P01" {
			t.Errorf("life %d: bob comes in by the superuser's password: %q", life, got)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e := open(t, st, func(o *Options) { o.Mode = ModeLog })
	if got := login(e, "postgres", ""); got != "28000" { // the rules of initdb, which trust this machine alone
		t.Errorf("from elsewhere, without a password: %q", got)
	}
}

func TestVerifiers(t *testing.T) {
	t.Parallel()
	made, err := newVerifier("word")
	if err != nil {
		t.Fatal(err)
	}
	for verifier, want := range map[string]bool{
		made: true, strings.Replace(made, "$4096:", "$4095:", 1): false, "md5deadbeef": false, "": false,
		"SCRAM-SHA-256$4096:x": false, "SCRAM-SHA-256$0:AAAA$AAAA:AAAA": false, "SCRAM-SHA-256$4096:!$AAAA:AAAA": false,
	} {
		if got, err := verifies(verifier, "word"); err != nil || got != want {
			t.Errorf("%q: %v, %v", verifier, got, err)
		}
	}
	if same, err := verifies(made, "words"); err != nil || same {
		t.Error("another password is verified", err)
	}
}
