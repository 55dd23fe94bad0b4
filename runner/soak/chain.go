package soak

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/runner/serverless"
)

// chainSchema holds every write of the soak. The hash of a row is computed from the previous row's and its own body, by PostgreSQL, and
// again by the client that wrote it; the same statement changes latest.
const chainSchema = `
CREATE TABLE IF NOT EXISTS chain (client int, n int, body text NOT NULL, hash text NOT NULL, PRIMARY KEY (client, n));
CREATE TABLE IF NOT EXISTS latest (client int PRIMARY KEY, n int NOT NULL, hash text NOT NULL);
INSERT INTO chain SELECT c, 0, '', 'start' FROM generate_series(1, 5) c ON CONFLICT DO NOTHING`

// chainSQL reads what every client has: how many rows, the digest of their hashes in order, whether the hashes follow from the bodies, and
// whether latest is the last.
const chainSQL = `SELECT c.client, max(c.n), md5(string_agg(c.hash, '' ORDER BY c.n)), count(*),
	coalesce((SELECT count(*) FROM chain a JOIN chain b ON b.client = a.client AND b.n = a.n + 1 WHERE a.client = c.client AND b.hash <> md5(a.hash || b.body)), 0),
	coalesce((SELECT l.n || l.hash = max(c.n) || (array_agg(c.hash ORDER BY c.n DESC))[1] FROM latest l WHERE l.client = c.client), max(c.n) = 0)
	FROM chain c GROUP BY c.client ORDER BY c.client`

// asker sends a statement somewhere: over HTTP, or over a driver's connection.
type asker func(ctx context.Context, sql string) (serverless.Reply, error)

// chain is what one client has written: each row follows from the one before.
type chain struct {
	client int
	random *rand.Rand

	mu     sync.Mutex
	hashes []string // acknowledged, 1 on
	next   string   // the hash of the row that is on its way; empty: none
	sent   int      // rows that were sent
}

func newChain(client int, seed uint64) *chain {
	return &chain{client: client, random: rand.New(rand.NewPCG(seed, uint64(client)+0x736f616b))}
}

// acked is how many rows have been acknowledged.
func (c *chain) acked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.hashes)
}

// last is the hash that the next row follows.
func (c *chain) last() string {
	if n := len(c.hashes); n > 0 {
		return c.hashes[n-1]
	}
	return "start"
}

// errLost: the database lacks what was acknowledged, or has what cannot be there.
type errLost struct{ text string }

func (e errLost) Error() string { return e.text }

// chainPatience is how long a client keeps trying to write one row, in real time.
const chainPatience = 2 * time.Minute

// write appends a row, and does not give up: what is unknown is read back, what failed is sent again. It returns when the row is
// acknowledged. locked is called for an answer that another process has the lease.
func (c *chain) write(ctx context.Context, clk clock.Clock, ask asker, locked func()) error {
	body := strings.Repeat(strconv.FormatUint(c.random.Uint64(), 36), 2+c.random.IntN(30))
	c.mu.Lock()
	n, sum := len(c.hashes)+1, md5.Sum([]byte(c.last()+body))
	want := hex.EncodeToString(sum[:])
	c.next, c.sent = want, n
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, chainPatience)
	defer cancel()
	insert := fmt.Sprintf(`WITH row AS (INSERT INTO chain SELECT client, %d, '%s', md5(hash || '%s') FROM chain WHERE client = %d AND n = %d RETURNING client, n, hash)
		INSERT INTO latest SELECT * FROM row ON CONFLICT (client) DO UPDATE SET n = excluded.n, hash = excluded.hash RETURNING hash`, n, body, body, c.client, n-1)
	sql := insert
	for {
		a, err := ask(ctx, sql)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("row %d of client %d: %w; the last answer: %d %s %v", n, c.client, ctx.Err(), a.Status, a.Text, err)
		case err != nil, a.Status == http.StatusBadGateway, a.Outcome == "unknown":
			sql = fmt.Sprintf("SELECT hash FROM chain WHERE client = %d AND n = %d", c.client, n)
			err = clk.Sleep(ctx, 20*time.Millisecond)
		case a.Status == http.StatusOK && len(a.Rows) == 0 && sql == insert:
			return errLost{fmt.Sprintf("client %d: row %d was acknowledged and is not there", c.client, n-1)}
		case a.Status == http.StatusOK && len(a.Rows) == 0:
			sql = insert // it is not there, and never will be
			continue
		case a.Status == http.StatusOK:
			var got string
			if err := json.Unmarshal(a.Rows[0][0], &got); err != nil || got != want {
				return errLost{fmt.Sprintf("client %d: row %d has the hash %q, not %q", c.client, n, got, want)}
			}
			c.mu.Lock()
			c.hashes, c.next = append(c.hashes, want), ""
			c.mu.Unlock()
			return nil
		case a.Code == "23505":
			return errLost{fmt.Sprintf("client %d: row %d was read as absent, and is there when it is sent again: %s", c.client, n, a.Text)}
		case a.Locked():
			locked()
			err = clk.Sleep(ctx, 50*time.Millisecond)
		default:
			err = clk.Sleep(ctx, 50*time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
}

// ledger is what all clients had acknowledged, and sent, at a moment.
type ledger struct{ acked, sent []int }

func moment(chains []*chain) ledger {
	var l ledger
	for _, c := range chains {
		c.mu.Lock()
		l.acked, l.sent = append(l.acked, len(c.hashes)), append(l.sent, c.sent)
		c.mu.Unlock()
	}
	return l
}

// compare compares what chainSQL returned with what was acknowledged before the query (before: acked), and sent until its answer. It
// returns what is wrong; rows are those of all clients.
func compare(chains []*chain, before ledger, rows [][]string) (wrong string, total int) {
	after := moment(chains)
	got := map[string][]string{}
	for _, row := range rows {
		got[row[0]] = row
	}
	for i, c := range chains {
		row := got[strconv.Itoa(c.client)]
		if len(row) < 6 {
			return fmt.Sprintf("client %d is not there: %q", c.client, row), total
		}
		most, err1 := strconv.Atoi(row[1])
		count, err2 := strconv.Atoi(row[3])
		switch {
		case err1 != nil || err2 != nil:
			return fmt.Sprintf("client %d: %q", c.client, row), total
		case most < before.acked[i]:
			return fmt.Sprintf("client %d: %d rows were acknowledged, and there are %d", c.client, before.acked[i], most), total
		case most > after.sent[i] || count != most+1:
			return fmt.Sprintf("client %d: %d rows up to number %d, of %d sent", c.client, count, most, after.sent[i]), total
		case row[4] != "0" || row[5] != "t" && row[5] != "true":
			return fmt.Sprintf("client %d: %s hashes do not follow from their rows; latest is the last: %s", c.client, row[4], row[5]), total
		case row[2] != c.digest(most):
			return fmt.Sprintf("client %d: the hashes of its %d rows are not those that it was told", c.client, most), total
		}
		total += most
	}
	return "", total
}

// digest is PostgreSQL's, of the first rows.
func (c *chain) digest(rows int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := md5.New()
	h.Write([]byte("start"))
	for i := range rows {
		if i < len(c.hashes) {
			h.Write([]byte(c.hashes[i]))
		} else {
			h.Write([]byte(c.next))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// texts are the rows of an answer over HTTP as text.
func texts(rows [][]json.RawMessage) [][]string {
	var all [][]string
	for _, row := range rows {
		var one []string
		for _, v := range row {
			one = append(one, strings.Trim(string(v), `"`))
		}
		all = append(all, one)
	}
	return all
}
