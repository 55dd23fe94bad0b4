package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/jackc/pgx/v5"
)

// programVariable makes the test's own program pgserve.
const programVariable = "PGSERVE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// emulator is a bucket; it returns flags that name a prefix of it.
func emulator(t *testing.T) []string {
	t.Helper()
	s, err := fakestorage.NewServerWithOptions(fakestorage.Options{Scheme: "http", Host: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	s.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "bucket"})
	return []string{"-bucket", "gs://bucket/p", "-endpoint", s.URL(), "-lease-ttl", "1s"}
}

// child is pgserve in a process of its own.
type child struct {
	cmd      *exec.Cmd
	pg, http string
	log      *bytes.Buffer
	done     chan struct{}
}

func start(t *testing.T, args ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startBy(t, self, args...)
}

// startBy starts pgserve by a command that its flags are added to.
func startBy(t *testing.T, name string, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(name, append(args, "-listen", "127.0.0.1:0", "-http", "127.0.0.1:0")...), log: &bytes.Buffer{}, done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), programVariable+"=1")
	c.cmd.Stderr = c.log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for (c.pg == "" || c.http == "") && lines.Scan() {
		switch kind, address, _ := strings.Cut(lines.Text(), " "); kind {
		case "postgres":
			c.pg = strings.TrimSpace(address)
		case "http":
			c.http = strings.TrimSpace(address)
		}
	}
	go func() {
		defer close(c.done)
		_, _ = io.Copy(io.Discard, out)
		_ = c.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		if t.Failed() {
			t.Log(c.log.String())
		}
	})
	if c.http == "" {
		t.Fatal("pgserve does not listen")
	}
	return c
}

func (c *child) query(t *testing.T, sql string) string {
	t.Helper()
	return c.queryAs(t, "postgres", "postgres", sql)
}

func (c *child) queryAs(t *testing.T, user, database, sql string) string {
	t.Helper()
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s/?sslmode=disable", c.pg))
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Database = user, database
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	text := ""
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprint(values...)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestLives goes through three lives: SIGTERM, SIGKILL, and maintenance commands.
func TestLives(t *testing.T) {
	t.Parallel()
	bucket := emulator(t)
	c := start(t, bucket...)
	c.query(t, "CREATE TABLE t (a int)")
	c.query(t, "INSERT INTO t VALUES (1)")
	answer, err := http.Post("http://"+c.http+"/sql", "application/json", strings.NewReader(`{"sql":"INSERT INTO t VALUES (2)"}`))
	if err != nil || answer.StatusCode != 200 {
		t.Fatal(answer, err)
	}
	_ = answer.Body.Close()
	if text := admin(t, 0, append([]string{"status"}, bucket...)...); !strings.Contains(text, "held by") {
		t.Error(text)
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if text := admin(t, 0, append([]string{"status"}, bucket...)...); !strings.Contains(text, "lease      free") {
		t.Error(text)
	}
	c = start(t, bucket...)
	if got := c.query(t, "SELECT sum(a)::int FROM t"); got != "3" {
		t.Fatal(got)
	}
	c.query(t, "INSERT INTO t VALUES (4)")
	_ = c.cmd.Process.Kill()
	<-c.done
	if text := admin(t, 0, append([]string{"verify"}, bucket...)...); !strings.Contains(text, "\nsound") {
		t.Error(text)
	}
	if text := admin(t, 0, append([]string{"gc"}, bucket...)...); text == "" {
		t.Error("nothing said")
	}
	c = start(t, bucket...)
	if got := c.query(t, "SELECT sum(a)::int FROM t"); got != "7" {
		t.Fatal(got)
	}
}

// TestListensBeforePostgres: the listeners are open before PostgreSQL is loaded; clients wait, and signals are handled.
func TestListensBeforePostgres(t *testing.T) {
	t.Parallel()
	c := start(t, "-store", "mem")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("told to go while it loads: exit code %d", code)
	}
	c = start(t, "-store", "mem")
	if got := c.query(t, "SELECT 1"); got != "1" {
		t.Error(got)
	}
	answer, err := http.Get("http://" + c.http + "/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var boot struct {
		MS map[string]float64 `json:"boot_ms"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&boot); err != nil {
		t.Fatal(err)
	}
	if boot.MS["listening"] <= 0 || boot.MS["runtime"] <= boot.MS["listening"] || boot.MS["open"] <= 0 {
		t.Errorf("%v: want it to listen first", boot.MS)
	}
}

// TestProbeIsAskedOnce: whether the bucket honors preconditions is probed before a database is made there, and not at each cold start.
func TestProbeIsAskedOnce(t *testing.T) {
	t.Parallel()
	s, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	s.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "bucket"})
	probes, ignore := 0, true
	var mu sync.Mutex
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if strings.Contains(r.URL.Path, "probe/") || strings.Contains(r.URL.RawQuery, "probe") {
			probes++
		}
		if ignore {
			query := r.URL.Query()
			query.Del("ifGenerationMatch")
			r.URL.RawQuery = query.Encode()
		}
		mu.Unlock()
		s.HTTPHandler().ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	set := func(to bool) (before int) {
		mu.Lock()
		defer mu.Unlock()
		before, probes, ignore = probes, 0, to
		return before
	}
	bucket := []string{"-bucket", "gs://bucket/p", "-endpoint", front.URL}
	c := start(t, bucket...)
	answer, err := http.Get("http://" + c.http + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode == 200 {
		t.Error("a database was made where preconditions are ignored")
	}
	if text := admin(t, 1, append([]string{"status"}, bucket...)...); !strings.Contains(text, "no database") {
		t.Error(text)
	}
	for life, want := range []bool{true, false} {
		_ = c.cmd.Process.Kill()
		<-c.done
		set(false)
		c = start(t, append(bucket, "-lease-ttl", "1s")...)
		c.query(t, "SELECT 1")
		if n := set(false); (n > 0) != want {
			t.Errorf("life %d: %d requests of a probe", life, n)
		}
	}
}

// TestSecondSignalEndsAtOnce, whatever still runs.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t, "-store", "mem", "-grace", "1h")
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", c.pg))
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 100000000000)")
		gone <- err
	}()
	for range 2 {
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		// Two signals in quick succession may be delivered as one; the second one is repeated until it is handled.
	}
	for {
		select {
		case <-c.done:
			<-gone
			return
		case <-time.After(50 * time.Millisecond):
			_ = c.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
}

// TestASignalSentTwice: a signal that comes twice at once, as timeout(1) and some supervisors send it, is one: what was acknowledged becomes
// durable.
func TestASignalSentTwice(t *testing.T) {
	t.Parallel()
	bucket := emulator(t)
	c := start(t, append(bucket, "-durability", "sleep", "-idle-flush", "1h")...)
	c.query(t, "CREATE TABLE t AS SELECT 1 a")
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", c.pg))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil { // so that it does not end before it has heard both signals
		t.Fatal(err)
	}
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} { // two different ones are not merged
		if err := c.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if got := start(t, bucket...).query(t, "SELECT count(*) FROM t"); !strings.Contains(got, "1") {
		t.Errorf("%q rows are left of what was acknowledged", got)
	}
}

// admin runs a command and returns its output.
func admin(t *testing.T, code int, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(args, &out, &errs); got != code {
		t.Fatalf("pgserve %s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
	}
	return out.String() + errs.String()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"-help", 0, "pgserve verify"},
		{"-version", 0, "pgserve"},
		{"-nonsense", 2, "-nonsense\npgserve -help lists the flags"},
		{"gc -nonsense", 2, "-nonsense\npgserve gc -help lists the flags"},
		{"nonsense", 2, `no command "nonsense"`},
		{"gc nonsense", 2, `gc takes no argument, but "nonsense" was given`},
		{"-store gcs", 2, "-bucket"},
		{"-store tape", 2, `"tape"`},
		{"-store mem -bucket gs://abc/b", 2, "belongs to -store gcs"},
		{"-durability later", 2, `"later"`},
		{"-read-mode quick", 2, `"quick"`},
		{"-answers never", 2, `"never"`},
		{"-set x", 2, "name=value"},
		{"-tls-cert x", 2, "-tls-key"},
		{"-require-tls", 2, "-tls-cert"},
		{"-log loud", 2, `"loud"`},
		{"-store mem -listen 0.0.0.0:0 -http 127.0.0.1:0", 1, "-password"},
		{"-store mem -listen 127.0.0.1:0 -http :0", 1, "-token"},
		{"-bucket gs://only", 2, "gs://name/prefix"},
		{"-bucket /only", 2, "file:///folder"},
		{"-bucket file://only", 2, "three slashes"},
		{"-store file", 2, "-bucket file:///folder"},
		{"-store gcs -bucket file:///a/b", 2, "belongs to -store file"},
		{"-bucket file:///a/b -endpoint http://x", 2, "-endpoint"},
		{"status -bucket file:///nowhere/at/all", 1, "no such"},
		{"-store mem -listen 127.0.0.1:0 -http 127.0.0.1:0 -extension telepathy", 1, `"telepathy"`},
		{"-store mem -listen " + taken.Addr().String(), 1, "with -listen"},
		{"-store mem -listen 127.0.0.1:0 -http " + taken.Addr().String(), 1, "with -http"},
		{"verify", 1, "-bucket"},
		{"verify x -bucket gs://abc/b", 2, ""},
	} {
		if text := admin(t, c.code, strings.Fields(c.args)...); !strings.Contains(text, c.want) {
			t.Errorf("pgserve %s says %q, not %q", c.args, text, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("PGSERVE_STORE", "tape")
	if text := admin(t, 2); !strings.Contains(text, `"tape"`) {
		t.Error(text)
	}
	if text := admin(t, 2, "-store", "disk"); !strings.Contains(text, `"disk"`) {
		t.Error("a flag does not win:", text)
	}
	t.Setenv("PGSERVE_MAX_CLIENTS", "many")
	if text := admin(t, 2); !strings.Contains(text, "PGSERVE_MAX_CLIENTS") {
		t.Error(text)
	}
}
