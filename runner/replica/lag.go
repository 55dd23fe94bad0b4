package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

// Loads of a writer.
const (
	loadIdle   = "idle"   // a commit now and then
	loadSteady = "steady" // twenty per second
	loadBulk   = "bulk"   // transactions of a megabyte, one after the other
)

func replicaLagVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "replica_lag",
			Doc: "on the modeled bucket: a writer commits numbers, and a client of a replica polls for them without a pause; the lag of " +
				"each runs from its acknowledgement until the replica shows it",
			Args: []scenario.Arg{
				{Name: "poll", Kind: scenario.KindDuration, Required: true, Doc: "of the replica"},
				{Name: "load", OneOf: []string{loadIdle, loadSteady, loadBulk}, Required: true, Doc: "at the writer"},
				{Name: "length", Kind: scenario.KindDuration, Default: "30s", Doc: "how long"},
				{Name: "announce", OneOf: []string{"no", "yes"}, Default: "no", Doc: "whether the writer announces commits to the replica"},
			},
			Metrics: bench.MetricDocs("lag_ms", "time from the acknowledgement of a commit until the replica shows it", "commit_ms", "time of a commit at the writer", "read_ms", "time of a read at the replica", "moves_count", "reconnections of the client "+
				"after the replica had moved to a newer layer"),
		},
		Run: replicaLag,
	}
}

// lagRun measures one lag.
type lagRun struct {
	*readers
	random *rand.Rand

	mu    sync.Mutex
	acked []time.Duration // of the numbers from 1 on, by the monotonic clock
	shown []time.Duration
	over  atomic.Bool
}

func replicaLag(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return withReaders(ctx, r, true, func(w *readers) error {
		l := &lagRun{readers: w, random: rand.New(rand.NewPCG(r.Seed, 0x6c6167))}
		reader, err := w.replica(ctx, 0, "-poll", args.Duration("poll").String())
		if err != nil {
			return err
		}
		var flags []string
		if args.String("announce") == "yes" {
			flags = []string{"-announce", reader.HTTP()}
		}
		writer, err := w.writer(ctx, flags...)
		if err != nil {
			return err
		}
		if err := w.do(ctx, writer, "CREATE TABLE seq (n int)", "CREATE TABLE bulk (n int, pad text)"); err != nil {
			return err
		}
		position, err := w.position(ctx, writer)
		if err != nil {
			return err
		}
		if err := w.arrive(ctx, reader, position); err != nil {
			return err
		}
		return l.measure(ctx, writer, reader, args)
	})
}

func (l *lagRun) measure(ctx context.Context, writer, reader *service.Service, args scenario.Args) error {
	watched := make(chan error, 1)
	go func() { watched <- l.watch(ctx, reader) }()
	err := l.commit(ctx, writer, args)
	l.over.Store(true)
	err = errors.Join(err, <-watched)
	if err != nil {
		return err
	}
	for n, at := range l.acked {
		if n >= len(l.shown) {
			l.r.Check(checkConverged, fmt.Sprintf("the replica has not shown %d", n+1))
			return nil
		}
		l.r.Metrics.Duration("lag_ms", max(l.shown[n]-at, 0)) // it may be shown before its client has heard of it
	}
	l.r.Check(checkConverged, "")
	return nil
}

// pause is how long the writer rests after a commit.
func (l *lagRun) pause(load string, poll time.Duration) time.Duration {
	switch load {
	case loadIdle: // at moments that have nothing to do with the replica's
		return poll + time.Duration(l.random.Int64N(int64(poll)))
	case loadSteady:
		return time.Duration(l.random.Int64N(int64(100 * time.Millisecond)))
	}
	return 0
}

func (l *lagRun) commit(ctx context.Context, writer *service.Service, args scenario.Args) error {
	conn, err := l.connectTo(ctx, writer, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	load := args.String("load")
	end := l.clk.Monotonic() + args.Duration("length")
	for n := 1; l.clk.Monotonic() < end; n++ {
		l.r.Progress(l.r.Cell.Probe+": "+load, int64(args.Duration("length")-end+l.clk.Monotonic()), int64(args.Duration("length")))
		sql := fmt.Sprintf("INSERT INTO seq VALUES (%d)", n)
		if load == loadBulk {
			sql = fmt.Sprintf("BEGIN; INSERT INTO bulk SELECT g, md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 8000) g; %s; COMMIT", sql)
		}
		began := l.clk.Monotonic()
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
		at := l.clk.Monotonic()
		l.r.Metrics.Duration("commit_ms", at-began)
		l.mu.Lock()
		l.acked = append(l.acked, at)
		l.mu.Unlock()
		if err := l.clk.Sleep(ctx, l.pause(load, args.Duration("poll"))); err != nil {
			return err
		}
	}
	return nil
}

// lagPatience is how long the replica has to show the last commit.
const lagPatience = 30 * time.Second

// watch records when the replica first shows each number.
func (l *lagRun) watch(ctx context.Context, reader *service.Service) error {
	conn, err := l.connectTo(ctx, reader, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	late := time.Duration(0)
	for {
		began := l.clk.Monotonic()
		shown, err := l.look(ctx, conn)
		if moved(err) || err != nil && conn.IsClosed() && ctx.Err() == nil { // as it says, the client connects again
			_ = conn.Close(ctx)
			if conn, err = l.connectTo(ctx, reader, "postgres"); err != nil {
				return err
			}
			l.r.Metrics.Value("moves_count", 1)
			continue
		}
		if err != nil {
			return err
		}
		at := l.clk.Monotonic()
		l.r.Metrics.Duration("read_ms", at-began)
		for len(l.shown) < shown {
			l.shown = append(l.shown, at)
		}
		if l.over.Load() {
			l.mu.Lock()
			all := len(l.acked)
			l.mu.Unlock()
			if late == 0 {
				late = at + lagPatience
			}
			if len(l.shown) >= all || at > late {
				return nil
			}
		}
		if err := l.clk.Sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// look returns the highest number, which is how many there are, as they are committed one after the other.
func (l *lagRun) look(ctx context.Context, conn *pgx.Conn) (shown int, err error) {
	count := 0
	if err := conn.QueryRow(ctx, "SELECT coalesce(max(n), 0), count(*) FROM seq").Scan(&shown, &count); err != nil {
		return 0, err
	}
	wrong := ""
	if shown != count {
		wrong = fmt.Sprintf("the replica shows %d numbers up to %d", count, shown)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.Check(checkPrefix, wrong)
	return shown, nil
}
