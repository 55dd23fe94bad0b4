// Package node is one participant of an experiment: an engine with its PostgreSQL, in a process of its own or in the runner's, behind one
// interface.
//
//	n, err := node.Spawn(ctx, node.Options{})       // a child process
//	err = n.Do(ctx, node.Open, node.OpenArgs{Store: spec, Create: true}, &opened)
//	err = n.Do(ctx, node.Load, node.LoadArgs{Bytes: 1e6}, &loaded)
//	n.Kill()                                        // SIGKILL: no deferred function runs
//
// The runner and a child exchange JSON lines over the child's standard input and output, with any number of concurrent requests:
//
//	runner → child   {"id":1,"op":"open","args":{…}}
//	child → runner   {"progress":{"step":"loading rows","done":3,"total":8}}     any number
//	child → runner   {"event":{"rule":"kill wal/before-put","point":"wal/before-put","do":"kill","match":3}}
//	child → runner   {"id":1,"result":{…}}    or    {"id":1,"error":{"code":"fenced","text":"…"}}
//
// An event is sent before it happens, so a child that kills itself has announced it.
//
// Exit distinguishes how a child ended: killed, terminated (SIGTERM: it flushed and released the lease), fenced, and so on. A child ends
// when its standard input does, and on Linux the system kills it when the runner dies, even while it is stopped: it never outlives the
// runner, however that ended.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/pointfault"
)

// Op is an operation of a node.
type Op string

// The operations.
const (
	Warm    Op = "warm"    // nothing → nothing: loads what an opening needs
	Open    Op = "open"    // OpenArgs → OpenResult
	Query   Op = "query"   // QueryArgs → QueryResult: like a client's, durable before it is answered
	Copy    Op = "copy"    // CopyArgs → nothing: one COPY FROM STDIN
	Compact Op = "compact" // nothing → nothing: takes a layer and collects
	Faults  Op = "faults"  // FaultsArgs → FaultsResult
	Release Op = "release" // nothing → nothing: parked goroutines continue
	Status  Op = "status"  // nothing → StatusResult
	Load    Op = "load"    // LoadArgs → LoadResult
	Commit  Op = "commit"  // nothing → engine.CommitStats
	Verify  Op = "verify"  // nothing → VerifyResult
	Memory  Op = "memory"  // nothing → MemoryResult
	Close   Op = "close"   // nothing → nothing
	Abandon Op = "abandon" // nothing → nothing: ends the engine as a crash would; the node continues
)

// Node does operations. It is safe for concurrent use, but the caller must make sure that openings and closings do not overlap with other
// operations.
type Node interface {
	// Do runs an operation and decodes its result (may be nil). An error of the operation is an *Error.
	Do(ctx context.Context, op Op, args, result any) error
	// Kill ends the node immediately, as a crash would.
	Kill()
	// Fresh says whether the node is a process of its own.
	Fresh() bool
}

// StoreSpec says which store a node uses.
type StoreSpec struct {
	// Bucket, Prefix and Endpoint name a bucket; Endpoint is empty for the real service.
	Bucket   string `json:"bucket,omitempty"`
	Prefix   string `json:"prefix"`
	Endpoint string `json:"endpoint,omitempty"`
	// Memory is a store in the runner's process, for a local node only.
	Memory store.Store `json:"-"`
}

// Error is the error of an operation.
type Error struct {
	Code string `json:"code"` // one of the codes below, or empty
	Text string `json:"text"`
}

func (e *Error) Error() string { return e.Text }

// Codes of errors that an experiment may expect.
const (
	CodeFenced     = "fenced"      // another writer has the database
	CodeUnknown    = "unknown"     // the outcome is not known
	CodeNoDatabase = "no-database" //
	CodePoisoned   = "poisoned"    // an earlier error ended the engine; this request was not begun, or was cut off
	CodeLocked     = "locked"      // another writer holds the lease
	CodeClosed     = "closed"      // the engine was closed; this request was not begun
	CodeNotOpen    = "not-open"    // there is no engine; this request was not begun
	CodeSQL        = "sql"         // PostgreSQL refused the statement, and rolled it back
	CodeGone       = "gone"        // the session was ended under the request, which may have been committed before
	CodeInjected   = "injected"    // a fault rule's
)

// errNotOpen: an operation needs a database, and none is open.
var errNotOpen = errors.New("no database is open")

// asError gives an error its code.
func asError(err error) *Error {
	if err == nil {
		return nil
	}
	code := ""
	var sql *pgconn.PgError
	if errors.As(err, &sql) {
		code = CodeSQL
		if strings.HasPrefix(sql.Code, "57P") || strings.HasPrefix(sql.Code, "08") {
			code = CodeGone
		}
	}
	// The order matters: a poisoned engine's error tells why, and a fenced commit that is unknown is unknown.
	for _, c := range []struct {
		err  error
		code string
	}{
		{engine.ErrUnknown, CodeUnknown}, {engine.ErrFenced, CodeFenced}, {engine.ErrPoisoned, CodePoisoned},
		{engine.ErrNoDatabase, CodeNoDatabase}, {engine.ErrLocked, CodeLocked}, {engine.ErrClosed, CodeClosed},
		{errNotOpen, CodeNotOpen}, {pointfault.ErrInjected, CodeInjected},
	} {
		if code == "" && errors.Is(err, c.err) {
			code = c.code
		}
	}
	return &Error{Code: code, Text: err.Error()}
}

// message is one line between runner and child.
type message struct {
	ID       int64           `json:"id,omitempty"`
	Op       Op              `json:"op,omitempty"`
	Args     json.RawMessage `json:"args,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
	Progress *step           `json:"progress,omitempty"`
	Event    *Event          `json:"event,omitempty"`
}

// Event is what a child reports by itself.
type Event struct {
	pointfault.Event
}

type step struct {
	Step  string `json:"step"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// maxLine bounds a line between runner and child.
const maxLine = 16 << 20

// OpenArgs opens a database. Zero values mean the engine's defaults.
type OpenArgs struct {
	Store  StoreSpec   `json:"store"`
	Create bool        `json:"create"`
	Mode   engine.Mode `json:"mode"`

	Writer         string            `json:"writer,omitempty"` // empty: "experiment"
	Durability     engine.Durability `json:"durability,omitempty"`
	LeaseTTL       time.Duration     `json:"lease_ttl,omitempty"`
	AcquireTimeout time.Duration     `json:"acquire_timeout,omitempty"`
	CommitDeadline time.Duration     `json:"commit_deadline,omitempty"`
	FlushInterval  time.Duration     `json:"flush_interval,omitempty"`
	IdleFlush      time.Duration     `json:"idle_flush,omitempty"`
	RestoreBudget  time.Duration     `json:"restore_budget,omitempty"`
	Retain         time.Duration     `json:"retain,omitempty"`
	Cache          int64             `json:"cache,omitempty"`
	Settings       map[string]string `json:"settings,omitempty"`
	// HTTPRules break requests to a real bucket; an emulator's front has rules of its own.
	HTTPRules []gcsfront.Rule `json:"http_rules,omitempty"`
	HTTPSeed  uint64          `json:"http_seed,omitempty"`
	// ExitWhenPoisoned makes the process end, with the code of the reason, once the engine serves nothing more.
	ExitWhenPoisoned bool `json:"exit_when_poisoned,omitempty"`
}

// QueryArgs is SQL for the simple protocol.
type QueryArgs struct {
	SQL string `json:"sql"`
	InSession
}

// InSession says in which session something is done. Zero: in the host's own session.
type InSession struct {
	Session   int64  `json:"session,omitempty"`
	Isolation string `json:"isolation,omitempty"` // of its transactions, when it is opened; empty: PostgreSQL's default
}

// QueryResult has the rows and the command tag of each statement. NULL is empty.
type QueryResult struct {
	Rows [][][]string `json:"rows"`
	Tags []string     `json:"tags"`
}

// CopyArgs is one large COPY: rows of workload.CopyRow.
type CopyArgs struct {
	Token    int64  `json:"token"`
	Rows     int    `json:"rows"`
	RowBytes int    `json:"row_bytes"`
	Seed     uint64 `json:"seed"`
	InSession
}

// FaultsArgs changes the faults of a child.
type FaultsArgs struct {
	// Disarm removes the rules that are in force; then Rules are added.
	Disarm bool              `json:"disarm,omitempty"`
	Rules  []pointfault.Rule `json:"rules,omitempty"`
	// Seed of the rules' decisions; it counts only with the first rules of a process.
	Seed uint64 `json:"seed,omitempty"`
	Step int64  `json:"step,omitempty"` // how far the scenario is
	// Clock changes the child's clock; nil: it does not.
	Clock *ClockFault `json:"clock,omitempty"`
}

// ClockFault is one change of a clock.
type ClockFault struct {
	Jump   time.Duration `json:"jump,omitempty"`  // of the wall clock
	Drift  float64       `json:"drift,omitempty"` // how fast both readings run from now on; 0: as before
	Freeze bool          `json:"freeze,omitempty"`
	Thaw   bool          `json:"thaw,omitempty"`
}

// FaultsResult counts.
type FaultsResult struct {
	Fired  []pointfault.Fired    `json:"fired"`
	Passed map[point.Point]int64 `json:"passed"` // by point
	Parked int                   `json:"parked"` // goroutines that are parked now
	Clock  int64                 `json:"clock"`  // things done to the clock
	HTTP   []gcsfront.Fired      `json:"http,omitempty"`
}

// StatusResult describes a node.
type StatusResult struct {
	Role string `json:"role"` // none, holder, or a code: fenced, unknown, poisoned
	Why  string `json:"why,omitempty"`
}

// OpenResult says how an opening went.
type OpenResult struct {
	Opened   engine.OpenStats `json:"opened"`
	FirstRow int64            `json:"first_row_ns"` // from the request to open to the first row of a SELECT
	Runtime  int64            `json:"runtime_ns"`   // loading the compiled PostgreSQL, before
}

// LoadArgs loads a dataset.
type LoadArgs struct {
	Bytes           int64  `json:"bytes"`
	Seed            uint64 `json:"seed"`
	OpenTransaction bool   `json:"open_transaction"`
}

// LoadResult says what was loaded. With an open transaction, Commit is that of the commit made while it was open.
type LoadResult struct {
	LoadNS        int64              `json:"load_ns"` // including the commit
	DatabaseBytes int64              `json:"database_bytes"`
	Commit        engine.CommitStats `json:"commit"`
}

// VerifyResult says what was found.
type VerifyResult struct {
	VerifyNS      int64 `json:"verify_ns"`
	DatabaseBytes int64 `json:"database_bytes"`
	// Wrong says what differs; empty: nothing.
	Wrong string `json:"wrong"`
	Rows  int64  `json:"rows"`
}

// VerifyArgs says what must be found.
type VerifyArgs struct {
	Bytes int64  `json:"bytes"`
	Seed  uint64 `json:"seed"`
}

// MemoryResult is the memory of the node's process.
type MemoryResult struct {
	PeakBytes int64 `json:"peak_bytes"` // largest resident set so far
}

func decodeArgs[T any](op Op, raw json.RawMessage) (T, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("read the arguments of %s: %w", op, err)
	}
	return v, nil
}
