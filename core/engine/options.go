package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// Mode says how commits become durable.
type Mode string

// The modes.
const (
	ModeLog      Mode = "log"
	ModeSnapshot Mode = "snapshot"
)

// Durability says, in mode log, when an answer leaves.
type Durability string

// The durabilities.
const (
	// Strict: when everything it reports is in the bucket. A crash loses nothing.
	Strict Durability = "strict"
	// Interval: immediately; the log is flushed every FlushInterval, and before an answer if that has passed. A crash loses at most that
	// much running time.
	Interval Durability = "interval"
	// Sleep: immediately; the log is flushed when nothing has run for IdleFlush, and at Close. A crash loses what was written since.
	Sleep Durability = "sleep"
)

// Answers says what an answer within an open transaction block waits for.
type Answers string

// The choices for Answers.
const (
	// AnswersEarly: within a block an answer leaves immediately, because nothing is promised before COMMIT, whose answer waits for
	// everything that the transaction can have seen. Until then, a client may read something that a crash then takes back.
	AnswersEarly Answers = "early"
	// AnswersDurable: within a block, too, an answer waits until everything it reports is durable, except the open transaction's own work.
	AnswersDurable Answers = "durable"
)

// ReadMode says, in mode log, what proves that an answer is not stale: a writer that was taken over holds data that its successor may have
// changed. Commits need no such proof: a successor's fence stops them.
type ReadMode string

// The read modes.
const (
	// ReadLease: this process's own monotonic clock. Within the lease, less a margin of a tenth, it answers without a request; an expired
	// lease is renewed first. An answer is stale only if a clock is wrong by more than the margin, or if the process is stopped between its
	// look at the clock and the answer.
	ReadLease ReadMode = "lease"
	// ReadStrict: the bucket, after the statement has run and before its answer leaves. If there is no object under the name that a
	// successor's fence would have, no other writer had taken over. This costs one GET per answer (38 ms in the same region; in parallel
	// with the record, if the answer waits for one), and per piece of a long one; an early answer (see Answers) needs none. No clock is
	// trusted. If the bucket does not answer, the connection ends; the engine continues.
	ReadStrict ReadMode = "strict"
)

// Defaults of Options.
const (
	DefaultFlushInterval = 200 * time.Millisecond
	DefaultIdleFlush     = time.Second
)

// Options are options of Open. Store, and either Runtime or Load, are required.
type Options struct {
	Runtime *pglite.Runtime // loaded; several engines may share it
	// Load loads the runtime, in place of Runtime: it runs while lease, log and layer are being fetched. It may be called again after an
	// error.
	Load func(context.Context) (*pglite.Runtime, error)
	// Store holds the database: a view of one prefix, which belongs to it alone.
	Store store.Store
	// Create makes the database if there is none. BeforeCreate, if not nil, is called before that, and Open returns its error.
	Create       bool
	BeforeCreate func(context.Context) error
	// Mode of commits; empty: ModeLog.
	Mode Mode
	// Durability in mode log; empty: Strict. FlushInterval applies to Interval, IdleFlush to Sleep; zero: the defaults.
	Durability               Durability
	FlushInterval, IdleFlush time.Duration
	// Answers within transaction blocks; empty: AnswersEarly.
	Answers Answers
	// ReadMode, in mode log; empty: ReadLease.
	ReadMode ReadMode
	// LeaseTTL is how long the writer may be silent before another one may take over; zero: the lease's default.
	// AcquireTimeout is how long an opening waits for another writer's lease; zero: not at all.
	LeaseTTL, AcquireTimeout time.Duration
	// CommitDeadline is how long one append may stay undecided before the engine gives up (ErrUnknown); zero: the log's default.
	CommitDeadline time.Duration
	// RestoreBudget is how much replaying the log may add to the time of a restore. A layer is taken before that; if it comes too late,
	// commits wait for it. Zero: about as much as reading the layer itself takes, and up to four times that while writes do not pause, so
	// that at most an eighth of the time is spent on layers. Negative: no layer is taken, unless Cache needs one.
	RestoreBudget time.Duration
	// RecordTime is the estimated time each record adds to a restore. Zero: it is derived from how long appends take, and is at most what
	// Cloud Storage needs.
	RecordTime time.Duration
	// Retain is how far back, in mode log, a new database keeps layers and records, so that earlier states can be restored (OpenAt). It
	// also applies to a database whose manifest does not say; where it does (manifest.SetRetain), nothing changes. Zero: the manifest says
	// nothing.
	Retain time.Duration
	// Durable, in mode log, is called whenever a record has become durable. It must not block. Nil: it is not called.
	Durable func()
	// Writer names this process, for people who read the lease or the manifest; empty: "writer". Address is where it can be reached.
	Writer, Address string
	// Process is a random id of this process (store.NewWriteID). Set it only if the process has one engine at a time on the store. Then an
	// engine does not wait for the lease of its predecessor, which failed and could not release it.
	Process string
	// MaxClients is how many clients may be connected at the same time, if Settings has no max_connections; zero: 100. Superusers and the
	// host have additional places.
	MaxClients int
	// Password, if not empty, becomes the superuser's password. As long as pg_hba.conf is unchanged, every client must then log in with its
	// role's password (SCRAM); without a Password, every client on this machine is let in.
	Password string
	// MaxBytes bounds the data directory, in bytes; beyond it PostgreSQL reports a full disk (53100). Zero: no bound.
	MaxBytes int64
	// Cache is how many bytes of the database's files are kept in memory, in mode log, at least LeastCache. The rest stays in the bucket
	// until PostgreSQL reads it. Another quarter of Cache, at most 128 MiB, is for read-ahead. Zero: everything is read at the opening, and
	// stays in memory.
	Cache int64
	// TempMemory is how many bytes of queries' temporary files (sorts and hashes larger than work_mem, index builds) may be in memory; with
	// Cache, they are part of it. Zero: half of Cache, or an eighth with a TempDir; without a Cache, or negative: no bound. TempDir is a
	// folder on a disk for the excess; empty: a statement that needs more fails (53400, or 53100 where several do).
	TempMemory int64
	TempDir    string
	// MemoryLimit and Settings are the cluster's; see pglite.ClusterOptions. StatementTimeout is PostgreSQL's statement_timeout if Settings
	// has none; zero: none.
	MemoryLimit      int64
	Settings         map[string]string
	StatementTimeout time.Duration

	Clock  clock.Clock  // nil: the system clock
	Hook   point.Hook   // nil: none
	Logger *slog.Logger // nil: log messages are dropped
}

func (o *Options) fill() error {
	switch {
	case o.Runtime == nil && o.Load == nil:
		return fmt.Errorf("open a database: %w: set Runtime or Load", store.ErrInvalid)
	case o.Store == nil:
		return fmt.Errorf("open a database: %w: set Store", store.ErrInvalid)
	}
	if o.Cache != 0 && o.Cache < LeastCache {
		return fmt.Errorf("open a database: %w: a cache of %d bytes is too small for PostgreSQL's own files: it must be at least %d",
			store.ErrInvalid, o.Cache, LeastCache)
	}
	if err := pglite.CheckSettings(o.Settings); err != nil {
		return fmt.Errorf("open a database: %w: %w", store.ErrInvalid, err)
	}
	if err := o.fillWays(); err != nil {
		return fmt.Errorf("open a database: %w: %w", store.ErrInvalid, err)
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = DefaultFlushInterval
	}
	if o.IdleFlush == 0 {
		o.IdleFlush = DefaultIdleFlush
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Writer == "" {
		o.Writer = "writer"
	}
	if o.Process != "" {
		o.Writer += "/" + o.Process
	}
	o.Writer += "/" + store.NewWriteID() // unique, so that a writer recognises its own objects
	return nil
}

// fillWays sets defaults for, and checks, the options whose value is one of a few words.
func (o *Options) fillWays() error {
	return errors.Join(
		oneOf(&o.Mode, "commit mode", ModeLog, ModeSnapshot),
		oneOf(&o.Durability, "durability", Strict, Interval, Sleep),
		oneOf(&o.Answers, "kind of answers", AnswersEarly, AnswersDurable),
		oneOf(&o.ReadMode, "read mode", ReadLease, ReadStrict),
	)
}

// oneOf sets an empty value to the first of all, and rejects a value that is none of them.
func oneOf[T ~string](value *T, what string, all ...T) error {
	if *value == "" {
		*value = all[0]
	}
	names := make([]string, len(all))
	for i, v := range all {
		if *value == v {
			return nil
		}
		names[i] = strconv.Quote(string(v))
	}
	return fmt.Errorf("unknown %s %q: use %s", what, *value, strings.Join(names, ", "))
}

// process is the prefix of the names of this process's writers; empty: Process is not set.
func (o *Options) process() string {
	if o.Process == "" {
		return ""
	}
	return o.Writer[:strings.LastIndexByte(o.Writer, '/')]
}

// KeepStart is for setup: it keeps a started PostgreSQL in the cache, from which opening a database with the same settings begins. Of the
// options, only those matter that become settings of PostgreSQL; Runtime and Store may be nil.
func KeepStart(ctx context.Context, rt *pglite.Runtime, o Options) error {
	return rt.KeepPrepared(ctx, o.cluster(nil))
}

// cluster returns PostgreSQL's options for these files.
func (o *Options) cluster(data *memfs.FS) pglite.ClusterOptions {
	settings := map[string]string{}
	if o.StatementTimeout > 0 {
		settings["statement_timeout"] = strconv.FormatInt(o.StatementTimeout.Milliseconds(), 10)
	}
	settings["max_wal_size"], settings["checkpoint_warning"] = maxWAL, "0"
	o.limitTemporary(settings)
	maps.Copy(settings, o.Settings)
	rules := ""
	if o.Password != "" {
		rules = asksAll
	}
	return pglite.ClusterOptions{
		Data: data, Rules: rules, DataLimit: o.MaxBytes, MemoryLimit: o.MemoryLimit, Settings: settings, MaxClients: o.MaxClients, Prefetch: o.prefetch(),
		Clock: o.Clock, Hook: o.Hook,
		Log: func(line string) { o.Logger.Info("postgres", "line", line) },
	}
}
