package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"blobpglite/runner/serverless"
	"blobpglite/runner/workload"
)

// soakWake is a wake as the picture shows it.
type soakWake struct {
	Minute  int    `json:"m"` // of the traffic
	Kind    string `json:"k"`
	Writes  int    `json:"w"`
	ColdMS  int    `json:"cold"`
	SlowMS  int    `json:"slow"` // its slowest write
	Kills   int    `json:"kills,omitempty"`
	Deploys int    `json:"deploys,omitempty"`
	Stalls  int    `json:"stalls,omitempty"`
	Steps   int    `json:"steps,omitempty"`
	Faults  int64  `json:"faults,omitempty"`
	Reads   int    `json:"reads"` // of the whole chain, that were compared
}

// wake is one wake: its bursts, what happens in them, and what is read afterwards. drivers: clients with PostgreSQL's own protocol take
// part; reader: a second reader reads at some moment of the first burst. Another one is aimed at the next collection.
func (s *soak) wake(ctx context.Context, w workload.Wake, drivers, reader bool) error {
	if err := s.hit(); err != nil {
		return err
	}
	before, seen := s.counts(), soakWake{Minute: int(w.At.Minutes()), Kind: w.Kind, Writes: w.Writes}
	s.stepClock()
	at := s.Clock.Monotonic()
	if err := s.readBack(ctx); err != nil {
		return err
	}
	cold := s.Clock.Monotonic() - at
	seen.ColdMS = int(cold.Milliseconds())
	s.Run.Metrics.Duration("cold_ms", cold)
	s.Run.Metrics.Value("wake_count", 1)
	if s.Emulated != nil {
		s.arm(ctx)
	}
	beside := s.beside(ctx, reader)
	for i, visit := range w.Visits {
		if err := s.until(ctx, w.At+visit); err != nil {
			return err
		}
		n := w.Writes / len(w.Visits)
		if i == 0 {
			n += w.Writes % len(w.Visits)
		}
		slow, err := s.burst(ctx, n, drivers && i == 0)
		if err != nil {
			return err
		}
		seen.SlowMS = max(seen.SlowMS, int(slow.Milliseconds()))
	}
	if w.Kind == "report" {
		if err := s.report(ctx); err != nil {
			return err
		}
	}
	if err := errors.Join(beside(), s.readBack(ctx)); err != nil {
		return err
	}
	seen.Reads = 3
	if err := s.secondReader(ctx, nil); err != nil {
		return err
	}
	if s.disturb > 0 && s.Emulated != nil && s.random.IntN(4) == 0 { // while it is idle
		s.kill()
	}
	now := s.counts()
	seen.Kills, seen.Deploys, seen.Stalls, seen.Steps, seen.Faults = int(now[0]-before[0]), int(now[1]-before[1]), int(now[2]-before[2]), int(now[3]-before[3]), now[4]-before[4]
	s.days = append(s.days, seen)
	return nil
}

// counts are of kills, switches, stalls, steps and faults of the store so far.
func (s *soak) counts() [5]int64 {
	faults := int64(0)
	if s.Emulated == nil {
		return [5]int64{0, s.switches.Load()}
	}
	for _, f := range s.Emulated.Front.Fired() {
		faults += f.Fired
	}
	return [5]int64{s.kills.Load(), s.switches.Load(), s.stalls.Load(), s.steps.Load(), faults}
}

// stepClock now and then sets the wall clock of what runs from now on ahead or back.
func (s *soak) stepClock() {
	if s.Emulated == nil {
		return
	}
	off := time.Duration(0)
	if s.disturb > 0 && s.random.IntN(6) == 0 {
		off = time.Duration(s.random.Int64N(int64(2*clockStep))) - clockStep
		s.steps.Add(1)
	}
	s.time.Step(off)
}

// burst writes n rows from several clients, and does to the service what is drawn for it. It returns the slowest write.
func (s *soak) burst(ctx context.Context, n int, drivers bool) (slow time.Duration, err error) {
	plan := s.plan(n)
	s.written.Store(0)
	clients := s.chains[:min(len(s.chains), soakClients-soakDrivers)]
	askers := []asker{s.SQL, s.SQL, s.SQL}
	release := func() {}
	if drivers && s.Emulated != nil && n > soakClients {
		if askers, clients, release, err = s.withDrivers(ctx, askers); err != nil {
			return 0, err
		}
	}
	defer release()
	used := min(len(clients), 1+s.random.IntN(len(clients)), max(n, 1))
	if len(clients) > soakClients-soakDrivers {
		used = len(clients)
	}
	var mu sync.Mutex
	g, inner := errgroup.WithContext(ctx)
	for i := range used {
		rows := n / used
		if i < n%used {
			rows++
		}
		g.Go(func() error {
			for range rows {
				at := s.Clock.Monotonic()
				if err := clients[i].write(inner, s.Clock, askers[i], func() { s.stall(10 * time.Second) }); err != nil {
					return err
				}
				took := s.Clock.Monotonic() - at
				s.Run.Metrics.Duration("commit_ms", took)
				mu.Lock()
				slow = max(slow, took)
				mu.Unlock()
				if do := plan[int(s.written.Add(1))]; do != nil {
					s.events.Go(do)
				}
			}
			return nil
		})
	}
	err = g.Wait()
	s.events.Wait()
	select {
	case beside := <-s.failed:
		err = errors.Join(err, beside)
	default:
	}
	return slow, err
}

// plan draws what happens in a burst: after which write.
func (s *soak) plan(n int) map[int]func() {
	plan := map[int]func(){}
	if n == 0 || s.disturb == 0 {
		return plan
	}
	if s.Emulated == nil {
		return s.planThere(n)
	}
	for range 1 + s.random.IntN(s.disturb) {
		at := 1 + s.random.IntN(n)
		switch k := s.random.IntN(20); {
		case k < 8:
			plan[at] = s.kill
		case k < 16:
			plan[at] = s.replace
		case k < 18:
			plan[at] = s.shut
		default:
			plan[at] = func() { s.stall(40 * time.Second) } // longer than the lease
		}
	}
	return plan
}

// kill kills the newest instance, and lets the dead one's lease expire.
func (s *soak) kill() {
	i, err := s.Emulated.Newest()
	if err != nil || s.Emulated.Crash(i.ID) != nil {
		return
	}
	s.kills.Add(1)
	s.Emulated.Stall(afterCrash + s.farAhead())
}

// farAhead is how much longer a lease lives that was written under a clock that is ahead.
func (s *soak) farAhead() time.Duration { return clockStep }

func (s *soak) stall(d time.Duration) {
	if s.Emulated == nil {
		return // a held lease expires by itself in that time
	}
	s.stalls.Add(1)
	s.Emulated.Stall(d)
}

// shut tells the newest instance to go.
func (s *soak) shut() {
	if i, err := s.Emulated.Newest(); err == nil && s.Emulated.Shut(i.ID) == nil {
		s.told.Add(1)
	}
}

// replace deploys another revision in the middle of the traffic.
func (s *soak) replace() {
	s.naming.Lock()
	defer s.naming.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.next(ctx); err != nil {
		// A kill may have hit the instance that was to serve: then the old revision stays.
		if !strings.Contains(err.Error(), "ended before it was ready") {
			select {
			case s.failed <- err:
			default:
			}
		}
		return
	}
	s.switches.Add(1)
}

// next replaces the revision. s.naming is held.
func (s *soak) next(ctx context.Context) error {
	s.revs++
	s.Flags(append(slices.Clone(s.usual), often(s.revs)...)...)
	return s.Replace(ctx, fmt.Sprintf("rev-%d", s.revs+1))
}

// report reads much and writes nothing.
func (s *soak) report(ctx context.Context) error {
	_, err := s.patiently(ctx, "SELECT client, count(*), avg(length(body))::int, count(DISTINCT left(hash, 2)) FROM chain GROUP BY client ORDER BY client")
	return err
}

// patiently repeats a statement until it is answered.
func (s *soak) patiently(ctx context.Context, sql string) (serverless.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, chainPatience)
	defer cancel()
	for {
		a, err := s.SQL(ctx, sql)
		switch {
		case err == nil && a.Status == http.StatusOK:
			return a, nil
		case err == nil && a.Locked():
			s.stall(10 * time.Second)
		}
		if ctx.Err() != nil {
			return a, fmt.Errorf("%.40s: status %d: %s: %w", sql, a.Status, a.Text, errors.Join(err, ctx.Err()))
		}
		if err := s.Clock.Sleep(ctx, 50*time.Millisecond); err != nil {
			return a, err
		}
	}
}

// portLine is what an instance prints about its listener for PostgreSQL's clients.
var portLine = regexp.MustCompile(`^postgres  (127\.0\.0\.1:\d+)$`)

// listener is the address of the newest instance's listener for drivers; empty: it has not opened.
func (s *soak) listener() string {
	i, err := s.Emulated.Newest()
	if err != nil {
		return ""
	}
	for _, e := range s.Emulated.History() {
		if m := portLine.FindStringSubmatch(e.Detail); m != nil && e.Instance == i.ID {
			return m[1]
		}
	}
	return ""
}

// withDrivers adds clients of PostgreSQL's own protocol. Cloud Run gives an instance CPU only for requests: one is held open until release.
func (s *soak) withDrivers(ctx context.Context, askers []asker) ([]asker, []*chain, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	var held sync.WaitGroup
	held.Go(func() {
		for ctx.Err() == nil {
			_, _ = s.SQL(ctx, "SELECT pg_sleep(20)")
			_ = s.Clock.Sleep(ctx, 10*time.Millisecond)
		}
	})
	var all []*driver
	for range soakDrivers {
		d := &driver{s: s}
		all = append(all, d)
		askers = append(askers, d.ask)
	}
	return askers, s.chains, func() {
		cancel()
		held.Wait()
		for _, d := range all {
			d.close()
		}
	}, nil
}

// driver is a client with pgx.
type driver struct {
	s    *soak
	conn *pgx.Conn
}

func (d *driver) close() {
	if d.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = d.conn.Close(ctx)
		d.conn = nil
	}
}

// ask sends a statement, on a new connection if there is none. What it was not told is unknown.
func (d *driver) ask(ctx context.Context, sql string) (serverless.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if d.conn == nil {
		address := d.s.listener()
		if address == "" {
			return serverless.Reply{Status: http.StatusServiceUnavailable, Text: "no instance listens"}, nil
		}
		conn, err := pgx.Connect(ctx, "postgres://postgres@"+address+"/postgres?sslmode=disable")
		if err != nil {
			return failedReply(err), nil
		}
		d.conn = conn
	}
	rows, err := d.conn.Query(ctx, sql)
	if err != nil {
		d.close()
		return failedReply(err), nil
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		a := unknownReply(err)
		d.close()
		return a, nil
	}
	a := serverless.Reply{Status: http.StatusOK}
	for _, text := range got {
		a.Rows = append(a.Rows, []json.RawMessage{json.RawMessage(strconv.Quote(text))})
	}
	return a, nil
}

func failedReply(err error) serverless.Reply {
	a := serverless.Reply{Status: http.StatusServiceUnavailable, Outcome: "failed", Text: err.Error()}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		a.Code = pg.Code
	} else {
		a.Outcome = "unknown" // it may have been sent
	}
	return a
}

// unknownReply is what an error after a statement was sent means: PostgreSQL's own are failures; those of a fenced writer and of a server
// that is ending are unknown.
func unknownReply(err error) serverless.Reply {
	a := failedReply(err)
	if a.Code != "23505" {
		a.Outcome = "unknown"
	}
	return a
}
