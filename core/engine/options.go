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

// Durability says when an answer leaves, in mode log.
type Durability string

// The durabilities.
const (
	// Strict: when everything that it tells of is in the bucket. A crash loses nothing.
	Strict Durability = "strict"
	// Interval: at once; the log is flushed every FlushInterval, and before an answer if that much has passed. A crash
	// loses at most that much of running time.
	Interval Durability = "interval"
	// Sleep: at once; the log is flushed when nothing has run for IdleFlush, and at Close. A crash loses what came since.
	Sleep Durability = "sleep"
)

// Answers says what an answer within an open transaction block waits for.
type Answers string

// What answers wait for.
const (
	// AnswersEarly: within a block an answer leaves at once, since nothing is promised before COMMIT: that one's answer waits
	// for everything that the transaction can have seen. Until then a client may have read what a crash takes back.
	AnswersEarly Answers = "early"
	// AnswersDurable: within a block too an answer waits until whatever it tells of, but for the transaction itself, is durable.
	AnswersDurable Answers = "durable"
)

// ReadMode says, in mode log, what proves that an answer is not old: a writer that was taken over holds data that its
// successor may have changed. Commits need no such proof, for a successor's fence stops them.
type ReadMode string

// The read modes.
const (
	// ReadLease: this process's own monotonic clock. Inside the lease, less a margin of a tenth, it answers without asking;
	// one that has run out is renewed first. No request; an answer is old only if a clock runs wrong by more than the margin,
	// or the process is stopped between its look at the clock and the answer.
	ReadLease ReadMode = "lease"
	// ReadStrict: the bucket, after the statement has run and before its answer leaves. The name where a successor's fence
	// would stand is asked for; that it is absent proves that nobody had taken over. One GET for each answer (38 ms in the same
	// region; beside the record, if the answer waits for one), and for each piece of a long one; an early answer (see Answers)
	// needs none. No clock is believed. A bucket that cannot be asked costs the connection, not the engine.
	ReadStrict ReadMode = "strict"
)

// Defaults of Options.
const (
	DefaultFlushInterval = 200 * time.Millisecond
	DefaultIdleFlush     = time.Second
)

// Options of Open. Store, and Runtime or Load, are required.
type Options struct {
	Runtime *pglite.Runtime
	// Load gives the runtime where it is still being loaded: it is asked for when PostgreSQL is to start, while lease, log
	// and layer are on their way. It may be asked again after an error.
	Load func(context.Context) (*pglite.Runtime, error)
	// Store holds the database: a view of one prefix, which belongs to it alone.
	Store store.Store
	// Create makes the database if there is none; BeforeCreate, if it is not nil, is asked before, and its error is Open's.
	Create       bool
	BeforeCreate func(context.Context) error
	// Mode of commits; empty: ModeLog.
	Mode Mode
	// Durability in mode log; empty: Strict. FlushInterval and IdleFlush belong to the other two; zero: the defaults.
	Durability               Durability
	FlushInterval, IdleFlush time.Duration
	// Answers within transaction blocks; empty: AnswersEarly.
	Answers Answers
	// ReadMode, in mode log; empty: ReadLease.
	ReadMode ReadMode
	// LeaseTTL is how long the writer may be silent before another one may take over; zero: the lease's default.
	// AcquireTimeout is how long an opening waits for another writer's lease; zero: not at all.
	LeaseTTL, AcquireTimeout time.Duration
	// CommitDeadline is how long one append may stay undecided before the engine gives up (ErrUnknown); zero: the log's.
	CommitDeadline time.Duration
	// RestoreBudget is what replaying the log may add to a restore before a new layer is taken: then commits wait for the
	// layer. Zero: about as much as the layer itself takes, and up to four times of that while writes do not pause, so
	// that no more than an eighth of the time is spent on layers. Below zero: no layer is taken, unless Cache needs one.
	RestoreBudget time.Duration
	// RecordTime is what a restore is reckoned to take for each record; zero: by how long appends take, and no more than
	// Cloud Storage needs.
	RecordTime time.Duration
	// Retain is how far back, in mode log, layers and records are kept, so that an earlier state can be restored (OpenAt), of
	// a database that is made, or of which that has never been said. Otherwise the manifest says it (manifest.SetRetain), and
	// another time given here changes nothing. Zero: nothing is said.
	Retain time.Duration
	// Durable, in mode log, is called whenever a record has become durable. It must not wait. Nil: nobody hears of it.
	Durable func()
	// Writer names this process, for people who read the manifest; Address is where it can be asked.
	Writer, Address string
	// Process is an id of this process, made at random when it began (store.NewWriteID), if it has one engine on the store at
	// a time: then an engine does not wait for the lease of the one before it, which failed and could not give it back.
	Process string
	// MaxClients is how many clients there may be at once, where Settings has no max_connections; zero: 100. Superusers and
	// the host have places besides.
	MaxClients int
	// Password, if not empty, is the superuser's, who gets it if his is another one. As long as nobody has written pg_hba.conf, everybody
	// is asked for his password then (SCRAM); without one, whoever comes from this machine is let in.
	Password string
	// MaxBytes bounds the data directory; beyond it PostgreSQL reports a full disk (53100). Zero: no bound.
	MaxBytes int64
	// Cache is how much of the database's files is kept in memory, in mode log, at least LeastCache. What is beyond it stays in the bucket
	// until PostgreSQL reads it; a quarter of it besides, and no more than 128 MiB, is for what is fetched ahead. Zero: everything is read at
	// the opening, and stays in memory.
	Cache int64
	// TempMemory is how many bytes of queries' temporary files (sorts and hashes that are larger than work_mem, indexes that are made) may be
	// in memory: with Cache, they are part of it. Zero: half of Cache, or an eighth where there is a TempDir; without a Cache, and below zero: any number.
	// TempDir is a folder of a disk for what is beyond; empty: a statement that needs more fails (53400, or 53100 where several do).
	TempMemory int64
	TempDir    string
	// MemoryLimit and Settings are the cluster's; see pglite.ClusterOptions. StatementTimeout is PostgreSQL's statement_timeout
	// where Settings has none; zero: none.
	MemoryLimit      int64
	Settings         map[string]string
	StatementTimeout time.Duration

	Clock  clock.Clock  // nil: the system's
	Hook   point.Hook   // nil: none
	Logger *slog.Logger // nil: dropped
}

func (o *Options) fill() error {
	switch {
	case o.Runtime == nil && o.Load == nil:
		return errors.New("open a database: no runtime given")
	case o.Store == nil:
		return errors.New("open a database: no store given")
	}
	if o.Cache != 0 && o.Cache < LeastCache {
		return fmt.Errorf("open a database: a cache of %d bytes is too small for PostgreSQL's own files: the least is %d", o.Cache, LeastCache)
	}
	if err := pglite.CheckSettings(o.Settings); err != nil {
		return fmt.Errorf("open a database: %w", err)
	}
	if err := o.fillWays(); err != nil {
		return fmt.Errorf("open a database: %w", err)
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

// fillWays completes and checks what is one of a few.
func (o *Options) fillWays() error {
	return errors.Join(
		oneOf(&o.Mode, "commit mode", ModeLog, ModeSnapshot),
		oneOf(&o.Durability, "durability", Strict, Interval, Sleep),
		oneOf(&o.Answers, "way of answers", AnswersEarly, AnswersDurable),
		oneOf(&o.ReadMode, "read mode", ReadLease, ReadStrict),
	)
}

// oneOf gives a value that is empty the first of those that it may have.
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
	return fmt.Errorf("there is no %s %q; use %s", what, *value, strings.Join(names, ", "))
}

// process is what the writers of this process begin with.
func (o *Options) process() string {
	if o.Process == "" {
		return ""
	}
	return o.Writer[:strings.LastIndexByte(o.Writer, '/')]
}

// cluster are the options of PostgreSQL on these files.
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
		Data: data, Rules: rules, DataLimit: o.MaxBytes, MemoryLimit: o.MemoryLimit, Settings: settings, MaxClients: o.MaxClients, Clock: o.Clock, Hook: o.Hook,
		Log: func(line string) { o.Logger.Info("postgres", "line", line) },
	}
}
