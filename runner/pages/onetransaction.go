package pages

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/store/gcs"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
	"blobpglite/runner/workload"
)

func oneTransactionVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "one_transaction",
			Doc: "pgserve, told how much memory its container has, on a bucket that answers without delay: one transaction makes rows " +
				"many times larger than what the files may take in memory, and commits; after SIGKILL the next process has all of them",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows"},
				{Name: "memory", Kind: scenario.KindInt, Default: "512", Doc: "of the container, in MiB"},
			},
			Metrics: bench.MetricDocs(
				"peak_bytes", "peak resident memory of the process that makes the rows", "reopen_peak_bytes", "peak resident memory of the "+
					"next process, including a scan of all rows",
				"times_ratio", "size of the table and its index over what the files may take in memory", "load_ms", "time of the transaction, "+
					"including its COMMIT", "commit_ms", "time of the transaction's COMMIT alone",
				"reopen_ms", "time from the start of the next process to the first row", "layers_count", "layers named by the manifest "+
					"after the transaction",
			),
		},
		Run: oneTransaction,
	}
}

// transactionRun is a pgserve and its bucket.
type transactionRun struct {
	r       *bench.Run
	program string
	args    []string
	rows    int
}

func oneTransaction(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return withPgserve(ctx, r, gcsfront.Options{Buckets: []string{"one"}}, func(b built) error {
		t := &transactionRun{r: r, program: b.program, rows: int(int64(args.Size("size")) / workload.PageRowBytes)}
		t.args = []string{
			"-bucket", "gs://one/db", "-endpoint", b.base, "-log", "warn", "-container-memory", strconv.Itoa(args.Int("memory") << 20), "-lease-ttl", "1s",
		}
		if err := t.make(ctx); err != nil || r.Failed() {
			return err
		}
		if err := t.again(ctx); err != nil {
			return err
		}
		st, err := gcs.Open(ctx, gcs.Options{Bucket: "one", Prefix: "db", Endpoint: b.base})
		if err != nil {
			return err
		}
		m, _, err := manifest.Load(ctx, st)
		r.Metrics.Value("layers_count", float64(len(m.Layers)))
		return errors.Join(err, st.Close())
	})
}

// start starts the process, and connects.
func (t *transactionRun) start(ctx context.Context) (*service.Service, *pgx.Conn, error) {
	s, err := service.Start(ctx, t.program, service.Options{Args: t.args})
	if err != nil {
		return nil, nil, err
	}
	c, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		s.Kill()
		return nil, nil, fmt.Errorf("%w: %s", err, s.Log())
	}
	return s, c, nil
}

// make creates the rows, and kills the process.
func (t *transactionRun) make(ctx context.Context) error {
	clk := clock.System()
	s, c, err := t.start(ctx)
	if err != nil {
		return err
	}
	defer s.Kill()
	if _, err := c.Exec(ctx, "CREATE TABLE p (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, pad text)"); err != nil {
		return err
	}
	t.r.Progress(t.r.Cell.Probe+": one transaction", 0, 0)
	began := clk.Monotonic()
	at := began
	for _, sql := range []string{"BEGIN", fmt.Sprintf("INSERT INTO p SELECT g, 0, %s FROM generate_series(1, %d) g", workload.PagePadOf("g"), t.rows), "COMMIT"} {
		at = clk.Monotonic()
		if _, err := c.Exec(ctx, sql); err != nil {
			t.r.Check(bench.CheckDurability, fmt.Sprintf("%.60s: %v", sql, err))
			return nil
		}
	}
	t.r.Metrics.Duration("commit_ms", clk.Monotonic()-at)
	t.r.Metrics.Duration("load_ms", clk.Monotonic()-began)
	var size, budget float64
	if err := c.QueryRow(ctx, "SELECT pg_total_relation_size('p')::float8").Scan(&size); err != nil {
		return err
	}
	if budget, err = figure(ctx, s, `cache_bytes{state="budget"}`); err != nil {
		return err
	}
	t.r.Metrics.Value("times_ratio", size/budget)
	used, err := s.Used()
	t.r.Metrics.Value("peak_bytes", float64(used.PeakBytes))
	return err
}

// figure is a figure of /metrics, by its name without the program's, and its labels.
func figure(ctx context.Context, s *service.Service, name string) (float64, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, s.HTTP()+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(ask)
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

// again opens what was left.
func (t *transactionRun) again(ctx context.Context) error {
	clk := clock.System()
	at := clk.Monotonic()
	s, c, err := t.start(ctx)
	if err != nil {
		t.r.Check(bench.CheckDurability, fmt.Sprintf("it does not open: %v", err))
		return nil
	}
	defer s.Kill()
	var rows, right int
	if err := c.QueryRow(ctx, "SELECT id FROM p LIMIT 1").Scan(&rows); err != nil {
		return err
	}
	t.r.Metrics.Duration("reopen_ms", clk.Monotonic()-at)
	t.r.Progress(t.r.Cell.Probe+": reading everything", 0, 0)
	const each = 10 // one in each is compared: making the text again takes longer than reading it
	sql := fmt.Sprintf("SELECT count(*), count(*) FILTER (WHERE id %% %d = 0 AND pad = %s) FROM p", each, workload.PagePadOf("id"))
	if err := c.QueryRow(ctx, sql).Scan(&rows, &right); err != nil {
		return err
	}
	t.r.Check(bench.CheckDurability, bench.Wrongf(rows != t.rows, "%d rows were committed, but %d are there", t.rows, rows))
	t.r.Check(bench.CheckChecksum, bench.Wrongf(right != t.rows/each, "only %d of %d rows are as committed", right, t.rows/each))
	used, err := s.Used()
	t.r.Metrics.Value("reopen_peak_bytes", float64(used.PeakBytes))
	return err
}
