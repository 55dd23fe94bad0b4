package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// group holds flags that serve one purpose.
type group struct {
	title string
	flags []string
}

// groups returns all flags of all commands, each in one group.
func groups() []group {
	return []group{
		{"where the database is", []string{"bucket", "store", "endpoint"}},
		{"who may connect, and where", []string{"listen", "socket", "http", "http-host", "password", "token", "tls-cert", "tls-key", "require-tls"}},
		{"limits for clients", []string{"max-clients", "max-requests", "http-sessions"}},
		{"what an answer means", []string{"durability", "flush-interval", "idle-flush", "answers", "read-mode"}},
		{"the writer's lease", []string{"lease-ttl", "acquire-timeout"}},
		{"earlier states, and the time a restore takes", []string{"retain", "restore-budget", "at"}},
		{"memory, size and time", []string{"cache", "container-memory", "temp-memory", "temp-dir", "memory-limit", "disk-limit", "statement-timeout"}},
		{"PostgreSQL", []string{"set", "extension"}},
		{"replicas", []string{"replica", "poll", "max-lag", "wait-limit", "rest", "announce"}},
		{"the process", []string{"wake", "grace", "log", "version"}},
		{"output", []string{"json", "o", "force", "db"}},
	}
}

// examples are what people try first.
func examples() []string {
	return []string{
		"pgserve                                             a database in memory, to try it out",
		"pgserve -bucket file:///home/me/notes               one that is kept, in a folder",
		"pgserve -bucket gs://name/prefix -password secret   one in a bucket",
		"pgserve status -bucket gs://name/prefix -json       what is there, for programs",
		"pgserve dump -bucket gs://name/prefix -o all.sql    export: SQL for any PostgreSQL",
		"pgserve dump -at 2026-01-31T15:04:05Z -bucket ...   as it was then",
		"source <(pgserve completion bash)                   complete commands and flags",
	}
}

// help is -help: the commands, examples, and the command's flags by purpose.
func help(f *flag.FlagSet, cmd command, w io.Writer) {
	fmt.Fprint(w, "pgserve: PostgreSQL whose durable home is one prefix of one bucket.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  pgserve %-42s %s\n", strings.TrimSpace(c.name+" [flags] "+c.usage), c.doc)
	}
	fmt.Fprint(w, "\nExamples:\n\n")
	for _, e := range examples() {
		fmt.Fprintf(w, "  %s\n", e)
	}
	fmt.Fprintf(w, "\nFlags of %s. Each can also be set in the environment: -idle-flush as %sIDLE_FLUSH.\n", strings.TrimSpace("pgserve "+cmd.name), envPrefix)
	for _, g := range groups() {
		shown := flag.NewFlagSet("", flag.ContinueOnError)
		shown.SetOutput(w)
		any := false
		f.VisitAll(func(fl *flag.Flag) {
			if slices.Contains(g.flags, fl.Name) {
				shown.Var(fl.Value, fl.Name, fl.Usage)
				shown.Lookup(fl.Name).DefValue = fl.DefValue
				any = true
			}
		})
		if any {
			fmt.Fprintf(w, "\n%s:\n", g.title)
			shown.PrintDefaults()
		}
	}
}
