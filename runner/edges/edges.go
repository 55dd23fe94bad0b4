// Package edges tries pgserve where PostgreSQL meets the protocol of the bucket: settings, roles, copies of a prefix, refused requests, odd
// input. Each case starts the program as a user does, over a bucket of its own in this process, talks to it as a user does, and compares
// what was acknowledged with what it finds.
//
//	t, err := edges.New(ctx, edges.Options{Program: "/path/pgserve", Seed: 1, Metrics: metrics})
//	defer t.Close()
//	err = edges.Run(ctx, t, "lost-manifest")
//	for _, wrong := range t.Wrong() { ... }          // in words; none: the case holds
//
// The counts are metrics: rows acknowledged, found and lost, things tried and things that went wrong. A case returns an error for something
// unexpected, which is also a fault of the program, or of the case.
package edges

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/record"
	"blobpglite/runner/service"
)

// Bucket is the name of every case's bucket.
const Bucket = "edges"

// Metrics returns the metrics that a case may record, as pairs of name and meaning.
func Metrics() []string {
	return []string{
		"tried_count", "things tried: statements, settings, requests, starts", "wrong_count", "things that did not go as they should",
		"acked_count", "acknowledged rows", "lost_count", "acknowledged rows that were missing later",
		"peak_bytes", "peak resident memory of a process", "over_bytes", "resident memory of a process beyond the database and an " +
			"idle process",
		"answer_ms", "time until an answer that must not wait", "end_ms", "time from SIGTERM to the end", "open_ms", "time until the database answered again",
		"fired_count", "refusals by the bucket", "settings_count", "settings tried", "kept_count", "settings that accepted the " +
			"given value",
	}
}

// Case is one experiment of this package.
type Case struct {
	Name, Doc string
	run       func(context.Context, *Trial) error
}

// Cases returns all cases.
func Cases() []Case {
	return slices.Concat(settingsCases(), prefixCases(), startCases(), sessionCases(), bucketCases(), listenerCases(), requestCases(), memoryCases(), smallCases())
}

// Names returns the names of all cases.
func Names() []string {
	var names []string
	for _, c := range Cases() {
		names = append(names, c.Name)
	}
	return names
}

// Options of New.
type Options struct {
	Program string // pgserve
	Seed    uint64
	// Size is how much to do: rows, settings, connections, as the case says. Zero: as little as shows the fault.
	Size     int
	Hold     time.Duration // how long a case leaves things alone, if it does
	Metrics  *record.Metrics
	Progress func(step string, done, total int64)
}

// Trial is the environment of a case. It is not safe for concurrent use.
type Trial struct {
	o      Options
	clk    clock.Clock
	folder string
	front  *gcsfront.Front
	gate   *gate
	server *httptest.Server

	mu                      sync.Mutex
	wrong                   []string
	tried, bad, acked, lost int
	living                  []*service.Service
	databases               int
	skipped                 string
}

// errSkip: this machine cannot do the case.
var errSkip = errors.New("not possible here")

// New makes the bucket and a folder.
func New(_ context.Context, o Options) (*Trial, error) {
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{Bucket}, Seed: o.Seed})
	if err != nil {
		return nil, err
	}
	t := &Trial{o: o, clk: clock.System(), front: front, gate: newGate(front)}
	if t.folder, err = os.MkdirTemp("", "blobpglite-edges-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	t.server = httptest.NewServer(t.gate)
	return t, nil
}

// Run runs a case and records its counts.
func Run(ctx context.Context, t *Trial, name string) error {
	cases := Cases()
	i := slices.IndexFunc(cases, func(c Case) bool { return c.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no case %q", name)
	}
	err := cases[i].run(ctx, t)
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(err, errSkip) {
		t.skipped, err = err.Error(), nil
	}
	if err != nil && ctx.Err() == nil {
		t.bad++
		t.wrong = append(t.wrong, err.Error())
		err = nil
	}
	for name, n := range map[string]int{"tried_count": t.tried, "wrong_count": t.bad, "acked_count": t.acked, "lost_count": t.lost} {
		t.o.Metrics.Value(name, float64(n))
	}
	return err
}

// Close ends every process and the bucket.
func (t *Trial) Close() {
	t.mu.Lock()
	living := t.living
	t.mu.Unlock()
	for _, s := range living {
		s.Kill()
	}
	t.gate.end()
	t.server.CloseClientConnections()
	t.server.Close()
	_ = os.RemoveAll(t.folder)
}

// Wrong returns what went wrong, in words.
func (t *Trial) Wrong() []string { return t.wrong }

// Skipped returns why the case was not tried; empty: it was.
func (t *Trial) Skipped() string { return t.skipped }

// Ops returns the operations that the bucket has got.
func (t *Trial) Ops() store.Ops { return t.front.Counters().Ops }

// expect counts something tried, and records what is wrong if it does not hold.
func (t *Trial) expect(holds bool, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tried++
	if !holds {
		t.bad++
		t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
	}
}

// rows compares acknowledged rows with those found.
func (t *Trial) rows(what string, acked, found int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tried++
	t.acked += acked
	if lost := acked - found; lost != 0 {
		t.lost += max(lost, 0)
		t.bad++
		t.wrong = append(t.wrong, fmt.Sprintf("%s: of %d acknowledged rows only %d are there", what, acked, found))
	}
}

func (t *Trial) progress(format string, args ...any) {
	t.o.Progress(fmt.Sprintf(format, args...), 0, 0)
}

// size is Options.Size, or the least that the case needs.
func (t *Trial) size(least int) int {
	if t.o.Size > 0 {
		return t.o.Size
	}
	return least
}

// fresh returns a prefix that was not used before.
func (t *Trial) fresh() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.databases++
	return fmt.Sprintf("db%d", t.databases)
}

// address is the flags that name a database's place.
func (t *Trial) address(prefix string) []string {
	return []string{"-bucket", "gs://" + Bucket + "/" + prefix, "-endpoint", t.server.URL}
}

// leaseTTL is short, for the next opening waits for it after a kill.
const leaseTTL = "1s"

// server is a running pgserve.
type server struct {
	*service.Service
	t      *Trial
	prefix string
	flags  []string
}

// start runs pgserve on a place; an error if it ends immediately.
func (t *Trial) start(ctx context.Context, prefix string, flags ...string) (*server, error) {
	args := slices.Concat(t.address(prefix), []string{"-lease-ttl", leaseTTL, "-acquire-timeout", "20s", "-log", "info"}, flags)
	s, err := service.Start(ctx, t.o.Program, service.Options{Args: args})
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.living = append(t.living, s)
	return &server{Service: s, t: t, prefix: prefix, flags: flags}, nil
}

// again starts a server on the same place with the same flags, and others if given.
func (s *server) again(ctx context.Context, flags ...string) (*server, error) {
	if flags == nil {
		flags = s.flags
	}
	return s.t.start(ctx, s.prefix, flags...)
}

// crash kills it and starts it again.
func (s *server) crash(ctx context.Context, flags ...string) (*server, error) {
	s.Kill()
	return s.again(ctx, flags...)
}

// end sends SIGTERM and waits; anything but exit code 0 is an error.
func (s *server) end(ctx context.Context) error {
	ending, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	code, err := s.Stop(ending)
	if err == nil && code != 0 {
		err = fmt.Errorf("pgserve ended with code %d: %s", code, tail(s.Log()))
	}
	return err
}

// command runs one of pgserve's commands and returns all it says and its exit code.
func (t *Trial) command(ctx context.Context, args ...string) (string, int) {
	return runProgram(ctx, t.o.Program, args...)
}

// on runs a command on a place.
func (t *Trial) on(ctx context.Context, command, prefix string, args ...string) (string, int) {
	return t.command(ctx, slices.Concat([]string{command}, args, t.address(prefix))...)
}

func (t *Trial) file(name string) string { return filepath.Join(t.folder, name) }

// tail is the end of a text, for messages.
func tail(text string) string {
	const most = 700
	return strings.TrimSpace(text[max(0, len(text)-most):])
}
