package workload

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"blobpglite/runner/history"
)

// Conn runs SQL, and returns the rows and the tag of each statement.
type Conn interface {
	Query(ctx context.Context, sql string) (rows [][][]string, tags []string, err error)
	// Copy sends one large COPY of rows by CopyRow.
	Copy(ctx context.Context, token int64, rows, rowBytes int) error
	// In is the same place, asked in a session of its own: the same number is the same session, as long as it lives.
	In(session int64, isolation string) Conn
}

// Isolations returns the isolation levels that clients use in turn.
func Isolations() []string { return []string{"read committed", "repeatable read", "serializable"} }

// Sizes of what a mix of clients works on.
const (
	Accounts     = 8
	StartBalance = 100
	Registers    = 5
	blockRows    = 12
)

// LedgerSchema creates the tables that the clients work on:
//
//	ledger     append-only; each entry's hash is computed from the previous one's and its own token
//	accounts   the bank; transfers keeps what was moved, in the same transaction
//	registers  written, read, swapped
//	items      rows, and in digests their digest, in the same transaction
//	copies     rows of large COPYs, each with its own digest
const LedgerSchema = `
CREATE TABLE ledger (id bigint PRIMARY KEY, token bigint NOT NULL, hash text NOT NULL);
INSERT INTO ledger VALUES (0, 0, 'start');
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO accounts SELECT g, 100 FROM generate_series(0, 7) g;
CREATE TABLE transfers (token bigint PRIMARY KEY);
CREATE TABLE registers (key int PRIMARY KEY, value bigint NOT NULL);
INSERT INTO registers SELECT g, 0 FROM generate_series(0, 4) g;
CREATE TABLE items (token bigint, n int, body text NOT NULL, PRIMARY KEY (token, n));
CREATE TABLE digests (token bigint PRIMARY KEY, row_count int NOT NULL, digest text NOT NULL);
CREATE TABLE copies (token bigint, n int, sum text NOT NULL, body bytea NOT NULL);
ALTER TABLE copies ALTER body SET STORAGE EXTERNAL;
`

// StateSQL reads everything; see ParseState.
const StateSQL = `
SELECT id, token, hash FROM ledger ORDER BY id;
SELECT balance FROM accounts ORDER BY id;
SELECT token FROM transfers ORDER BY token;
SELECT key, value FROM registers ORDER BY key;
SELECT d.token, d.row_count, count(i.n), d.digest, coalesce(md5(string_agg(i.body, '' ORDER BY i.n)), '')
	FROM digests d LEFT JOIN items i ON i.token = d.token GROUP BY d.token, d.row_count, d.digest ORDER BY d.token;
SELECT substr(relname, 5)::bigint FROM pg_class WHERE relkind = 'r' AND relname LIKE 'ddl\_%' ORDER BY 1;
SELECT token, count(*), count(*) FILTER (WHERE md5(body) <> sum) FROM copies GROUP BY token ORDER BY token;
SELECT count(*) FROM items i LEFT JOIN digests d ON d.token = i.token WHERE d.token IS NULL;
`

// ReadState reads a database.
func ReadState(ctx context.Context, c Conn) (history.State, error) {
	rows, _, err := c.Query(ctx, StateSQL)
	if err != nil {
		return history.State{}, fmt.Errorf("read the database: %w", err)
	}
	return ParseState(rows)
}

// ParseState reads the answers to StateSQL.
func ParseState(rows [][][]string) (history.State, error) {
	s := history.State{Registers: map[int64]int64{}}
	const parts = 8
	if len(rows) != parts {
		return s, fmt.Errorf("read the database: %d results instead of %d", len(rows), parts)
	}
	p := numbers{}
	for _, r := range rows[0] {
		s.Ledger = append(s.Ledger, history.LedgerRow{ID: p.at(r, 0), Token: p.at(r, 1), Hash: r[2]})
	}
	for _, r := range rows[1] {
		s.Balances = append(s.Balances, p.at(r, 0))
	}
	for _, r := range rows[2] {
		s.Transfers = append(s.Transfers, p.at(r, 0))
	}
	for _, r := range rows[3] {
		s.Registers[p.at(r, 0)] = p.at(r, 1)
	}
	for _, r := range rows[4] {
		s.Blocks = append(s.Blocks, history.BlockRow{Token: p.at(r, 0), Rows: p.at(r, 1), Found: p.at(r, 2), Digest: r[3], Actual: r[4]})
	}
	for _, r := range rows[5] {
		s.Tables = append(s.Tables, p.at(r, 0))
	}
	for _, r := range rows[6] {
		s.Copies = append(s.Copies, history.CopyRow{Token: p.at(r, 0), Rows: p.at(r, 1), Wrong: p.at(r, 2)})
	}
	for _, r := range rows[7] {
		if n := p.at(r, 0); n != 0 { // rows whose digest is missing: shown as a block that cannot be right
			s.Blocks = append(s.Blocks, history.BlockRow{Token: 0, Rows: 0, Found: n, Digest: "missing"})
		}
	}
	return s, p.err
}

// numbers parses, and keeps the first fault.
type numbers struct{ err error }

func (p *numbers) at(row []string, i int) int64 {
	if i >= len(row) {
		p.err = fmt.Errorf("read the database: a row of %d columns", len(row))
		return 0
	}
	n, err := strconv.ParseInt(row[i], 10, 64)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("read the database: %w", err)
	}
	return n
}

// CopySQL is the statement for CopyRow's rows.
const CopySQL = "COPY copies FROM STDIN"

// CopyRow appends one row of a COPY: bytes that do not compress, with their digest.
func CopyRow(b []byte, token int64, n, bytes int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed^uint64(token), uint64(n)))
	body := make([]byte, 0, bytes+8)
	for len(body) < bytes {
		body = binary.LittleEndian.AppendUint64(body, random.Uint64())
	}
	body = body[:bytes]
	return fmt.Appendf(b, "%d\t%d\t%x\t\\\\x%x\n", token, n, md5.Sum(body), body)
}

// request is one operation and how to do it.
type request struct {
	kind history.Kind
	in   map[string]int64
	sql  string
	// steps are sent one by one, each when the previous one was answered; the last one commits. Empty: sql.
	steps []string
	copy  bool
	// done reads the answer into the operation; nil: there is nothing to read.
	done func(op *history.Op, rows [][][]string, tags []string) error
}

// maker makes one client's requests.
type maker struct {
	h        *history.History
	random   *rand.Rand
	kinds    []func(*maker) request
	copies   CopySize
	made     int64            // the table that this client has made last, and knows to be there
	observed [Registers]int64 // what it last saw in each register: what a swap expects
}

// CopySize is how large a COPY is.
type CopySize struct{ Rows, RowBytes int }

func (m *maker) next() request { return m.kinds[m.random.IntN(len(m.kinds))](m) }

// bank moves money, or looks at all accounts.
func (m *maker) bank() request {
	if m.random.IntN(3) == 0 {
		return bankRead()
	}
	return m.transfer()
}

func (m *maker) large() request {
	return request{kind: history.Copy, copy: true, in: map[string]int64{"token": m.h.Token(), "rows": int64(m.copies.Rows)}}
}

// transaction is a transfer as a program makes it: a round trip for each statement, its locks in any order, so that transactions wait for
// each other, and some get a deadlock error.
func (m *maker) transaction() request {
	r := m.transfer()
	lock := ""
	if m.random.IntN(2) == 0 {
		lock = " FOR UPDATE"
	}
	r.steps = []string{"BEGIN", fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d%s", r.in["from"], lock)}
	r.steps = append(append(r.steps, strings.Split(r.sql, "; ")...), "COMMIT")
	return r
}

func (m *maker) append() request {
	token := m.h.Token()
	return request{
		kind: history.Append, in: map[string]int64{"token": token},
		sql: fmt.Sprintf("INSERT INTO ledger SELECT id + 1, %[1]d, md5(hash || ':%[1]d') FROM ledger ORDER BY id DESC LIMIT 1 RETURNING id", token),
		done: func(op *history.Op, rows [][][]string, _ []string) error {
			return into(&op.Out, "id", rows)
		},
	}
}

// into reads the single number of the first result.
func into(to *map[string]int64, name string, rows [][][]string) error {
	if len(rows) == 0 || len(rows[0]) != 1 || len(rows[0][0]) != 1 {
		return fmt.Errorf("%d results where one number was expected", len(rows))
	}
	n, err := strconv.ParseInt(rows[0][0][0], 10, 64)
	*to = map[string]int64{name: n}
	return err
}

func (m *maker) transfer() request {
	token, from := m.h.Token(), m.random.IntN(Accounts)
	to := (from + 1 + m.random.IntN(Accounts-1)) % Accounts
	amount := m.random.IntN(20) + 1
	return request{
		kind: history.Transfer, in: map[string]int64{"token": token, "from": int64(from), "to": int64(to), "amount": int64(amount)},
		sql: fmt.Sprintf("UPDATE accounts SET balance = balance - %[1]d WHERE id = %[2]d; UPDATE accounts SET balance = balance + %[1]d WHERE id = %[3]d; INSERT INTO transfers VALUES (%[4]d)",
			amount, from, to, token),
	}
}

func bankRead() request {
	return request{
		kind: history.BankRead, sql: "SELECT balance FROM accounts ORDER BY id",
		done: func(op *history.Op, rows [][][]string, _ []string) error {
			if len(rows) != 1 {
				return fmt.Errorf("%d results where one was expected", len(rows))
			}
			p := numbers{}
			for _, r := range rows[0] {
				op.Values = append(op.Values, p.at(r, 0))
			}
			return p.err
		},
	}
}

func (m *maker) register() request {
	key := int64(m.random.IntN(Registers))
	switch m.random.IntN(3) {
	case 0:
		value := m.h.Token()
		return request{
			kind: history.Write, in: map[string]int64{"key": key, "value": value},
			sql:  fmt.Sprintf("UPDATE registers SET value = %d WHERE key = %d", value, key),
			done: func(*history.Op, [][][]string, []string) error { m.observed[key] = value; return nil },
		}
	case 1:
		old, value := m.observed[key], m.h.Token()
		return request{
			kind: history.CAS, in: map[string]int64{"key": key, "old": old, "new": value},
			sql: fmt.Sprintf("UPDATE registers SET value = %d WHERE key = %d AND value = %d", value, key, old),
			done: func(op *history.Op, _ [][][]string, tags []string) error {
				op.Out = map[string]int64{"rows": 0}
				if slices.Equal(tags, []string{"UPDATE 1"}) {
					op.Out["rows"], m.observed[key] = 1, value
				}
				return nil
			},
		}
	default:
		return request{
			kind: history.Read, in: map[string]int64{"key": key}, sql: fmt.Sprintf("SELECT value FROM registers WHERE key = %d", key),
			done: func(op *history.Op, rows [][][]string, _ []string) error {
				err := into(&op.Out, "value", rows)
				m.observed[key] = op.Out["value"]
				return err
			},
		}
	}
}

func (m *maker) block() request {
	token := m.h.Token()
	return request{
		kind: history.Block, in: map[string]int64{"token": token, "rows": blockRows},
		sql: fmt.Sprintf("INSERT INTO items SELECT %[1]d, g, repeat(md5(%[1]d || ':' || g), 3) FROM generate_series(1, %[2]d) g; "+
			"INSERT INTO digests SELECT %[1]d, count(*), md5(string_agg(body, '' ORDER BY n)) FROM items WHERE token = %[1]d", token, blockRows),
	}
}

func (m *maker) ddl() request {
	token, drop := m.h.Token(), m.made
	sql := fmt.Sprintf("CREATE TABLE ddl_%[1]d (a int PRIMARY KEY, b text); CREATE INDEX ON ddl_%[1]d (b); INSERT INTO ddl_%[1]d VALUES (1, 'x'); ALTER TABLE ddl_%[1]d ADD c int DEFAULT 7", token)
	if drop != 0 {
		sql += fmt.Sprintf("; DROP TABLE ddl_%d", drop)
	}
	m.made = 0 // not known to be there until the answer says so
	return request{
		kind: history.DDL, in: map[string]int64{"token": token, "drop": drop}, sql: sql,
		done: func(*history.Op, [][][]string, []string) error { m.made = token; return nil },
	}
}
