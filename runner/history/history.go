// Package history records what clients saw: when they called, when they got an answer, and how it ended.
//
//	h := history.New(clk)
//	c := h.Client()
//	op := h.Begin(c, "a", history.Transfer, map[string]int64{"from": 1, "to": 2, "amount": 5, "token": h.Token()})
//	h.End(op, history.OK, nil)
//	err := history.Save(file, h.Ops(0))  // JSON lines; Load reads them again
//
// There are three outcomes. OK and failed are certain. Whether an operation with outcome unknown took place is not known, so it never ends,
// and its client continues under a new id (Client): a checker may place it anywhere after its call, or nowhere. An operation that has not
// ended when the history is read is unknown.
//
// A line:
//
//	{"id":7,"client":3,"node":"a","kind":"register.cas","in":{"key":1,"old":0,"new":12},"out":{"rows":1},"call":1200,"return":5100,"outcome":"ok"}
//
// Times are nanoseconds since the history began.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// Outcome is how an operation ended. The zero value is not an outcome, and Load rejects it.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"      // it took place, and the client was told
	Failed  Outcome = "failed"  // it did not take place and never will
	Unknown Outcome = "unknown" // not known
)

// Kind is the kind of an operation.
type Kind string

// The kinds, with the contents of In and Out.
const (
	Append   Kind = "ledger.append"  // token → id
	Transfer Kind = "bank.transfer"  // token, from, to, amount
	BankRead Kind = "bank.read"      // → Values: the balance of each account
	Write    Kind = "register.write" // key, value
	Read     Kind = "register.read"  // key → value
	CAS      Kind = "register.cas"   // key, old, new → rows: 1 if it was swapped, 0 if not
	Block    Kind = "rows.insert"    // token, rows: rows and their digest
	DDL      Kind = "ddl"            // token, drop: a table is made, and another one dropped (0: none)
	Copy     Kind = "copy"           // token, rows: one large COPY
)

// Forever is the return of an operation that never ended.
const Forever = math.MaxInt64

// Op is one operation.
type Op struct {
	ID      int64            `json:"id"`
	Client  int64            `json:"client"`
	Node    string           `json:"node"` // whom it was asked of
	Kind    Kind             `json:"kind"`
	In      map[string]int64 `json:"in,omitempty"`
	Out     map[string]int64 `json:"out,omitempty"`
	Values  []int64          `json:"values,omitempty"`
	Call    int64            `json:"call"`
	Return  int64            `json:"return,omitempty"` // zero: never
	Outcome Outcome          `json:"outcome"`
	Error   string           `json:"error,omitempty"`
}

// End is when the operation ended; Forever if that is not known.
func (o Op) End() int64 {
	if o.Outcome == Unknown || o.Return == 0 {
		return Forever
	}
	return o.Return
}

// History is a recording. It is safe for concurrent use.
type History struct {
	clock clock.Clock
	began time.Duration

	mu      sync.Mutex
	ops     []*Op
	clients int64
	tokens  int64
}

// New begins a history.
func New(clk clock.Clock) *History { return &History{clock: clk, began: clk.Monotonic()} }

// Client returns the id of a new client.
func (h *History) Client() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients++
	return h.clients
}

// Token returns a number that was not returned before: each write writes one, which identifies it.
func (h *History) Token() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens++
	return h.tokens
}

// Now is the time in this history, in nanoseconds.
func (h *History) Now() int64 { return int64(h.clock.Monotonic() - h.began) }

// Begin records a call.
func (h *History) Begin(client int64, node string, kind Kind, in map[string]int64) *Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := &Op{ID: int64(len(h.ops)) + 1, Client: client, Node: node, Kind: kind, In: in, Call: h.Now(), Outcome: Unknown}
	h.ops = append(h.ops, op)
	return op
}

// End records how an operation ended. change may set Out, Values and Error; nil: none is set.
func (h *History) End(op *Op, outcome Outcome, change func(*Op)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.Outcome = outcome
	if outcome != Unknown {
		op.Return = max(h.Now(), op.Call+1)
	}
	if change != nil {
		change(op)
	}
}

// Len is how many operations were begun.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// Ops returns the operations after the first from, in the order of the calls. Those that have not ended are unknown.
func (h *History) Ops(from int) []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Op, 0, len(h.ops)-from)
	for _, op := range h.ops[from:] {
		out = append(out, *op)
	}
	return out
}

// Count is how many of the operations ended in an outcome.
func Count(ops []Op, outcome Outcome) int {
	n := 0
	for _, op := range ops {
		if op.Outcome == outcome {
			n++
		}
	}
	return n
}

// Save writes JSON lines.
func Save(w io.Writer, ops []Op) error {
	e := json.NewEncoder(w)
	for _, op := range ops {
		if err := e.Encode(op); err != nil {
			return fmt.Errorf("save operation %d: %w", op.ID, err)
		}
	}
	return nil
}

// maxLine bounds a line.
const maxLine = 1 << 20

// Load reads what Save wrote. An operation without a known outcome is an error that names its line.
func Load(r io.Reader) ([]Op, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var ops []Op
	for n := 1; lines.Scan(); n++ {
		var op Op
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			return nil, fmt.Errorf("read a history: line %d: %w", n, err)
		}
		if !slices.Contains([]Outcome{OK, Failed, Unknown}, op.Outcome) {
			return nil, fmt.Errorf("read a history: line %d: outcome %q: want ok, failed or unknown", n, op.Outcome)
		}
		ops = append(ops, op)
	}
	return ops, lines.Err()
}
