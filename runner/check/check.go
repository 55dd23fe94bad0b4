// Package check judges what was recorded: histories of clients, what a restored database holds, the objects of a bucket.
//
//	r := check.Durability(ops, before, now)
//	if r.Wrong != "" { ... }
//	r = check.Linearizable(ops, before, now, check.LinearOptions{Picture: "results/failures/x/registers.html"})
//	r = check.Log(objects)
//
// It imports nothing from the engine and decodes what it needs itself: a checker that shares code with what it checks shares its bugs. Any
// saved history can be judged again by a better checker.
//
// Each result says how many facts were compared. A result that compared nothing has not held.
package check

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"

	"blobpglite/runner/history"
)

// Result is a judgement.
type Result struct {
	Wrong  string // what is wrong; empty: nothing
	Looked int    // facts that were compared
}

func wrong(format string, args ...any) Result { return Result{Wrong: fmt.Sprintf(format, args...)} }

// written is what became of each token of a kind.
type written struct {
	sent map[int64]history.Op
}

func tokens(ops []history.Op, kind history.Kind) written {
	w := written{sent: map[int64]history.Op{}}
	for _, op := range ops {
		if op.Kind == kind {
			w.sent[op.In["token"]] = op
		}
	}
	return w
}

// against compares the tokens found in a database with those sent: every acknowledged one is there, none that failed, and none that was
// never sent. before are tokens that were there when the history began.
func (w written) against(what string, found []int64, before map[int64]bool) Result {
	r := Result{}
	there := map[int64]bool{}
	for _, t := range found {
		r.Looked++
		if there[t] {
			return wrong("%s %d is there twice", what, t)
		}
		there[t] = true
		op, sent := w.sent[t]
		switch {
		case before[t]:
		case !sent:
			return wrong("%s %d is in the database, and nobody sent it", what, t)
		case op.Outcome == history.Failed:
			return wrong("%s %d is in the database, and its client was told that it failed (operation %d on %s: %s)", what, t, op.ID, op.Node, op.Error)
		}
	}
	for t := range before {
		r.Looked++
		if !there[t] {
			return wrong("%s %d was in the database when this life began, and is gone", what, t)
		}
	}
	for t, op := range w.sent {
		if op.Outcome != history.OK {
			continue
		}
		r.Looked++
		if !there[t] {
			return wrong("%s %d was acknowledged (operation %d on %s) and is not in the database", what, t, op.ID, op.Node)
		}
	}
	return r
}

// all returns the first wrong result, or one with the sum of what was compared.
func all(results ...Result) Result {
	sum := Result{}
	for _, r := range results {
		if r.Wrong != "" {
			return r
		}
		sum.Looked += r.Looked
	}
	return sum
}

// Durability compares the restored state with the history since an earlier state: every acknowledged write is there, no failed one, and
// nothing that was never sent. Writes with an unknown outcome may or may not be there, but only as a whole.
func Durability(ops []history.Op, before, now history.State) Result {
	entries, copies := []int64{}, []int64{}
	ids := map[int64]int64{}
	for _, e := range now.Ledger {
		if e.ID != 0 {
			entries = append(entries, e.Token)
			ids[e.Token] = e.ID
		}
	}
	blocks := []int64{}
	for _, b := range now.Blocks {
		blocks = append(blocks, b.Token)
	}
	for _, c := range now.Copies {
		copies = append(copies, c.Token)
	}
	return all(
		tokens(ops, history.Append).against("ledger entry", entries, had(before.Ledger, func(e history.LedgerRow) (int64, bool) { return e.Token, e.ID != 0 })),
		sameIDs(ops, ids),
		tokens(ops, history.Transfer).against("transfer", now.Transfers, had(before.Transfers, func(t int64) (int64, bool) { return t, true })),
		tokens(ops, history.Block).against("block of rows", blocks, had(before.Blocks, func(b history.BlockRow) (int64, bool) { return b.Token, true })),
		tokens(ops, history.Copy).against("copy", copies, had(before.Copies, func(c history.CopyRow) (int64, bool) { return c.Token, true })),
		wholeCopies(ops, now.Copies),
		tables(ops, before.Tables, now.Tables),
	)
}

func had[T any](list []T, token func(T) (int64, bool)) map[int64]bool {
	m := map[int64]bool{}
	for _, e := range list {
		if t, ok := token(e); ok {
			m[t] = true
		}
	}
	return m
}

// sameIDs checks that an acknowledged entry has the id that its client was told.
func sameIDs(ops []history.Op, ids map[int64]int64) Result {
	r := Result{}
	for _, op := range ops {
		if op.Kind != history.Append || op.Outcome != history.OK {
			continue
		}
		r.Looked++
		if got := ids[op.In["token"]]; got != op.Out["id"] {
			return wrong("ledger entry %d stands at %d, its client was told %d", op.In["token"], got, op.Out["id"])
		}
	}
	return r
}

func wholeCopies(ops []history.Op, found []history.CopyRow) Result {
	r := Result{}
	sent := tokens(ops, history.Copy).sent
	for _, c := range found {
		op, ours := sent[c.Token]
		if !ours {
			continue
		}
		r.Looked++
		if c.Rows != op.In["rows"] {
			return wrong("copy %d has %d rows of %d: torn", c.Token, c.Rows, op.In["rows"])
		}
	}
	return r
}

// tables checks that an acknowledged table is there unless a client tried to drop it, and that one whose drop was acknowledged is not.
func tables(ops []history.Op, before, now []int64) Result {
	r := Result{}
	there := had(now, func(t int64) (int64, bool) { return t, true })
	must, mayBe := had(before, func(t int64) (int64, bool) { return t, true }), map[int64]bool{}
	for _, op := range ops {
		if op.Kind != history.DDL || op.Outcome == history.Failed {
			continue
		}
		made, dropped := op.In["token"], op.In["drop"]
		delete(must, dropped)
		mayBe[dropped], mayBe[made] = true, true
		if op.Outcome != history.OK {
			continue
		}
		must[made] = true
		r.Looked++
		if there[dropped] {
			return wrong("table %d is there, and its drop was acknowledged (operation %d)", dropped, op.ID)
		}
	}
	for _, op := range ops { // a table dropped later need not be there
		if op.Kind == history.DDL && op.Outcome != history.Failed {
			delete(must, op.In["drop"])
		}
	}
	for t := range must {
		r.Looked++
		if !there[t] {
			return wrong("table %d was acknowledged and is gone", t)
		}
	}
	was := had(before, func(t int64) (int64, bool) { return t, true })
	for t := range there {
		if !was[t] && !mayBe[t] {
			return wrong("table %d is there, and nobody made it, or its client was told that it failed", t)
		}
	}
	return r
}

// Bank checks that the sum holds in every read and in the restored state, and that the balances follow from the transfers that are there.
func Bank(ops []history.Op, before, now history.State) Result {
	r := Result{}
	sum := func(balances []int64) (total int64) {
		for _, b := range balances {
			total += b
		}
		return total
	}
	want := sum(before.Balances)
	for _, op := range ops {
		if op.Kind != history.BankRead || op.Outcome != history.OK {
			continue
		}
		r.Looked++
		if got := sum(op.Values); got != want || len(op.Values) != len(before.Balances) {
			return wrong("a read saw %d in %d accounts instead of %d in %d (operation %d on %s)", got, len(op.Values), want, len(before.Balances), op.ID, op.Node)
		}
	}
	if got := sum(now.Balances); got != want || len(now.Balances) != len(before.Balances) {
		return wrong("the restored accounts hold %d in %d instead of %d in %d", got, len(now.Balances), want, len(before.Balances))
	}
	expected := append([]int64(nil), before.Balances...)
	sent := tokens(ops, history.Transfer).sent
	was := had(before.Transfers, func(t int64) (int64, bool) { return t, true })
	for _, t := range now.Transfers {
		if op, ok := sent[t]; ok && !was[t] {
			expected[op.In["from"]] -= op.In["amount"]
			expected[op.In["to"]] += op.In["amount"]
		}
	}
	for i := range expected {
		r.Looked++
		if expected[i] != now.Balances[i] {
			return wrong("account %d holds %d, the transfers that are in the database make %d: one of them is torn", i, now.Balances[i], expected[i])
		}
	}
	return r
}

// LedgerStart is the hash of the entry 0.
const LedgerStart = "start"

// LedgerHash is the hash of an entry that follows one with the hash prev.
func LedgerHash(prev string, token int64) string {
	sum := md5.Sum(fmt.Appendf(nil, "%s:%d", prev, token))
	return hex.EncodeToString(sum[:])
}

// Checksum: the ledger has no gaps and its hashes chain, every block of rows has its digest, every row of a copy its own.
func Checksum(now history.State) Result {
	r := Result{}
	prev := LedgerStart
	for i, e := range now.Ledger {
		r.Looked++
		switch {
		case e.ID != int64(i):
			return wrong("the ledger has entry %d where %d should be", e.ID, i)
		case i > 0 && e.Hash != LedgerHash(prev, e.Token):
			return wrong("the ledger's chain breaks at entry %d", e.ID)
		}
		prev = e.Hash
	}
	for _, b := range now.Blocks {
		r.Looked++
		if b.Rows != b.Found || b.Digest != b.Actual {
			return wrong("block %d has %d rows of %d, digest %s instead of %s", b.Token, b.Found, b.Rows, b.Actual, b.Digest)
		}
	}
	for _, c := range now.Copies {
		r.Looked++
		if c.Wrong != 0 {
			return wrong("copy %d: %d of %d rows differ from their digest", c.Token, c.Wrong, c.Rows)
		}
	}
	return r
}
