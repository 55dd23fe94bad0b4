package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"blobpglite/core/store/mem"
)

// Rows of unlogged tables are not kept, and a notice says so: once when the first table appears, and at an opening that empties some.
func TestUnloggedTablesAreToldOf(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	st := mem.New(mem.Options{})
	logged := func(o *Options) { o.Mode, o.Logger = ModeLog, slog.New(slog.NewTextHandler(&log, nil)) }
	e := open(t, st, logged)
	must(t, e, "CREATE TABLE kept (id int); CREATE TEMP TABLE temporary (id int)")
	if strings.Contains(log.String(), "unlogged") {
		t.Errorf("there is none: %s", &log)
	}
	must(t, e, "CREATE UNLOGGED TABLE passing (id int PRIMARY KEY); INSERT INTO passing VALUES (1); CREATE UNLOGGED TABLE another (id int)")
	if n := strings.Count(log.String(), "an unlogged table was created"); n != 1 {
		t.Errorf("it was told %d times: %s", n, &log)
	}
	must(t, e, "CREATE UNLOGGED TABLE saved (id int); INSERT INTO saved VALUES (1); ALTER TABLE saved SET LOGGED")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = open(t, st, logged)
	if n := strings.Count(log.String(), "unlogged tables are empty"); n != 1 {
		t.Errorf("the opening told it %d times: %s", n, &log)
	}
	if got := must(t, e, "SELECT (SELECT count(*) FROM passing) || ' ' || (SELECT count(*) FROM saved)"); got != "0 1" {
		t.Errorf("rows: %s", got)
	}
}

// An unlogged table in a tablespace is reported too.
func TestUnloggedInATablespace(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	st := mem.New(mem.Options{})
	logged := func(o *Options) { o.Mode, o.Logger = ModeLog, slog.New(slog.NewTextHandler(&log, nil)) }
	e := open(t, st, logged)
	must(t, e, "SET allow_in_place_tablespaces = on")
	must(t, e, "CREATE TABLESPACE here LOCATION ''")
	must(t, e, "CREATE UNLOGGED TABLE passing (id int) TABLESPACE here")
	if n := strings.Count(log.String(), "an unlogged table was created"); n != 1 {
		t.Errorf("it was told %d times: %s", n, &log)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	open(t, st, logged)
	if n := strings.Count(log.String(), "unlogged tables are empty"); n != 1 {
		t.Errorf("the opening told it %d times: %s", n, &log)
	}
}
