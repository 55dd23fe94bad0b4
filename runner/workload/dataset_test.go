package workload

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
)

// answers is a process's answers, as a stream.
type answers struct {
	t    *testing.T
	conn *pglite.Conn
	rest []byte
}

func (a *answers) Read(b []byte) (int, error) {
	for len(a.rest) == 0 {
		next, err := a.conn.Next(a.t.Context())
		if err != nil {
			return 0, err
		}
		a.rest = next.Bytes
	}
	n := copy(b, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// TestDataset loads a dataset into PostgreSQL, verifies it, and then damages it in each way that a check is for.
func TestDataset(t *testing.T) {
	rt, err := pglite.NewRuntime(t.Context(), pglite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.StartCluster(t.Context(), pglite.ClusterOptions{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Kill()
	conn, err := c.Connect(t.Context(), pglite.ConnectOptions{Trusted: true})
	if err != nil {
		t.Fatal(err)
	}
	wire := pgproto3.NewFrontend(&answers{t: t, conn: conn}, conn)
	ask := func(m pgproto3.FrontendMessage) []pglite.Result {
		t.Helper()
		wire.Send(m)
		if err := wire.Flush(); err != nil {
			t.Fatal(err)
		}
		var out []byte
		for {
			answer, err := wire.Receive()
			if err == nil {
				out, err = answer.Encode(out)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := answer.(*pgproto3.ReadyForQuery); ok {
				break
			}
		}
		results, err := pglite.ParseResults(bytes.NewReader(out))
		if err != nil {
			t.Fatalf("%.60v: %v", m, err)
		}
		return results
	}
	ask(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres"}})
	query := func(sql string) []pglite.Result {
		t.Helper()
		return ask(&pgproto3.Query{String: sql})
	}
	d := Dataset{Bytes: 2_000_000, Seed: 7}
	query(d.Load())
	verify := func() error {
		t.Helper()
		v, err := ParseVerify(query(VerifySQL))
		if err != nil {
			t.Fatal(err)
		}
		return d.Check(v)
	}
	if err := verify(); err != nil {
		t.Fatalf("a fresh dataset: %v", err)
	}
	for name, damage := range map[string]struct{ sql, says string }{
		"changed integer":   {"UPDATE rows SET n = n + 1 WHERE id = 3", "differ"},
		"changed bytes":     {`UPDATE rows SET bytes_that_do_not = '\x00' WHERE id = 700`, "differ"},
		"lost row":          {"DELETE FROM rows WHERE id = 5", "differ"},
		"lost chunk":        {"DELETE FROM rows WHERE chunk = 1; DELETE FROM checksums WHERE chunk = 1", "acknowledged"},
		"uncommitted chunk": {strings.TrimPrefix(d.OpenTransactionSQL(), "BEGIN; "), "differ"},
	} {
		query("BEGIN")
		query(damage.sql)
		if err := verify(); err == nil || !strings.Contains(err.Error(), damage.says) {
			t.Errorf("%s: the verification says %v", name, err)
		}
		query("ROLLBACK")
	}
	if err := verify(); err != nil {
		t.Errorf("after the rollbacks: %v", err)
	}
	grown := query("SELECT pg_total_relation_size('rows')")[0].Rows[0][0]
	t.Logf("%d rows take %s bytes, %d were asked for", d.Rows(), grown, d.Bytes)
}
