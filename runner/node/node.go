// Package node is one participant of an experiment: an engine with its PostgreSQL, in a process of its own or in the
// runner's, behind one interface.
//
//	n, err := node.Spawn(ctx, node.Options{})       // a child process
//	err = n.Do(ctx, node.Open, node.OpenArgs{Store: spec, Create: true}, &opened)
//	err = n.Do(ctx, node.Load, node.LoadArgs{Bytes: 1e6}, &loaded)
//	n.Kill()                                        // SIGKILL: no deferred function runs
//
// The runner and a child talk in JSON lines over the child's standard input and output:
//
//	runner → child   {"id":1,"op":"open","args":{…}}
//	child → runner   {"progress":{"step":"loading rows","done":3,"total":8}}     any number
//	child → runner   {"id":1,"result":{…}}    or    {"id":1,"error":{"code":"fenced","text":"…"}}
//
// A child ends when its standard input does, so it never outlives the runner, however that ended.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"blobpglite/core/engine"
	"blobpglite/core/store"
)

// Op is what a node can be asked to do.
type Op string

// The operations.
const (
	Open    Op = "open"    // OpenArgs → OpenResult
	Load    Op = "load"    // LoadArgs → LoadResult
	Commit  Op = "commit"  // nothing → engine.CommitStats
	Verify  Op = "verify"  // nothing → VerifyResult
	Memory  Op = "memory"  // nothing → MemoryResult
	Close   Op = "close"   // nothing → nothing
	Abandon Op = "abandon" // nothing → nothing: ends the engine as a crash would, the node goes on
)

// Node does operations, one at a time.
type Node interface {
	// Do runs an operation and decodes its result (may be nil). An error of the operation is an *Error.
	Do(ctx context.Context, op Op, args, result any) error
	// Kill ends the node at once, as a crash would.
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
	// Memory is a store in the runner's process: only for a node that is there too.
	Memory store.Store `json:"-"`
}

// Error is the error of an operation.
type Error struct {
	Code string `json:"code"` // one of the codes below, or empty
	Text string `json:"text"`
}

func (e *Error) Error() string { return e.Text }

// Codes of errors that an experiment may await.
const (
	CodeFenced     = "fenced"
	CodeUnknown    = "unknown"
	CodeNoDatabase = "no-database"
	CodePoisoned   = "poisoned"
)

// asError gives an error its code.
func asError(err error) *Error {
	if err == nil {
		return nil
	}
	code := ""
	for _, c := range []struct {
		err  error
		code string
	}{{engine.ErrFenced, CodeFenced}, {engine.ErrUnknown, CodeUnknown}, {engine.ErrNoDatabase, CodeNoDatabase}, {engine.ErrPoisoned, CodePoisoned}} {
		if errors.Is(err, c.err) {
			code = c.code
			break
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
}

type step struct {
	Step  string `json:"step"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// maxLine bounds a line between runner and child.
const maxLine = 1 << 20

// OpenArgs opens a database.
type OpenArgs struct {
	Store  StoreSpec   `json:"store"`
	Create bool        `json:"create"`
	Mode   engine.Mode `json:"mode"`
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

// LoadResult says what was loaded. With an open transaction Commit is of the commit made while it was open.
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

// VerifyArgs say what must be found.
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
