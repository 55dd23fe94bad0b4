package soak

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
	"blobpglite/runner/serverless"
)

var runtime *pglite.Runtime

func TestMain(m *testing.M) { os.Exit(withRuntime(m)) }

func withRuntime(m *testing.M) int {
	var err error
	if runtime, err = pglite.NewRuntime(context.Background(), pglite.Options{}); err == nil {
		_, err = runtime.Template(context.Background(), memfs.Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer runtime.Close()
	return m.Run()
}

// database is one with the chain's tables.
func database(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Options{Runtime: runtime, Store: mem.New(mem.Options{}), Create: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Abandon)
	must(t, e, chainSchema)
	return e
}

func must(t *testing.T, e *engine.Engine, sql string) [][]string {
	t.Helper()
	results, err := e.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return results[len(results)-1].Rows
}

// over queries an engine the way the service is queried.
func over(e *engine.Engine) asker {
	return func(ctx context.Context, sql string) (serverless.Reply, error) {
		results, err := e.Query(ctx, sql)
		var pg *pgconn.PgError
		switch {
		case errors.As(err, &pg):
			return serverless.Reply{Status: http.StatusBadRequest, Outcome: "failed", Code: pg.Code, Text: err.Error()}, nil
		case err != nil:
			return serverless.Reply{}, err
		}
		a := serverless.Reply{Status: http.StatusOK}
		for _, row := range results[len(results)-1].Rows {
			var values []json.RawMessage
			for _, v := range row {
				values = append(values, json.RawMessage(strconv.Quote(v)))
			}
			a.Rows = append(a.Rows, values)
		}
		return a, nil
	}
}

// written are chains of two clients, with this many rows each.
func written(t *testing.T, ask asker, rows int) []*chain {
	t.Helper()
	const seed = 7
	t.Logf("seed %d", seed)
	chains := []*chain{newChain(1, seed), newChain(2, seed)}
	for range rows {
		for _, c := range chains {
			if err := c.write(t.Context(), clock.System(), ask, func() {}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return chains
}

// inFlight has a client send a row without an answer. The returned statement carries it out.
func inFlight(c *chain) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := md5.Sum([]byte(c.last() + "b"))
	c.sent, c.next = len(c.hashes)+1, hex.EncodeToString(sum[:])
	return fmt.Sprintf("INSERT INTO chain VALUES (%d, %d, 'b', '%s'); UPDATE latest SET n = %[2]d, hash = '%[3]s' WHERE client = %[1]d", c.client, c.sent, c.next)
}

// TestCompareFindsWhatIsWrong changes a sound database behind the clients' backs, one way at a time: any difference from what they were
// told is found, by PostgreSQL's own checks of its rows or by what the clients remember.
func TestCompareFindsWhatIsWrong(t *testing.T) {
	const rows = 4
	e := database(t)
	chains := written(t, over(e), rows)
	before := moment(chains)
	if wrong, total := compare(chains, before, must(t, e, chainSQL)); wrong != "" || total != 2*rows {
		t.Fatalf("a sound database: %q, %d rows", wrong, total)
	}
	// again makes the hashes of a client follow from its bodies, and latest the last, whatever was done to it: only the clients' memory
	// shows the difference.
	const again = `; WITH RECURSIVE h AS (SELECT n, hash FROM chain WHERE client = 1 AND n = 0 UNION ALL
		SELECT c.n, md5(h.hash || c.body) FROM chain c JOIN h ON c.n = h.n + 1 WHERE c.client = 1)
		UPDATE chain SET hash = h.hash FROM h WHERE client = 1 AND chain.n = h.n;
		UPDATE latest SET (n, hash) = (SELECT n, hash FROM chain WHERE client = 1 ORDER BY n DESC LIMIT 1) WHERE client = 1`
	for _, c := range []struct{ name, sql, says string }{
		{"the last row lost", "DELETE FROM chain WHERE client = 1 AND n = 4" + again, "4 rows were acknowledged, and there are 3"},
		{"all rows lost", "DELETE FROM chain WHERE client = 1 AND n > 0; DELETE FROM latest WHERE client = 1", "4 rows were acknowledged, and there are 0"},
		{"a client lost", "DELETE FROM chain WHERE client = 2", "client 2 is not there"},
		{"a row lost in the middle", "DELETE FROM chain WHERE client = 1 AND n = 2", "4 rows up to number 4"},
		{"a row that nobody sent", "INSERT INTO chain VALUES (1, 5, 'b', '')" + again, "of 4 sent"},
		{"another body", "UPDATE chain SET body = 'b' WHERE client = 1 AND n = 2", "1 hashes do not follow"},
		{"another hash", "UPDATE chain SET hash = 'h' WHERE client = 1 AND n = 2", "2 hashes do not follow"},
		{"another body and hashes that follow", "UPDATE chain SET body = 'b' WHERE client = 1 AND n = 2" + again, "are not those that it was told"},
		{"another last row", "UPDATE chain SET body = 'b' WHERE client = 1 AND n = 4" + again, "are not those that it was told"},
		{"rows in another order", "UPDATE chain SET n = 9 - n WHERE client = 1 AND n IN (2, 3); UPDATE chain SET n = CASE n WHEN 7 THEN 3 ELSE 2 END WHERE client = 1 AND n > 4" + again, "are not those that it was told"},
		{"another first row", "UPDATE chain SET hash = 'other' WHERE client = 1 AND n = 0" + again, "are not those that it was told"},
		{"latest behind", "UPDATE latest SET (n, hash) = (SELECT n, hash FROM chain WHERE client = 1 AND n = 3) WHERE client = 1", "latest is the last: f"},
		{"latest with another hash", "UPDATE latest SET hash = 'h' WHERE client = 1", "latest is the last: f"},
		{"latest lost", "DELETE FROM latest WHERE client = 1", "latest is the last: f"},
		{"another's rows", "UPDATE chain SET client = client + 10 WHERE n > 0; UPDATE chain SET client = 13 - client WHERE n > 0; UPDATE latest SET client = client + 10; UPDATE latest SET client = 13 - client", "are not those that it was told"},
	} {
		t.Run(c.name, func(t *testing.T) {
			must(t, e, "BEGIN")
			defer must(t, e, "ROLLBACK")
			must(t, e, c.sql)
			if wrong, _ := compare(chains, before, must(t, e, chainSQL)); !strings.Contains(wrong, c.says) {
				t.Errorf("it says %q, want %q", wrong, c.says)
			}
		})
	}
	if wrong, _ := compare(chains, before, must(t, e, chainSQL)); wrong != "" {
		t.Errorf("in the end: %s", wrong)
	}
}

// TestCompareAllowsWhatMayBe: a row that was sent and not answered may be there or not; one that is acknowledged while the database is read
// may be there or not. One acknowledged before must be there.
func TestCompareAllowsWhatMayBe(t *testing.T) {
	e := database(t)
	chains := written(t, over(e), 2)
	before := moment(chains)
	early := must(t, e, chainSQL)
	if err := chains[0].write(t.Context(), clock.System(), over(e), func() {}); err != nil {
		t.Fatal(err)
	}
	late := must(t, e, chainSQL)
	for _, c := range []struct {
		name   string
		before ledger
		rows   [][]string
		says   string
	}{
		{"read before a row that came meanwhile", before, early, ""},
		{"read behind it", before, late, ""},
		{"read behind it, and it is not there", moment(chains), early, "3 rows were acknowledged, and there are 2"},
	} {
		if wrong, _ := compare(chains, c.before, c.rows); !strings.Contains(wrong, c.says) || c.says == "" && wrong != "" {
			t.Errorf("%s: %q, want %q", c.name, wrong, c.says)
		}
	}
	now := moment(chains)
	arrive := inFlight(chains[0])
	if wrong, total := compare(chains, now, must(t, e, chainSQL)); wrong != "" || total != 3+2 {
		t.Errorf("a row on its way that is not there: %q, %d rows", wrong, total)
	}
	must(t, e, arrive)
	if wrong, total := compare(chains, now, must(t, e, chainSQL)); wrong != "" || total != 4+2 {
		t.Errorf("a row on its way that is there: %q, %d rows", wrong, total)
	}
}

// TestTexts: the service's answers over HTTP read like PostgreSQL's.
func TestTexts(t *testing.T) {
	t.Parallel()
	rows := texts([][]json.RawMessage{{json.RawMessage(`1`), json.RawMessage(`"ab"`), json.RawMessage(`true`)}})
	if len(rows) != 1 || strings.Join(rows[0], " ") != "1 ab true" {
		t.Errorf("%q", rows)
	}
}

// TestWriteThroughTrouble: a client that loses replies, before and after its statement is carried out, and that is refused, writes each row
// once.
func TestWriteThroughTrouble(t *testing.T) {
	e := database(t)
	n, locked := 0, 0
	chains := []*chain{newChain(1, 3)}
	ask := func(ctx context.Context, sql string) (serverless.Reply, error) {
		n++
		switch n % 5 {
		case 1:
			return serverless.Reply{}, errors.New("the connection was refused") // nothing was done
		case 3:
			_, _ = over(e)(ctx, sql)
			return serverless.Reply{Status: http.StatusServiceUnavailable, Outcome: "unknown"}, nil
		case 4:
			return serverless.Reply{Status: http.StatusServiceUnavailable, Code: "57P03", Text: "it is locked by another"}, nil
		}
		return over(e)(ctx, sql)
	}
	const rows = 5
	for range rows {
		if err := chains[0].write(t.Context(), clock.System(), ask, func() { locked++ }); err != nil {
			t.Fatal(err)
		}
	}
	before := moment(chains)
	if wrong, total := compare(chains, before, must(t, e, chainSQL)); wrong != "" || total != rows || locked == 0 {
		t.Errorf("%q, %d rows, %d times locked", wrong, total, locked)
	}
}

// TestWriteFindsWhatIsLost: a service that acknowledges what it does not do, or forgets it, is caught by the next row; one that carries out
// late what it denied, by the same row.
func TestWriteFindsWhatIsLost(t *testing.T) {
	e := database(t)
	write := func(c *chain, ask asker) error { return c.write(t.Context(), clock.System(), ask, func() {}) }
	c := newChain(1, 5)
	sound := over(e)
	if err := errors.Join(write(c, sound), write(c, sound)); err != nil {
		t.Fatal(err)
	}
	must(t, e, "DELETE FROM chain WHERE client = 1 AND n = 2")
	if lost := (errLost{}); !errors.As(write(c, sound), &lost) || !strings.Contains(lost.text, "row 2 was acknowledged and is not there") {
		t.Errorf("a row is lost: %v", lost)
	}

	c = newChain(2, 5)
	asked := 0
	late := func(ctx context.Context, sql string) (serverless.Reply, error) {
		switch asked++; asked {
		case 1: // carried out after the look
			return serverless.Reply{Outcome: "unknown"}, nil
		case 2:
			return serverless.Reply{Status: http.StatusOK}, nil
		case 3:
			if _, err := sound(ctx, sql); err != nil {
				return serverless.Reply{}, err
			}
		}
		return sound(ctx, sql)
	}
	if lost := (errLost{}); !errors.As(write(c, late), &lost) || !strings.Contains(lost.text, "read as absent, and is there") {
		t.Errorf("a row came late: %v", lost)
	}

	c = newChain(3, 5)
	lies := func(context.Context, string) (serverless.Reply, error) {
		return serverless.Reply{Status: http.StatusOK, Rows: [][]json.RawMessage{{json.RawMessage(`"another"`)}}}, nil
	}
	if lost := (errLost{}); !errors.As(write(c, lies), &lost) || !strings.Contains(lost.text, `has the hash "another"`) {
		t.Errorf("another hash: %v", lost)
	}
}
