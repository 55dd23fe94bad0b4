package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/point"
	"blobpglite/core/store/mem"
)

// shifted is a clock that can be put forward: a lease expires when the test says so, however slow the machine is.
type shifted struct {
	clock.Clock
	by atomic.Int64
}

func (s *shifted) Now() time.Time { return s.Clock.Now().Add(time.Duration(s.by.Load())) }

func (s *shifted) Monotonic() time.Duration {
	return s.Clock.Monotonic() + time.Duration(s.by.Load())
}

// heard passes on the lines of a log that hold a text.
type heard struct {
	text  string
	lines chan string
}

func (h heard) Write(p []byte) (int, error) {
	if strings.Contains(string(p), h.text) {
		h.lines <- string(p)
	}
	return len(p), nil
}

// TestSaysWhomItWaitsFor: the log of a service that does not come up says, once, who has the database.
func TestSaysWhomItWaitsFor(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	open(t, st, inLog, func(o *Options) { o.LeaseTTL, o.Writer, o.Address = time.Hour, "first", "10.0.0.1:5432" })
	said := heard{"waiting for its lease", make(chan string, 100)}
	// It waits until that lease has stood still for a whole one of its own: 50 ms.
	open(t, st, inLog, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	if len(said.lines) == 0 {
		t.Fatal("nothing is said")
	}
	line := <-said.lines
	for _, part := range []string{"holder=first/", "address=10.0.0.1:5432", "until=20", "at_most="} {
		if !strings.Contains(line, part) {
			t.Errorf("it lacks %q: %s", part, line)
		}
	}
	if len(said.lines) > 0 {
		t.Error("it is said more than once")
	}
}

// TestARenewalOnTheSideFails: a lease with less than half of its time left is renewed concurrently with a statement, which neither waits
// for the renewal nor fails with it. Later statements try again.
func TestARenewalOnTheSideFails(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	var renewals atomic.Int64
	clk := &shifted{Clock: clock.System()}
	warnings := heard{"the lease could not be renewed", make(chan string, 100)}
	e := open(t, mem.New(mem.Options{}), inLog, func(o *Options) {
		o.LeaseTTL, o.Clock, o.Logger = time.Hour, clk, slog.New(slog.NewTextHandler(warnings, nil))
		o.Hook = func(_ context.Context, at point.Point) error {
			if at != point.LeaseBeforeRenew {
				return nil
			}
			renewals.Add(1)
			if fails.Load() {
				return errors.New("the bucket does not answer")
			}
			return nil
		}
	})
	must(t, e, "CREATE TABLE t (a int)")
	fails.Store(true)
	clk.by.Store(int64(40 * time.Minute)) // of an hour
	must(t, e, "INSERT INTO t VALUES (1)")
	if line := <-warnings.lines; !strings.Contains(line, "the bucket does not answer") {
		t.Errorf("the warning: %s", line)
	}
	l := e.commits.(*logMode).opened.Lease
	if l.Fresh() || !l.Valid() {
		t.Errorf("after a renewal that failed the lease is fresh: %t, valid: %t", l.Fresh(), l.Valid())
	}
	fails.Store(false)
	for !l.Fresh() {
		must(t, e, "SELECT count(*) FROM t")
	}
	n := renewals.Load()
	must(t, e, "INSERT INTO t VALUES (2)")
	if again := renewals.Load(); again != n {
		t.Errorf("a fresh lease was renewed")
	}
}
