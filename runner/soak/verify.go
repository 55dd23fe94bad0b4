package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/gc"
	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/runner/bench"
	"blobpglite/runner/layers"
)

// readBack reads the whole chain from the service.
func (s *soak) readBack(ctx context.Context) error {
	before := moment(s.chains)
	a, err := s.patiently(ctx, chainSQL)
	if err != nil {
		return err
	}
	wrong, _ := compare(s.chains, before, texts(a.Rows))
	s.Run.Check(bench.CheckDurability, wrong)
	s.Run.Metrics.Value("read_back_count", 1)
	if wrong != "" {
		return errLost{wrong}
	}
	return nil
}

// secondReader restores what is in the bucket while a writer may run, and compares it. begun: what was acknowledged when the reason for
// reading arose; nil: now.
func (s *soak) secondReader(ctx context.Context, begun *ledger) error {
	before := moment(s.chains)
	if begun != nil {
		before = *begun
	}
	e, done, err := s.openLatest(ctx)
	if err != nil {
		s.Run.Check(checkSecond, fmt.Sprintf("a second reader at %v: %v", s.now(), err))
		return errLost{"a second reader cannot restore: " + err.Error()}
	}
	defer done()
	rows, err := e.Query(ctx, chainSQL)
	if err != nil {
		return err
	}
	wrong, _ := compare(s.chains, before, rows[len(rows)-1].Rows)
	s.Run.Check(checkSecond, wrong)
	s.Run.Metrics.Value("second_reader_count", 1)
	if wrong != "" {
		return errLost{wrong}
	}
	return nil
}

// openLatest starts PostgreSQL on the last state in the bucket.
func (s *soak) openLatest(ctx context.Context) (*engine.Engine, func(), error) {
	st, closeStore, err := s.Store(ctx)
	if err != nil {
		return nil, nil, err
	}
	e, err := engine.OpenAt(ctx, engine.Options{Runtime: s.Run.Runtime, Store: st, Clock: s.Clock, Logger: slog.New(slog.DiscardHandler)}, takeover.Latest())
	if err != nil {
		closeStore()
		return nil, nil, err
	}
	return e, func() { e.Abandon(); closeStore() }, nil
}

// beside has a second reader begin at a moment of its own. The returned function waits for it.
func (s *soak) beside(ctx context.Context, wanted bool) func() error {
	ended := make(chan error, 1)
	if !wanted {
		ended <- nil
		return func() error { return <-ended }
	}
	pause := time.Duration(s.random.Int64N(int64(time.Second)))
	go func() {
		_ = s.Clock.Sleep(ctx, pause)
		l := moment(s.chains)
		s.Run.Metrics.Value("at_random_count", 1)
		ended <- s.secondReader(ctx, &l)
	}()
	return func() error { return <-ended }
}

// verify reads the whole prefix.
func (s *soak) verify(ctx context.Context) error {
	st, done, err := s.Store(ctx)
	if err != nil {
		return err
	}
	defer done()
	at := s.Clock.Monotonic()
	_, err = takeover.VerifyWith(ctx, st, takeover.VerifyOptions{Deep: true})
	s.Run.Metrics.Duration("verify_ms", s.Clock.Monotonic()-at)
	s.Run.Metrics.Value("verify_count", 1)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.Run.Check(bench.CheckVerified, bench.Wrongf(err != nil, "at %v: %v", s.now(), err))
	if err != nil {
		return errLost{err.Error()}
	}
	return nil
}

// daily checks the indexes and tables, and a dump that is restored elsewhere, and counts what is stored.
func (s *soak) daily(ctx context.Context) error {
	for _, sql := range []string{
		"SELECT count(*) FROM (SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence <> 't') x",
		"SELECT count(*) FROM verify_heapam('chain')", "SELECT count(*) FROM verify_heapam('latest')",
	} {
		a, err := s.patiently(ctx, sql)
		if err != nil {
			return err
		}
		if strings.Contains(sql, "heapam") {
			s.Run.Check(bench.CheckChecksum, bench.Wrongf(string(a.Rows[0][0]) != "0" && string(a.Rows[0][0]) != `"0"`, "%s: %s", sql, a.Text))
		}
	}
	if err := s.dumpAndRestore(ctx); err != nil {
		return err
	}
	st, done, err := s.Store(ctx)
	if err != nil {
		return err
	}
	defer done()
	objects, bytes := 0, int64(0)
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return err
		}
		objects, bytes = objects+1, bytes+a.Size
	}
	s.Run.Metrics.Value("object_count", float64(objects))
	s.Run.Metrics.Value("stored_bytes", float64(bytes))
	return nil
}

// metaCommand is a psql line in a dump.
var metaCommand = regexp.MustCompile(`(?m)^\\.*$`)

// dumpAndRestore dumps the last state with pg_dump, restores that into a new database, and compares.
func (s *soak) dumpAndRestore(ctx context.Context) error {
	before := moment(s.chains)
	e, done, err := s.openLatest(ctx)
	if err != nil {
		return err
	}
	defer done()
	conn, err := e.Dial(ctx, pglite.ConnectOptions{Trusted: true})
	if err != nil {
		return err
	}
	var dump bytes.Buffer
	if err := s.Run.Runtime.Dump(ctx, pglite.DumpOptions{Args: []string{"-U", "postgres", "-d", "postgres", "--rows-per-insert=500"}, Conn: conn, Out: &dump}); err != nil {
		return fmt.Errorf("pg_dump: %w", err)
	}
	fresh, err := engine.Open(ctx, engine.Options{Runtime: s.Run.Runtime, Store: mem.New(mem.Options{}), Create: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer fresh.Abandon()
	if _, err := fresh.Query(ctx, metaCommand.ReplaceAllString(dump.String(), "")); err != nil {
		return fmt.Errorf("restore the dump: %w", err)
	}
	rows, err := fresh.Query(ctx, strings.NewReplacer("FROM chain", "FROM public.chain", "JOIN chain", "JOIN public.chain", "FROM latest", "FROM public.latest").Replace(chainSQL))
	if err != nil {
		return err
	}
	wrong, n := compare(s.chains, before, rows[len(rows)-1].Rows)
	s.Run.Check(checkAlike, wrong)
	s.Run.Metrics.Value("dump_count", 1)
	s.Run.Progress(fmt.Sprintf("%s: a dump of %d rows, restored", s.Run.Cell.Probe, n), 0, 0)
	return nil
}

// record records the counts, and the picture's data.
func (s *soak) record(hours int) {
	c, real := s.counts(), int64(0)
	if s.Emulated == nil {
		real = int64(s.Clock.Now().Sub(s.begun).Hours() + 0.01)
	}
	for name, n := range map[string]int64{
		"kill_count": c[0], "switch_count": c[1], "stall_count": c[2], "step_count": c[3], "store_fault_count": c[4], "told_count": s.told.Load(),
		"in_collection_count": s.inCollection.Load(),
		"acknowledged_count":  int64(s.acked()), "virtual_hours_count": int64(s.now().Hours() + 0.01),
		"real_hours_count": real,
	} {
		s.Run.Metrics.Value(name, float64(n))
	}
	if s.Run.Results == "" {
		return
	}
	name := filepath.Join("e5", fmt.Sprintf("%s-%dh%s.json", s.Run.Cell.Probe, hours, map[bool]string{true: "-cloudrun"}[s.Emulated == nil]))
	body, err := json.Marshal(s.days)
	if err == nil {
		path := filepath.Join(s.Run.Results, name)
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, body, 0o644)
		}
	}
	if err != nil {
		s.Run.Notes = append(s.Run.Notes, "the picture's data were not written: "+err.Error())
		return
	}
	s.Run.Artifacts = append(s.Run.Artifacts, name)
}

// after is when the service has ended: nothing may be left but the database, which is sound and whole.
func (s *soak) after(ctx context.Context) error {
	var left leavings
	program := ""
	if s.Emulated != nil {
		left.instances, program = len(s.Emulated.Instances()), s.Emulated.Program
	}
	st, done, err := s.Store(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := s.JudgeLog(ctx); err != nil {
		return err
	}
	o, err := takeover.Open(ctx, takeover.Options{Store: st, Writer: "collector", AcquireTimeout: time.Minute, LeaseTTL: time.Minute, Clock: s.Clock})
	if err != nil {
		return err
	}
	_, err = gc.Collect(ctx, gc.Options{Store: st, Epoch: o.Epoch, Writer: "collector", Clock: s.Clock})
	if err := errors.Join(err, o.Lease.Release(ctx)); err != nil {
		return err
	}
	stock, err := layers.TakeStock(ctx, st)
	if err != nil {
		return err
	}
	s.Run.Check(bench.CheckCollected, stock.Left())
	left.objects = stock.Unreached
	if left.processes, err = processesOf(program); err != nil {
		return err
	}
	if s.grounds != nil {
		if left.files, err = s.grounds.left(); err != nil {
			return err
		}
	}
	s.Run.Check(checkLeft, left.wrong())
	s.Run.Metrics.Value("leaked_count", float64(left.count()))
	return lost(s.Run, s.secondReader(ctx, nil))
}

// processesOf returns the processes that run a program, where the system reports them.
func processesOf(program string) ([]string, error) {
	if program == "" {
		return nil, nil
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.TrimSuffix(to, " (deleted)") == program {
			all = append(all, l)
		}
	}
	return all, nil
}
