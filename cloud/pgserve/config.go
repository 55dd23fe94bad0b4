package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"

	"blobpglite/core/engine"
	"blobpglite/core/httpapi"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/pglite"
	"blobpglite/core/pgwire"
	"blobpglite/core/replica"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/store/location"
	"blobpglite/core/store/mem"
)

// config is everything that can be set.
type config struct {
	store, bucket, endpoint string
	at                      location.Location // of -bucket
	create                  bool              // create a missing folder: only serving does

	listen, socket, http string
	tlsCert, tlsKey      string
	requireTLS           bool
	password, token      string
	hosts                names
	maxClients           int
	maxRequests          int
	httpSessions         int

	durability, answers      string
	flushInterval, idleFlush time.Duration
	leaseTTL, acquire        time.Duration
	restoreBudget, retain    time.Duration
	readMode                 string
	memory, disk, cache      int64
	container                int64
	tempMemory               int64
	tempDir                  string
	statementTimeout         time.Duration
	settings                 settings
	extensions               names

	replica                 bool
	poll, maxLag, waitLimit time.Duration
	rest                    time.Duration
	announce                names

	wake     bool
	grace    time.Duration
	logLevel string

	atState, output string // for commands that copy
	json            bool   // for commands that report
	database        string // for dump
	force           bool

	log     *slog.Logger
	billed  func() gcs.Billed // requests sent to the bucket; nil: there is no bucket
	closers []func() error
}

// settings are server parameters, each name=value.
type settings map[string]string

func (s settings) String() string { return fmt.Sprint(map[string]string(s)) }

func (s settings) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q is not name=value", text)
	}
	s[name] = value
	return nil
}

// names is a list, comma-separated in the environment.
type names []string

func (n names) String() string { return strings.Join(n, ",") }

func (n *names) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			*n = append(*n, name)
		}
	}
	return nil
}

// envPrefix is the prefix of the flags' names in the environment.
const envPrefix = "PGSERVE_"

func (c *config) flags(cmd command, errs io.Writer) (*flag.FlagSet, *bool) {
	f := flag.NewFlagSet("pgserve "+cmd.name, flag.ContinueOnError)
	f.SetOutput(errs)
	version := f.Bool("version", false, "print the version and exit")
	f.StringVar(&c.store, "store", "", "mem: in memory, gone when the process ends; fake-gcs: the embedded emulator, likewise; gcs or file: as -bucket names it. Default: as -bucket names it, otherwise mem")
	f.StringVar(&c.bucket, "bucket", "", "gs://name/prefix, or file:///folder on this machine's disk; the prefix or folder belongs to this database alone")
	f.StringVar(&c.endpoint, "endpoint", "", "base URL of another service with Cloud Storage's API, such as an emulator")
	level := "info"
	if cmd.name != "" { // PostgreSQL's start is of no interest to a user who wants a dump
		level = "warn"
	}
	f.StringVar(&c.logLevel, "log", level, "log level: debug, info, warn or error")
	f.DurationVar(&c.leaseTTL, "lease-ttl", lease.DefaultTTL, "how long this writer may be silent before another one can take over")
	f.DurationVar(&c.acquire, "acquire-timeout", 40*time.Second, "how long to wait for another writer's lease when opening the database")
	f.Int64Var(&c.memory, "memory-limit", 0, "how much memory PostgreSQL may use, in bytes; 0: 2 GiB")
	f.Var(&c.extensions, "extension", "an extension that is published as a separate npm package, such as vector (pgvector); may be repeated. Bundled extensions need no flag")
	if cmd.flags != nil {
		cmd.flags(c, f)
	}
	if cmd.name != "" {
		return f, version
	}
	f.StringVar(&c.listen, "listen", "127.0.0.1:5432", "address of the PostgreSQL server; empty: none")
	f.StringVar(&c.socket, "socket", "", "Unix socket of the PostgreSQL server, such as /run/pg/.s.PGSQL.5432")
	f.StringVar(&c.http, "http", "127.0.0.1:8080", "address of the HTTP service; empty: none. $PORT, if set, replaces the port. On Cloud Run (K_SERVICE) the service listens on all addresses")
	f.StringVar(&c.tlsCert, "tls-cert", "", "TLS certificate of the PostgreSQL server, a PEM file; needs -tls-key")
	f.StringVar(&c.tlsKey, "tls-key", "", "private key of -tls-cert, a PEM file")
	f.BoolVar(&c.requireTLS, "require-tls", false, "refuse PostgreSQL connections without TLS")
	f.StringVar(&c.password, "password", "", "password of the superuser, postgres: set when the database is opened, if it differs. Every PostgreSQL client must then give its own role's password (SCRAM-SHA-256), unless pg_hba.conf has been edited. Without -password, only loopback addresses and sockets are served, and no client needs a password. Better set in the environment: PGSERVE_PASSWORD")
	c.tokenFlag(f)
	f.Var(&c.hosts, "http-host", "a host name (Host) under which the HTTP service answers, besides localhost and this machine's own addresses; may be repeated. Without it, any name is accepted on Cloud Run or with a -token")
	f.IntVar(&c.maxClients, "max-clients", pgwire.DefaultMaxClients, "PostgreSQL connections at a time, plus 3 for superusers; each has a process of about 3 MB. HTTP has its own limits")
	f.IntVar(&c.maxRequests, "max-requests", httpapi.DefaultMaxRequests, "HTTP requests served at a time, including those that wait for a session; any further request is answered with 503")
	f.IntVar(&c.httpSessions, "http-sessions", httpapi.DefaultMaxSessions, "PostgreSQL sessions for HTTP requests, each a process of about 3 MB; further requests wait")
	f.StringVar(&c.durability, "durability", string(engine.Strict), "strict: an acknowledged commit is in the bucket; interval: a crash loses up to -flush-interval; sleep: a crash loses everything since the last flush")
	f.StringVar(&c.answers, "answers", string(engine.AnswersEarly), "when answers within a transaction block leave. early: immediately, since nothing is promised before COMMIT; durable: once everything they show, except for the transaction itself, is durable")
	f.DurationVar(&c.flushInterval, "flush-interval", engine.DefaultFlushInterval, "for -durability interval: how often commits are flushed to the bucket")
	f.DurationVar(&c.idleFlush, "idle-flush", engine.DefaultIdleFlush, "for -durability sleep: flush after nothing has run for this long")
	f.DurationVar(&c.restoreBudget, "restore-budget", 0, "how much time replaying the log may add to a restore; 0: about as much as restoring the layer itself takes; negative: any amount")
	c.retainFlag(f)
	f.StringVar(&c.readMode, "read-mode", string(engine.ReadLease), "lease: within the lease, answers need no request to the bucket; strict: before each answer, one GET checks that no other writer has taken over")
	f.Int64Var(&c.disk, "disk-limit", 0, "limit for the size of the database, in bytes; 0: none")
	f.Int64Var(&c.cache, "cache", 0, "how much of the database's files to keep in memory, in bytes; the rest of a larger database is read on demand. 0: a fifth of the container's memory, or 1 GiB if that is unlimited; -1: everything, read when the database is opened")
	f.Int64Var(&c.container, "container-memory", 0, "how much memory the container may use, in bytes, if its control group does not say; 0: what the control group says")
	f.Int64Var(&c.tempMemory, "temp-memory", 0, "how much memory queries' temporary files (sorts and hashes beyond work_mem, index builds) may take, in bytes, as part of -cache; a statement that needs more fails (53400), or continues in -temp-dir. 0: half of -cache, an eighth with -temp-dir; -1: no limit")
	f.StringVar(&c.tempDir, "temp-dir", "", "folder on a disk for temporary files beyond -temp-memory; nothing in it outlives the process. Useless where files are kept in memory, as on Cloud Run except for mounted volumes")
	f.DurationVar(&c.statementTimeout, "statement-timeout", 0, "PostgreSQL's statement_timeout for sessions that do not set their own (SET, ALTER ROLE, ALTER DATABASE); 0: none")
	f.Var(c.settings, "set", "server parameter, name=value, such as idle_in_transaction_session_timeout=1min; may be repeated")
	f.BoolVar(&c.replica, "replica", false, "follow the database and serve it read-only: takes no lease, and writes nothing to the bucket. pgserve promote makes it the writer")
	f.DurationVar(&c.poll, "poll", replica.DefaultPoll, "for -replica: how often it looks for new records while clients use it, and for -rest afterwards; otherwise it makes no requests")
	f.DurationVar(&c.rest, "rest", replica.DefaultIdle, "for -replica: how long it keeps looking after the last use by a client")
	f.DurationVar(&c.maxLag, "max-lag", 0, "for -replica: how long ago the last look at the log may be when a statement begins. If it is longer ago, the replica looks first; if that fails, so does the statement. 0: any time, but the first statement after a rest waits for a look")
	f.DurationVar(&c.waitLimit, "wait-limit", replica.DefaultWaitLimit, "for -replica: how long a statement waits at most for a look, or for a position (blobpglite.wait_for, X-Blobpglite-Position)")
	f.Var(&c.announce, "announce", "HTTP address of a replica to notify of each commit, such as https://reader.example; an optimization that nothing depends on. The replica must have the same -token. May be repeated")
	f.BoolVar(&c.wake, "wake", false, "open the database at the start, not at the first connection")
	f.DurationVar(&c.grace, "grace", 8*time.Second, "how long running statements may continue after SIGTERM before they are ended (57P01). What was acknowledged is kept")
	for name, instead := range gone() {
		f.Var(goneFlag(instead), name, "")
	}
	return f, version
}

// gone returns flags of earlier versions, and what replaces them.
func gone() map[string]string {
	return map[string]string{
		"turn-timeout":        "this flag no longer exists: clients wait only for rows that others have locked. -set lock_timeout=30s limits that",
		"idle-in-transaction": "this flag no longer exists: a client that is idle in a transaction blocks only those that want the rows it has locked. -set idle_in_transaction_session_timeout=1min ends it",
	}
}

// goneFlag rejects a flag of earlier versions, and says what replaces it.
type goneFlag string

func (goneFlag) String() string { return "" }

func (g goneFlag) Set(string) error { return errors.New(string(g)) }

// tokenFlag is for commands that check a token, or send one.
func (c *config) tokenFlag(f *flag.FlagSet) {
	f.StringVar(&c.token, "token", "", "bearer token of the HTTP service; without one, only loopback addresses are served. Better set in the environment: PGSERVE_TOKEN")
}

// retainFlag is for commands that make a manifest.
func (c *config) retainFlag(f *flag.FlagSet) {
	f.DurationVar(&c.retain, "retain", manifest.DefaultRetain, "how far back earlier states of a new database can be restored (dump -at, restore-to -at, branch -at); 0: not at all. It is a property of the database: for an existing one, change it with pgserve retain")
}

// parse reads flags and environment. It returns nil if there is nothing more to do, as after -help.
func parse(cmd command, args []string, out, errs io.Writer) (*config, []string, error) {
	c := &config{settings: settings{}}
	f, version := c.flags(cmd, errs)
	f.Usage = func() {} // after a mistake the whole help would hide what it was
	var bad error
	f.VisitAll(func(fl *flag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if value, ok := os.LookupEnv(name); ok && bad == nil {
			if err := f.Set(fl.Name, value); err != nil {
				bad = fmt.Errorf("environment variable %s: %w", name, err)
			}
		}
	})
	if bad != nil {
		fmt.Fprintln(errs, "pgserve:", bad)
		return nil, nil, errUsage
	}
	rest, err := arguments(f, cmd, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		help(f, cmd, errs)
		return nil, nil, nil
	case err != nil:
		fmt.Fprintf(errs, "%s -help lists the flags\n", strings.TrimSpace("pgserve "+cmd.name))
		return nil, nil, errUsage
	}
	if *version {
		fmt.Fprintln(out, versionText())
		return nil, nil, nil
	}
	if err = c.bounds(f); err == nil {
		err = c.check()
	}
	if err == nil {
		err = cmd.check(rest)
	}
	if err != nil {
		fmt.Fprintln(errs, "pgserve:", err)
		return nil, nil, errUsage
	}
	return c, rest, nil
}

// arguments reads the flags, which may also follow a command's one argument, and returns the remaining arguments.
func arguments(f *flag.FlagSet, cmd command, args []string) ([]string, error) {
	if err := f.Parse(args); err != nil || cmd.many || f.NArg() == 0 {
		return f.Args(), err
	}
	first := f.Arg(0)
	err := f.Parse(f.Args()[1:])
	return append([]string{first}, f.Args()...), err
}

// check rejects arguments that the command does not take.
func (cmd command) check(args []string) error {
	switch {
	case cmd.many:
	case cmd.name != "" && cmd.usage == "" && len(args) > 0:
		return fmt.Errorf("%s takes no argument, but %q was given", cmd.name, args[0])
	case cmd.usage == "" && len(args) > 0:
		return fmt.Errorf("there is no command %q; pgserve -help lists the commands", args[0])
	case cmd.usage != "" && len(args) != 1:
		return fmt.Errorf("%s needs one argument: %s", cmd.name, cmd.usage)
	}
	return nil
}

// check rejects contradictory combinations of flags.
func (c *config) check() error {
	if err := c.locate(); err != nil {
		return err
	}
	if err := pglite.CheckSettings(c.settings); err != nil {
		return fmt.Errorf("-set: %w", err)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return fmt.Errorf("-log %q is not a level: choose debug, info, warn or error", c.logLevel)
	}
	c.log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: forCloudLogging}))
	switch {
	case (c.tlsCert == "") != (c.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key belong together: give both")
	case c.requireTLS && c.tlsCert == "":
		return errors.New("-require-tls needs -tls-cert and -tls-key")
	}
	if err := c.checkReplica(); err != nil {
		return err
	}
	switch engine.ReadMode(c.readMode) {
	case "", engine.ReadLease, engine.ReadStrict:
	default:
		return fmt.Errorf("-read-mode %q does not exist: choose lease or strict", c.readMode)
	}
	if c.store == "gcs" && c.leaseTTL < shortLease {
		c.log.Warn("the lease is one object, and a bucket accepts about one write per second to the same object: with this short -lease-ttl, commits have to wait", "lease_ttl", c.leaseTTL.String())
	}
	switch engine.Answers(c.answers) {
	case "", engine.AnswersEarly, engine.AnswersDurable:
	default:
		return fmt.Errorf("-answers %q does not exist: choose early or durable", c.answers)
	}
	switch engine.Durability(c.durability) {
	case "", engine.Strict, engine.Interval, engine.Sleep:
		return nil
	}
	return fmt.Errorf("-durability %q does not exist: choose strict, interval or sleep", c.durability)
}

// locate parses -bucket, and determines the kind of store.
func (c *config) locate() (err error) {
	kind := "mem"
	if c.bucket != "" {
		if c.at, err = location.Parse(c.bucket); err != nil {
			return fmt.Errorf("-bucket %w", err)
		}
		if kind = "gcs"; c.at.IsFolder() {
			kind = "file"
		}
	}
	if c.store == "" {
		c.store = kind
	}
	switch {
	case c.store != "mem" && c.store != "fake-gcs" && c.store != "gcs" && c.store != "file":
		return fmt.Errorf("-store %q does not exist: choose mem, fake-gcs, gcs or file", c.store)
	case c.bucket == "" && c.store == "gcs":
		return errors.New("-store gcs needs -bucket gs://name/prefix")
	case c.bucket == "" && c.store == "file":
		return errors.New("-store file needs -bucket file:///folder")
	case c.bucket != "" && c.store != kind:
		return fmt.Errorf("-bucket %s belongs to -store %s, not to -store %s", c.bucket, kind, c.store)
	case c.endpoint != "" && c.store == "file":
		return errors.New("-endpoint is for buckets, but -bucket names a folder: leave out -endpoint")
	}
	return nil
}

// shortLease is a TTL that is too short for one renewal per second and name. Source: cloud.google.com/storage/quotas#objects, read November
// 2026.
const shortLease = 2 * time.Second

// forCloudLogging renames the fields to what Cloud Logging expects. Source: cloud.google.com/logging/docs/structured-logging, read November
// 2026.
func forCloudLogging(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.LevelKey:
		a.Key = "severity"
		if level, ok := a.Value.Any().(slog.Level); ok && level == slog.LevelWarn {
			a.Value = slog.StringValue("WARNING")
		}
	case slog.MessageKey:
		a.Key = "message"
	}
	return a
}

func versionText() string {
	text := "pgserve"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" || s.Key == "vcs.modified" && s.Value == "true" {
				text += " " + strings.TrimPrefix(s.Key, "vcs.") + " " + s.Value
			}
		}
		text += " " + info.GoVersion
	}
	return text
}

// open opens the store.
func (c *config) open(ctx context.Context) (store.Store, error) {
	switch c.store {
	case "mem":
		return mem.New(mem.Options{}), nil
	case "fake-gcs":
		server, err := fakestorage.NewServerWithOptions(fakestorage.Options{Scheme: "http", Host: "127.0.0.1"})
		if err != nil {
			return nil, fmt.Errorf("start the emulator: %w", err)
		}
		c.closers = append(c.closers, func() error { server.Stop(); return nil })
		const bucket = "pgserve"
		server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
		st, err := gcs.Open(ctx, gcs.Options{Bucket: bucket, Prefix: "db", Endpoint: server.URL()})
		if err != nil {
			return nil, err
		}
		c.closers = append(c.closers, st.Close)
		return st, nil
	}
	return c.openAt(ctx, c.at, c.create)
}

// openAt opens the store at a location. create: create a missing folder.
func (c *config) openAt(ctx context.Context, at location.Location, create bool) (location.Store, error) {
	st, err := at.Open(ctx, location.Options{Endpoint: c.endpoint, Create: create})
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, st.Close)
	if bucket, ok := st.(*gcs.Store); ok {
		c.billed = bucket.Billed
	}
	return st, nil
}

// close closes what open has opened.
func (c *config) close() error {
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	return errors.Join(errs...)
}
