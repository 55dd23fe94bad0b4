package edges

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

func bucketCases() []Case {
	return []Case{
		{"statuses", "no client is cut off by a status that passes, whatever kind of request it refuses once", statuses},
		{"lasting-statuses", "a status that lasts is answered in the right words, in a bounded time, and what is acknowledged stays", lastingStatuses},
		{"retention", "a deletion refused by a retention policy is called that, and disturbs nobody", retention},
		{"frozen", "after a freeze, in which idle connections died, the first commits go through", frozen},
	}
}

// status is an answer of Cloud Storage. Source: docs.cloud.google.com/storage/docs/json_api/v1/status-codes, read November 2026.
type status struct {
	code   int
	reason string
}

// passing are answers that one request gets and the next does not.
func passing() []status {
	return []status{
		{401, "authError"}, {403, "userRateLimitExceeded"}, {409, "conflict"}, {400, "invalid"}, {404, "notFound"}, // those that cut clients off
		{403, "rateLimitExceeded"}, {429, "rateLimitExceeded"}, {503, "backendError"}, {408, "requestTimeout"}, {500, "backendError"},
		{502, "backendError"}, {504, "backendError"}, {429, "userRateLimitExceeded"}, {401, "required"}, {403, "quotaExceeded"}, {405, "methodNotAllowed"}, {413, "uploadTooLarge"},
	}
}

// requestKind is a kind of request to the bucket, and whether it occurs while a database is being opened.
type requestKind struct {
	name, op, class string
	opening         bool
}

func requestKinds() []requestKind {
	return []requestKind{
		{"PUT of a record", "put", "/wal/", false}, {"PUT of the lease", "put", "/lease", false},
		{"PUT of a layer", "put", "/base/", false}, {"PUT of the manifest", "put", "/manifest", false},
		{"GET of the manifest", "get", "/manifest", false}, {"DELETE", "delete", "", false}, {"LIST", "list", "", false},
		{"GET of the manifest, opening", "get", "/manifest", true}, {"GET of a record, opening", "get", "/wal/", true},
		{"GET of a layer, opening", "get", "/base/", true}, {"PUT of the lease, opening", "put", "/lease", true}, {"PUT of the fence, opening", "put", "/wal/", true},
	}
}

// statusTrial is one server under refusals, and a client that stays connected.
type statusTrial struct {
	t      *Trial
	s      *server
	client *pgx.Conn
	acked  int
}

func statuses(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-restore-budget", "1ms")
	if err != nil {
		return err
	}
	x := &statusTrial{t: t, s: s}
	if err := s.exec(ctx, "CREATE TABLE kept (id int, t text)"); err != nil {
		return err
	}
	kinds, all := requestKinds(), passing()
	if t.o.Size > 0 { // the first kinds, each with the first statuses
		kinds, all = kinds[:min(len(kinds), t.o.Size)], all[:min(len(all), 5*t.o.Size)]
	}
	for _, k := range kinds {
		for _, one := range all {
			t.progress("%s: %d %s", k.name, one.code, one.reason)
			do := x.once
			if k.opening {
				do = x.onceOpening
			}
			if err := do(ctx, k, one); err != nil {
				return err
			}
		}
	}
	t.gate.refuse(nil)
	x.close(ctx)
	if x.s, err = x.s.crash(ctx); err != nil {
		return err
	}
	t.rows("written under refusals", x.acked, min(x.acked, x.s.count(ctx, "kept"))) // what was not acknowledged may be there
	return nil
}

func (x *statusTrial) close(ctx context.Context) {
	if x.client != nil {
		_ = x.client.Close(context.WithoutCancel(ctx))
		x.client = nil
	}
}

// once refuses one request of a kind while a client writes, until the refusal has struck.
func (x *statusTrial) once(ctx context.Context, k requestKind, one status) (err error) {
	if x.client == nil {
		if x.client, err = x.s.connect(ctx, "postgres"); err != nil {
			return err
		}
	}
	rule := &refusal{op: k.op, class: k.class, status: one.code, reason: one.reason, times: 1}
	x.t.gate.refuse(rule)
	defer x.t.gate.refuse(nil)
	const rows, most = 200, 3 * time.Second
	what := fmt.Sprintf("%s answered %d %s once", k.name, one.code, one.reason)
	from := x.t.clk.Monotonic()
	after := 0
	for after < 3 && x.t.clk.Monotonic()-from < most {
		at := x.t.clk.Monotonic()
		err := execOn(ctx, x.client, bulk("kept", rows))
		took := x.t.clk.Monotonic() - at
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || took > 5*time.Second {
			x.t.expect(false, "%s: after %v the client got %v; cut off: %v", what, took.Round(time.Millisecond), err, x.client.IsClosed())
			x.close(ctx)
			return x.wait(ctx, what)
		}
		x.acked += rows
		if x.t.gate.fired(rule) > 0 {
			after++
		}
	}
	if n := x.t.gate.fired(rule); n > 0 {
		x.t.o.Metrics.Value("fired_count", float64(n))
		x.t.expect(true, "")
	}
	return nil
}

// wait waits until the database answers again.
func (x *statusTrial) wait(ctx context.Context, what string) error {
	at := x.t.clk.Monotonic()
	const look, times = 200 * time.Millisecond, 200
	for range times {
		if x.s.exec(ctx, "SELECT 1") == nil {
			x.t.o.Metrics.Duration("open_ms", x.t.clk.Monotonic()-at)
			return nil
		}
		if err := x.t.clk.Sleep(ctx, look); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: the database does not come back", what)
}

// onceOpening refuses one request of a kind while the database is being opened.
func (x *statusTrial) onceOpening(ctx context.Context, k requestKind, one status) (err error) {
	x.close(ctx)
	x.s.Kill()
	rule := &refusal{op: k.op, class: k.class, status: one.code, reason: one.reason, times: 1}
	x.t.gate.refuse(rule)
	defer x.t.gate.refuse(nil)
	if x.s, err = x.s.again(ctx); err != nil {
		return err
	}
	err = x.s.exec(ctx, "SELECT 1")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if x.t.gate.fired(rule) == 0 {
		return nil // this kind does not occur there
	}
	what := fmt.Sprintf("%s answered %d %s once", k.name, one.code, one.reason)
	x.t.expect(err == nil, "%s: %v", what, err)
	if err != nil {
		return x.wait(ctx, what)
	}
	return nil
}

// lasting are statuses that do not pass, and words of which the answer must contain one.
func lasting() []struct {
	status
	words string
} {
	return []struct {
		status
		words string
	}{
		{status{401, "authError"}, "credential|authenticat|401"},
		{status{403, "forbidden"}, "permission|role|403"},
		{status{404, "notFound"}, "bucket"},
		{status{403, "userRateLimitExceeded"}, "rate|quota|thrott"},
		{status{403, "accountDisabled"}, "account|billing|disabled"},
		{status{403, "retentionPolicyNotMet"}, "retention"},
		{status{429, "rateLimitExceeded"}, "rate|thrott|429"},
		{status{503, "backendError"}, "unavailable|503"},
		{status{400, "invalid"}, "invalid|400|refused"},
	}
}

func lastingStatuses(ctx context.Context, t *Trial) error {
	all := lasting()
	return beside(ctx, all[:min(len(all), t.size(len(all)))], func(ctx context.Context, one struct {
		status
		words string
	}) error {
		s, err := t.start(ctx, t.fresh(), "-acquire-timeout", "5s")
		if err != nil {
			return err
		}
		defer func() { s.Kill() }()
		if err := s.exec(ctx, "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1)"); err != nil {
			return err
		}
		rule := &refusal{class: s.prefix + "/", status: one.code, reason: one.reason}
		t.gate.add(rule)
		at := t.clk.Monotonic()
		acked := 1
		if err = s.exec(ctx, "INSERT INTO kept VALUES (2)"); err == nil {
			acked++
		}
		if err != nil {
			err = s.exec(ctx, "INSERT INTO kept VALUES (3)") // what counts is the message that the next client gets
		}
		took := t.clk.Monotonic() - at
		what := fmt.Sprintf("%d %s for everything", one.code, one.reason)
		t.expect(err != nil, "%s: a commit is acknowledged", what)
		t.expect(took < statementLimit, "%s: answered after %v", what, took)
		if err != nil {
			words := regexp.MustCompile("(?i)" + one.words)
			t.expect(words.MatchString(err.Error()), "%s: the answer does not mention %s: %v", what, one.words, err)
			t.expect(one.reason == "forbidden" || one.code == 401 || !strings.Contains(err.Error(), "roles/"), "%s is reported as a missing role: %v", what, err)
		}
		t.gate.drop(rule)
		if s, err = s.crash(ctx); err != nil {
			return err
		}
		n := s.count(ctx, "kept")
		t.rows(what, acked, min(n, acked))
		return nil
	})
}

func retention(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-restore-budget", "1ms", "-retain", "0s")
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept (id int, t text)", bulk("kept", 3000)); err != nil {
		return err
	}
	rule := &refusal{op: "delete", status: 403, reason: "retentionPolicyNotMet"}
	t.gate.refuse(rule)
	for range 6 {
		err := s.exec(ctx, bulk("kept", 3000), "CHECKPOINT")
		t.expect(err == nil, "a client is disturbed: %v", err)
	}
	err = s.end(ctx)
	t.expect(err == nil, "the end: %v", err)
	out, _ := t.on(ctx, "gc", s.prefix)
	log := s.Log() + out
	t.o.Metrics.Value("fired_count", float64(t.gate.fired(rule)))
	t.expect(t.gate.fired(rule) > 0, "nothing was deleted, so nothing was refused")
	t.expect(!strings.Contains(log, "roles/"), "a retention policy is reported as a missing role: %s", firstLine(log, "roles/"))
	t.expect(strings.Contains(strings.ToLower(log), "retention"), "the log does not mention the retention policy")
	t.gate.refuse(nil)
	if s, err = s.again(ctx); err != nil {
		return err
	}
	t.rows("under a retention policy", 21_000, s.count(ctx, "kept"))
	return nil
}

func frozen(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-lease-ttl", "30s")
	if err != nil {
		return err
	}
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := execOn(ctx, c, "CREATE TABLE kept (id int)"); err != nil {
		return err
	}
	rounds := t.size(6)
	for i := range rounds {
		if err := s.Signal(stopSignal); err != nil {
			return err
		}
		t.server.CloseClientConnections()
		done := make(chan error, 1)
		go func() { done <- execOn(ctx, c, fmt.Sprintf("INSERT INTO kept VALUES (%d)", i)) }()
		// The statement is there when the process wakes up, so that its PUT races with the news of the dead connections.
		if err := t.clk.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		at := t.clk.Monotonic()
		if err := s.Signal(continueSignal); err != nil {
			return err
		}
		err := <-done
		took := t.clk.Monotonic() - at
		t.o.Metrics.Duration("answer_ms", took)
		t.expect(err == nil && took < 3*time.Second, "the first commit after a freeze took %v: %v", took, err)
		if err != nil {
			return nil
		}
	}
	s.Kill()
	if s, err = s.again(ctx, "-acquire-timeout", "40s"); err != nil {
		return err
	}
	t.rows("after freezes", rounds, s.count(ctx, "kept"))
	return nil
}
