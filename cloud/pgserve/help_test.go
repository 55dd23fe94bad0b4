package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// TestGroups: -help shows each flag of each command, once.
func TestGroups(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for _, g := range groups() {
		for _, name := range g.flags {
			seen[name]++
		}
	}
	used := map[string]bool{}
	for _, cmd := range commands() {
		for _, fl := range shownFlags(cmd) {
			used[fl.Name] = true
			if seen[fl.Name] != 1 {
				t.Errorf("-%s of pgserve %s is in %d groups of -help", fl.Name, cmd.name, seen[fl.Name])
			}
		}
	}
	for name := range seen {
		if !used[name] {
			t.Errorf("-help has a place for -%s, which no command has", name)
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"-help"}, &out, &errs); code != 0 {
		t.Error(code)
	}
	for _, want := range []string{"Examples:", "where the database is:\n  -bucket", "what an answer means:", "replicas:"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("-help lacks %q", want)
		}
	}
	if strings.Contains(errs.String(), "turn-timeout") {
		t.Error("-help shows a flag that is gone")
	}
}

// complete asks a shell for the completions of a line.
func complete(t *testing.T, shell, script, ask string) []string {
	t.Helper()
	var out bytes.Buffer
	if err := completion(t.Context(), nil, []string{shell}, &out); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	said, err := exec.CommandContext(ctx, shell, "-c", strings.ReplaceAll(script, "FILE", file)+"\n"+ask).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", shell, err, said)
	}
	return strings.Fields(string(said))
}

// TestCompletion runs bash itself; TestOtherShells runs the others where they are installed.
func TestCompletion(t *testing.T) {
	t.Parallel()
	ask := func(words string, at string) []string {
		return complete(t, "bash", "source FILE", "COMP_WORDS=("+words+"); COMP_CWORD="+at+"; _pgserve; printf '%s\\n' \"${COMPREPLY[@]}\"")
	}
	for _, tt := range []struct {
		words, at  string
		want, none []string
	}{
		{"pgserve st", "1", []string{"status"}, []string{"verify", "-bucket"}},
		{"pgserve -bu", "1", []string{"-bucket"}, nil},
		{"pgserve status -j", "2", []string{"-json"}, nil},
		{"pgserve status -li", "2", nil, []string{"-listen"}},
		{"pgserve -durability ''", "2", []string{"strict", "interval", "sleep"}, nil},
		{"pgserve completion f", "2", []string{"fish"}, []string{"bash"}},
		{"pgserve -turn", "1", nil, []string{"-turn-timeout"}},
	} {
		got := ask(tt.words, tt.at)
		for _, w := range tt.want {
			if !slices.Contains(got, w) {
				t.Errorf("%s: %q lacks %s", tt.words, got, w)
			}
		}
		for _, w := range tt.none {
			if slices.Contains(got, w) {
				t.Errorf("%s: %q has %s", tt.words, got, w)
			}
		}
	}
	if err := completion(t.Context(), nil, []string{"cmd"}, &bytes.Buffer{}); err == nil {
		t.Error("a shell that is none")
	}
}

// TestOtherShells: their scripts are read by the shells themselves, where they are.
func TestOtherShells(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("fish"); err == nil {
		got := complete(t, "fish", "source FILE", "complete -C 'pgserve stat'; complete -C 'pgserve status -j'; complete -C 'pgserve -durability '")
		for _, want := range []string{"status", "-json", "interval"} {
			if !slices.Contains(got, want) {
				t.Errorf("fish: %q lacks %s", got, want)
			}
		}
	}
	if _, err := exec.LookPath("zsh"); err == nil {
		// How zsh uses its words is up to zsh; this tests that it gets the right ones.
		got := complete(t, "zsh", "compdef() {}; compadd() { shift; print -l -- \"$@\" }; source FILE", "words=(pgserve status -j); CURRENT=3; _pgserve")
		if !slices.Contains(got, "-json") {
			t.Errorf("zsh: %q lacks -json", got)
		}
		if slices.Contains(got, "-listen") || slices.Contains(got, "verify") {
			t.Errorf("zsh: %q has what status does not take", got)
		}
	}
}

// TestStatusJSON: what programs read about a database that was served, and about a damaged one.
func TestStatusJSON(t *testing.T) {
	t.Parallel()
	bucket := emulator(t)
	c := start(t, append(bucket, "-wake", "-retain", "1h", "-lease-ttl", "30s")...) // it must keep its lease whatever else the machine does
	c.query(t, "CREATE TABLE n AS SELECT 1")
	var held, free report
	read := func(to any, code int, cmd string) {
		t.Helper()
		if err := json.NewDecoder(strings.NewReader(admin(t, code, append([]string{cmd, "-json"}, bucket...)...))).Decode(to); err != nil {
			t.Fatal(err)
		}
	}
	read(&held, 0, "status")
	if held.Database == "" || held.Epoch != 1 || held.Lease.State != "held" || held.Lease.Holder == "" || held.Retain != time.Hour {
		t.Errorf("%+v", held)
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-c.done
	read(&free, 0, "status")
	if s := free.Segments; s == nil || s.Live == 0 || s.Live > s.Stored || s.Stored < free.Layers[len(free.Layers)-1].Stored {
		t.Errorf("%+v", s)
	}
	if free.Lease.State != "free" || len(free.Layers) == 0 || free.Layers[0].Stored == 0 || free.Database != held.Database {
		t.Errorf("%+v", free)
	}
	var v struct {
		Sound    bool
		Database string
		Error    string
	}
	read(&v, 0, "verify")
	if !v.Sound || v.Database != held.Database || v.Error != "" {
		t.Errorf("%+v", v)
	}
	v.Sound = true
	text := admin(t, 1, append([]string{"verify", "-json"}, on(bucket, "nothing")...)...)
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&v); err != nil || v.Sound || v.Error == "" {
		t.Errorf("where there is nothing: %s: %v", text, err)
	}
}

// TestGreeting: how to connect, where the data is, how to stop; never the password.
func TestGreeting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		c    config
		wire string
		want []string
	}{
		{config{}, "127.0.0.1:5432", []string{`psql "postgres://postgres@127.0.0.1:5432/postgres"`, "in memory", "http://127.0.0.1:8080/", "Ctrl-C"}},
		{config{bucket: "gs://b/p", password: "geheim", requireTLS: true}, "[::]:5432", []string{`postgres://postgres:PASSWORD@127.0.0.1:5432/postgres?sslmode=require`, "gs://b/p"}},
		{config{bucket: "gs://b/p", replica: true}, "127.0.0.1:5433", []string{"to finish"}},
	} {
		var out bytes.Buffer
		tt.c.greet(&out, tt.wire, "0.0.0.0:8080")
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s lacks %s", out.String(), want)
			}
		}
		if strings.Contains(out.String(), "geheim") {
			t.Error("the password is shown")
		}
		if strings.Contains(out.String(), "becomes durable") == tt.c.replica {
			t.Errorf("a replica: %t, and it says: %s", tt.c.replica, out.String())
		}
	}
}

// TestProgress: a long restore reports its progress, and a short one says nothing.
func TestProgress(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Unix(1, 0))
	read := store.Count(mem.New(mem.Options{}))
	r, w := lines()
	received := func() int64 { return read.Ops().BytesDown }
	done := tellProgress(t.Context(), read, received, clk, printRestore(w))
	if err := clk.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	clk.Advance(progressEvery)
	if line := <-r; !strings.Contains(line, "restoring: 0 MB") {
		t.Error(line)
	}
	done()
	var out bytes.Buffer
	tellProgress(t.Context(), read, received, clk, printRestore(&out))()
	if out.Len() > 0 {
		t.Error(out.String())
	}
}

// TestProgressOfAnOpening: a service whose database takes long to open says so in its log, with its progress, until it is open.
func TestProgressOfAnOpening(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Unix(1, 0))
	c, _, err := parse(commands()[0], []string{"-store", "mem"}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := make(chan string, 1)
	c.log = slog.New(slog.NewJSONHandler(writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "still opening") {
			select {
			case r <- string(p):
			default: // one is enough
			}
		}
		return len(p), nil
	}), nil))
	never := errors.New("PostgreSQL cannot be loaded")
	s := &service{c: c, clock: clk, life: t.Context(), failures: make(chan error, 4), loading: &loading{done: make(chan struct{}), err: never}}
	if err := s.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		_, err := s.keeper.Engine(context.Background())
		opened <- err
	}()
	told := ""
	for told == "" {
		select {
		case told = <-r:
		default:
			clk.Advance(progressEvery) // the opening waits for PostgreSQL
			runtime.Gosched()
		}
	}
	if !strings.Contains(told, `"read_mb":0`) || !strings.Contains(told, `"seconds":`) || strings.Contains(told, `"seconds":0`) {
		t.Error(told)
	}
	close(s.loading.done)
	if err := <-opened; !errors.Is(err, never) {
		t.Error(err)
	}
	if n := clk.Pending(); n > 0 {
		t.Errorf("%d wait for the time when the opening is over", n)
	}
	if err := s.keeper.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// lines is a writer whose writes come out of a channel.
func lines() (<-chan string, writerFunc) {
	c := make(chan string, 10)
	return c, func(p []byte) (int, error) { c <- string(p); return len(p), nil }
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
