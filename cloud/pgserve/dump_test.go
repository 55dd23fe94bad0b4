package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsAreQuiet: the log of a command has no word of PostgreSQL's start, unless it is asked for; a server's has.
func TestCommandsAreQuiet(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{"": "info", "dump": "warn", "gc": "warn", "gc -log info": "info"} {
		cmd := commands()[0]
		words := strings.Fields(args + " -bucket gs://abc/b")
		for _, c := range commands()[1:] {
			if words[0] == c.name {
				cmd, words = c, words[1:]
				break
			}
		}
		c, _, err := parse(cmd, words, os.Stdout, os.Stderr)
		if err != nil || c.logLevel != want {
			t.Errorf("%q: %v, %v", args, c, err)
		}
	}
}

// TestDumpOfSeveralDatabases: all of them by default, whatever they and the superuser are called; one by its name.
func TestDumpOfSeveralDatabases(t *testing.T) {
	t.Parallel()
	flags := emulator(t)
	c := start(t, flags...)
	const odd = `it's a "shop\1`
	quoted := `"` + strings.ReplaceAll(odd, `"`, `""`) + `"`
	for _, sql := range []string{
		"CREATE TABLE first (a int)", "INSERT INTO first VALUES (1)", "CREATE ROLE chief SUPERUSER LOGIN",
		"CREATE DATABASE " + quoted, "CREATE DATABASE alpha", "ALTER DATABASE alpha SET work_mem = '7MB'",
	} {
		c.query(t, sql)
	}
	c.queryAs(t, "postgres", odd, "CREATE TABLE second (a int)")
	c.queryAs(t, "postgres", odd, "INSERT INTO second VALUES (2)")
	c.queryAs(t, "chief", "alpha", "ALTER ROLE postgres RENAME TO boss")
	dump := func(code int, more ...string) string {
		return admin(t, code, append(append([]string{"dump"}, flags...), more...)...)
	}
	has := func(text string, parts ...string) {
		t.Helper()
		at := 0
		for _, part := range parts {
			next := strings.Index(text[at:], part)
			if next < 0 {
				t.Errorf("the dump lacks %q, or has it elsewhere", part)
				return
			}
			at += next
		}
	}
	all := dump(0)
	has(all, "CREATE TABLE public.first", "CREATE DATABASE alpha", `\connect alpha`, "work_mem", "CREATE DATABASE "+quoted, "CREATE TABLE public.second")
	if strings.Contains(all, "CREATE DATABASE postgres") || strings.Count(all, "PostgreSQL database dump complete") != 3 {
		t.Error(all)
	}
	second := dump(0, "-db", odd)
	has(second, "CREATE TABLE public.second")
	if strings.Contains(second, "first") || strings.Contains(second, "CREATE DATABASE") {
		t.Error(second)
	}
	if text := dump(1, "--", "-Fc"); !strings.Contains(text, "-db") || !strings.Contains(text, odd) {
		t.Error(text)
	}
	if text := dump(1, "-db", "nowhere"); !strings.Contains(text, "nowhere") {
		t.Error(text)
	}
	file := filepath.Join(t.TempDir(), "alpha.dump")
	dump(0, "-db", "alpha", "-o", file, "--", "--format", "custom")
	if b, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(b), "PGDMP") {
		t.Errorf("%.20q, %v", b, err)
	}
}

func TestIsPlain(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]bool{
		"": true, "-Fp": true, "-F p": true, "--format=plain": true, "--format p": true, "-Fc": false, "-F t": false, "--format=custom": false, "-t x -Ft": false, "-O -x": true,
	} {
		if got := isPlain(strings.Fields(args)); got != want {
			t.Errorf("%q: %v", args, got)
		}
	}
}
