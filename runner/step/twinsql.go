package step

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"blobpglite/cloud/twin/platform"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/takeover"
	"blobpglite/runner/check"
	"blobpglite/runner/workload"
)

// reply is the answer to a statement.
type reply struct {
	status  int
	outcome string // failed or unknown, of an error
	code    string // SQLSTATE, of an error
	text    string
	rows    [][]json.RawMessage
}

// locked says whether the answer is that another writer has the lease, with its name.
func (a reply) locked() bool {
	return a.status == http.StatusServiceUnavailable && a.code == "57P03" && strings.Contains(a.text, "locked by ")
}

// fenced says whether the answer is that another writer has taken over.
func (a reply) fenced() bool {
	return a.status == http.StatusServiceUnavailable && a.code == "57P01" && a.outcome == "failed"
}

// send sends a request as the host takes it. The answer's body has to be closed.
func (t *twinRun) send(ctx context.Context, method, url string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	t.prepare(r)
	return t.client.Do(r)
}

// sql sends a statement.
func (t *twinRun) sql(ctx context.Context, sql string) (reply, error) {
	return t.sqlAt(ctx, t.address(), sql)
}

func (t *twinRun) sqlAt(ctx context.Context, url, sql string) (reply, error) {
	body, err := json.Marshal(map[string]string{"sql": sql})
	if err != nil {
		return reply{}, err
	}
	answer, err := t.send(ctx, http.MethodPost, url+"/sql", body)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return reply{}, err
	}
	var parsed struct {
		Rows    [][]json.RawMessage `json:"rows"`
		Outcome string              `json:"outcome"`
		Error   struct {
			SQLState string `json:"sqlstate"`
		} `json:"error"`
	}
	if json.Unmarshal(b, &parsed) != nil && answer.StatusCode == http.StatusOK {
		return reply{}, fmt.Errorf("an answer that is no JSON: %.200q", b)
	}
	return reply{
		status: answer.StatusCode, outcome: parsed.Outcome, code: parsed.Error.SQLState, text: strings.TrimSpace(string(b)), rows: parsed.Rows,
	}, nil
}

// must sends a statement that has to go well.
func (t *twinRun) must(ctx context.Context, sql string) (reply, error) {
	a, err := t.sql(ctx, sql)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%.80s: status %d: %s", sql, a.status, a.text)
	}
	return a, err
}

// number is the single integer that a statement returns.
func (t *twinRun) number(ctx context.Context, sql string) (int64, error) {
	a, err := t.must(ctx, sql)
	if err != nil {
		return 0, err
	}
	if len(a.rows) != 1 || len(a.rows[0]) != 1 {
		return 0, fmt.Errorf("%s: %s", sql, a.text)
	}
	var n int64
	return n, json.Unmarshal(a.rows[0][0], &n)
}

// store opens the database's prefix as an onlooker.
func (t *twinRun) store(ctx context.Context) (store.Store, func(), error) {
	st, err := gcs.Open(ctx, gcs.Options{Bucket: t.bucket, Prefix: t.prefix, Endpoint: t.base})
	if err != nil {
		return nil, nil, err
	}
	return st, func() { _ = st.Close() }, nil
}

// load makes a database of a size, by an instance that ends afterwards. Size 0: an empty table.
func (t *twinRun) load(ctx context.Context, size int64) error {
	t.r.Progress(fmt.Sprintf("loading %d MB", size/1e6), 0, 0)
	return t.on(ctx, platform.Options{CPU: platform.Always}, func() error {
		if size == 0 {
			_, err := t.must(ctx, "CREATE TABLE rows (id int)")
			return err
		}
		for _, q := range (workload.Dataset{Bytes: size, Seed: t.r.Seed}).Statements() {
			if _, err := t.must(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}

// bootSplit is /metrics.json: what an instance tells of its wake, in milliseconds.
type bootSplit struct {
	State   string             `json:"state"`
	Epoch   uint64             `json:"epoch"`
	Records int                `json:"records"`
	BootMS  map[string]float64 `json:"boot_ms"`
}

// split asks the instance that serves.
func (t *twinRun) split(ctx context.Context) (bootSplit, error) {
	answer, err := t.send(ctx, http.MethodGet, t.address()+"/metrics.json", nil)
	if err != nil {
		return bootSplit{}, err
	}
	defer answer.Body.Close()
	var s bootSplit
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("read /metrics.json (status %d): %w", answer.StatusCode, err)
	}
	return s, nil
}

// judgeLog holds what is in the bucket, and what was done to it, against the rules of the log: then there was at most one
// writer at any moment. It returns the highest epoch.
func (t *twinRun) judgeLog(ctx context.Context) (uint64, error) {
	st, done, err := t.store(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	objects, err := objectsOf(ctx, st)
	if err != nil {
		return 0, err
	}
	t.r.judge(checkDenseLog, check.Log(objects))
	changes, err := t.changes(ctx)
	if err != nil {
		return 0, err
	}
	t.r.judge(checkWriteOnce, check.WriteOnce(changes))
	if t.local == nil {
		t.r.Notes = append(t.r.Notes, "write-once is judged from listings of the log between rounds: a bucket does not tell of each request")
	}
	report, err := takeover.VerifyWith(ctx, st, takeover.VerifyOptions{Deep: true})
	if err != nil {
		t.r.check(checkDenseLog, fmt.Sprintf("the prefix is not sound: %v", err))
	}
	return report.Epoch, nil
}
