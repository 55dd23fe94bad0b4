package edges

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Signals that freeze a process, and wake it.
const (
	stopSignal     = syscall.SIGSTOP
	continueSignal = syscall.SIGCONT
)

func listenerCases() []Case {
	return []Case{
		{"http-text", "text that is not UTF-8, or a lone surrogate, is refused with 400 and the place, and nothing is stored", httpText},
		{"http-answers", "requests that cannot be answered get the documented status immediately: COPY, too many parameters, a database that does not open", httpAnswers},
		{"silent-connections", "connections that say nothing, at either listener, keep nobody out", silentConnections},
		{"slow-bodies", "a request whose body never comes is ended in a bounded time", slowBodies},
		{"refusals-said", "every connection beyond the limit is told why", refusalsSaid},
		{"foreign-page", "a web page of another origin cannot run SQL: Origin, Host and Content-Type are checked", foreignPage},
	}
}

func httpText(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept (t text)"); err != nil {
		return err
	}
	for name, body := range map[string]string{
		"a byte that is not UTF-8 in a parameter": "{\"sql\": \"INSERT INTO kept VALUES ($1)\", \"params\": [\"a\xffb\"]}",
		"a byte that is not UTF-8 in the SQL":     "{\"sql\": \"INSERT INTO kept VALUES ('a\xffb')\"}",
		"a lone high surrogate in a parameter":    `{"sql": "INSERT INTO kept VALUES ($1)", "params": ["a\ud800b"]}`,
		"a lone low surrogate in a parameter":     `{"sql": "INSERT INTO kept VALUES ($1)", "params": ["a\udc00"]}`,
		"a lone surrogate in the SQL":             `{"sql": "INSERT INTO kept VALUES ('a\ud800')"}`,
		"a lone surrogate in a batch":             `{"batch": [{"sql": "INSERT INTO kept VALUES ($1)", "params": ["\ud800\ud800"]}]}`,
		"an overlong encoding in a parameter":     "{\"sql\": \"INSERT INTO kept VALUES ($1)\", \"params\": [\"a\xc0\xafb\"]}",
		"an encoded surrogate (not UTF-8)":        "{\"sql\": \"INSERT INTO kept VALUES ($1)\", \"params\": [\"a\xed\xa0\x80b\"]}",
		"a surrogate inside a json parameter":     `{"sql": "INSERT INTO kept VALUES ($1::json::text)", "params": [{"a": "x` + "\xfe" + `"}]}`,
	} {
		got, err := s.post(ctx, "/sql", body, "Content-Type", "application/json")
		if err != nil {
			return err
		}
		t.expect(got.status == http.StatusBadRequest, "%s: status %d: %.200s", name, got.status, got.body)
		t.expect(strings.ContainsAny(got.body, "0123456789") && strings.Contains(got.body, "message"), "%s: the answer does not say where: %.200s", name, got.body)
	}
	n := s.count(ctx, "kept")
	t.expect(n == 0, "%d rows were stored from invalid text", n)
	got, err := s.sql(ctx, "INSERT INTO kept VALUES ($1)", "e\u0301 \U0001F600 \uFFFD")
	t.expect(err == nil && got.status == http.StatusOK, "good text is refused: %d %s, %v", got.status, got.body, err)
	text, err := s.text(ctx, "SELECT t FROM kept")
	t.expect(err == nil && text == "e\u0301 \U0001F600 \uFFFD", "good text came back as %q: %v", text, err)
	return nil
}

func httpAnswers(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1), (2)"); err != nil {
		return err
	}
	ask := func(sql string, params ...any) (reply, time.Duration) {
		at := t.clk.Monotonic()
		got, err := s.sql(ctx, sql, params...)
		took := t.clk.Monotonic() - at
		t.o.Metrics.Duration("answer_ms", took)
		if err != nil {
			got.body = err.Error()
		}
		return got, took
	}
	const soon = 5 * time.Second
	got, took := ask("COPY kept FROM STDIN")
	t.expect(got.status >= 400 && got.status < 500 && took < soon, "COPY FROM STDIN: status %d after %v: %.200s", got.status, took, got.body)
	got, took = ask("COPY kept TO STDOUT")
	t.expect(got.status >= 400 && got.status < 500 && took < soon || got.status == 200 && strings.Contains(got.body, `1`) && strings.Contains(got.body, "rows") && !strings.Contains(got.body, `"rows":[]`) && !strings.Contains(got.body, `"rows":null`),
		"COPY TO STDOUT: status %d after %v: %.200s", got.status, took, got.body)
	got, _ = ask("SELECT count(*) FROM kept")
	t.expect(got.status == 200 && strings.Contains(got.body, "[[2]]"), "after COPY: %d %.200s", got.status, got.body)
	params := make([]any, 70_000)
	for i := range params {
		params[i] = i
	}
	got, took = ask("SELECT 1", params...)
	t.expect(got.status >= 400 && got.status < 500 && took < soon, "70,000 parameters: status %d after %v: %.200s", got.status, took, got.body)
	var told struct {
		Outcome string `json:"outcome"`
	}
	t.expect(json.Unmarshal([]byte(got.body), &told) == nil && told.Outcome == "failed", "70,000 parameters: the outcome is %q", told.Outcome)
	s.Kill()
	if err := t.write(s.prefix+"/manifest", []byte("not a manifest")); err != nil {
		return err
	}
	if s, err = s.again(ctx); err != nil {
		return err
	}
	got, _ = ask("SELECT 1")
	told.Outcome = ""
	t.expect(got.status == http.StatusServiceUnavailable, "a database that does not open: status %d: %.200s", got.status, got.body)
	t.expect(json.Unmarshal([]byte(got.body), &told) == nil && told.Outcome == "failed", "a database that does not open: the outcome is %q", told.Outcome)
	return nil
}

// hush opens connections that never say anything, until the returned function is called.
func hush(address string, n int) (func(), error) {
	var all []net.Conn
	end := func() {
		for _, c := range all {
			_ = c.Close()
		}
	}
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			end()
			return nil, err
		}
		all = append(all, c)
	}
	return end, nil
}

func silentConnections(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "SELECT 1"); err != nil {
		return err
	}
	const soon = 3 * time.Second
	silent := t.size(130)
	for name, port := range map[string]int{"PostgreSQL": s.Port, "HTTP": s.HTTPPort} {
		end, err := hush(fmt.Sprintf("127.0.0.1:%d", port), silent)
		if err != nil {
			return err
		}
		at := t.clk.Monotonic()
		one, cancel := context.WithTimeout(ctx, 20*time.Second)
		err = s.exec(one, "SELECT 1")
		took := t.clk.Monotonic() - at
		t.o.Metrics.Duration("answer_ms", took)
		t.expect(err == nil && took < soon, "with %d silent connections at %s's listener a client of PostgreSQL got %v after %v", silent, name, err, took)
		at = t.clk.Monotonic()
		got, err := s.sql(one, "SELECT 1")
		took = t.clk.Monotonic() - at
		cancel()
		t.expect(err == nil && got.status == 200 && took < soon, "with %d silent connections at %s's listener a request over HTTP got %d %v after %v: %.200s", silent, name, got.status, err, took, got.body)
		end()
	}
	return nil
}

func slowBodies(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	const limit = 40 * time.Second // of one body; the server's own is shorter
	total := t.size(50)
	var mu sync.Mutex
	ended := 0
	var all sync.WaitGroup
	for range total {
		all.Go(func() {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPPort))
			if err != nil {
				return
			}
			defer c.Close()
			_, err = io.WriteString(c, "POST /sql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"sql\"")
			if err != nil || c.SetReadDeadline(time.Now().Add(limit)) != nil {
				return
			}
			_, err = io.Copy(io.Discard, c)
			var late net.Error
			if !(errors.As(err, &late) && late.Timeout()) {
				mu.Lock()
				defer mu.Unlock()
				ended++
			}
		})
	}
	got, err := s.sql(ctx, "SELECT 1")
	t.expect(err == nil && got.status == 200, "with %d slow bodies a request gets %d, %v", total, got.status, err)
	all.Wait()
	t.expect(ended == total, "of %d requests whose body never came %d were open after %v", total, total-ended, limit)
	return nil
}

func refusalsSaid(ctx context.Context, t *Trial) error {
	const limit = 20
	s, err := t.start(ctx, t.fresh(), "-max-clients", fmt.Sprint(limit))
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "SELECT 1"); err != nil {
		return err
	}
	total := t.size(150)
	var mu sync.Mutex
	var open []*pgx.Conn
	silently := map[string]int{}
	refused := 0
	var all sync.WaitGroup
	for range total {
		all.Go(func() {
			c, err := s.connect(ctx, "postgres")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				open = append(open, c)
			case sqlState(err) == "53300":
				refused++
			default:
				silently[tail(err.Error())]++
			}
		})
	}
	all.Wait()
	worst, often := "", 0
	for text, n := range silently {
		if often += n; worst == "" {
			worst = text
		}
	}
	t.expect(often == 0, "of %d connections %d did not end with 53300, such as: %s", total, often, worst)
	const reserved = 3 // additional places for superusers, which these clients are
	t.expect(len(open) > 0 && len(open) <= limit+reserved, "%d of %d connections were taken, the limit is %d", len(open), total, limit+reserved)
	got, err := s.sql(ctx, "SELECT 1")
	t.expect(err == nil && got.status == 200, "with -max-clients connections of PostgreSQL a request over HTTP gets %d, %v: %.200s", got.status, err, got.body)
	for _, c := range open {
		_ = c.Close(context.WithoutCancel(ctx))
	}
	return nil
}

func foreignPage(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept (id int)"); err != nil {
		return err
	}
	const body = `{"sql": "INSERT INTO kept VALUES (1)"}`
	const json = "application/json"
	for name, headers := range map[string][]string{
		"a foreign Origin":                 {"Content-Type", json, "Origin", "https://evil.example"},
		"Origin null":                      {"Content-Type", json, "Origin", "null"},
		"an Origin of another port":        {"Content-Type", json, "Origin", "http://127.0.0.1:1"},
		"a rebound Host":                   {"Content-Type", json, "Host", "evil.example"},
		"a rebound Host with the port":     {"Content-Type", json, "Host", fmt.Sprintf("evil.example:%d", s.HTTPPort)},
		"a rebound Host with its Origin":   {"Content-Type", json, "Host", fmt.Sprintf("evil.example:%d", s.HTTPPort), "Origin", fmt.Sprintf("http://evil.example:%d", s.HTTPPort)},
		"no Content-Type":                  {},
		"a form's Content-Type":            {"Content-Type", "application/x-www-form-urlencoded"},
		"text/plain":                       {"Content-Type", "text/plain"},
		"text/plain that pretends":         {"Content-Type", "text/plain; application/json"},
		"a form from a foreign page":       {"Content-Type", "text/plain", "Origin", "https://evil.example"},
		"cross-site by the browser's word": {"Content-Type", json, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"},
	} {
		got, err := s.post(ctx, "/sql", body, headers...)
		if err != nil {
			return err
		}
		t.expect(got.status >= 400 && got.status < 500, "%s: status %d: %.100s", name, got.status, got.body)
		t.expect(got.header.Get("Access-Control-Allow-Origin") == "", "%s: the answer allows another origin", name)
	}
	n := s.count(ctx, "kept")
	t.expect(n == 0, "%d requests of foreign pages wrote rows", n)
	for name, headers := range map[string][]string{
		"documented":         {"Content-Type", json},
		"with a charset":     {"Content-Type", "application/json; charset=utf-8"},
		"by localhost":       {"Content-Type", json, "Host", fmt.Sprintf("localhost:%d", s.HTTPPort)},
		"from its own pages": {"Content-Type", json, "Origin", s.HTTP()},
	} {
		got, err := s.post(ctx, "/sql", body, headers...)
		t.expect(err == nil && got.status == 200, "a good request (%s) is refused: %d %.200s, %v", name, got.status, got.body, err)
	}
	return nil
}
