package serverless

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/takeover"
	"blobpglite/runner/bench"
	"blobpglite/runner/check"
	"blobpglite/runner/workload"
)

// Reply is the answer to a statement.
type Reply struct {
	Status  int
	Outcome string // failed or unknown, of an error
	Code    string // SQLSTATE, of an error
	Text    string
	Rows    [][]json.RawMessage
}

// Locked says whether the answer is that another writer has the lease, and names it.
func (a Reply) Locked() bool {
	return a.Status == http.StatusServiceUnavailable && a.Code == "57P03" && strings.Contains(a.Text, "locked by ")
}

// fenced says whether the answer is that another writer has taken over.
func (a Reply) fenced() bool {
	return a.Status == http.StatusServiceUnavailable && a.Code == "57P01" && a.Outcome == "failed"
}

// send sends a request in the form that the host accepts. The answer's body must be closed.
func (t *Service) send(ctx context.Context, method, url string, body []byte) (*http.Response, error) {
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

// SQL sends a statement.
func (t *Service) SQL(ctx context.Context, sql string) (Reply, error) {
	return t.sqlAt(ctx, t.address(), sql)
}

func (t *Service) sqlAt(ctx context.Context, url, sql string) (Reply, error) {
	body, err := json.Marshal(map[string]string{"sql": sql})
	if err != nil {
		return Reply{}, err
	}
	answer, err := t.send(ctx, http.MethodPost, url+"/sql", body)
	if err != nil {
		return Reply{}, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return Reply{}, err
	}
	var parsed struct {
		Rows    [][]json.RawMessage `json:"rows"`
		Outcome string              `json:"outcome"`
		Error   struct {
			SQLState string `json:"sqlstate"`
		} `json:"error"`
	}
	if json.Unmarshal(b, &parsed) != nil && answer.StatusCode == http.StatusOK {
		return Reply{}, fmt.Errorf("an answer that is no JSON: %.200q", b)
	}
	return Reply{
		Status: answer.StatusCode, Outcome: parsed.Outcome, Code: parsed.Error.SQLState, Text: strings.TrimSpace(string(b)), Rows: parsed.Rows,
	}, nil
}

// must sends a statement that must succeed.
func (t *Service) must(ctx context.Context, sql string) (Reply, error) {
	a, err := t.SQL(ctx, sql)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%.80s: status %d: %s", sql, a.Status, a.Text)
	}
	return a, err
}

// number is the single integer that a statement returns.
func (t *Service) number(ctx context.Context, sql string) (int64, error) {
	a, err := t.must(ctx, sql)
	if err != nil {
		return 0, err
	}
	if len(a.Rows) != 1 || len(a.Rows[0]) != 1 {
		return 0, fmt.Errorf("%s: %s", sql, a.Text)
	}
	var n int64
	return n, json.Unmarshal(a.Rows[0][0], &n)
}

// Store opens the database's prefix, for reading alongside the service.
func (t *Service) Store(ctx context.Context) (store.Store, func(), error) {
	st, err := gcs.Open(ctx, gcs.Options{Bucket: t.bucket, Prefix: t.prefix, Endpoint: t.base})
	if err != nil {
		return nil, nil, err
	}
	return st, func() { _ = st.Close() }, nil
}

// Load makes a database of a given size, with an instance that ends afterwards. Size 0: an empty table.
func (t *Service) Load(ctx context.Context, size int64) error {
	t.Run.Progress(fmt.Sprintf("loading %d MB", size/1e6), 0, 0)
	return t.On(ctx, platform.Options{CPU: platform.Always}, func() error {
		if size == 0 {
			_, err := t.must(ctx, "CREATE TABLE rows (id int)")
			return err
		}
		for _, q := range (workload.Dataset{Bytes: size, Seed: t.Run.Seed}).Statements() {
			if _, err := t.must(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}

// bootSplit is /metrics.json: what an instance reports about its wake, in milliseconds.
type bootSplit struct {
	State   string             `json:"state"`
	Epoch   uint64             `json:"epoch"`
	Records int                `json:"records"`
	BootMS  map[string]float64 `json:"boot_ms"`
}

// split queries the serving instance.
func (t *Service) split(ctx context.Context) (bootSplit, error) {
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

// metric is a figure of the instance that serves, from /metrics, by its name without the program's.
func (t *Service) metric(ctx context.Context, name string) (float64, error) {
	answer, err := t.send(ctx, http.MethodGet, t.address()+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "blobpglite_"+name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("/metrics (status %d) has no %s", answer.StatusCode, name), lines.Err())
}

// JudgeLog checks what is in the bucket, and what was done to it, by the rules of the log, which imply that there was at most one writer at
// any moment. It returns the highest epoch.
func (t *Service) JudgeLog(ctx context.Context) (uint64, error) {
	st, done, err := t.Store(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	objects, err := bench.ObjectsOf(ctx, st)
	if err != nil {
		return 0, err
	}
	t.Run.Judged(bench.CheckDenseLog, check.Log(objects))
	changes, err := t.changes(ctx)
	if err != nil {
		return 0, err
	}
	t.Run.Judged(bench.CheckWriteOnce, check.WriteOnce(changes))
	if t.Emulated == nil {
		t.Run.Notes = append(t.Run.Notes, "write-once is judged from listings of the log between rounds: a bucket does not report each request")
	}
	report, err := takeover.VerifyWith(ctx, st, takeover.VerifyOptions{Deep: true})
	if err != nil {
		t.Run.Check(bench.CheckDenseLog, fmt.Sprintf("the prefix is not sound: %v", err))
	}
	return report.Epoch, nil
}
