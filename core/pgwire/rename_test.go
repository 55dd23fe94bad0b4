package pgwire

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/engine"
	"blobpglite/core/store/mem"
)

// The role that the database was made with may be called anything: that locks nobody out.
func TestTheFirstRoleIsRenamed(t *testing.T) {
	d := openDoor(t)
	super := d.connect()
	exec(t, super, "CREATE ROLE app LOGIN; CREATE ROLE chief LOGIN SUPERUSER; CREATE TABLE a (id int); GRANT ALL ON a TO app")
	app, chief := d.connectTo(d.url("app", "")), d.connectTo(d.url("chief", ""))
	exec(t, app, "INSERT INTO a VALUES (1)")
	exec(t, chief, "ALTER ROLE postgres RENAME TO boss")
	for range 2 {
		exec(t, app, "INSERT INTO a VALUES (2)")
		exec(t, chief, "INSERT INTO a VALUES (3)")
		exec(t, d.connectTo(d.url("boss", "")), "INSERT INTO a VALUES (4)")
		exec(t, d.connectTo(d.url("app", "")), "INSERT INTO a VALUES (5)")
	}
	var who string
	if err := app.QueryRow(t.Context(), "SELECT current_user || ' ' || session_user").Scan(&who); err != nil || who != "app app" {
		t.Errorf("app is %s: %v", who, err)
	}
}

// A superuser is told at once that settings were left out.
func TestSuperusersHearOfSettingsThatWereLeftOut(t *testing.T) {
	st := mem.New(mem.Options{})
	open := func() *engine.Engine {
		e, err := engine.Open(t.Context(), engine.Options{Runtime: runtime, Store: st, Create: true})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open()
	for _, sql := range []string{"CREATE ROLE app LOGIN", "ALTER SYSTEM SET shared_preload_libraries = 'nonexistent'"} {
		if _, err := e.Query(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = open()
	d := openDoor(t, func(o *Options) { o.Source = fixed{e} })
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	for user, want := range map[string]int{"postgres": 1, "app": 0} {
		conf, err := pgx.ParseConfig(d.url(user, ""))
		if err != nil {
			t.Fatal(err)
		}
		notices := 0
		conf.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			if n.Severity == "WARNING" && n.Code == "01000" {
				notices++
			}
		}
		c, err := pgx.ConnectConfig(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close(t.Context())
		if notices != want {
			t.Errorf("%s got %d notices, want %d", user, notices, want)
		}
	}
}
