// Command pgserve is a PostgreSQL server and an HTTP service whose database is one prefix of one bucket.
//
//	go run ./cloud/pgserve -store mem                          a database that ends with the process
//	go run ./cloud/pgserve -bucket gs://name/prefix            a database that stays
//	go run ./cloud/pgserve -bucket file:///folder              one that stays in a folder of this machine
//	go run ./cloud/pgserve -replica -bucket gs://name/prefix   a read-only replica of one
//	psql -h 127.0.0.1 -p 5432 -U postgres                      then connect
//	pgserve verify -bucket gs://name/prefix                    look after it: verify, status, gc, retain, adopt
//	pgserve dump -bucket gs://name/prefix > all.sql            leave, or copy: dump, restore-to, branch
//	source <(pgserve completion bash)                          completes commands and flags
//
// Every flag can also be set in the environment: -idle-flush as PGSERVE_IDLE_FLUSH. A flag on the command line wins.
//
// It opens the database for the first connection (or right away, with -wake), and again after another writer has taken it over. After
// SIGTERM it accepts no new work, lets running statements finish, makes everything durable, releases the lease, and exits with 0 within 10
// seconds. A second signal ends it immediately, unless it comes within half a second, as from timeout(1), which sends each one twice.
//
// Exit codes: 0 ended on request, 1 failed, 2 bad usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"blobpglite/core/clock"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != setUpCommand { // it compiles, using much memory, and ends
		boundGarbage()
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// errUsage: the command line was wrong, and a message was printed.
var errUsage = errors.New("bad usage")

func run(args []string, out, errs io.Writer) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		<-signals
		stop()
		ignoreRepeats(signals)
		<-signals
		os.Exit(1) // now
	}()
	err := dispatch(ctx, args, out, errs)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = fmt.Errorf("interrupted: %w", err)
	}
	fmt.Fprintln(errs, "pgserve:", err)
	return 1
}

// sameSignal is how long after the first signal further ones are taken for the same: timeout(1), supervisors and terminals send one to a
// process, and again to its group.
const sameSignal = 500 * time.Millisecond

// ignoreRepeats receives signals for sameSignal.
func ignoreRepeats(signals <-chan os.Signal) {
	t := clock.System().NewTimer(sameSignal)
	defer t.Stop()
	for {
		select {
		case <-signals:
		case <-t.C():
			return
		}
	}
}

const setUpCommand = "set-up"

// command is a command of pgserve.
type command struct {
	name, usage, doc string
	many             bool                             // any number of arguments; otherwise one if there is a usage
	flags            func(c *config, f *flag.FlagSet) // flags of its own; may be nil
	run              func(ctx context.Context, c *config, args []string, out io.Writer) error
}

func commands() []command {
	return []command{
		{doc: "serve clients", run: serve},
		{name: setUpCommand, doc: "fetch, compile and prepare everything that a start needs, then exit: for building a container image", run: setUp},
		{name: "verify-install", doc: "hash everything in the cache that a start reads, compiled code included; a start itself checks only sizes, and the checksums of what it opens", run: verifyInstall},
		{name: "verify", doc: "check the whole prefix (manifest, layers, log) and say up to which record it is sound; changes nothing", flags: (*config).jsonFlag, run: verify},
		{name: "status", doc: "show what is in the prefix, and who writes there", flags: (*config).jsonFlag, run: status},
		{name: "gc", doc: "delete objects that nothing refers to; needs the lease", run: collect},
		{name: "adopt", doc: "recover a database whose manifest is lost, from its newest layer and the log after it; verify shows what that is. Needs the lease",
			flags: (*config).retainFlag, run: adopt},
		{name: "retain", usage: "DURATION", doc: "set how far back earlier states can be restored (24h; 0: not at all); may run alongside a writer, and takes effect from its next layer on", run: retain},
		{name: "promote", usage: "http://replica:8080", doc: "make a service that runs with -replica the writer: an opening like any other, but in a warm process. Give its token in PGSERVE_TOKEN",
			flags: (*config).tokenFlag, run: promote},
		{name: "dump", usage: "[-- flags of pg_dump]", many: true, doc: "write the database as SQL, with pg_dump itself; takes no lease, and may run alongside a writer", flags: (*config).dumpFlags, run: dump},
		{name: "restore-to", usage: "FILE.tar", doc: "write the data directory as a tar archive; likewise", flags: (*config).restoreFlags, run: restoreTo},
		{name: "branch", usage: "gs://name/prefix2 or file:///folder2", doc: "copy the database to an empty prefix or folder, as an independent database; likewise", flags: (*config).atFlag, run: branch},
		{name: completionCommand, usage: "bash, zsh or fish", doc: "print a script that completes commands and flags in this shell", run: completion},
	}
}

func dispatch(ctx context.Context, args []string, out, errs io.Writer) error {
	cmd := commands()[0]
	if len(args) > 0 {
		for _, c := range commands()[1:] {
			if args[0] == c.name {
				cmd, args = c, args[1:]
				break
			}
		}
	}
	c, rest, err := parse(cmd, args, out, errs)
	if err != nil || c == nil {
		return err
	}
	return cmd.run(ctx, c, rest, out)
}
