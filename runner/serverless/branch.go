package serverless

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func twinBranchVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.NotOnCloudRun("pgserve branch runs on the machine of whoever wants one"),
		Verb: scenario.Verb{
			Name: "twinbranch",
			Doc: "a database is created, and changed after its newest layer; pgserve branch copies it within its bucket, as a separate " +
				"process; then a service opens the branch, and both are changed independently",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "branches of the same database"},
			},
			Metrics: bench.MetricDocs(
				"branch_ms", "time of the branching process, including its start", "peak_bytes", "resident memory of the branching "+
					"process", "database_bytes", "size of the database, by pg_database_size", "stored_bytes", "size of the branch's layer in the bucket",
				"sent_ratio", "bytes sent by the process over the branch's layer", "read_ratio", "bytes read by the process over the "+
					"branch's layer", "requests_count", "requests of the process to "+
					"the bucket",
			),
		},
		Run: twinBranch,
	}
}

func twinBranch(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		// No layer is taken after the last one: the branch has a log to replay.
		rows, err := t.fillPages(ctx, defaultMemoryMiB, int64(args.Size("size")))
		if err != nil {
			return fmt.Errorf("load: %w", err)
		}
		t.Fresh("db", "-restore-budget", "-1ns")
		const changed = 1000
		err = t.On(ctx, platform.Options{CPU: platform.Always}, func() error {
			size, err := t.number(ctx, "SELECT pg_database_size('postgres')")
			r.Metrics.Value("database_bytes", float64(size))
			if err == nil {
				_, err = t.must(ctx, fmt.Sprintf("UPDATE p SET n = n + 1 WHERE id BETWEEN %d AND %d", rows/3, rows/3+changed-1))
			}
			return err
		})
		if err != nil {
			return err
		}
		for round := range args.Int("rounds") {
			to := fmt.Sprintf("branch-%d", round)
			if err := t.branchOnce(ctx, "db", to); err != nil {
				return err
			}
			for _, prefix := range []string{to, "db"} { // changes to one are not in the other
				t.Fresh(prefix)
				if err := t.On(ctx, platform.Options{}, func() error { return t.branched(ctx, rows, changed) }); err != nil {
					return fmt.Errorf("%s: %w", prefix, err)
				}
			}
		}
		return nil
	})
}

// branched looks whether a database is as the first one was, and changes it.
func (t *Service) branched(ctx context.Context, rows, changed int) error {
	for sql, want := range map[string]int64{
		"SELECT count(*) FROM p":             int64(rows),
		"SELECT count(*) FROM p WHERE n = 1": int64(changed),
		"SELECT count(*) FROM p WHERE pad = " + workload.PagePadOf("p.id") + fmt.Sprintf(" AND id %% %d = 0", max(rows/500, 1)): int64(rows / max(rows/500, 1)),
	} {
		got, err := t.number(ctx, sql)
		if err != nil {
			return err
		}
		t.Run.Check(bench.CheckDurability, bench.Wrongf(got != want, "%s: %d, not %d", sql, got, want))
	}
	_, err := t.must(ctx, "UPDATE p SET n = 2 WHERE id = 1")
	if err == nil {
		_, err = t.must(ctx, "UPDATE p SET n = 0 WHERE id = 1")
	}
	return err
}

// branchOnce runs pgserve branch.
func (t *Service) branchOnce(ctx context.Context, from, to string) error {
	t.Run.Progress(t.Run.Cell.Probe+": branching", 0, 0)
	before := t.Emulated.Front.Counters()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, t.Emulated.Program, "branch", "gs://"+t.bucket+"/"+to, "-bucket", "gs://"+t.bucket+"/"+from, "-endpoint", t.base)
	cmd.Stdout, cmd.Stderr = &said, &said
	began := t.Clock.Monotonic()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run pgserve branch: %w", err)
	}
	peak := t.watchMemory(ctx, cmd.Process.Pid)
	err := cmd.Wait()
	most := peak()
	t.Run.Metrics.Duration("branch_ms", t.Clock.Monotonic()-began)
	if err != nil {
		return fmt.Errorf("pgserve branch: %w: %s", err, said.String())
	}
	if most > 0 {
		t.Run.Metrics.Value("peak_bytes", float64(most))
	}
	after := t.Emulated.Front.Counters()
	t.Fresh(to)
	layer, err := t.newest(ctx)
	if err != nil {
		return err
	}
	m := t.Run.Metrics
	m.Value("stored_bytes", float64(layer.StoredBytes))
	m.Value("sent_ratio", float64(after.BytesUp-before.BytesUp)/float64(layer.StoredBytes))
	m.Value("read_ratio", float64(after.BytesDown-before.BytesDown)/float64(layer.StoredBytes))
	m.Value("requests_count", float64(after.Requests-before.Requests))
	return nil
}

// watchMemory tracks the largest resident set that a process has had until the returned function is called; 0: unknown on this system.
// (What the system reports about an ended process starts from the figure of the process that started it.)
func (t *Service) watchMemory(ctx context.Context, pid int) (peak func() int64) {
	const every = 5 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	most := make(chan int64)
	go func() {
		m := int64(0)
		for {
			m = max(m, highWater(pid))
			if t.Clock.Sleep(ctx, every) != nil {
				most <- m
				return
			}
		}
	}()
	return func() int64 {
		cancel()
		return <-most
	}
}

// highWater is the largest resident set that a process has had, in bytes.
func highWater(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		var kb int64
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}
